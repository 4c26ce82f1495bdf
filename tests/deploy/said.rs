//! What a deployment tells slated, held to slated itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// A folder of `deploy/`, or the repository itself for `..`.
pub fn deploy(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(folder)
}

/// The documents of a YAML file.
pub fn yaml(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let documents = yaml_serde::Deserializer::from_str(&text);
    documents.map(|document| serde::Deserialize::deserialize(document).unwrap()).collect()
}

fn slated(variables: &BTreeMap<String, String>, folder: &Path, arguments: &[String]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_slated"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SLATED_")) {
        command.env_remove(name);
    }
    command.current_dir(folder).envs(variables).args(arguments).output().unwrap()
}

/// The settings in force with these variables and this text of `slated.toml`; an unknown or wrong one fails the test.
pub fn settings(variables: &BTreeMap<String, String>, file: &str) -> BTreeMap<String, (String, String)> {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("slated.toml"), file).unwrap();
    let output = slated(variables, folder.path(), &["config", "--json"].map(str::to_owned));
    assert!(output.status.success(), "{variables:?} {file}: {}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let read = |line: &str| {
        let origin: Value = serde_json::from_str(line).unwrap();
        let word = |key: &str| origin[key].as_str().unwrap().trim_matches('"').to_owned();
        (word("key"), (word("value"), word("source")))
    };
    lines.lines().map(read).collect()
}

/// Fails unless the command line reads these arguments.
pub fn parses(arguments: &[String]) {
    let folder = TempDir::new().unwrap();
    let arguments: Vec<String> = arguments.iter().cloned().chain(["--help".to_owned()]).collect();
    let output = slated(&BTreeMap::new(), folder.path(), &arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn wrong_arguments_and_variables_are_seen() {
    let folder = TempDir::new().unwrap();
    let arguments = ["serve", "--lissten", "127.0.0.1:1", "--help"].map(str::to_owned);
    assert!(!slated(&BTreeMap::new(), folder.path(), &arguments).status.success());
    let variables = BTreeMap::from([("SLATED_SERVER__LISSTEN".to_owned(), "127.0.0.1:1".to_owned())]);
    assert!(!slated(&variables, folder.path(), &["config".to_owned()]).status.success());
}

/// Its port.
pub fn port(address: &str) -> u16 {
    address.rsplit(':').next().unwrap().parse().unwrap_or_else(|_| panic!("{address} has no port"))
}

/// The paths that `GET` answers, from the service's own description.
pub fn routes() -> Vec<String> {
    let openapi: Value = serde_json::to_value(slated::api::openapi(slated::api::KeysNeeded::Perhaps)).unwrap();
    let paths = openapi["paths"].as_object().unwrap();
    paths.iter().filter(|(_, methods)| methods.get("get").is_some()).map(|(path, _)| path.clone()).collect()
}
