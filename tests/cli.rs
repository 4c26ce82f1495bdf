//! What an operator sees: settings, exit codes, completions, bundles.

mod common;

use std::process::Command;

use common::{Workplace, must, slated};
use serde_json::Value;
use tempfile::TempDir;

fn origins(folder: &TempDir, variables: &[(&str, &str)], args: &[&str]) -> Vec<Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_slated"));
    // What the test run itself is told is no setting.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SLATED_")) {
        command.env_remove(name);
    }
    command.current_dir(folder.path()).envs(variables.iter().copied()).args(["config", "--json"]).args(args);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_later_layer_wins_and_says_so() {
    let folder = TempDir::new().unwrap();
    std::fs::write(
        folder.path().join("slated.toml"),
        "seed = 5\n[server]\nmax_candidates = 11\nmax_slate_size = 12\n[models]\nothers = [\"a\"]\n",
    )
    .unwrap();
    let variables = [
        ("SLATED_SERVER__MAX_SLATE_SIZE", "13"),
        ("SLATED_SERVER__MAX_BODY_BYTES", "14"),
        ("SLATED_JOURNAL__FOLDER", "there"),
    ];
    let all = origins(&folder, &variables, &["--journal", "here", "--listen", "127.0.0.1:9"]);
    let found = |key: &str| {
        let origin =
            all.iter().find(|origin| origin["key"] == key).unwrap_or_else(|| panic!("{key} is not in {all:?}"));
        (origin["value"].as_str().unwrap(), origin["source"].as_str().unwrap().to_owned())
    };
    assert_eq!(found("server.max_concurrency"), ("1024", "default".to_owned()));
    assert!(found("server.max_candidates").1.ends_with("slated.toml"));
    assert_eq!(found("server.max_candidates").0, "11");
    assert_eq!(found("server.max_slate_size"), ("13", "SLATED_SERVER__MAX_SLATE_SIZE".to_owned()));
    assert_eq!(found("server.max_body_bytes"), ("14", "SLATED_SERVER__MAX_BODY_BYTES".to_owned()));
    assert_eq!(found("journal.folder"), ("\"here\"", "flag".to_owned()));
    assert_eq!(found("server.listen"), ("\"127.0.0.1:9\"", "flag".to_owned()));
    assert_eq!(found("seed").0, "5");
}

#[test]
fn bad_settings_name_the_key() {
    let folder = TempDir::new().unwrap();
    for (text, word) in [
        ("[server]\nmax_candidtes = 3\n", "max_candidtes"),
        ("[server]\nmax_candidates = \"many\"\n", "max_candidates"),
        ("[server]\nmax_candidates = 0\n", "server.max_candidates"),
        ("[journal]\ndurability = \"eternal\"\n", "durability"),
    ] {
        std::fs::write(folder.path().join("slated.toml"), text).unwrap();
        let output = slated(folder.path(), &["config"]);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{message}");
        assert!(message.contains(word), "{word} is not in {message}");
    }
}

#[test]
fn exit_codes_mean_something() {
    let place = Workplace::new();
    let code = |args: &[&str]| slated(place.path(), args).status.code();
    assert_eq!(code(&["policy", "list"]), Some(0));
    assert_eq!(code(&["fly"]), Some(2));
    assert_eq!(code(&["--config", "absent.toml", "config"]), Some(3));
    assert_eq!(code(&["policy", "inspect", "absent"]), Some(3));
    assert_eq!(code(&["train", "--policy", "p", "--journal", "absent"]), Some(3));
    assert_eq!(code(&["healthcheck", "--url", "http://127.0.0.1:1"]), Some(4));
    let service = place.serve(&[]);
    let taken = service.url.strip_prefix("http://").unwrap();
    assert_eq!(code(&["serve", "--listen", taken, "--policy", "thompson", "--journal", "other"]), Some(4));
    assert_eq!(code(&["healthcheck", "--url", &service.url]), Some(0));
}

#[test]
fn help_has_examples_and_shells_complete() {
    let folder = TempDir::new().unwrap();
    for command in [
        &["serve"][..],
        &["train"],
        &["demo"],
        &["config"],
        &["journal", "import"],
        &["policy", "inspect"],
        &["policy", "promote"],
        &["policy", "canary"],
        &["healthcheck"],
    ] {
        let help = must(folder.path(), &[command, &["--help"]].concat());
        assert!(help.contains("Examples:"), "{command:?}: {help}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(must(folder.path(), &["completions", shell]).contains("slated"), "{shell}");
    }
}

#[test]
fn logs_are_json_lines_where_asked_for() {
    let place = Workplace::new();
    let output =
        slated(place.path(), &["--log-format", "json", "serve", "--policy", "absent", "--listen", "127.0.0.1:0"]);
    let text = String::from_utf8(output.stderr).unwrap();
    let refused = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|line| line["message"] == "policy refused");
    assert_eq!(refused.expect("a JSON line")["policy"], "absent", "{text}");
}

#[test]
fn bundles_are_listed_and_proven() {
    let place = Workplace::new();
    std::fs::write(place.path().join("models/README.md"), "A file among the policies.").unwrap();
    let list = place.must(&["policy", "list"]);
    assert!(list.contains("thompson") && list.contains("linear_thompson") && list.contains("520"), "{list}");
    let manifest: Value = serde_json::from_str(&place.must(&["policy", "inspect", "ucb"])).unwrap();
    assert_eq!(manifest["algorithm"]["name"], "linucb");
    std::fs::write(place.path().join("models/ucb/1/model.onnx"), "torn").unwrap();
    let output = slated(place.path(), &["policy", "inspect", "ucb"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("SHA-256"));
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn training_settings_come_from_a_file_with_flags_over_them() {
    let place = Workplace::new();
    let text = r#"
policy = "from-file"
seed = 3
algorithm = { name = "linucb", alpha = 0.5, interaction = "additive" }
slate = { max_size = 3, max_candidates = 50 }
exploration = { method = "softmax", temperature = 0.2 }
[data]
journal = "journal"
reward = { weights = { click = 2.0 } }
[[features.item]]
name = "item_feature_0"
kind = "numeric"
missing = { default = 0.0 }
"#;
    std::fs::write(place.path().join("train.toml"), text).unwrap();
    place.must(&["train", "--settings", "train.toml", "--seed", "9"]);
    let manifest: Value = serde_json::from_str(&place.must(&["policy", "inspect", "from-file"])).unwrap();
    assert_eq!(manifest["training"]["seed"], 9);
    assert_eq!(manifest["algorithm"]["settings"]["alpha"], 0.5);
    assert_eq!(
        (manifest["signature"]["state_width"].as_u64(), manifest["signature"]["item_width"].as_u64()),
        (Some(0), Some(1))
    );
    assert_eq!(manifest["slate"]["max_candidates"], 50);
    assert!((manifest["training"]["mean_reward"].as_f64().unwrap() - 2.0 * 21.0 / 520.0).abs() < 1e-12);
    std::fs::write(place.path().join("train.toml"), text.replace("alpha", "alhpa")).unwrap();
    let output = slated(place.path(), &["train", "--settings", "train.toml"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("alhpa"), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(3));
}
