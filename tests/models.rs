//! The policies that ship reach their figures when their bundles run in ONNX Runtime.

mod common;

use std::path::Path;

use common::must;
use serde_json::Value;
use tempfile::TempDir;

/// The mean return of a bundle's greedy policy, in 1,000 episodes that no training saw.
fn mean_return(environment: &str, policy: &str) -> f64 {
    let folder = TempDir::new().expect("a folder");
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let models = models.to_str().expect("a path in UTF-8");
    let args = ["simulate", "--environment", environment, "--policy", policy, "--greedy", "--seed", "77"];
    let output = must(folder.path(), &[&args[..], &["--episodes", "1000", "--models", models, "--json"]].concat());
    let report: Value = serde_json::from_str(&output).expect("JSON");
    report["runs"][0]["return"]["mean"].as_f64().expect("a mean return")
}

#[test]
fn long_term_satisfaction_is_nearly_optimal() {
    // 98% of 225.98, the best that can be had with full knowledge of the user.
    let found = mean_return("lts-tutorial", "lts-tutorial-dqn");
    assert!(found > 221.0, "{found}");
}

#[test]
fn interest_evolution_is_far_above_what_ranking_by_interest_returns() {
    // Ranking by interest returns 168, ranking by the hidden quality 264.
    let found = mean_return("interest-evolution", "interest-evolution-slateq");
    assert!(found > 255.0, "{found}");
}
