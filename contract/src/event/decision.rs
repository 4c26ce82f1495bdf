//! A decision: what was shown, to whom, out of what, and with which probabilities.

use chrono::serde::ts_microseconds;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::feature::{Features, columnar};
use crate::slate::{DrawnSlate, Propensities};

/// One decision. Everything that recomputing it needs is here or in the policy bundle that `model_sha256` names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Unique; a UUIDv7 unless the caller gave its own.
    pub decision_id: String,
    /// When the slate was decided.
    #[serde(with = "ts_microseconds")]
    pub time: DateTime<Utc>,
    /// What wrote the event: `service`, `simulator`, or `import:` and a format.
    pub source: String,
    /// Name of the policy that decided.
    pub policy: String,
    /// Its version.
    pub policy_version: i64,
    /// SHA-256 of its model, in hex; absent where no model of ours decided.
    pub model_sha256: Option<String>,
    /// The exploration settings in force, as JSON; absent where they are not known.
    pub exploration: Option<String>,
    /// Seeds everything random in the decision; absent where nothing recomputable was.
    pub seed: Option<i64>,
    /// The user, where the caller names one.
    pub user_id: Option<String>,
    /// The session, where the caller names one.
    pub session_id: Option<String>,
    /// Raw user features.
    #[serde(with = "columnar")]
    pub user: Features,
    /// Raw context features.
    #[serde(with = "columnar")]
    pub context: Features,
    /// Session features as the policy saw them.
    #[serde(with = "columnar")]
    pub session: Features,
    /// What the slate was drawn from, in the order in which the model saw it.
    pub candidates: Vec<Candidate>,
    /// The slate, by position.
    pub slate: Vec<Shown>,
    /// The probability of the whole slate.
    pub propensity: f64,
    /// How many draws the propensities are estimated from; absent where they are exact.
    pub propensity_draws: Option<i32>,
}

/// One candidate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The item's id.
    pub item: String,
    /// Its raw features.
    #[serde(with = "columnar")]
    pub features: Features,
    /// The model's score, by which it was ranked or drawn; absent where it is not known.
    pub score: Option<f32>,
}

/// One item of the slate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    /// The item's id.
    pub item: String,
    /// Where it stood, from 0. Not always its index in the slate: a log may hold one position of a larger page.
    pub position: i32,
    /// The probability of the slate's items up to and including this one.
    pub cascade_propensity: f64,
    /// The probability that this item stands at this position, whatever stands elsewhere.
    pub marginal_propensity: f64,
}

impl Shown {
    /// The items of `slate`, drawn from `candidates`, at the positions from 0 on.
    #[must_use]
    pub fn from_drawn(slate: &DrawnSlate, candidates: &[Candidate]) -> Vec<Self> {
        let Propensities { cascade, marginal, .. } = &slate.propensities;
        slate
            .items
            .iter()
            .zip(cascade)
            .zip(marginal)
            .zip(0..)
            .map(|(((&item, &cascade_propensity), &marginal_propensity), position)| Self {
                item: candidates[item].item.clone(),
                position,
                cascade_propensity,
                marginal_propensity,
            })
            .collect()
    }
}
