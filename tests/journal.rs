//! Acknowledged means kept.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Workplace, events, request, without_manifests};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use reqwest::StatusCode;
use serde_json::{Value, json};
use slated_contract::event::{Decision, Event, Feedback, segments};

fn ids<E: Event>(place: &Workplace, prefix: &str) -> Vec<String> {
    let ids = events::<E>(&place.path().join("journal")).into_iter().map(|event| event.id().to_owned());
    let mut ids: Vec<String> = ids.filter(|id| id.starts_with(prefix)).collect();
    ids.sort();
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_being_killed() {
    let place = Workplace::new();
    let mut acknowledged = Vec::new();
    for round in 0..4 {
        let service = Arc::new(place.serve(&[]));
        let senders = (0..4).map(|sender| {
            let service = Arc::clone(&service);
            tokio::spawn(async move {
                let mut kept = Vec::new();
                for index in 0.. {
                    let id = format!("kill-{round}-{sender}-{index:05}");
                    let url = format!("{}/recommend", service.url);
                    let client = reqwest::Client::builder().no_proxy().build().unwrap();
                    match client.post(url).json(&request(&id)).send().await {
                        Ok(answer) if answer.status() == StatusCode::OK => kept.push(id),
                        _ => break,
                    }
                }
                kept
            })
        });
        let senders: Vec<_> = senders.collect();
        // Sealing under load must not lose anything either.
        tokio::time::sleep(Duration::from_millis(150)).await;
        if round % 2 == 1 {
            service.ok("/journal/seal", &Value::Null).await;
        }
        tokio::time::sleep(Duration::from_millis(100 + 70 * round)).await;
        service.signal("-KILL");
        for sender in senders {
            acknowledged.extend(sender.await.unwrap());
        }
    }
    assert!(acknowledged.len() > 20, "only {} requests were answered", acknowledged.len());
    let service = place.serve(&[]);
    assert_eq!(service.get(&format!("/decisions/{}", acknowledged[0])).await.0, StatusCode::OK);
    service.stop();
    let kept = ids::<Decision>(&place, "kill-");
    let mut once = kept.clone();
    once.dedup();
    assert_eq!(kept, once, "no decision is there twice");
    for id in &acknowledged {
        assert!(kept.binary_search(id).is_ok(), "{id} was acknowledged and is lost");
    }
}

#[tokio::test]
async fn stopping_answers_what_is_in_flight_and_closes_the_journal() {
    let place = Workplace::new();
    let service = place.serve(&[]);
    for index in 0..20 {
        service.ok("/recommend", &request(&format!("stop-{index}"))).await;
        service.ok("/feedback", &json!({"feedback_id": format!("stop-{index}"), "decision_id": format!("stop-{index}"), "event": "click"})).await;
    }
    service.stop();
    assert_eq!(ids::<Decision>(&place, "stop-").len(), 20);
    assert_eq!(ids::<Feedback>(&place, "stop-").len(), 20);
    // The next start finds what the last one closed.
    let service = place.serve(&[]);
    assert_eq!(service.get("/decisions/stop-3").await.0, StatusCode::OK);
    assert_eq!(
        service.ok("/feedback", &json!({"feedback_id": "stop-3", "decision_id": "stop-3", "event": "click"})).await["duplicates"],
        1
    );
}

#[tokio::test]
async fn power_durability_and_small_segments_serve_as_well() {
    let place = Workplace::new();
    std::fs::write(place.path().join("slated.toml"), "[journal]\ndurability = \"power\"\nseal_after_events = 7\n")
        .unwrap();
    let service = place.serve(&[]);
    for index in 0..20 {
        service.ok("/recommend", &request(&format!("power-{index}"))).await;
    }
    service.ok("/journal/seal", &Value::Null).await;
    assert_eq!(ids::<Decision>(&place, "power-").len(), 20);
    let names = segments::<Decision>(&place.path().join("journal")).unwrap().pop().unwrap().files;
    assert!(names.len() >= 3, "segments of at most 7: {names:?}");
}

#[tokio::test]
async fn one_journal_has_one_writer() {
    let place = Workplace::new();
    let _service = place.serve(&[]);
    let second = common::slated(place.path(), &["serve", "--listen", "127.0.0.1:0", "--policy", "thompson"]);
    assert!(!second.status.success());
    let message = String::from_utf8_lossy(&second.stderr);
    assert!(message.contains("another process has it open"), "{message}");
}

#[tokio::test]
async fn importing_twice_changes_nothing_and_every_row_is_counted() {
    let place = Workplace::new();
    let report = |place: &Workplace, folder: &std::path::Path| -> Value {
        serde_json::from_str(&place.must(&[
            "journal",
            "import",
            "open-bandit",
            &folder.display().to_string(),
            "--json",
        ]))
        .unwrap()
    };
    let before = ids::<Decision>(&place, "");
    let again = report(&place, &common::rows());
    assert_eq!(
        (&again["files"][0]["rows"], &again["files"][0]["decisions"], &again["files"][0]["refused"]),
        (&json!(520), &json!(520), &json!(0))
    );
    assert_eq!(ids::<Decision>(&place, ""), before);

    let bad = place.path().join("bad/random/men");
    std::fs::create_dir_all(&bad).unwrap();
    std::fs::copy(common::rows().join("random/men/item_context.csv"), bad.join("item_context.csv")).unwrap();
    let text = std::fs::read_to_string(common::rows().join("random/men/men.csv")).unwrap();
    let mut lines: Vec<String> = text.lines().take(9).map(str::to_owned).collect();
    let field = |line: &str, at: usize, value: &str| {
        let mut fields: Vec<&str> = line.split(',').collect();
        fields[at] = value;
        fields.join(",")
    };
    lines[1] = field(&lines[1], 1, "yesterday");
    lines[2] = field(&lines[2], 2, "99");
    lines[3] = field(&lines[3], 3, "4");
    lines[4] = field(&lines[4], 4, "2");
    lines[5] = field(&lines[5], 5, "0.0");
    lines[6] = lines[6].rsplit_once(',').unwrap().0.to_owned();
    lines[7] = field(&lines[7], 10, "inf");
    std::fs::write(bad.join("men.csv"), lines.join("\n")).unwrap();
    let file = report(&place, &place.path().join("bad"))["files"][0].clone();
    assert_eq!((&file["rows"], &file["decisions"], &file["refused"]), (&json!(8), &json!(1), &json!(7)), "{file}");
    for (refusal, (line, word)) in file["refusals"].as_array().unwrap().iter().zip([
        (2, "timestamp"),
        (3, "item_id"),
        (4, "position"),
        (5, "click"),
        (6, "propensity_score"),
        (7, "fields"),
        (8, "affinity"),
    ]) {
        assert_eq!(refusal["line"], line, "{refusal}");
        assert!(refusal["reason"].as_str().unwrap().contains(word), "{refusal}");
    }
    let nothing = common::slated(place.path(), &["journal", "import", "open-bandit", "models"]);
    assert_eq!(nothing.status.code(), Some(3));
}

/// Rewrites a segment as version 1 of the schema had it: without the columns that came later.
fn to_version_1(path: &std::path::Path) {
    let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(path).unwrap()).unwrap().build().unwrap();
    let columns: Vec<usize> = (0..17).collect();
    let batches: Vec<_> = reader.map(|batch| batch.unwrap().project(&columns).unwrap()).collect();
    assert_eq!(batches[0].schema().fields().last().unwrap().name(), "propensity_draws");
    let mut writer = ArrowWriter::try_new(std::fs::File::create(path).unwrap(), batches[0].schema(), None).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.close().unwrap();
}

#[tokio::test]
async fn segments_of_an_older_schema_train_beside_newer_ones() {
    let place = Workplace::new();
    let old = segments::<Decision>(&place.path().join("journal")).unwrap();
    old.iter().flat_map(|date| &date.files).for_each(|path| to_version_1(path));
    without_manifests(&place.path().join("journal"));
    let service = place.serve(&[]);
    service.ok("/recommend", &request("newer")).await;
    service.stop();
    place.must(&["train", "--policy", "both", "--algorithm", "linucb", "--interaction", "additive"]);
    let manifest: Value = serde_json::from_str(&place.must(&["policy", "inspect", "both"])).unwrap();
    assert_eq!(manifest["training"]["decisions"], 521);
}

#[tokio::test]
async fn a_journal_that_keeps_nothing_says_so() {
    let place = Workplace::new();
    std::fs::write(place.path().join("slated.toml"), "[journal]\ndurability = \"none\"\n").unwrap();
    let service = place.serve(&[]);
    let answer = service.ok("/recommend", &request("gone")).await;
    assert_eq!((&answer["journalled"], answer["slate"].as_array().unwrap().len()), (&Value::Bool(false), 2));
    let (status, refusal) =
        service.post("/feedback", &serde_json::json!({"decision_id": "gone", "event": "click"})).await;
    assert_eq!(status, reqwest::StatusCode::SERVICE_UNAVAILABLE);
    assert!(refusal["detail"].as_str().unwrap().contains("`journal.durability`"), "{refusal}");
    assert_eq!(service.get("/decisions/gone").await.0, reqwest::StatusCode::NOT_FOUND);
    assert_eq!(service.get("/readyz").await.0, reqwest::StatusCode::OK);
    service.stop();
}
