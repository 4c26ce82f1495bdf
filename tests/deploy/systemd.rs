//! The units.

use std::collections::BTreeMap;

use crate::said::{deploy, parses, settings};

/// A unit's lines: key and value.
fn unit(name: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(deploy("systemd").join(name)).unwrap();
    let pairs = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn value<'a>(unit: &'a [(String, String)], key: &str) -> &'a str {
    let found = unit.iter().find(|(name, _)| name == key);
    &found.unwrap_or_else(|| panic!("no {key}")).1
}

#[test]
fn units_start_what_is_there() {
    for name in ["slated.service", "slated-autopilot.service"] {
        let unit = unit(name);
        let mut words = value(&unit, "ExecStart").split(' ').map(str::to_owned);
        assert_eq!(words.next().as_deref(), Some("/usr/bin/slated"), "{name}");
        parses(&words.collect::<Vec<_>>());
        let pairs = unit.iter().filter(|(key, _)| key == "Environment").filter_map(|(_, value)| value.split_once('='));
        let set: BTreeMap<String, String> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let loaded = settings(&set, "");
        let state = format!("/var/lib/{}/", value(&unit, "StateDirectory"));
        for (variable, value) in &set {
            let used = loaded.iter().find(|(_, (_, source))| source == variable);
            let (key, _) = used.unwrap_or_else(|| panic!("{name}: {variable} sets nothing"));
            assert!(!key.ends_with(".folder") || value.starts_with(&state), "{name}: {key} is not in {state}");
        }
        // Draining, and ten seconds for what is still to be sent to an object store.
        let drain: u64 = loaded["server.drain_seconds"].0.parse().unwrap();
        assert!(value(&unit, "TimeoutStopSec").parse::<u64>().unwrap() >= drain + 10, "{name}");
        for key in ["models.folder", "journal.folder", "catalogue.folder"].iter().filter(|_| name == "slated.service") {
            assert!(loaded[*key].0.starts_with(&state), "{name}: {key} is where nothing may be written");
        }
    }
    // They share a folder that only this user reads.
    let (service, autopilot) = (unit("slated.service"), unit("slated-autopilot.service"));
    for key in ["User", "StateDirectory", "WorkingDirectory", "UMask"] {
        assert_eq!(value(&service, key), value(&autopilot, key), "{key}");
    }
}
