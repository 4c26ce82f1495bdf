//! What to learn, from which log, and how.

use serde::{Deserialize, Serialize};
use slated_contract::feature::FeatureSchema;
use slated_contract::policy::SlateLimits;
use slated_contract::session::SessionSettings;
use slated_contract::slate::Exploration;

use super::{OfflineAlgorithm, SessionEnd};
use crate::dataset::DatasetSettings;
use crate::env::EnvironmentSettings;
use crate::online::preset_or_table;

/// A run over a log. The same settings over the same log give the same bytes on the same kind of processor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfflineSettings {
    /// The policy's name.
    pub policy: String,
    /// The journal to learn from; absent where the log comes from elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DatasetSettings>,
    /// How decisions make sessions.
    #[serde(default)]
    pub episodes: EpisodeSettings,
    /// What learns.
    pub algorithm: OfflineAlgorithm,
    /// Seeds everything random.
    #[serde(default = "one")]
    pub seed: u64,
    /// Gradient steps.
    #[serde(default = "default_updates")]
    pub updates: u64,
    /// How progress is measured.
    #[serde(default)]
    pub evaluation: OfflineEvaluation,
    /// A run can be stopped and resumed every so many gradient steps.
    #[serde(default = "default_checkpoint")]
    pub checkpoint_every: u64,
    /// The features to read. Where absent, those of [`OfflineEvaluation::environment`]; without one, what the log holds: of the
    /// session then the numbers that the service itself keeps.
    #[serde(default)]
    pub features: Option<FeatureSchema>,
    /// What the session accumulator keeps.
    #[serde(default)]
    pub session: Option<SessionSettings>,
    /// The requests that the policy is for; four times the largest in the log where absent.
    #[serde(default)]
    pub slate: Option<SlateLimits>,
    /// How the policy explores in service.
    #[serde(default = "default_exploration")]
    pub exploration: Exploration,
}

/// How decisions make sessions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EpisodeSettings {
    /// Decisions without a session's id belong to one session of their user while they are at most so far apart. A decision
    /// that names neither user nor session is a session of its own.
    pub gap_seconds: f64,
    /// Sessions that decided something in so many seconds before the log's end are still going on, and are left out.
    #[serde(skip_serializing_if = "is_zero")]
    pub open_seconds: f64,
    /// What the last decision of a session means.
    pub end: SessionEnd,
    /// The share of users who are kept out of learning, for the validation loss; which they are depends on their ids alone.
    pub validation: f64,
}

impl Default for EpisodeSettings {
    fn default() -> Self {
        Self { gap_seconds: 1800.0, open_seconds: 0.0, end: SessionEnd::Terminal, validation: 0.1 }
    }
}

/// How progress is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OfflineEvaluation {
    /// Every so many gradient steps; 0 measures only the end.
    pub every: u64,
    /// The most transitions of the users kept out that the validation loss is over.
    pub transitions: usize,
    /// An environment to run the greedy policy in, where there is one that stands for the users: the name of a preset, or a
    /// table of settings. Nothing is learned from it, nor chosen by it.
    #[serde(deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    pub environment: Option<EnvironmentSettings>,
    /// Episodes of each measurement.
    pub episodes: usize,
    /// Episodes of the last one.
    pub final_episodes: usize,
}

impl Default for OfflineEvaluation {
    fn default() -> Self {
        Self { every: 2000, transitions: 4096, environment: None, episodes: 100, final_episodes: 1000 }
    }
}

fn optional<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<EnvironmentSettings>, D::Error> {
    preset_or_table(deserializer).map(Some)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

const fn one() -> u64 {
    1
}

const fn default_updates() -> u64 {
    20_000
}

const fn default_checkpoint() -> u64 {
    5000
}

/// A little exploration: a log of certain decisions says nothing of any other policy.
const fn default_exploration() -> Exploration {
    Exploration::EpsilonGreedy { epsilon: 0.05 }
}

impl OfflineSettings {
    /// The most gradient steps of one run.
    pub const MAX_UPDATES: u64 = 10_000_000_000;

    /// The first setting outside its range, with what is allowed.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let between = |key: &str, value: u64, least: u64, most: u64| {
            (!(least..=most).contains(&value)).then(|| format!("`{key}` is {value}, allowed are {least} to {most}"))
        };
        let EpisodeSettings { gap_seconds, open_seconds, validation, .. } = self.episodes;
        between("updates", self.updates, 1, Self::MAX_UPDATES)
            .or_else(|| between("checkpoint_every", self.checkpoint_every, 1, Self::MAX_UPDATES))
            .or_else(|| between("evaluation.transitions", self.evaluation.transitions as u64, 1, 10_000_000))
            .or_else(|| between("evaluation.episodes", self.evaluation.episodes as u64, 2, 10_000_000))
            .or_else(|| between("evaluation.final_episodes", self.evaluation.final_episodes as u64, 2, 10_000_000))
            .or_else(|| {
                (!(gap_seconds.is_finite() && gap_seconds > 0.0))
                    .then(|| format!("`episodes.gap_seconds` is {gap_seconds}, it must be finite and above 0"))
            })
            .or_else(|| {
                (!(open_seconds.is_finite() && open_seconds >= 0.0))
                    .then(|| format!("`episodes.open_seconds` is {open_seconds}, it must be finite and at least 0"))
            })
            .or_else(|| {
                (!(0.0..1.0).contains(&validation))
                    .then(|| format!("`episodes.validation` is {validation}, allowed are 0 up to below 1"))
            })
            .or_else(|| self.algorithm.problem())
            .or_else(|| self.exploration.check().err().map(|error| error.to_string()))
    }
}
