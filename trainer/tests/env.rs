//! The environments, held to what RecSim did.

use std::path::PathBuf;

use serde::Deserialize;
use slated_trainer::env::{LongTermSatisfactionSettings, LtsDocument, LtsUser};

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn assert_near(what: &str, found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "{what}: {found}, expected {expected}");
}

#[derive(Deserialize)]
struct LtsStep {
    npe_before: f64,
    satisfaction_before: f64,
    time_budget_before: u32,
    clickbait_score: f64,
    reward: f64,
    npe_after: f64,
    satisfaction_after: f64,
    time_budget_after: u32,
    done: u8,
}

#[test]
fn every_step_of_long_term_satisfaction_is_recsims() {
    let settings = LongTermSatisfactionSettings::tutorial();
    let mut steps = 0;
    for step in csv::Reader::from_path(data("lts_tutorial_steps.csv")).unwrap().deserialize() {
        let step: LtsStep = step.unwrap();
        let document = LtsDocument { id: 0, clickbait_score: step.clickbait_score };
        let mut user = LtsUser::new(&settings, step.npe_before);
        assert_near("satisfaction before", user.satisfaction, step.satisfaction_before, 1e-9);
        let (mean, deviation) = user.log_engagement(&settings, &document);
        assert_eq!(deviation, 0.0);
        assert_near("reward", mean.exp(), step.reward, 1e-9);
        user.time_budget = step.time_budget_before;
        user.consume(&settings, &document, 0.0);
        assert_near("exposure", user.net_positive_exposure, step.npe_after, 1e-4);
        assert_near("satisfaction", user.satisfaction, step.satisfaction_after, 1e-4);
        // With the innovation that RecSim drew.
        user = LtsUser::new(&settings, step.npe_after);
        assert_near("satisfaction after", user.satisfaction, step.satisfaction_after, 1e-9);
        assert_eq!(step.time_budget_before - 1, step.time_budget_after);
        assert_eq!(step.time_budget_after == 0, step.done == 1);
        steps += 1;
    }
    assert_eq!(steps, 2000);
}
