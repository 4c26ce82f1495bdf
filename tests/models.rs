//! The policies that ship reach their figures when their bundles run in ONNX Runtime.

mod common;

use std::path::Path;

use common::must;
use serde_json::Value;
use tempfile::TempDir;

/// Runs policies, bundles without their exploration, in episodes that no training saw.
fn simulate(environment: &str, policies: &[&str], episodes: &str) -> Value {
    let folder = TempDir::new().expect("a folder");
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let models = models.to_str().expect("a path in UTF-8");
    let args =
        ["simulate", "-e", environment, "--greedy", "--seed", "77", "-n", episodes, "--models", models, "--json"];
    let policies = policies.iter().flat_map(|policy| ["--policy", policy]);
    let output = must(folder.path(), &args.into_iter().chain(policies).collect::<Vec<_>>());
    serde_json::from_str(&output).expect("JSON")
}

fn mean_return(environment: &str, policy: &str) -> f64 {
    simulate(environment, &[policy], "1000")["runs"][0]["return"]["mean"].as_f64().expect("a mean return")
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

#[test]
fn interest_exploration_is_above_the_best_fixed_ranking_for_the_same_users() {
    let report = simulate("interest-exploration", &["best_quality", "interest-exploration-slateq"], "20000");
    let difference = &report["runs"][1]["difference"];
    assert!(difference["lower"].as_f64().expect("an interval") > 0.0, "{difference}");
}
