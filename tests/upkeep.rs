//! What becomes of closed segments: put together, written without a person, removed when old.

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Workplace, events, must, read, request, slated};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use slated_contract::event::{Decision, Event, Feedback, segments};

fn file_count<E: Event>(journal: &Path) -> usize {
    segments::<E>(journal).unwrap().iter().map(|date| date.files.len()).sum()
}

/// Runs `slated` in a folder and kills it after a moment; whether it had ended before.
fn cut_short(folder: &Path, args: &[&str], after: Duration) -> bool {
    let mut child = Command::new(env!("CARGO_BIN_EXE_slated"))
        .args(args)
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(after);
    let ended = child.try_wait().unwrap().is_some();
    // One that has ended cannot be killed again.
    let _ = child.kill();
    child.wait().unwrap();
    ended
}

/// Serves `rounds` pages to three users, with feedback, in segments of at most five events; two pages stay in the tail
/// where the service is killed.
async fn served(place: &Workplace, rounds: usize, settings: &str) {
    std::fs::write(place.path().join("slated.toml"), format!("[journal]\nseal_after_events = 5\n{settings}")).unwrap();
    let service = place.serve(&[]);
    for round in 0..rounds {
        let id = format!("page-{round}");
        let mut body = request(&id);
        body["user_id"] = json!(format!("person-{}", round % 3));
        service.ok("/recommend", &body).await;
        let feedback =
            json!({"feedback_id": format!("click-{round}"), "decision_id": id, "event": "click", "position": 0});
        service.ok("/feedback", &feedback).await;
        if round % 5 == 4 {
            service.ok("/journal/seal", &Value::Null).await;
        }
    }
    service.stop();
}

#[tokio::test]
async fn compaction_cut_short_again_and_again_leaves_the_same_events_and_digest() {
    let place = Workplace::new();
    served(&place, 60, "").await;
    let journal = place.path().join("journal");
    let (decisions, feedback) = (events::<Decision>(&journal), events::<Feedback>(&journal));
    assert!(file_count::<Decision>(&journal) > 12 && decisions.len() == 580, "{} decisions", decisions.len());
    let train = |policy: &str| {
        place.must(&["train", "--policy", policy, "--algorithm", "linucb", "--interaction", "additive"]);
        let manifest: Value = serde_json::from_str(&place.must(&["policy", "inspect", policy])).unwrap();
        (manifest["training"]["data_digest"].clone(), manifest["training"]["decisions"].clone())
    };
    let before = train("before");
    assert_eq!(before.1, 580);

    let mut cut = 0;
    for round in 0..25 {
        // Into ever bigger files, so that there is something to do each time.
        let most = (6 + 2 * round).to_string();
        let args = ["journal", "compact", "--events", &most];
        cut += u32::from(!cut_short(place.path(), &args, Duration::from_millis(15 + 9 * round)));
    }
    assert!(cut > 3, "only {cut} were cut short");
    let report: Value = serde_json::from_str(&place.must(&["journal", "compact", "--json"])).unwrap();
    assert!(report["damaged"].as_array().unwrap().is_empty(), "{report}");
    assert!(events::<Decision>(&journal) == decisions, "decisions differ");
    assert!(events::<Feedback>(&journal) == feedback, "feedback differs");
    assert_eq!(file_count::<Decision>(&journal), segments::<Decision>(&journal).unwrap().len());
    place.must(&["journal", "check"]);
    assert_eq!(train("after"), before);
    assert_eq!(
        serde_json::from_str::<Value>(&place.must(&["journal", "compact", "--json"])).unwrap()["compacted"],
        json!([])
    );

    // Ids are known and decisions found as before.
    let service = place.serve(&[]);
    assert_eq!(service.get("/decisions/page-7").await.0, StatusCode::OK);
    let mut body = request("page-7");
    body["user_id"] = json!("person-1");
    service.ok("/recommend", &body).await;
    let click = json!({"feedback_id": "click-7", "decision_id": "page-7", "event": "click", "position": 0});
    assert_eq!(service.ok("/feedback", &click).await["duplicates"], 1);
    let refused = slated(place.path(), &["journal", "compact"]);
    assert_eq!(refused.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("stop it first"));
}

/// Whether any file below holds the text.
fn holds(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in folder.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            found.extend(holds(&entry, text));
        } else {
            let bytes = std::fs::read(&entry).unwrap();
            if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                found.push(entry.display().to_string());
            }
        }
    }
    found
}

#[tokio::test]
async fn a_person_is_forgotten_by_the_running_service_and_by_the_command() {
    let place = Workplace::new();
    served(&place, 33, "").await;
    let journal = place.path().join("journal");
    let service = place.serve(&[]);
    // In the tail when it is asked to forget.
    for round in [40, 41] {
        let mut body = request(&format!("page-{round}"));
        body["user_id"] = json!(if round == 40 { "person-0" } else { "person-1" });
        service.ok("/recommend", &body).await;
    }
    service
        .ok("/feedback", &json!({"feedback_id": "late", "decision_id": "page-0", "event": "dwell", "value": 2}))
        .await;
    let refused = slated(place.path(), &["journal", "forget", "--user", "person-0", "--by", "anna", "--why", "asked"]);
    let message = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(4) && message.contains("DELETE") && message.contains("/events"), "{message}");

    let (status, problem) = read(service.send(Method::DELETE, "/users/person-0/events", None).await).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{problem}");
    let forget = "/users/person-0/events?by=anna&why=asked%20on%203%20March";
    let (status, forgot) = read(service.send(Method::DELETE, forget, None).await).await;
    assert_eq!(
        (status, &forgot["decisions"], &forgot["feedback"]),
        (StatusCode::OK, &json!(12), &json!(12)),
        "{forgot}"
    );
    let removed = |segment: &Value| segment["removed"].as_u64().unwrap();
    assert_eq!(forgot["segments"].as_array().unwrap().iter().map(removed).sum::<u64>(), 24);
    let (_, again) = read(service.send(Method::DELETE, forget, None).await).await;
    assert_eq!((&again["decisions"], &again["segments"]), (&json!(0), &json!([])));
    assert_eq!(holds(&journal, "person-0"), Vec::<String>::new(), "the service still runs, and its tail is empty");

    // Gone, and not taken again.
    assert_eq!(service.get("/decisions/page-3").await.0, StatusCode::NOT_FOUND);
    let mut body = request("page-3");
    body["user_id"] = json!("person-0");
    let (status, problem) = service.post("/recommend", &body).await;
    assert!(status == StatusCode::CONFLICT && problem.to_string().contains("no longer keeps"), "{problem}");
    assert_eq!(service.get("/decisions/page-4").await.0, StatusCode::OK);
    service.stop();
    let users: BTreeSet<String> =
        events::<Decision>(&journal).into_iter().filter_map(|decision| decision.user_id).collect();
    assert_eq!(users, BTreeSet::from(["person-1".to_owned(), "person-2".to_owned()]));
    let ids =
        |remainder: usize| (0..33).filter(move |round| round % 3 == remainder).map(|round| format!("click-{round}"));
    let left: BTreeSet<String> = events::<Feedback>(&journal).into_iter().map(|event| event.feedback_id).collect();
    assert!(ids(0).all(|id| !left.contains(&id)) && !left.contains("late"));
    assert!(ids(1).chain(ids(2)).all(|id| left.contains(&id)));
    place.must(&["journal", "check"]);

    // By the command, cut short again and again.
    let args = ["journal", "forget", "--user", "person-1", "--by", "anna", "--why", "asked too"];
    let mut cut = 0;
    for round in 0..12 {
        cut += u32::from(!cut_short(place.path(), &args, Duration::from_millis(20 + 12 * round)));
    }
    assert!(cut > 1, "only {cut} were cut short");
    place.must(&args);
    for person in ["person-0", "person-1"] {
        assert_eq!(holds(&journal, person), Vec::<String>::new(), "no file of the journal names {person}");
    }
    let decisions = events::<Decision>(&journal);
    assert!(decisions.iter().all(|decision| decision.user_id.as_deref().is_none_or(|user| user == "person-2")));
    assert_eq!(decisions.len(), 520 + 11);
    let left: BTreeSet<String> = events::<Feedback>(&journal).into_iter().map(|event| event.feedback_id).collect();
    assert!(ids(1).all(|id| !left.contains(&id)) && ids(2).all(|id| left.contains(&id)));
    place.must(&["journal", "check"]);
    let stats: Value = serde_json::from_str(&place.must(&["journal", "stats", "--json"])).unwrap();
    let record = &stats["forgotten"][0];
    assert_eq!(
        [&record["by"], &record["why"], &record["decisions"], &record["feedback"]],
        [&json!("anna"), &json!("asked on 3 March"), &json!(12), &json!(12)]
    );
    assert_eq!(stats["kinds"][0]["events"], 531);
    // What is left is learned from like any journal.
    place.must(&["train", "--policy", "left", "--algorithm", "linucb", "--interaction", "additive"]);
}

#[tokio::test]
async fn users_are_hashed_before_they_are_journalled_and_forgotten_by_their_own_id() {
    let place = Workplace::new();
    std::fs::write(place.path().join("key"), "0123456789abcdef0123456789abcdef\n").unwrap();
    served(&place, 12, "hash_users = \"file:key\"\n").await;
    let journal = place.path().join("journal");
    assert_eq!(holds(&journal, "person-"), Vec::<String>::new());
    let users: BTreeSet<String> =
        events::<Decision>(&journal).into_iter().filter_map(|decision| decision.user_id).collect();
    // HMAC-SHA256 of "person-0" under that key, as OpenSSL computes it.
    let output = Command::new("openssl")
        .args(["dgst", "-sha256", "-hmac", "0123456789abcdef0123456789abcdef"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .and_then(|mut child| {
            use std::io::Write;
            child.stdin.take().unwrap().write_all(b"person-0")?;
            child.wait_with_output()
        });
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    let expected = format!("hmac:{}", text.trim().rsplit(' ').next().unwrap());
    assert!(users.len() == 3 && users.contains(&expected), "{expected} among {users:?}");

    // A repeated request is the same, though the journal does not hold its user.
    let service = place.serve(&[]);
    let mut body = request("page-3");
    body["user_id"] = json!("person-0");
    service.ok("/recommend", &body).await;
    body["user_id"] = json!("person-1");
    assert_eq!(service.post("/recommend", &body).await.0, StatusCode::CONFLICT);
    service.stop();
    place.must(&["journal", "verify"]);
    let forgot = place.must(&["journal", "forget", "--user", "person-0", "--by", "anna", "--why", "asked", "--json"]);
    let forgot: Value = serde_json::from_str(&forgot).unwrap();
    assert_eq!((&forgot["decisions"], &forgot["feedback"]), (&json!(4), &json!(4)));

    for (value, word) in
        [("key", "file:<path>"), ("file:absent", "absent"), ("env:SLATED_NO_SUCH_KEY", "cannot be read")]
    {
        std::fs::write(place.path().join("slated.toml"), format!("[journal]\nhash_users = \"{value}\"\n")).unwrap();
        let output = slated(place.path(), &["serve", "--policy", "thompson", "--listen", "127.0.0.1:0"]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains("hash_users") && error.contains(word), "{error}");
    }
}

#[tokio::test]
async fn old_dates_go_by_themselves_and_by_the_command() {
    let place = Workplace::new();
    let journal = place.path().join("journal");
    served(&place, 5, "").await;
    let dates = |journal: &Path| -> Vec<String> {
        segments::<Decision>(journal).unwrap().into_iter().map(|date| date.date).collect()
    };
    let before = dates(&journal);
    assert!(before.len() >= 2 && before[0] == "2019-11-24", "{before:?}");
    let (all, old) = (events::<Decision>(&journal).len(), events::<Decision>(&journal));
    let old = old.iter().filter(|decision| decision.time.format("%Y").to_string() == "2019").count();
    let args = ["journal", "retain", "--keep-days", "30", "--json"];
    let told: Value = serde_json::from_str(&place.must(&[&args[..], &["--dry-run"]].concat())).unwrap();
    let events_of = |report: &Value, kind: &str| -> u64 {
        let removed = report["removed"].as_array().unwrap();
        removed.iter().filter(|date| date["kind"] == kind).map(|date| date["events"].as_u64().unwrap()).sum()
    };
    assert_eq!((events_of(&told, "decisions"), dates(&journal)), (old as u64, before.clone()));
    let copy = place.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    assert!(Command::new("cp").args(["-r", "journal/.", "copy"]).current_dir(place.path()).status().unwrap().success());
    let done: Value = serde_json::from_str(&place.must(&args)).unwrap();
    assert_eq!(done, told);
    assert_eq!(events::<Decision>(&journal).len(), all - old);
    place.must(&["journal", "check"]);

    // By size: nothing fits, and the latest date stays.
    must(place.path(), &["journal", "retain", "--journal", "copy", "--keep-bytes", "1"]);
    assert_eq!(dates(&copy), before[before.len() - 1..]);
    let nothing = slated(place.path(), &["journal", "retain"]);
    assert_eq!(nothing.status.code(), Some(3));
    let short = slated(place.path(), &["journal", "retain", "--keep-days", "1"]);
    let error = String::from_utf8_lossy(&short.stderr);
    assert!(short.status.code() == Some(3) && error.contains("journal.keep_days"), "{error}");

    // A running service does it by itself.
    place.must(&["journal", "import", "open-bandit", &common::rows().display().to_string()]);
    assert_eq!(dates(&journal), before);
    std::fs::write(place.path().join("slated.toml"), "[journal]\nkeep_days = 30\n").unwrap();
    let service = place.serve(&[]);
    let expected = format!("slated_journal_retired_events_total{{kind=\"decisions\"}} {old}");
    let mut metrics = String::new();
    for _ in 0..100 {
        metrics = service.text("/metrics").await;
        if metrics.contains(&expected) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(metrics.contains(&expected), "{metrics}");
    assert_eq!(events::<Decision>(&journal).len(), all - old);
}

#[tokio::test]
async fn omitted_features_are_never_journalled_and_nothing_is_recomputed_without_them() {
    let place = Workplace::new();
    let settings = "omit_features = [\"user.user_feature_0\", \"item.unused\", \"item.never\"]\n";
    std::fs::write(place.path().join("slated.toml"), format!("[journal]\n{settings}")).unwrap();
    // The policies learned by themselves that users have features; one of these is not sent, and so not omitted.
    let service = place.serve(&[]);
    let mut body = request("omitted");
    body["user"]["user_feature_0"] = json!("secret-value");
    for candidate in body["candidates"].as_array_mut().unwrap() {
        candidate["features"]["unused"] = json!("hidden-value");
    }
    let shown = service.ok("/recommend", &body).await;
    // The same request again is the same, and gets what was recorded.
    assert_eq!(service.ok("/recommend", &body).await, shown);
    for more in 0..30 {
        body["event_id"] = json!(format!("omitted-{more}"));
        // The reward model's folds are by user.
        body["user_id"] = json!(format!("user-{more}"));
        service.ok("/recommend", &body).await;
    }
    let mut without = request("without");
    without["user"] = json!({});
    service.ok("/recommend", &without).await;
    let (_, kept) = service.get("/decisions/omitted").await;
    assert_eq!(kept["omitted_features"], json!(["user.user_feature_0", "item.unused"]));
    assert_eq!((&kept["user"], &kept["propensity"]), (&json!({}), &shown["propensity"]));
    assert!(kept["candidates"][0]["features"].get("item_feature_0").is_some(), "{kept}");
    let (status, problem) = service.get("/decisions/omitted?explain=true").await;
    assert!(!status.is_success() && problem.to_string().contains("user.user_feature_0"), "{problem}");
    service.stop();
    let journal = place.path().join("journal");
    for text in ["secret-value", "hidden-value"] {
        assert_eq!(holds(&journal, text), Vec::<String>::new());
    }

    let verified: Value = serde_json::from_str(&place.must(&["journal", "verify", "--json"])).unwrap();
    assert_eq!((&verified["mismatched"], &verified["reproduced"]), (&json!(0), &json!(1)), "{verified}");
    assert_eq!(verified["omitted"], json!({"thompson version 1: `user.user_feature_0`": 31}));
    let verdict =
        slated(place.path(), &["evaluate", "--policy", "thompson", "--source", "service", "--include-learned"]);
    let error = String::from_utf8_lossy(&verdict.stderr);
    assert!(error.contains("user.user_feature_0") && error.contains("journal.omit_features"), "{error}");
    // A schema that asks for it without a default says so; the journal's own schema goes without.
    let train = "policy = \"asks\"\nalgorithm = { name = \"linucb\" }\n[data]\nsource = \"service\"\n[features]\n\
                 user = [{ name = \"user_feature_0\", kind = \"categorical\", vocabulary = [\"x\"] }]\n\
                 item = [{ name = \"affinity\", kind = \"numeric\" }]\n";
    std::fs::write(place.path().join("train.toml"), train).unwrap();
    let output = slated(place.path(), &["train", "--settings", "train.toml"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("user_feature_0") && error.contains("missing"), "{error}");

    std::fs::write(place.path().join("slated.toml"), "[journal]\nomit_features = [\"age\"]\n").unwrap();
    let output = slated(place.path(), &["config"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(3) && error.contains("omit_features") && error.contains("`context.`"),
        "{error}"
    );
}
