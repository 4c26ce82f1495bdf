//! Damage is seen, what is left is read, and what is lost is named.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use common::{Workplace, events, request, slated};
use reqwest::StatusCode;
use serde_json::{Value, json};
use slated_contract::event::{Decision, Event, Feedback, SegmentReader, segments};

fn files<E: Event>(place: &Workplace) -> Vec<PathBuf> {
    segments::<E>(&place.path().join("journal")).unwrap().into_iter().flat_map(|date| date.files).collect()
}

fn ids<E: Event>(place: &Workplace, prefix: &str) -> BTreeSet<String> {
    let ids = events::<E>(&place.path().join("journal")).into_iter().map(|event| event.id().to_owned());
    ids.filter(|id| id.starts_with(prefix)).collect()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

fn check(place: &Workplace) -> (Option<i32>, Value) {
    let output = slated(place.path(), &["journal", "check", "--json"]);
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

#[tokio::test]
async fn damaged_segments_are_named_and_the_rest_is_learned_from() {
    let place = Workplace::new();
    fs::write(place.path().join("slated.toml"), "[journal]\nseal_after_events = 7\n").unwrap();
    let before = files::<Decision>(&place).len();
    let service = place.serve(&[]);
    for index in 0..28 {
        let id = format!("damage-{index:02}");
        service.ok("/recommend", &request(&id)).await;
        service.ok("/feedback", &json!({"decision_id": id, "event": "click", "item": "a"})).await;
    }
    service.stop();
    let (code, report) = check(&place);
    assert_eq!((code, &report["damaged"], &report["unlisted"]), (Some(0), &json!([]), &json!(0)), "{report}");

    let mine: Vec<PathBuf> =
        files::<Decision>(&place).into_iter().filter(|path| !path.to_string_lossy().contains("import-")).collect();
    assert!(mine.len() >= 4 && before >= 1, "{mine:?}");
    let events = |path: &PathBuf| SegmentReader::<Decision>::open(path, 100).unwrap().flat_map(Result::unwrap).count();
    let held: Vec<usize> = mine[..3].iter().map(events).collect();
    let size = fs::metadata(&mine[0]).unwrap().len();
    flip(&mine[0], size as usize / 3);
    fs::write(&mine[1], &fs::read(&mine[1]).unwrap()[..size as usize / 2]).unwrap();
    fs::remove_file(&mine[2]).unwrap();
    let (code, report) = check(&place);
    assert_eq!(code, Some(5), "{report}");
    let damaged = report["damaged"].as_array().unwrap();
    assert_eq!(damaged.len(), 3, "{report}");
    for ((path, held), word) in mine.iter().zip(&held).zip(["checksum", "bytes", "missing"]) {
        let found = damaged.iter().find(|entry| path.ends_with(entry["path"].as_str().unwrap()));
        let found = found.unwrap_or_else(|| panic!("{} is not named: {report}", path.display()));
        assert_eq!(found["events"], json!(held), "{report}");
        assert!(found["reason"].as_str().unwrap().contains(word), "{report}");
    }

    let train = ["train", "--policy", "left", "--algorithm", "linucb", "--interaction", "additive"];
    let output = slated(place.path(), &train);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    for path in &mine[..3] {
        let name = path.file_name().unwrap().to_string_lossy();
        assert!(told.contains(&*name), "{name} is not named: {told}");
    }
    let manifest: Value = serde_json::from_str(&place.must(&["policy", "inspect", "left"])).unwrap();
    let lost: usize = held.iter().sum();
    assert_eq!(manifest["training"]["decisions"], json!(520 + 28 - lost));
}

/// Decisions in the tail of a service that was killed; their ids.
async fn left_in_the_tail(place: &Workplace, prefix: &str, count: usize) -> BTreeSet<String> {
    let service = place.serve(&[]);
    let mut ids = BTreeSet::new();
    for index in 0..count {
        let id = format!("{prefix}-{index:03}");
        service.ok("/recommend", &request(&id)).await;
        ids.insert(id);
    }
    service.kill();
    ids
}

/// The one file in this folder of the journal that ends so.
fn only(place: &Workplace, folder: &str, extension: &str) -> PathBuf {
    let files = fs::read_dir(place.path().join("journal").join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|kind| kind == extension)).collect();
    let [file] = &files[..] else { panic!("{files:?}") };
    file.clone()
}

/// The log of the tail, and its length.
fn log(place: &Workplace) -> (PathBuf, usize) {
    let log = only(place, ".tail", "log");
    let length = fs::metadata(&log).unwrap().len();
    (log, length as usize)
}

fn lost(place: &Workplace) -> u64 {
    let (_, report) = check(place);
    report["lost"].as_array().unwrap().iter().map(|lost| lost["events"].as_u64().unwrap()).sum()
}

#[tokio::test]
async fn a_bit_that_flips_in_the_tail_costs_one_commit_and_is_told() {
    for part in [2, 3, 5] {
        let place = Workplace::new();
        let acknowledged = left_in_the_tail(&place, "flip", 40).await;
        let (log, used) = log(&place);
        flip(&log, used - used / part);
        let service = place.serve(&[]);
        let told = service.text("/metrics").await;
        assert!(told.contains("slated_journal_lost_events_total{kind=\"decisions\"} 1"), "{told}");
        // The journal goes on under other names, with nothing of it overwritten.
        service.ok("/recommend", &request("flip-after")).await;
        service.stop();
        let kept = ids::<Decision>(&place, "flip-");
        let missing: Vec<_> = acknowledged.difference(&kept).collect();
        assert_eq!((missing.len(), lost(&place)), (1, 1), "{missing:?}");
        assert_eq!(kept.len(), 40);
        assert_eq!(check(&place).0, Some(5));
        // It is told once.
        place.serve(&[]).stop();
        assert_eq!(lost(&place), 1);
        assert_eq!(fs::read_dir(place.path().join("journal/damaged")).unwrap().count(), 1);
    }
}

#[tokio::test]
async fn a_number_in_the_index_that_is_damaged_costs_nothing() {
    for bit in [0x80, 0x01] {
        let place = Workplace::new();
        fs::write(place.path().join("slated.toml"), "[journal]\nseal_after_events = 7\n").unwrap();
        let mut acknowledged = left_in_the_tail(&place, "number", 15).await;
        let service = place.serve(&[]);
        service.ok("/journal/seal", &Value::Null).await;
        service.kill();
        acknowledged.extend(left_in_the_tail(&place, "numbered", 15).await);
        let log = only(&place, ".index", "jnl");
        let mut bytes = fs::read(&log).unwrap();
        let ends: Vec<usize> =
            bytes.windows(5).enumerate().filter(|(_, five)| *five == b"FJL\x03\x01").map(|(at, _)| at + 4).collect();
        // The highest byte of the number of a commit in the middle, and that of the last one.
        for begin in [ends[ends.len() / 2], *ends.last().unwrap()] {
            bytes[begin + 12] ^= bit;
        }
        fs::write(&log, bytes).unwrap();
        let service = place.serve(&[]);
        service.ok("/recommend", &request("number-after")).await;
        service.stop();
        let kept = ids::<Decision>(&place, "number");
        assert!(acknowledged.is_subset(&kept) && kept.len() == 31, "{kept:?}");
        assert_eq!((check(&place).0, lost(&place)), (Some(0), 0));
        assert!(!place.path().join("journal/damaged").exists());
    }
}

#[tokio::test]
async fn a_tail_that_is_cut_short_says_how_much_it_lost() {
    let place = Workplace::new();
    let acknowledged = left_in_the_tail(&place, "cut", 40).await;
    let (log, used) = log(&place);
    fs::write(&log, &fs::read(&log).unwrap()[..used * 2 / 3]).unwrap();
    let service = place.serve(&[]);
    service.ok("/recommend", &request("cut-after")).await;
    service.kill();
    place.serve(&[]).stop();
    let kept = ids::<Decision>(&place, "cut-");
    assert!(kept.contains("cut-after") && kept.len() > 10, "{kept:?}");
    let missing = acknowledged.difference(&kept).count() as u64;
    assert!(missing > 0);
    assert_eq!(lost(&place), missing);
}

#[tokio::test]
async fn a_write_that_was_torn_loses_nothing() {
    let place = Workplace::new();
    let acknowledged = left_in_the_tail(&place, "torn", 10).await;
    let (log, used) = log(&place);
    // The beginning of a commit, where the next one would have been written.
    let mut bytes = fs::read(&log).unwrap();
    let begun = bytes.iter().take(used / 12).copied().collect::<Vec<_>>();
    bytes.extend(begun);
    fs::write(&log, bytes).unwrap();
    let service = place.serve(&[]);
    assert_eq!(service.get("/decisions/torn-009").await.0, StatusCode::OK);
    service.stop();
    assert_eq!(ids::<Decision>(&place, "torn-"), acknowledged);
    assert_eq!((check(&place).0, lost(&place)), (Some(0), 0));
}

#[tokio::test]
async fn orphan_late_and_repeated_feedback_is_kept_and_counted() {
    let place = Workplace::new();
    let service = place.serve(&[]);
    let asked = service.ok("/recommend", &request("asked")).await;
    let item = asked["slate"][0]["item"].clone();
    let event = |id: &str, decision: &str, time: &str| json!({"feedback_id": id, "decision_id": decision, "event": "click", "item": item, "time": time});
    let (early, late) = ("2020-01-01T00:00:00Z", "2100-01-01T00:00:00Z");
    let decided = asked["time"].as_str().unwrap_or(early).to_owned();
    let sent =
        json!([event("late", "asked", late), event("orphan", "nobody", early), event("good", "asked", &decided)]);
    service.ok("/feedback", &sent).await;
    assert_eq!(service.ok("/feedback", &event("late", "asked", late)).await["duplicates"], 1);
    // Another replica's journal took it as well.
    service.stop();
    let own = files::<Feedback>(&place).into_iter().find(|path| !path.to_string_lossy().contains("import-")).unwrap();
    fs::copy(&own, own.with_file_name("another.parquet")).unwrap();
    assert_eq!(ids::<Feedback>(&place, "").iter().filter(|id| ["late", "orphan"].contains(&id.as_str())).count(), 2);
    let settings = "policy = \"counted\"\nalgorithm = { name = \"linucb\", interaction = \"additive\" }\n\
                    [data]\njournal = \"journal\"\nreward = { weights = { click = 1.0 }, wait_seconds = 3600.0 }\n";
    fs::write(place.path().join("train.toml"), settings).unwrap();
    let summary = place.must(&["train", "--settings", "train.toml"]);
    let feedback = summary.lines().skip_while(|line| !line.starts_with("feedback"));
    let count = |name: &str| -> u64 {
        let line = feedback.clone().find(|line| line.trim_start().starts_with(name)).expect(name);
        line.split_whitespace().last().unwrap().parse().unwrap()
    };
    let (imported, files) = (21, 2);
    assert_eq!(count("feedback"), imported + 3 * files, "{summary}");
    assert_eq!((count("without decision"), count("too late"), count("given twice")), (2, 1, 2), "{summary}");
    assert_eq!(count("counted"), imported + 1, "{summary}");
}
