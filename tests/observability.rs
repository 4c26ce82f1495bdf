//! The dashboard and the alerts ask for metrics that are there.

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use common::{Workplace, request};
use serde_json::{Value, json};

/// The names of slated's metrics in a text, without what Prometheus adds to those of a histogram.
fn names(text: &str) -> BTreeSet<String> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let words = text.split(|character| !is_part(character)).filter(|word| word.starts_with("slated_"));
    let base = |word: &str| {
        let ending = ["_bucket", "_sum", "_count"].iter().find_map(|ending| word.strip_suffix(ending));
        // A gauge may be called a sum itself.
        if word == "slated_reward_sum" { word.to_owned() } else { ending.unwrap_or(word).to_owned() }
    };
    words.map(base).collect()
}

#[tokio::test]
async fn every_metric_that_is_asked_for_exists() {
    let place = Workplace::new();
    let service = place.serve(&["--policy", "ucb"]);
    service.ok("/recommend", &request("seen")).await;
    service.ok("/feedback", &json!({"decision_id": "seen", "event": "click", "position": 0})).await;
    // Those that count what goes wrong come into being when it does.
    service.post("/policies/ucb/versions/9/load", &Value::Null).await;
    let metrics = names(&service.text("/metrics").await);
    let described = names(include_str!("../src/telemetry/described.rs"));
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let read = |path: &str| std::fs::read_to_string(deploy.join(path)).unwrap();

    let dashboard: Value = serde_json::from_str(&read("grafana/slated.json")).unwrap();
    let targets = dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let queries: Vec<&str> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
    assert!(queries.len() >= 15, "{queries:?}");
    let alerts = read("prometheus/alerts.yml");
    let asked: BTreeSet<String> = names(&queries.join("\n")).union(&names(&alerts)).cloned().collect();
    let absent: Vec<&String> = asked.iter().filter(|name| !described.contains(*name)).collect();
    assert!(absent.is_empty(), "no metric is described as {absent:?}");
    // What needs a full queue, a missed deadline, a canary, a damaged or full disk, or an object store cannot be seen in a
    // quiet service.
    let rare = [
        "slated_requests_refused_total",
        "slated_deadlines_missed_total",
        "slated_canary_rollbacks_total",
        "slated_session_store_up",
        "slated_decisions_not_journalled_total",
        "slated_journal_lost_events_total",
        "slated_journal_unsent_segments",
        "slated_explored_decisions_total",
        "slated_sessions_ended_total",
    ];
    let absent: Vec<&String> =
        asked.iter().filter(|name| !metrics.contains(*name) && !rare.contains(&name.as_str())).collect();
    assert!(absent.is_empty(), "/metrics has no {absent:?}, but {metrics:?}");
    // And all that there is, is described.
    let undescribed: Vec<&String> = metrics.iter().filter(|name| !described.contains(*name)).collect();
    assert!(undescribed.is_empty(), "{undescribed:?}");
}

#[tokio::test]
async fn entropy_and_exploration_are_those_of_the_policy() {
    let place = Workplace::new();
    let epsilon = 0.5;
    place.edit_manifest("ucb", |manifest| {
        manifest["exploration"] = json!({"method": "epsilon_greedy", "epsilon": epsilon});
    });
    let service = place.serve(&["--policy", "ucb"]);
    let mut surprisal = 0.0;
    let mut explored = 0;
    for index in 0..200 {
        let answer = service.ok("/recommend", &request(&format!("seen-{index}"))).await;
        surprisal -= answer["propensity"].as_f64().unwrap().ln();
        let (_, decision) = service.get(&format!("/decisions/seen-{index}")).await;
        let mut best: Vec<(f64, &str)> = decision["candidates"]
            .as_array()
            .unwrap()
            .iter()
            .map(|candidate| (candidate["score"].as_f64().unwrap(), candidate["id"].as_str().unwrap()))
            .collect();
        best.sort_by(|a, b| b.0.total_cmp(&a.0));
        let shown = answer["slate"].as_array().unwrap().iter().map(|shown| shown["item"].as_str().unwrap());
        explored += u32::from(!shown.eq(best.iter().map(|(_, item)| *item).take(2)));
    }
    let metrics = service.text("/metrics").await;
    let value = |name: &str| -> f64 {
        let line = metrics.lines().find(|line| line.starts_with(&format!("{name}{{policy=\"ucb\",version=\"1\"}}")));
        line.unwrap_or_else(|| panic!("no {name} in {metrics}")).rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert_eq!(value("slated_explored_decisions_total"), f64::from(explored));
    assert!((60..=140).contains(&explored), "{explored} of 200 at {epsilon}");
    assert!((value("slated_slate_surprisal_nats_sum") - surprisal).abs() < 1e-6);
    assert_eq!((value("slated_slate_surprisal_nats_count"), value("slated_decision_seconds_count")), (200.0, 200.0));
    service.stop();
}

#[tokio::test]
async fn a_request_keeps_its_id_and_its_trace() {
    let place = Workplace::new();
    let service = place.serve(&["--policy", "ucb"]);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let answer = client
        .get(format!("{}/healthz", service.url))
        .header("x-request-id", "mine")
        .header("traceparent", format!("00-{trace}-b7ad6b7169203331-01"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers()["x-request-id"], "mine");
    let told = answer.headers()["traceparent"].to_str().unwrap();
    assert!(told.starts_with(&format!("00-{trace}-")) && told.ends_with("-01") && !told.contains("b7ad6b7169203331"));
    let fresh = client.get(format!("{}/healthz", service.url)).send().await.unwrap();
    assert!(!fresh.headers()["x-request-id"].is_empty());
    assert_eq!(fresh.headers()["traceparent"].len(), 55);
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_reach_a_collector() {
    let received: Arc<Mutex<Vec<u8>>> = Arc::default();
    let collect = {
        let received = Arc::clone(&received);
        async move |body: Bytes| received.lock().unwrap().extend_from_slice(&body)
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/v1/traces", post(collect))).await });
    let place = Workplace::new();
    let settings = format!("[log]\notlp_endpoint = \"{endpoint}\"\notlp_share = 0.0\n");
    std::fs::write(place.path().join("slated.toml"), settings).unwrap();
    let service = place.serve(&["--policy", "ucb"]);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut told = Vec::new();
    // The first caller records its trace, the second does not, the third has none and is not among the share.
    for parent in [
        Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        Some("00-1bf7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"),
        None,
    ] {
        let asked = client.post(format!("{}/recommend", service.url)).json(&request(&format!("traced-{}", told.len())));
        let asked = parent.iter().fold(asked, |asked, parent| asked.header("traceparent", *parent));
        let answer = asked.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        told.push(answer.headers()["traceparent"].to_str().unwrap().to_owned());
    }
    assert!(told[0].starts_with("00-0af7651916cd43dd8448eb211c80319c-") && told[0].ends_with("-01"), "{told:?}");
    assert!(told[1].starts_with("00-1bf7651916cd43dd8448eb211c80319c-") && told[1].ends_with("-00"), "{told:?}");
    assert!(told[2].len() == 55 && told[2].ends_with("-00"), "{told:?}");
    service.stop();
    let received = received.lock().unwrap();
    let bytes = |hex: &str| -> Vec<u8> {
        (0..hex.len() / 2).map(|index| u8::from_str_radix(&hex[2 * index..][..2], 16).unwrap()).collect()
    };
    let has = |part: &[u8]| received.windows(part.len()).any(|window| window == part);
    for (index, sent) in [(0, true), (1, false), (2, false)] {
        let parts: Vec<&str> = told[index].split('-').collect();
        assert_eq!((has(&bytes(parts[1])), has(&bytes(parts[2]))), (sent, sent), "{index}");
    }
    assert!(has(b"POST /recommend") && has(b"http.response.status_code") && has(&bytes("b7ad6b7169203331")));
}
