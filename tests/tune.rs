//! Searching for settings from the command line, over real runs.

mod common;

use std::fs;

use common::{must, slated};
use slated_trainer::online::{OnlineOutcome, OnlineSettings, Unobserved, train_online};
use tempfile::TempDir;

const SETTINGS: &str = r#"
policy = "tuned"
environment = "lts-tutorial"
lanes = 4
warm_up = 100
checkpoint_every = 200
algorithm = { name = "dqn", network = { hidden = [8] } }
evaluation = { every = 200, episodes = 4, final_episodes = 8 }
"#;

const SPACE: &str = r#"
budget = 600
trials = 3
early_stopping = { minimum = 200, reduction = 3 }
[space]
"algorithm.optimisation.adam.learning_rate" = { log_uniform = [1e-4, 1e-2] }
"algorithm.discount" = { choice = [0.0, 0.9] }
"#;

const TUNE: [&str; 7] = ["tune", "--settings", "train.toml", "--space", "space.toml", "--out", "tuning"];

fn folder(space: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("train.toml"), SETTINGS).unwrap();
    fs::write(folder.path().join("space.toml"), space).unwrap();
    folder
}

#[test]
fn the_best_settings_learn_what_the_search_says_of_them() {
    let folder = folder(SPACE);
    let printed = must(folder.path(), &TUNE);
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines.len(), 5, "{printed}");
    let parameters = "  seconds  algorithm.discount  algorithm.optimisation.adam.learning_rate";
    assert!(lines[0].ends_with(parameters) && lines[0].trim_start().starts_with("trial"), "{printed}");
    assert_eq!(lines.iter().filter(|line| line.contains("finished")).count(), 1, "{printed}");
    assert_eq!(lines.iter().filter(|line| line.contains("stopped early")).count(), 2, "{printed}");

    let best = fs::read_to_string(folder.path().join("tuning/best.toml")).unwrap();
    let best: OnlineSettings = toml::from_str(&best).unwrap();
    assert_eq!(best.steps, 600);
    let outcome = train_online(&best, 1, None, &mut Unobserved, &false.into()).unwrap();
    let OnlineOutcome::Finished(learned) = outcome else { panic!("it was stopped") };
    // The trial was paused at its first budget; that has changed nothing.
    let value = format!("{:.4}", learned.returns.mean);
    assert_eq!(lines[1].split_whitespace().nth(1), Some(value.as_str()), "{printed}");

    let again = must(folder.path(), &TUNE);
    assert_eq!(again, printed, "what is known is not run again");
}

#[test]
fn a_bad_search_names_the_key() {
    let refused = |space: &str| {
        let folder = folder(space);
        let output = slated(folder.path(), &TUNE);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{message}");
        message
    };
    let unknown = refused("budget = 600\n[space]\n\"algorithm.learning_rat\" = { uniform = [0, 1] }");
    assert!(unknown.contains("algorithm.learning_rat = 0.") && unknown.contains("unknown field"), "{unknown}");
    let range = refused("budget = 600\n[space]\n\"algorithm.discount\" = { log_uniform = [0, 1] }");
    assert!(range.contains("`space.algorithm.discount`") && range.contains("above 0"), "{range}");
    let sampler = refused(&format!("sampler = {{ name = \"bayes\" }}\n{SPACE}"));
    assert!(sampler.contains("expected one of `random`, `grid`, `tpe`"), "{sampler}");
    let outside = refused("budget = 600\n[space]\n\"algorithm.discount\" = { choice = [2.0] }");
    assert!(outside.contains("`discount` is 2, allowed are 0 to 1"), "{outside}");
}
