//! Links lead somewhere, and the book has every page.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use crate::page::{pages, root};

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => assert!(plain.pop(), "{} leaves the repository", path.display()),
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

fn is_elsewhere(target: &str) -> bool {
    target.starts_with("https://") || target.starts_with("http://")
}

#[test]
fn every_link_leads_somewhere() {
    let pages = pages();
    let anchors: BTreeMap<&Path, BTreeSet<String>> =
        pages.iter().map(|page| (page.path.as_path(), page.anchors())).collect();
    let mut broken = Vec::new();
    let mut seen = 0;
    for page in &pages {
        let folder = page.path.parent().unwrap();
        for (line, target) in page.links().into_iter().filter(|(_, target)| !is_elsewhere(target)) {
            seen += 1;
            let at = format!("{}:{line}: {target}", page.path.display());
            let (file, anchor) =
                target.split_once('#').map_or((target.as_str(), None), |(file, anchor)| (file, Some(anchor)));
            let path = if file.is_empty() { page.path.clone() } else { plain(&folder.join(file)) };
            if !root().join(&path).exists() {
                broken.push(format!("{at}: there is no such file"));
            } else if page.path.starts_with("docs") && !path.starts_with("docs") {
                broken.push(format!("{at}: leaves docs/, so it leads nowhere in the book"));
            } else if let Some(anchor) = anchor
                && !anchors.get(path.as_path()).is_some_and(|anchors| anchors.contains(anchor))
            {
                broken.push(format!("{at}: there is no such heading"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(seen > 150, "only {seen} links were seen");
}

#[test]
fn the_book_has_every_page_once() {
    let summary = pages().into_iter().find(|page| page.path == Path::new("docs/SUMMARY.md")).expect("docs/SUMMARY.md");
    let mut listed: Vec<PathBuf> =
        summary.links().into_iter().map(|(_, target)| plain(&Path::new("docs").join(target))).collect();
    let mut there: Vec<PathBuf> = pages()
        .into_iter()
        .map(|page| page.path)
        .filter(|path| path.starts_with("docs") && !path.ends_with("SUMMARY.md"))
        .collect();
    listed.sort();
    there.sort();
    assert_eq!(listed, there, "docs/SUMMARY.md lists the first, docs/ has the second");
}

#[test]
fn every_alert_is_in_the_runbook() {
    let alerts = std::fs::read_to_string(root().join("deploy/prometheus/alerts.yml")).unwrap();
    let runbook = pages().into_iter().find(|page| page.path == Path::new("docs/runbook.md")).expect("docs/runbook.md");
    let sections: BTreeMap<&str, &str> =
        runbook.text.split("\n## ").skip(1).filter_map(|section| section.split_once('\n')).collect();
    let rules: yaml_serde::Value = yaml_serde::from_str(&alerts).unwrap();
    let mut known = BTreeSet::new();
    for group in rules["groups"].as_sequence().unwrap() {
        for rule in group["rules"].as_sequence().unwrap() {
            let name = rule["alert"].as_str().unwrap();
            known.insert(name.to_owned());
            let severity = rule["labels"]["severity"].as_str();
            assert!(severity.is_some_and(|severity| ["page", "ticket"].contains(&severity)), "{name}: {severity:?}");
            let url = rule["annotations"]["runbook"].as_str().unwrap_or_else(|| panic!("{name} has no `runbook`"));
            assert_eq!(url, format!("docs/runbook.md#{}", name.to_lowercase()), "{name}");
            assert!(runbook.anchors().contains(&name.to_lowercase()), "docs/runbook.md has no heading {name}");
            let section = sections.get(name).unwrap_or_else(|| panic!("docs/runbook.md has no section {name}"));
            for part in ["**Symptom.**", "**Check.**", "**Action.**"] {
                assert!(section.contains(part), "docs/runbook.md, {name}: no {part}");
            }
        }
    }
    assert!(known.len() >= 13, "{known:?}");
    let astray: Vec<&&str> =
        sections.keys().filter(|name| name.starts_with("Slated") && !known.contains(**name)).collect();
    assert!(astray.is_empty(), "docs/runbook.md has {astray:?}, which no alert is called");
}
