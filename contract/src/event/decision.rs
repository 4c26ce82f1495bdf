//! A decision: what was shown, to whom, out of what, and with which probabilities.

use chrono::serde::ts_microseconds;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::feature::{Features, stored};
use crate::slate::{DrawnSlate, Propensities};

/// One decision. Everything that recomputing it needs is here or in the policy bundle that `model_sha256` names.
///
/// Columns that later versions of the schema added read as empty from segments written before them. As serde has it, a
/// decision is as the journal's tail holds it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
    #[serde(with = "stored")]
    pub user: Features,
    /// Raw context features.
    #[serde(with = "stored")]
    pub context: Features,
    /// Session features as the policy saw them.
    #[serde(with = "stored")]
    pub session: Features,
    /// What the slate was drawn from, in the order in which the model saw it.
    #[serde(with = "stored::candidates")]
    pub candidates: Vec<Candidate>,
    /// The slate, by position.
    pub slate: Vec<Shown>,
    /// The probability of the whole slate.
    pub propensity: f64,
    /// How many draws the propensities are estimated from; absent where they are exact.
    pub propensity_draws: Option<i32>,
    /// How many draws the marginal propensities alone are estimated from; absent where they are as exact as the rest.
    #[serde(default)]
    pub marginal_draws: Option<i32>,
    /// How what was shown came about.
    #[serde(default)]
    pub mode: Mode,
    /// Why the propensities say nothing about the probability of what was shown, so that no evaluation may weigh by
    /// them; absent where they do.
    #[serde(default)]
    pub not_evaluable: Option<String>,
    /// The request of several slots that this decision was one of.
    #[serde(default)]
    pub page_id: Option<String>,
    /// Its slot.
    #[serde(default)]
    pub slot: Option<String>,
    /// The rules that the slate was drawn under, as JSON: pinned items and business constraints.
    #[serde(default)]
    pub rules: Option<String>,
    /// The caller's own order, by item id; empty where it is the order of the candidates.
    #[serde(default)]
    pub baseline: Vec<String>,
    /// The version of the catalogue that lent features to the request; absent where none did.
    #[serde(default)]
    pub catalogue_version: Option<i64>,
    /// What other policies would have shown, or this one where the caller's order was shown in its place.
    #[serde(default)]
    pub alternatives: Vec<Alternative>,
    /// Features that the policy saw and that are not journalled, such as `user.age`; whoever needs one of them to make the
    /// decision again cannot.
    #[serde(default)]
    pub omitted_features: Vec<String>,
}

/// How what was shown came about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The policy's slate was shown.
    #[default]
    Policy,
    /// The caller's own order was shown, while the policy learns from the side.
    Apprentice,
    /// The caller's own order was shown, because the policy did not answer in time.
    Fallback,
}

/// A slate that was computed and not shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alternative {
    /// The policy.
    pub policy: String,
    /// Its version.
    pub policy_version: i64,
    /// SHA-256 of its model, in hex.
    pub model_sha256: String,
    /// The slate it would have shown, by item id.
    pub slate: Vec<String>,
    /// The probability of that slate under this policy.
    pub propensity: f64,
    /// The probability under this policy of the slate that was shown; absent where it cannot be computed.
    pub shown_propensity: Option<f64>,
    /// The share of positions at which the two slates hold the same item.
    pub agreement: f64,
}

/// One candidate. As serde has it, it is as older tails of the journal hold it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Candidate {
    /// The item's id.
    pub item: String,
    /// Its raw features.
    #[serde(with = "stored")]
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
