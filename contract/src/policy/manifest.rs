//! `policy.json`: everything about a policy but its weights.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::feature::{Encoder, FeatureSchema, SchemaError};
use crate::reward::{RewardDefinition, RewardError};
use crate::session::{SessionAccumulator, SessionError, SessionSettings};
use crate::slate::{Exploration, ExplorationError, ObjectiveError, SlateObjective, drawn_by};
use crate::tensor::Signature;

/// The format that this crate reads and writes.
pub const FORMAT: u32 = 1;

/// The manifest of a policy bundle. It holds no wall-clock time: the same data, settings and seed give the same bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The manifest's format, 1.
    pub format: u32,
    /// The policy's name: letters, digits, `_`, `-` and `.`.
    pub name: String,
    /// Its version, from 1; a higher one is newer.
    pub version: u64,
    /// What learned it.
    pub algorithm: Algorithm,
    /// Gamma, the discount per step: 0 for a bandit.
    pub discount: f64,
    /// The features it reads.
    pub features: FeatureSchema,
    /// What the session accumulator keeps for it.
    #[serde(default)]
    pub session: SessionSettings,
    /// The requests it was made for.
    pub slate: SlateLimits,
    /// How it explores.
    pub exploration: Exploration,
    /// How its slates are put together from scores and appeal; for models that give `appeal`, and only for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective: Option<SlateObjective>,
    /// The tensors by which the model is called.
    pub signature: Signature,
    /// SHA-256 of `model.onnx`, in hex.
    pub model_sha256: String,
    /// What it was trained from; absent for a model from elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<TrainingRecord>,
    /// Where a model from elsewhere comes from, and how it was made to keep to the signature; absent for one that slated
    /// trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// What offline evaluation says of it.
    #[serde(default)]
    pub evaluation: Vec<Evaluation>,
    /// Sample inputs with the scores that the trainer computed for them: a service that cannot reproduce them does
    /// not serve the bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parity: Option<Parity>,
}

/// What learned a policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Algorithm {
    /// Its name, such as `linucb`.
    pub name: String,
    /// Its settings.
    #[serde(default)]
    pub settings: serde_json::Value,
}

/// The requests a policy was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlateLimits {
    /// The greatest slate size.
    pub max_size: usize,
    /// The most candidates.
    pub max_candidates: usize,
}

/// What a policy was trained from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainingRecord {
    /// SHA-256 over the decisions and rewards it saw, in order, in hex.
    pub data_digest: String,
    /// How many decisions it saw, those of the bundles it continued from included.
    pub decisions: u64,
    /// How many of their feedback events counted.
    pub feedback: u64,
    /// Mean reward of a shown item.
    pub mean_reward: f64,
    /// How feedback became reward.
    pub reward: RewardDefinition,
    /// Seeds everything random in training.
    pub seed: u64,
    /// The version whose learner it continued, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continued_from: Option<u64>,
    /// The last decision of a journal that it saw, in the order of (time, id), where no learner's state says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learned_until: Option<LearnedUntil>,
}

/// A place in a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LearnedUntil {
    /// The decision's time.
    pub time: DateTime<Utc>,
    /// Its id.
    pub decision_id: String,
}

/// A model from elsewhere: what it was, how it is called, and how near it comes to the framework that made it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// SHA-256 of the model's file as it came, in hex.
    pub model_sha256: String,
    /// What wrote the file, as it says itself, such as `pytorch 2.15.0`.
    pub producer: String,
    /// How it takes candidates: `lists`, all of a request at once, or `rows`, one a row.
    pub scorer: String,
    /// What each of its own inputs is fed with.
    pub inputs: BTreeMap<String, String>,
    /// Which of its own outputs `scores` and `appeal` are.
    pub outputs: BTreeMap<String, String>,
    /// How many sample requests of the framework it was held against; 0 where it was not.
    pub samples: u64,
    /// How many numbers of them were compared.
    pub compared: u64,
    /// The greatest difference found, relative to the greatest score of its sample where that is above 1.
    pub greatest_deviation: f64,
}

/// One figure of an offline evaluation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// The estimator, such as `snips`.
    pub estimator: String,
    /// Its estimate of the policy's value: mean reward of a decision, over all the items it shows; for
    /// `simulated_return`, mean return of an episode.
    pub value: f64,
    /// Lower bound of the interval.
    pub lower: f64,
    /// Upper bound of the interval.
    pub upper: f64,
    /// The interval's confidence, such as 0.95.
    pub confidence: f64,
    /// How the interval was made, such as `bootstrap`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub interval: String,
    /// How many logged decisions, or simulated episodes, it rests on.
    pub rounds: u64,
    /// How many decisions of the policy itself would say as much; absent where nothing was logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_sample_size: Option<f64>,
    /// The logging policy's own value on the same decisions; absent where nothing was logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<f64>,
    /// How it compares with the policy that it was to replace; absent where it was evaluated alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<Comparison>,
    /// SHA-256 over the decisions and rewards of the log, in order, in hex; absent where nothing was logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_digest: Option<String>,
}

/// The improvement of a policy over another one, estimated from the same decisions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// The other policy, as `name:version`, or `logged` for whatever was logged.
    pub policy: String,
    /// The difference of the values.
    pub improvement: f64,
    /// Lower bound of its interval.
    pub lower: f64,
    /// Upper bound of its interval.
    pub upper: f64,
}

/// Sample inputs and the scores expected for them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parity {
    /// One `state` row.
    pub state: Vec<f32>,
    /// The rows of `items`.
    pub items: Vec<Vec<f32>>,
    /// The rows of `history`, laid one after the other; empty where the model takes none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<f32>,
    /// One `noise` row; empty where the model takes none.
    #[serde(default)]
    pub noise: Vec<f32>,
    /// The score of each item.
    pub scores: Vec<f32>,
    /// The appeal of each item; empty where the model gives none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub appeal: Vec<f32>,
    /// The greatest allowed difference, relative to the greatest score where that is above 1.
    pub tolerance: f32,
}

/// A manifest that cannot be used.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// Written by a newer slated.
    #[error("`format` is {0}, this slated reads {FORMAT}")]
    Format(u32),
    /// A name that cannot be a folder and a metric label.
    #[error("`name` is `{0}`; allowed are 1 to 64 letters, digits, `_`, `-` and `.`, beginning with a letter or digit")]
    Name(String),
    /// A number outside its range.
    #[error("`{field}` is {value}, {allowed}")]
    Range {
        /// The field.
        field: &'static str,
        /// Its value, as text.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// The feature schema.
    #[error(transparent)]
    Features(#[from] SchemaError),
    /// The session settings.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The exploration settings.
    #[error(transparent)]
    Exploration(#[from] ExplorationError),
    /// The reward definition.
    #[error(transparent)]
    Reward(#[from] RewardError),
    /// The signature's widths are not those of the feature schema.
    #[error("`signature.{field}` is {declared}, but the feature schema encodes to {encoded}")]
    Width {
        /// The field.
        field: &'static str,
        /// The signature's width.
        declared: usize,
        /// The encoder's width.
        encoded: usize,
    },
    /// Posterior sampling without a noise input, or a noise input that nothing draws.
    #[error(
        "exploration `{0}` and `signature.noise` do not go together: posterior sampling needs a noise input, others must have none"
    )]
    Noise(&'static str),
    /// The slate objective.
    #[error(transparent)]
    Objective(#[from] ObjectiveError),
    /// An objective without a model that gives `appeal`, or the reverse.
    #[error(
        "`objective` and `signature.appeal` go together: a choice model's slates need both, other models have neither"
    )]
    Appeal,
    /// A session feature that the accumulator does not offer.
    #[error("session feature `{0}`: the session accumulator does not offer it with these `session` settings")]
    SessionFeature(String),
}

impl Manifest {
    /// Checks the manifest and prepares its encoder.
    ///
    /// # Errors
    /// The first field that cannot be used.
    pub fn check(&self) -> Result<Encoder, ManifestError> {
        let range = |field, value: String, allowed| Err(ManifestError::Range { field, value, allowed });
        if self.format != FORMAT {
            return Err(ManifestError::Format(self.format));
        }
        check_policy_name(&self.name)?;
        if self.version == 0 || self.version > i64::MAX as u64 {
            return range("version", self.version.to_string(), "versions count from 1");
        }
        if !(0.0..=1.0).contains(&self.discount) {
            return range("discount", self.discount.to_string(), "allowed are 0 to 1");
        }
        if self.slate.max_size == 0 || self.slate.max_candidates < self.slate.max_size {
            let value = format!("{} of {} candidates", self.slate.max_size, self.slate.max_candidates);
            return range("slate", value, "the size is at least 1 and at most the number of candidates");
        }
        self.exploration.check()?;
        if let Some(training) = &self.training {
            training.reward.check()?;
        }
        let encoder = Encoder::new(&self.features)?;
        for (field, declared, encoded) in [
            ("state_width", self.signature.state_width, encoder.state_width()),
            ("item_width", self.signature.item_width, encoder.item_width()),
        ] {
            if declared != encoded {
                return Err(ManifestError::Width { field, declared, encoded });
            }
        }
        let offered = SessionAccumulator::new(&self.session, encoder.item_width())?.features(DateTime::UNIX_EPOCH);
        if let Some(feature) = self.features.session.iter().find(|feature| offered.get(&feature.name).is_none()) {
            return Err(ManifestError::SessionFeature(feature.name.clone()));
        }
        if matches!(self.exploration, Exploration::PosteriorSampling { .. }) != self.signature.noise.is_some() {
            return Err(ManifestError::Noise(self.exploration.method()));
        }
        if let Some(objective) = &self.objective {
            objective.check()?;
        }
        if self.objective.is_some() != self.signature.appeal {
            return Err(ManifestError::Appeal);
        }
        Ok(encoder)
    }

    /// [`drawn_by`] for this policy.
    #[must_use]
    pub fn drawn_by(&self, scores: Vec<f32>, appeal: &[f32], candidates: usize, size: usize) -> Vec<f32> {
        drawn_by(self.objective.as_ref(), scores, appeal, candidates, size)
    }

    /// Whether the policy reads the session, so that the service must keep one.
    #[must_use]
    pub fn reads_session(&self) -> bool {
        !self.features.session.is_empty() || self.signature.history.is_some()
    }
}

/// Checks a policy's name: it becomes a folder and a metric label.
///
/// # Errors
/// A name with other characters, empty, or too long.
pub fn check_policy_name(name: &str) -> Result<(), ManifestError> {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if plain && begins && name.len() <= 64 { Ok(()) } else { Err(ManifestError::Name(name.to_owned())) }
}

/// The JSON Schema of `policy.json`.
#[must_use]
pub fn json_schema() -> serde_json::Value {
    schemars::schema_for!(Manifest).to_value()
}
