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
    // A table that is empty unless somebody fills it has no keys of its own.
    let empty = |key: &&String| rows.iter().any(|row| row.starts_with(&format!("| `{key}` | object | `{{}}` |")));
    let unset: BTreeSet<String> = named.difference(&keys).filter(empty).cloned().collect();
    assert_eq!(named, keys.union(&unset).cloned().collect());
    let silent: Vec<&&str> = rows
        .iter()
        .filter(|row| row.split(" | ").any(|cell| cell.trim_end_matches(" |").trim().is_empty() || cell == "any"))
        .collect();
    assert!(silent.is_empty(), "no form or description: {silent:#?}");
}

/// A metric as it is counted: its kind, and its labels where they stand in the call.
type Counted = (&'static str, Option<BTreeSet<String>>);

/// Every `counter!("name", "label" => …)` and its like in the sources below a folder.
fn counted(folder: &Path, found: &mut BTreeMap<String, Counted>) {
    for path in crate::common::files(folder, Path::new("")) {
        let text = std::fs::read_to_string(folder.join(&path)).unwrap_or_default();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ").replace("!( \"", "!(\"");
        for kind in ["counter", "gauge", "histogram"] {
            for call in text.split(&format!("{kind}!(\"")).skip(1) {
                // The parts between quotation marks are every other one.
                let parts: Vec<&str> = call[..closing(call)].split('"').collect();
                let labels = parts.windows(2).skip(2).step_by(2);
                let labels =
                    labels.filter(|pair| pair[1].trim_start().starts_with("=>")).map(|pair| pair[0].to_owned());
                let listed = !parts[1].trim_start().starts_with(", &");
                let counted = (kind, listed.then(|| labels.collect()));
                let before = found.insert(parts[0].to_owned(), counted.clone());
                assert!(before.is_none_or(|before| before == counted), "{}: {} twice", path.display(), parts[0]);
            }
        }
    }
}

/// Where the bracket that is open closes.
fn closing(text: &str) -> usize {
    let mut open = 1;
    for (at, character) in text.char_indices() {
        open += i32::from(character == '(') - i32::from(character == ')');
        if open == 0 {
            return at;
        }
    }
    text.len()
}

#[test]
fn every_metric_is_described_as_it_is_counted() {
    let mut found = BTreeMap::new();
    counted(&root().join("src"), &mut found);
    assert!(found.len() > 40, "{found:?}");
    for (name, (kind, labels)) in &found {
        let metric =
            METRICS.iter().find(|metric| metric.name == name).unwrap_or_else(|| panic!("{name} is not described"));
        assert_eq!(metric.kind.name(), *kind, "{name}");
        if let Some(labels) = labels {
            assert_eq!(&labels_of(metric), labels, "{name}");
        }
    }
    for metric in METRICS {
        assert!(found.contains_key(metric.name), "{} is described and never counted", metric.name);
    }
    let helpless: Vec<&Metric> = METRICS.iter().chain(AUTOPILOT).filter(|metric| metric.help.len() < 8).collect();
    assert!(helpless.is_empty(), "{helpless:?}");
}

fn labels_of(metric: &Metric) -> BTreeSet<String> {
    metric.labels.iter().map(|label| (*label).to_owned()).collect()
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
        let endings = if kind == "histogram" { &["_bucket{", "_sum{", "_count{"][..] } else { &["{"] };
        let begins: Vec<String> = endings.iter().map(|ending| format!("\n{}{ending}", metric.name)).collect();
        for series in begins.iter().flat_map(|begin| text.split(begin.as_str()).skip(1)) {
            let labels = series.split_once('}').unwrap().0.split("\",").filter_map(|label| label.split_once("=\""));
            let labels: BTreeSet<String> =
                labels.map(|(name, _)| name.to_owned()).filter(|name| name != "le").collect();
            assert_eq!(labels, labels_of(metric), "{}", metric.name);
        }
        seen += 1;
    }
    assert!(seen > 15, "{seen} in {text}");
    service.stop();
}
