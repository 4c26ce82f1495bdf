//! A Redis that is away: what was chosen happens, it is counted and seen, and it is over by itself.

use std::path::Path;
use std::time::Duration;

use chrono::TimeDelta;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use slated_contract::event::Decision;
use tempfile::TempDir;

use crate::common::{Service, slated};
use crate::ledger::{compare, read};
use crate::policy;
use crate::redis::Redis;
use crate::restart::{HISTORY, place, serve};

fn request(id: &str) -> Value {
    let item = |index: i32| json!({"id": format!("i{index}"), "features": {"x": f64::from(index), "y": -0.3}});
    json!({"event_id": id, "user_id": "u", "candidates": [item(1), item(2), item(3)], "slate_size": 2})
}

fn click(id: &str) -> Value {
    json!({"feedback_id": format!("f-{id}"), "decision_id": id, "event": "click", "position": 1})
}

/// The value of a metric; 0 where it is not there yet.
async fn metric(service: &Service, name: &str) -> f64 {
    let text = service.text("/metrics").await;
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.map_or(0.0, |value| value.parse().unwrap())
}

async fn until_up(service: &Service, up: f64) {
    for _ in 0..200 {
        if metric(service, "slated_session_store_up").await == up {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the store is not as it should be: {up}");
}

/// The session features that a decision saw.
async fn seen(service: &Service, id: &str) -> Value {
    service.get(&format!("/decisions/{id}")).await.1["session"].clone()
}

async fn decide(service: &Service, id: &str) -> Value {
    service.ok("/recommend", &request(id)).await;
    service.ok("/feedback", &click(id)).await;
    seen(service, id).await
}

/// Holds everything that was decided while Redis answered against a fold of the journal.
async fn agrees(service: Service, place: &TempDir, away: &[&str]) {
    service.stop();
    let journal = place.path().join("journal");
    let journal: &[&Path] = &[&journal];
    let marked: Vec<Decision> = read::<Decision>(journal)
        .into_iter()
        .filter(|decision| decision.session.get("unavailable").is_some())
        .collect();
    let mut ids: Vec<&str> = marked.iter().map(|decision| decision.decision_id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, away, "these were decided without their session, and say so");
    let idle = TimeDelta::seconds(1800);
    compare(journal, &place.path().join("models"), HISTORY, idle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_policies_see_an_empty_session_and_what_happens_is_made_up_for() {
    let mut redis = Redis::start();
    let place = place(Some(&redis), "unavailable = \"empty\"");
    let service = serve(place.path());
    assert_eq!(decide(&service, "a1").await["steps"], 0.0);
    assert_eq!(decide(&service, "a2").await["responses"], 1.0);

    redis.stop();
    for id in ["b1", "b2"] {
        let session = decide(&service, id).await;
        assert_eq!((&session["steps"], &session["unavailable"]), (&json!(0.0), &json!(1.0)));
    }
    assert_eq!(service.get("/readyz").await.0, StatusCode::OK);
    assert_eq!(metric(&service, "slated_session_store_up").await, 0.0);
    assert_eq!(metric(&service, "slated_session_store_away_total{outcome=\"empty\"}").await, 2.0);
    assert_eq!(metric(&service, "slated_session_store_pending").await, 4.0);

    // It comes back without anything in it, so that the journal must say what was before.
    redis.again();
    until_up(&service, 1.0).await;
    assert_eq!(metric(&service, "slated_session_store_pending").await, 0.0);
    let session = decide(&service, "c1").await;
    assert_eq!((&session["steps"], &session["responses"]), (&json!(4.0), &json!(4.0)));
    assert!(session.get("unavailable").is_none());
    agrees(service, &place, &["b1", "b2"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_may_refuse_to_decide_without_redis() {
    let mut redis = Redis::start();
    redis.stop();
    let place = place(Some(&redis), "unavailable = \"refuse\"");
    // It starts without Redis, too.
    let service = serve(place.path());
    let (status, problem) = service.get("/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(problem["detail"].as_str().unwrap().contains("sessions"), "{problem}");
    assert_eq!(service.get("/healthz").await.0, StatusCode::OK);
    let answer = service.send(Method::POST, "/recommend", Some(&request("a1"))).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()["retry-after"], "1");
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    // Nobody's session is needed where nobody is named, and feedback is kept in any case.
    let mut nobody = request("n1");
    nobody.as_object_mut().unwrap().remove("user_id");
    service.ok("/recommend", &nobody).await;
    service.ok("/feedback", &click("n1")).await;
    assert_eq!(metric(&service, "slated_session_store_away_total{outcome=\"refused\"}").await, 1.0);

    redis.again();
    until_up(&service, 1.0).await;
    assert_eq!(service.get("/readyz").await.0, StatusCode::OK);
    assert_eq!(decide(&service, "a1").await["steps"], 0.0);
    assert_eq!(decide(&service, "a2").await["steps"], 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_hangs_holds_up_one_command_and_no_more() {
    let redis = Redis::start();
    let place = place(Some(&redis), "unavailable = \"empty\"");
    let service = serve(place.path());
    decide(&service, "a1").await;
    redis.signal("-STOP");
    let started = std::time::Instant::now();
    for index in 0..20 {
        decide(&service, &format!("b{index:02}")).await;
    }
    // A command may take 250 ms; had each waited, these would have taken many times as long.
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    until_up(&service, 0.0).await;
    redis.signal("-CONT");
    until_up(&service, 1.0).await;
    let session = decide(&service, "c1").await;
    assert_eq!((&session["steps"], &session["responses"]), (&json!(21.0), &json!(21.0)));
    let away: Vec<String> = (0..20).map(|index| format!("b{index:02}")).collect();
    service.stop();
    let journal = place.path().join("journal");
    let marked =
        read::<Decision>(&[&journal]).into_iter().filter(|decision| decision.session.get("unavailable").is_some());
    let marked: std::collections::BTreeSet<String> = marked.map(|decision| decision.decision_id).collect();
    assert_eq!(marked, away.into_iter().collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_told_to_redis_is_read_from_the_journal() {
    let mut redis = Redis::start();
    let place = place(Some(&redis), "");
    let service = serve(place.path());
    decide(&service, "a1").await;
    redis.stop();
    decide(&service, "b1").await;
    // What was to be made up for dies with the process.
    service.kill();
    redis.again();
    let service = serve(place.path());
    let session = decide(&service, "c1").await;
    assert_eq!((&session["steps"], &session["responses"]), (&json!(2.0), &json!(2.0)));
    agrees(service, &place, &["b1"]).await;
}

#[test]
fn an_address_that_is_none_is_refused_at_once() {
    let place = place(None, "backend = \"redis\"\n[sessions.redis]\nurl = \"rediss://127.0.0.1\"");
    let output = slated(place.path(), &["serve", "--listen", "127.0.0.1:0", "--policy", policy::NAME]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(error.contains("sessions.redis.url"), "{error}");
    std::fs::write(place.path().join("slated.toml"), "[sessions]\nidle_seconds = 0\n").unwrap();
    let error = slated(place.path(), &["config"]);
    assert!(String::from_utf8_lossy(&error.stderr).contains("`sessions.idle_seconds` is 0, allowed are 1 to"));
}
