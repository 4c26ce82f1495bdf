//! The reference is what the code says of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};
use slated::telemetry::described::{AUTOPILOT, METRICS, Metric};

use crate::common::{Workplace, must, request};
use crate::page::root;

/// `openapi.yaml` and the pages of `docs/reference/`. `UPDATE=1 cargo test --workspace --locked --test documentation reference` writes them.
#[test]
fn the_reference_is_that_of_the_code() {
    let folder = tempfile::tempdir().unwrap();
    let mut stale = Vec::new();
    let pages = ["cli", "settings", "metrics", "api"];
    let pages = pages.map(|page| (format!("docs/reference/{page}.md"), vec!["reference", page]));
    for (page, arguments) in pages.into_iter().chain([("openapi.yaml".to_owned(), vec!["openapi"])]) {
        let path = root().join(&page);
        let text = must(folder.path(), &arguments);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        if std::fs::read_to_string(&path).ok().as_deref() != Some(text.as_str()) {
            stale.push(page);
        }
    }
    assert!(stale.is_empty(), "{stale:?} are not what the code says; `make reference` writes them anew");
}

#[test]
fn the_reference_has_every_setting_and_none_else() {
    let folder = tempfile::tempdir().unwrap();
    let keys: BTreeSet<String> = must(folder.path(), &["config", "--json"])
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["key"].as_str().unwrap().to_owned())
        .collect();
    let text = must(folder.path(), &["reference", "settings"]);
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| `")).collect();
    let named: BTreeSet<String> = rows.iter().map(|row| row.split('`').nth(1).unwrap().to_owned()).collect();
    assert_eq!(named, keys);
    let silent: Vec<&&str> = rows
        .iter()
        .filter(|row| row.split(" | ").any(|cell| cell.trim_end_matches(" |").trim().is_empty() || cell == "any"))
        .collect();
    assert!(silent.is_empty(), "no form or description: {silent:#?}");
}

/// A metric as it is counted: kind and labels.
type Counted = (String, BTreeSet<String>);

/// Every `metrics::counter!("name", "label" => …)` and its like in the sources below a folder.
fn counted(folder: &Path, found: &mut BTreeMap<String, Counted>) {
    for path in crate::common::files(folder, Path::new("")) {
        let text = std::fs::read_to_string(folder.join(&path)).unwrap_or_default();
        for kind in ["counter", "gauge", "histogram"] {
            for call in text.split(&format!("metrics::{kind}!(")).skip(1) {
                let arguments = call.split(".set(").next().unwrap().split(".increment(").next().unwrap();
                let arguments = arguments.split(".record(").next().unwrap().split(';').next().unwrap();
                let mut texts = arguments.split('"').skip(1).step_by(2);
                let name = texts.next().unwrap_or_else(|| panic!("{}: a {kind} without a name", path.display()));
                let parts: Vec<&str> = arguments.split('"').collect();
                let labels = parts.windows(2).skip(1).step_by(2);
                let labels =
                    labels.filter(|pair| pair[1].trim_start().starts_with("=>")).map(|pair| pair[0].to_owned());
                let labels: BTreeSet<String> = labels.collect();
                let before = found.insert(name.to_owned(), (kind.to_owned(), labels.clone()));
                if let Some(before) = before {
                    assert_eq!(before, (kind.to_owned(), labels), "{name} is counted in two ways, {}", path.display());
                }
            }
        }
    }
}

#[test]
fn every_metric_is_described_as_it_is_counted() {
    let mut found = BTreeMap::new();
    counted(&root().join("src"), &mut found);
    let described: BTreeMap<String, Counted> = METRICS
        .iter()
        .map(|metric| {
            let labels = metric.labels.iter().map(|label| (*label).to_owned()).collect();
            (metric.name.to_owned(), (metric.kind.name().to_owned(), labels))
        })
        .collect();
    assert!(found.len() > 40, "{found:?}");
    for (name, counted) in &found {
        assert_eq!(described.get(name), Some(counted), "{name}: described, and counted");
    }
    for name in described.keys() {
        assert!(found.contains_key(name), "{name} is described and never counted");
    }
    let helpless: Vec<&Metric> = METRICS.iter().chain(AUTOPILOT).filter(|metric| metric.help.len() < 8).collect();
    assert!(helpless.is_empty(), "{helpless:?}");
}

#[tokio::test]
async fn a_service_shows_what_is_described() {
    let place = Workplace::new();
    let service = place.serve(&["--policy", "ucb"]);
    service.ok("/recommend", &request("seen")).await;
    service.ok("/feedback", &json!({"decision_id": "seen", "event": "click", "position": 0})).await;
    let text = service.text("/metrics").await;
    let mut seen = 0;
    for metric in METRICS {
        let kind = text.lines().find_map(|line| line.strip_prefix(&format!("# TYPE {} ", metric.name)));
        let Some(kind) = kind else { continue };
        assert_eq!(kind, metric.kind.name(), "{}", metric.name);
        assert!(text.contains(&format!("# HELP {} ", metric.name)), "{} has no help", metric.name);
        seen += 1;
    }
    assert!(seen > 15, "{seen} in {text}");
    service.stop();
}
