//! Which versions answer: watching, splits, canaries, shadows, apprentices, rollback, over restarts.

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::{Service, Workplace, request};
use reqwest::StatusCode;
use serde_json::{Value, json};
use slated_contract::event::{RouteChange, SegmentReader, segments};

const QUICK: &str = "[models]\nwatch_seconds = 0.1\n";

/// A workplace whose policy `ucb` has these further versions, copies of the first.
fn versions(further: &[u64], settings: &str) -> Workplace {
    let place = Workplace::new();
    further.iter().for_each(|&version| publish(&place, version));
    std::fs::write(place.path().join("slated.toml"), settings).expect("written");
    place
}

fn publish(place: &Workplace, version: u64) {
    let folder = place.path().join("models/ucb");
    let staged = place.path().join(format!("staged-{version}"));
    copy_version(&folder.join("1"), &staged, version);
    std::fs::rename(staged, folder.join(version.to_string())).expect("published");
}

fn copy_version(from: &Path, to: &Path, version: u64) {
    std::fs::create_dir_all(to).expect("made");
    std::fs::copy(from.join("model.onnx"), to.join("model.onnx")).expect("copied");
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(from.join("policy.json")).unwrap()).unwrap();
    manifest["version"] = json!(version);
    std::fs::write(to.join("policy.json"), manifest.to_string()).expect("written");
}

async fn policy(service: &Service) -> Value {
    service.get("/policies").await.1["policies"][0].clone()
}

async fn until(service: &Service, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let started = Instant::now();
    loop {
        let policy = policy(service).await;
        if holds(&policy) {
            return policy;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "not {what}: {policy}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn change(service: &Service, mut change: Value) -> (StatusCode, Value) {
    change["by"] = json!("anna");
    change["why"] = json!("a test");
    service.post("/policies/ucb/route", &change).await
}

fn asked_by(user: usize, id: &str) -> Value {
    let mut body = request(&format!("{id}-{user}"));
    body["user_id"] = json!(format!("user-{user}"));
    body
}

#[tokio::test]
async fn a_new_version_is_found_and_a_bad_one_leaves_the_old_serving() {
    let place = versions(&[], QUICK);
    let service = place.serve(&["--policy", "ucb"]);
    publish(&place, 2);
    until(&service, "swapped to version 2", |policy| policy["version"] == 2).await;
    // Half of a copy: the manifest is there, the model is torn.
    let folder = place.path().join("models/ucb/3");
    copy_version(&place.path().join("models/ucb/1"), &folder, 3);
    let model = std::fs::read(folder.join("model.onnx")).unwrap();
    std::fs::write(folder.join("model.onnx"), &model[..model.len() / 2]).unwrap();
    let refused = until(&service, "refused", |policy| !policy["last_failure"].is_null()).await;
    assert_eq!((&refused["version"], &refused["last_failure"]["version"]), (&json!(2), &json!(3)));
    assert!(refused["last_failure"]["reason"].as_str().unwrap().contains("SHA-256"), "{refused}");
    assert!(service.text("/metrics").await.contains("slated_policy_loads_total{policy=\"ucb\",outcome=\"refused\"} 1"));
    assert_eq!(service.ok("/recommend", &request("meanwhile")).await["policy_version"], 2);
    // The rest of the copy arrives.
    std::fs::write(folder.join("model.onnx"), &model).unwrap();
    let live = until(&service, "swapped to version 3", |policy| policy["version"] == 3).await;
    assert!(live["last_failure"].is_null());
    assert_eq!(live["loaded"], json!([2, 3]), "the version before stays for a rollback, the first is freed");
    // What is rolled back does not come back by itself, also after a restart.
    let (status, answer) = change(&service, json!({"action": "rollback"})).await;
    assert_eq!((status, &answer["route"]["shares"]), (StatusCode::OK, &json!({"2": 1.0})), "{answer}");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(policy(&service).await["version"], 2);
    service.stop();
    let service = place.serve(&["--policy", "ucb"]);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(policy(&service).await["version"], 2);
}

#[tokio::test]
async fn a_torn_latest_version_does_not_keep_the_service_from_starting() {
    let place = versions(&[2], "");
    std::fs::write(place.path().join("models/ucb/2/model.onnx"), "torn").unwrap();
    let service = place.serve(&["--policy", "ucb"]);
    let policy = policy(&service).await;
    assert_eq!((&policy["version"], &policy["state"]), (&json!(1), &json!("live")));
    // A policy that was not served before is served once a version of it is promoted.
    assert_eq!(
        service.post("/policies/thompson/versions/7/load", &Value::Null).await.0,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    service.ok("/policies/thompson/versions/1/load", &Value::Null).await;
    let mut other = request("other");
    other["policy"] = json!("thompson");
    assert_eq!(service.ok("/recommend", &other).await["policy"], "thompson");
}

#[tokio::test]
async fn a_split_is_sticky_survives_a_restart_and_is_journalled() {
    let place = versions(&[2], "");
    let service = place.serve(&["--policy", "ucb", "--policy-version", "1"]);
    let (status, answer) = change(&service, json!({"action": "split", "shares": {"1": 0.5, "2": 0.5}})).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let mut of_user = Vec::new();
    for user in 0..40 {
        of_user.push(service.ok("/recommend", &asked_by(user, "first")).await["policy_version"].as_u64().unwrap());
    }
    let second = of_user.iter().filter(|version| **version == 2).count();
    assert!((8..=32).contains(&second), "{second} of 40 at a half");
    service.stop();
    let service = place.serve(&["--policy", "ucb"]);
    for (user, version) in of_user.iter().enumerate() {
        assert_eq!(service.ok("/recommend", &asked_by(user, "again")).await["policy_version"], *version);
    }
    // For tests, a request may insist.
    let mut insists = asked_by(0, "insists");
    for version in [1, 2] {
        insists["policy_version"] = json!(version);
        insists["event_id"] = json!(format!("insists-{version}"));
        assert_eq!(service.ok("/recommend", &insists).await["policy_version"], version);
    }
    insists["policy_version"] = json!(9);
    assert_eq!(service.post("/recommend", &insists).await.0, StatusCode::NOT_FOUND);
    // What is no route is refused, and so is a version that cannot be loaded; the route stays.
    for bad in [
        json!({"action": "split", "shares": {"1": 0.5}}),
        json!({"action": "promote", "version": 7}),
        json!({"action": "canary", "version": 2, "share": 1.5}),
    ] {
        assert_eq!(change(&service, bad).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    }
    assert_eq!(policy(&service).await["route"]["shares"], json!({"1": 0.5, "2": 0.5}));
    place.must(&["policy", "promote", "ucb", "2", "--url", &service.url, "--by", "ben", "--why", "it is better"]);
    assert_eq!(policy(&service).await["route"]["shares"], json!({"2": 1.0}));
    place.must(&["policy", "rollback", "ucb", "--url", &service.url, "--by", "ben", "--why", "it is not"]);
    assert_eq!(policy(&service).await["route"]["shares"], json!({"1": 0.5, "2": 0.5}));
    service.stop();
    let mut changes = Vec::new();
    for path in segments::<RouteChange>(&place.path().join("journal")).unwrap().into_iter().flat_map(|date| date.files)
    {
        SegmentReader::<RouteChange>::open(&path, 100).unwrap().for_each(|batch| changes.extend(batch.unwrap()));
    }
    changes.sort_by_key(|change| change.time);
    let told: Vec<_> = changes.iter().map(|c| (c.action.as_str(), c.by.as_str(), c.why.as_str())).collect();
    assert_eq!(
        told,
        [("split", "anna", "a test"), ("promote", "ben", "it is better"), ("rollback", "ben", "it is not")]
    );
    assert!(changes[1].before.contains("0.5") && changes[1].after.contains("{\"2\":1.0}"), "{changes:?}");
}

#[tokio::test]
async fn a_shadow_is_journalled_and_not_shown() {
    let place = versions(&[2], "");
    let service = place.serve(&["--policy", "ucb", "--policy-version", "1"]);
    let before = service.ok("/recommend", &request("before")).await;
    place.must(&["policy", "shadow", "ucb", "2", "--url", &service.url, "--by", "ben", "--why", "a look"]);
    let answer = service.ok("/recommend", &request("beside")).await;
    assert_eq!((&answer["policy_version"], &answer["mode"]), (&before["policy_version"], &json!("policy")));
    let (_, recorded) = service.get("/decisions/beside").await;
    let alternative = &recorded["alternatives"][0];
    assert_eq!((&alternative["policy"], &alternative["policy_version"]), (&json!("ucb"), &json!(2)));
    // The versions are the same model and share the decision's seed, so they agree in everything.
    assert_eq!(alternative["agreement"], 1.0);
    assert_eq!(alternative["propensity"], answer["propensity"]);
    assert_eq!(alternative["shown_propensity"], answer["propensity"]);
    assert_eq!(alternative["slate"][0], answer["slate"][0]["item"]);
}

#[tokio::test]
async fn an_apprentice_shows_the_callers_order_and_keeps_its_own_choice() {
    let place = versions(&[], "");
    place.edit_manifest("ucb", |manifest| manifest["exploration"] = json!({"method": "greedy"}));
    let service = place.serve(&["--policy", "ucb"]);
    let choice = service.ok("/recommend", &request("own")).await;
    assert_eq!(change(&service, json!({"action": "apprentice", "enabled": true})).await.0, StatusCode::OK);
    let mut body = request("apprentice");
    body["baseline"] = json!(["d", "a"]);
    let answer = service.ok("/recommend", &body).await;
    assert_eq!(
        (&answer["mode"], &answer["slate"][0]["item"], &answer["slate"][1]["item"]),
        (&json!("apprentice"), &json!("d"), &json!("a"))
    );
    assert!(answer["not_evaluable"].as_str().unwrap().contains("caller's own order"), "{answer}");
    let (_, recorded) = service.get("/decisions/apprentice").await;
    let own: Vec<&Value> = choice["slate"].as_array().unwrap().iter().map(|shown| &shown["item"]).collect();
    let kept = &recorded["alternatives"][0];
    assert_eq!(kept["slate"], json!(own));
    // A greedy policy shows its own slate for certain, and any other never.
    let same = own.iter().zip(["d", "a"]).filter(|(own, shown)| **own == shown).count();
    assert_eq!(kept["agreement"].as_f64().unwrap(), same as f64 / 2.0);
    assert_eq!(kept["shown_propensity"], if same == 2 { 1.0 } else { 0.0 });
}

#[tokio::test]
async fn a_canary_that_earns_less_is_taken_back() {
    let place = versions(&[2], "");
    let service = place.serve(&["--policy", "ucb", "--policy-version", "1"]);
    let guardrails = json!({"max_reward_loss": 0.0, "min_requests": 50});
    let canary = json!({"action": "canary", "version": 2, "share": 0.5, "guardrails": guardrails});
    let (status, answer) = change(&service, canary).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    // What version 1 shows is clicked every time, what version 2 shows never is.
    for user in 0..2_000 {
        let answer = service.ok("/recommend", &asked_by(user, "trial")).await;
        if answer["policy_version"] == 1 {
            let click = json!({"decision_id": answer["decision_id"], "event": "click", "position": 0});
            service.ok("/feedback", &click).await;
        }
        if user % 50 == 0 && policy(&service).await["route"]["shares"] == json!({"1": 1.0}) {
            break;
        }
    }
    let back = until(&service, "taken back", |policy| policy["route"]["shares"] == json!({"1": 1.0})).await;
    assert!(back["route"].get("canary").is_none());
    assert!(service.text("/metrics").await.contains("slated_canary_rollbacks_total{policy=\"ucb\"} 1"));
    let routes = std::fs::read_to_string(place.path().join("journal/routes.json")).unwrap();
    assert!(routes.contains("\"1\": 1.0"), "{routes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_while_versions_are_swapped() {
    let place = versions(&[2], "");
    let service = place.serve(&["--policy", "ucb", "--policy-version", "1"]);
    let done = std::sync::atomic::AtomicBool::new(false);
    let (service, done) = (&service, &done);
    let sender = |sender: usize| async move {
        let mut versions = std::collections::BTreeSet::new();
        for index in 0.. {
            if done.load(std::sync::atomic::Ordering::Relaxed) {
                break;
            }
            let answer = service.ok("/recommend", &request(&format!("swap-{sender}-{index}"))).await;
            versions.insert(answer["policy_version"].as_u64().unwrap());
        }
        versions
    };
    let swaps = async {
        for swap in 0..20 {
            service.ok(&format!("/policies/ucb/versions/{}/load", 1 + (swap + 1) % 2), &Value::Null).await;
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    let (seen, ()) = futures::join!(futures::future::join_all((0..4).map(sender)), swaps);
    assert!(seen.iter().any(|versions| versions.len() == 2), "{seen:?}");
}
