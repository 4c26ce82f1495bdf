//! When a difference is called drift.

use serde::{Deserialize, Serialize};

/// The limits. A difference between two windows beyond one of them is reported as drift.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DriftSettings {
    /// The greatest population stability index of a feature; 0.1 is often called a small shift, 0.25 a great one.
    pub max_stability_index: f64,
    /// The confidence of the interval of a change of the mean reward.
    pub confidence: f64,
    /// The least change of the mean reward that counts, as a share of what it was: with much data, every change is certain.
    pub min_reward_change: f64,
    /// The fewest sessions of a version in either window from which a change of its reward is told.
    pub min_sessions: u64,
    /// The most values of a feature that are kept of a window: a sample that decisions' ids choose.
    pub sample: usize,
}

impl Default for DriftSettings {
    fn default() -> Self {
        Self { max_stability_index: 0.25, confidence: 0.999, min_reward_change: 0.1, min_sessions: 100, sample: 10_000 }
    }
}

impl DriftSettings {
    /// The first setting outside its range, with what is allowed.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let Self { max_stability_index, confidence, min_reward_change, min_sessions, sample } = *self;
        let wrong = |holds: bool, key: &str, value: String, allowed: &str| {
            (!holds).then(|| format!("`drift.{key}` is {value}, {allowed}"))
        };
        wrong(max_stability_index > 0.0, "max_stability_index", max_stability_index.to_string(), "it must be above 0")
            .or_else(|| {
                let holds = (0.5..1.0).contains(&confidence);
                wrong(holds, "confidence", confidence.to_string(), "allowed are 0.5 up to below 1")
            })
            .or_else(|| {
                let holds = min_reward_change.is_finite() && min_reward_change >= 0.0;
                wrong(holds, "min_reward_change", min_reward_change.to_string(), "it must be finite and at least 0")
            })
            .or_else(|| wrong(min_sessions >= 2, "min_sessions", min_sessions.to_string(), "it must be at least 2"))
            .or_else(|| wrong(sample >= 100, "sample", sample.to_string(), "it must be at least 100"))
    }
}
