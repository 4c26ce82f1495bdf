//! The Dockerfile.

use std::collections::BTreeMap;
use std::path::Path;

use crate::said::{deploy, parses, port, settings};

/// A stage: its instructions with what they say, comments left out and lines joined.
pub type Stage = Vec<(String, String)>;

/// The stages, by name.
pub fn stages() -> BTreeMap<String, Stage> {
    let text = std::fs::read_to_string(deploy("../Dockerfile")).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let text = lines.join("\n").replace("\\\n", " ");
    let mut stages = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let (instruction, rest) = line.split_once(' ').unwrap();
        if instruction == "FROM" {
            current = rest.rsplit(' ').next().unwrap().to_owned();
        }
        let rest = rest.split_whitespace().collect::<Vec<_>>().join(" ");
        stages.entry(current.clone()).or_insert_with(Stage::new).push((instruction.to_owned(), rest));
    }
    stages
}

/// What a stage's image sets.
pub fn variables(stage: &Stage) -> BTreeMap<String, String> {
    let all = stage.iter().filter(|(instruction, _)| instruction == "ENV").flat_map(|(_, rest)| rest.split(' '));
    all.filter_map(|pair| pair.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn said<'a>(stage: &'a Stage, instruction: &str) -> &'a str {
    let found = stage.iter().find(|(name, _)| name == instruction);
    &found.unwrap_or_else(|| panic!("no {instruction} in {stage:?}")).1
}

fn list(json: &str) -> Vec<String> {
    serde_json::from_str(json).unwrap_or_else(|_| panic!("{json} is no list"))
}

#[test]
fn images_say_what_slated_knows() {
    let stages = stages();
    let text = std::fs::read_to_string(deploy("../Dockerfile")).unwrap();
    assert_eq!(text.lines().rfind(|line| line.starts_with("FROM ")), Some("FROM debian:${DEBIAN}-slim AS cpu"));
    for name in ["cpu", "cuda"] {
        let stage = &stages[name];
        let set = variables(stage);
        let loaded = settings(&set, "");
        for (variable, value) in &set {
            let used = loaded.values().any(|(loaded, source)| source == variable && loaded == value);
            assert!(used, "{name}: {variable}={value} sets nothing: {loaded:?}");
        }
        let exposed: Vec<u16> = said(stage, "EXPOSE").split(' ').map(|port| port.parse().unwrap()).collect();
        assert!(exposed.contains(&port(&loaded["server.listen"].0)), "{name}: {exposed:?}");
        let volumes = list(said(stage, "VOLUME"));
        for key in ["models.folder", "journal.folder", "catalogue.folder"] {
            let folder = Path::new(&loaded[key].0);
            assert!(
                volumes.iter().any(|volume| folder.starts_with(volume)),
                "{name}: {key} is in no volume of {volumes:?}"
            );
        }
        assert_eq!(said(stage, "USER"), "65532:65532", "{name}");
        assert_eq!(said(stage, "ENTRYPOINT"), r#"["slated"]"#);
        parses(&list(said(stage, "CMD")));
        let health = said(stage, "HEALTHCHECK").split_once("CMD ").unwrap().1;
        let health = list(health);
        assert_eq!(health[0], "slated");
        parses(&health[1..]);
        let library = stage.iter().any(|(name, rest)| name == "COPY" && rest.ends_with(" /usr/lib/slated"));
        assert!(
            library && include_str!("../../src/serving/library.rs").contains("\"/usr/lib/slated/libonnxruntime.so\"")
        );
        assert!(!stage.iter().any(|(name, _)| name == "RUN"), "{name}: what is built belongs into a stage of its own");
    }
    assert_eq!(settings(&variables(&stages["cuda"]), "")["runtime.device"].0, "auto");
    let build = &stages["build-cuda"];
    assert!(build.iter().any(|(_, rest)| rest.contains("--features cuda")));
    assert!(std::fs::read_to_string(deploy("../Cargo.toml")).unwrap().contains("\ncuda = ["));
}

#[test]
fn what_is_copied_is_there() {
    let ignored = std::fs::read_to_string(deploy("../.dockerignore")).unwrap();
    for (name, stage) in stages() {
        for (_, rest) in stage.iter().filter(|(instruction, _)| instruction == "COPY") {
            if let Some(from) = rest.strip_prefix("--from=") {
                let from = from.split(' ').next().unwrap();
                assert!(stages().contains_key(from), "{name} copies from {from}, which is no stage");
                continue;
            }
            let mut sources: Vec<&str> = rest.split(' ').collect();
            sources.pop();
            for source in sources {
                assert!(deploy("..").join(source).exists(), "{name} copies {source}, which is not there");
                let kept_out = ignored.lines().any(|line| line == source.trim_end_matches('/'));
                assert!(!kept_out, "{name} copies {source}, which .dockerignore keeps out");
            }
        }
    }
}
