//! Closed segments on their way to an object store: each is there once, whatever is interrupted, and what is here goes only
//! after that.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::bucket::{BUCKET, Store};
use common::{Service, Workplace, events, files, read, request, slated};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use slated_contract::event::{Decision, Feedback};

const SETTINGS: &str = "[journal]\nid_days = 0\nseal_after_events = 5\nupload_to = \"s3://logs/team/journal\"\n";

fn closed(journal: &Path) -> BTreeMap<String, Vec<u8>> {
    let is_closed =
        |path: &PathBuf| ["decisions", "feedback", "changes", "manifest"].iter().any(|kind| path.starts_with(kind));
    let files = files(journal, Path::new("")).into_iter().filter(is_closed);
    files.map(|path| (format!("team/journal/{}", path.display()), fs::read(journal.join(path)).unwrap())).collect()
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(30), "not in 30 s: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn decide(service: &Service, prefix: &str, count: usize) {
    for index in 0..count {
        let id = format!("{prefix}-{index}");
        service.ok("/recommend", &request(&id)).await;
        service.ok("/feedback", &json!({"feedback_id": id, "decision_id": id, "event": "click", "item": "a"})).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_closed_segment_reaches_the_store_once_whatever_is_interrupted() {
    let place = Workplace::new();
    fs::write(place.path().join("slated.toml"), SETTINGS).unwrap();
    let store = Store::default();
    let environment = Store::environment(&store.serve().await, "key");
    let serve = || Service::with_environment(place.path(), &environment, &[]);
    for round in 0..6 {
        let service = serve();
        decide(&service, &format!("round-{round}"), 12).await;
        // Refused now and then, and killed while it sends.
        store.0.lock().unwrap().failing = round % 3;
        let seal = service.send(reqwest::Method::POST, "/journal/seal", None);
        let _ = tokio::time::timeout(Duration::from_millis(3 + 9 * round as u64), seal).await;
        service.kill();
    }
    // A service that ends by itself has sent everything; what no manifest was ever written for would stay.
    serve().stop();
    let journal = place.path().join("journal");
    let content = store.0.lock().unwrap();
    let here = closed(&journal);
    assert!(here.len() > 20, "{:?}", here.keys());
    assert!(here == content.objects, "{:?}\n{:?}", here.keys(), content.objects.keys());
    // A manifest is put after its files.
    for (index, key) in content.put.iter().enumerate().filter(|(_, key)| key.contains("/manifest/")) {
        let manifest: Value = serde_json::from_slice(&content.objects[key]).unwrap();
        for file in manifest["files"].as_array().unwrap() {
            let file = format!("team/journal/{}", file["path"].as_str().unwrap());
            assert!(content.put[..index].contains(&file), "{file} after {key}");
        }
    }
    drop(content);

    // Nothing is sent twice that was noted as sent, and the store reads as the folder does.
    store.0.lock().unwrap().put.clear();
    serve().stop();
    assert_eq!(store.0.lock().unwrap().put, Vec::<String>::new());
    let train = |journal: &str, models: &str| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_slated"))
            .args(["train", "--policy", "p", "--algorithm", "linucb", "--interaction", "additive"])
            .args(["--journal", journal, "--models", models])
            .env("XDG_CACHE_HOME", place.path().join("cache"))
            .envs(environment.iter().cloned())
            .current_dir(place.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::read(place.path().join(models).join("p/1/model.onnx")).unwrap()
    };
    assert!(train("journal", "near") == train(&format!("s3://{BUCKET}/team/journal"), "far"));

    // What leaves the journal leaves the store.
    let manifest = files(&journal, Path::new("manifest/feedback")).pop().unwrap();
    let content: Value = serde_json::from_slice(&fs::read(journal.join(&manifest)).unwrap()).unwrap();
    fs::remove_file(journal.join(&manifest)).unwrap();
    for file in content["files"].as_array().unwrap() {
        fs::remove_file(journal.join(file["path"].as_str().unwrap())).unwrap();
    }
    serve().stop();
    assert!(closed(&journal) == store.0.lock().unwrap().objects && closed(&journal).len() < here.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_go_only_after_they_were_sent_and_damage_is_not_sent() {
    let place = Workplace::new();
    fs::write(place.path().join("slated.toml"), format!("{SETTINGS}keep_local_days = 0\n")).unwrap();
    let journal = place.path().join("journal");
    let store = Store::default();
    let environment = Store::environment(&store.serve().await, "key");
    let damaged = files(&journal, Path::new("feedback")).pop().unwrap();
    let mut bytes = fs::read(journal.join(&damaged)).unwrap();
    bytes[20] ^= 1;
    fs::write(journal.join(&damaged), bytes).unwrap();

    // A store that is away: everything stays here, and the service answers.
    store.0.lock().unwrap().failing = usize::MAX;
    let service = Service::with_environment(place.path(), &environment, &[]);
    decide(&service, "away", 7).await;
    service.ok("/journal/seal", &Value::Null).await;
    let here = closed(&journal);
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(closed(&journal) == here && here.len() > 6, "{:?}", here.keys());
    assert_eq!(service.get("/readyz").await.0, StatusCode::OK);
    let unsent = service.text("/metrics").await;
    assert!(!unsent.contains("slated_journal_unsent_segments 0"), "{unsent}");

    // Back again: sent, then gone from here, but for what is damaged.
    store.0.lock().unwrap().failing = 0;
    // Its segment has a file for each date.
    let left: BTreeSet<PathBuf> = files(&journal, Path::new("feedback"))
        .into_iter()
        .filter(|path| path.file_name() == damaged.file_name())
        .collect();
    let kept = || -> BTreeSet<PathBuf> {
        let kinds = ["decisions", "feedback"].into_iter().filter(|kind| journal.join(kind).exists());
        kinds.flat_map(|kind| files(&journal, Path::new(kind))).collect()
    };
    until("all but what is damaged is sent and dropped", || kept() == left).await;
    let there = store.0.lock().unwrap().objects.clone();
    let stem = damaged.file_stem().unwrap().to_string_lossy();
    for (key, bytes) in &here {
        let damaged = key.contains("feedback") && key.contains(&*stem);
        assert!(if damaged { !there.contains_key(key) } else { there.get(key) == Some(bytes) }, "{key}");
    }
    assert_eq!(service.get("/decisions/away-1").await.0, StatusCode::NOT_FOUND);
    service.ok("/recommend", &request("after")).await;
    service.stop();

    let output = slated(place.path(), &["journal", "check", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let named = report["damaged"].as_array().unwrap();
    assert!(
        named.len() == 1 && named[0]["path"].as_str().unwrap().ends_with(&damaged.display().to_string()),
        "{report}"
    );
}

/// Whose decisions are in the store, and the decisions that feedback there is about.
fn stored(store: &Store) -> (Vec<String>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    for (key, bytes) in &store.0.lock().unwrap().objects {
        let path = folder.path().join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let journal = folder.path().join("team/journal");
    let users = events::<Decision>(&journal).into_iter().filter_map(|decision| decision.user_id);
    let about = events::<Feedback>(&journal).into_iter().map(|feedback| feedback.decision_id);
    (users.collect(), about.filter(|id| id.starts_with("of-")).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_forgotten_in_segments_that_are_in_the_store_alone() {
    let place = Workplace::new();
    // A store that is away is asked again for a while, which must end before the request's time does.
    let settings = format!("{SETTINGS}keep_local_days = 0\n[server]\nrequest_timeout_ms = 60000\n");
    fs::write(place.path().join("slated.toml"), settings).unwrap();
    let journal = place.path().join("journal");
    let store = Store::default();
    let environment = Store::environment(&store.serve().await, "key");
    let service = Service::with_environment(place.path(), &environment, &[]);
    let none_here = || {
        let kinds = ["decisions", "feedback"].into_iter().filter(|kind| journal.join(kind).exists());
        kinds.flat_map(|kind| files(&journal, Path::new(kind))).count() == 0
    };
    let round = async |round: usize| {
        for user in ["ada", "ben"] {
            let mut body = request(&format!("of-{user}-{round}"));
            body["user_id"] = json!(user);
            service.ok("/recommend", &body).await;
        }
        service.ok("/journal/seal", &Value::Null).await;
        until("everything is sent and dropped", none_here).await;
        // In a segment without a decision of that person.
        for user in ["ada", "ben"] {
            let about = format!("of-{user}-{round}");
            let click = json!({"feedback_id": about, "decision_id": about, "event": "click", "item": "a"});
            service.ok("/feedback", &click).await;
        }
        service.ok("/journal/seal", &Value::Null).await;
        until("everything is sent and dropped", none_here).await;
    };
    for number in 0..4 {
        round(number).await;
    }
    let before = stored(&store);
    assert_eq!((before.0.len(), before.1.len()), (8, 8), "{before:?}");
    let others = store.0.lock().unwrap().objects.len();

    // A store that is away: nothing is removed anywhere, and the answer says so.
    let forget = "/users/ada/events?by=anna&why=asked";
    store.0.lock().unwrap().failing = usize::MAX;
    let (status, problem) = read(service.send(Method::DELETE, forget, None).await).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{problem}");
    store.0.lock().unwrap().failing = 0;
    assert_eq!(stored(&store), before);

    let (status, forgot) = read(service.send(Method::DELETE, forget, None).await).await;
    assert_eq!((status, &forgot["decisions"], &forgot["feedback"]), (StatusCode::OK, &json!(4), &json!(4)), "{forgot}");
    let left = (vec!["ben".to_owned(); 4], (0..4).map(|round| format!("of-ben-{round}")).collect::<Vec<_>>());
    until("the store has them no more", || stored(&store) == left).await;
    until("what came back is dropped again", none_here).await;
    assert_eq!(store.0.lock().unwrap().objects.len(), others);
    let (_, again) = read(service.send(Method::DELETE, forget, None).await).await;
    assert_eq!((&again["decisions"], &again["segments"]), (&json!(0), &json!([])));
    service.stop();

    // By the command as well.
    let args = ["journal", "forget", "--user", "ben", "--by", "anna", "--why", "asked", "--json"];
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_slated"))
        .args(args)
        .envs(environment.iter().cloned())
        .current_dir(place.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(stored(&store), (Vec::new(), Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_compacted_takes_the_place_of_its_parts_in_the_store() {
    let place = Workplace::new();
    fs::write(place.path().join("slated.toml"), SETTINGS).unwrap();
    let journal = place.path().join("journal");
    let store = Store::default();
    let environment = Store::environment(&store.serve().await, "key");
    let service = Service::with_environment(place.path(), &environment, &[]);
    decide(&service, "of", 23).await;
    service.ok("/journal/seal", &Value::Null).await;
    until("everything is sent", || closed(&journal) == store.0.lock().unwrap().objects).await;
    service.stop();
    let before = store.0.lock().unwrap().objects.len();
    // Cut short in its sending, then by a whole one.
    for failing in [3, 0] {
        store.0.lock().unwrap().failing = failing;
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_slated"))
            .args(["journal", "compact"])
            .envs(environment.iter().cloned())
            .current_dir(place.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let now = store.0.lock().unwrap().objects.clone();
    assert!(closed(&journal) == now && now.len() < before, "{} of {before}", now.len());
    assert_eq!(stored(&store).1.len(), 23);
}

#[test]
fn where_to_send_is_checked_at_the_start() {
    let place = Workplace::new();
    for (settings, words) in [
        ("upload_to = \"nowhere\"", ["journal.upload_to", "nowhere"]),
        ("upload_to = \"ftp://host/x\"", ["journal.upload_to", "s3://"]),
        ("keep_local_days = 3", ["journal.keep_local_days", "journal.id_days"]),
    ] {
        fs::write(place.path().join("slated.toml"), format!("[journal]\n{settings}\n")).unwrap();
        let output = slated(place.path(), &["serve", "--listen", "127.0.0.1:0", "--policy", "thompson"]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && words.iter().all(|word| error.contains(word)), "{error}");
    }
}
