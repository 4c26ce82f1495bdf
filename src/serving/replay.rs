//! Scoring decisions of the journal again, with the policy that made them or with another one.

use slated_contract::event::Decision;
use slated_contract::feature::EncodeError;
use slated_contract::slate::{DecisionSeed, DrawError, Scores, standard_normal};
use thiserror::Error;

use super::engine::{EngineError, Query};
use super::policy::LoadedPolicy;

/// A decision that a policy cannot score.
#[derive(Debug, Error)]
#[error("decision `{decision_id}`: {source}")]
pub struct ReplayError {
    /// The decision.
    pub decision_id: String,
    /// Why.
    pub source: ReplayErrorKind,
}

/// Why a policy cannot score a decision.
#[derive(Debug, Error)]
pub enum ReplayErrorKind {
    /// The policy needs more of the session than a decision keeps.
    #[error("`{policy}` version {version} reads the session's last interactions, which a decision does not hold")]
    History {
        /// The policy.
        policy: String,
        /// Its version.
        version: u64,
    },
    /// A user, context or session feature.
    #[error(transparent)]
    State(EncodeError),
    /// A candidate's feature.
    #[error("candidate `{item}`: {source}")]
    Candidate {
        /// Its id.
        item: String,
        /// What is wrong.
        source: EncodeError,
    },
    /// More candidates, or a larger slate, than the policy was made for.
    #[error(
        "it shows {size} of {candidates} candidates, `{policy}` is for slates of at most {max_size} of {max_candidates}"
    )]
    Limits {
        /// The policy.
        policy: String,
        /// The slate's size.
        size: usize,
        /// How many candidates there were.
        candidates: usize,
        /// The greatest slate of the policy.
        max_size: usize,
        /// The most candidates of the policy.
        max_candidates: usize,
    },
    /// An item was shown that was not a candidate.
    #[error("item `{0}` was shown but is not among the candidates")]
    Stranger(String),
    /// The model.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The model's scores.
    #[error(transparent)]
    Draw(#[from] DrawError),
}

/// What a policy says of a decision's candidates.
#[derive(Debug, Clone, PartialEq)]
pub struct Rescored {
    /// What the slate is drawn by, `[rows, candidates]`, rows as the policy's exploration needs.
    pub ranked: Vec<f32>,
    /// The items shown, by index into the candidates.
    pub shown: Vec<usize>,
}

impl LoadedPolicy {
    /// Scores a decision's candidates for a slate of the size that was shown; noise is drawn from `seed`.
    ///
    /// # Errors
    /// A decision that the policy does not accept, a model that fails.
    pub async fn rescore(&self, decision: &Decision, seed: DecisionSeed) -> Result<Rescored, ReplayError> {
        let refused = |source| ReplayError { decision_id: decision.decision_id.clone(), source };
        let shown = shown(decision).map_err(refused)?;
        let query = self.query(decision, seed).map_err(refused)?;
        let candidates = query.candidates;
        let output = self.engine.run(query).await.map_err(|error| refused(error.into()))?;
        let ranked = self.manifest.drawn_by(output.scores, &output.appeal, candidates, shown.len());
        // Refuses what cannot be ranked; the caller's `scores` cannot fail then.
        Scores::new(&ranked, candidates, &self.manifest.exploration).map_err(|error| refused(error.into()))?;
        Ok(Rescored { ranked, shown })
    }

    fn query(&self, decision: &Decision, seed: DecisionSeed) -> Result<Query, ReplayErrorKind> {
        let (manifest, encoder) = (&self.manifest, &self.encoder);
        let (policy, version) = (manifest.name.clone(), manifest.version);
        if manifest.signature.history.is_some() {
            return Err(ReplayErrorKind::History { policy, version });
        }
        let (size, candidates, limits) = (decision.slate.len(), decision.candidates.len(), manifest.slate);
        let (max_size, max_candidates) = (limits.max_size, limits.max_candidates);
        if size > max_size || candidates > max_candidates {
            return Err(ReplayErrorKind::Limits { policy, size, candidates, max_size, max_candidates });
        }
        let mut state = Vec::with_capacity(encoder.state_width());
        encoder
            .encode_state(&decision.user, &decision.context, &decision.session, &mut state)
            .map_err(ReplayErrorKind::State)?;
        let mut items = Vec::with_capacity(candidates * encoder.item_width());
        for candidate in &decision.candidates {
            encoder
                .encode_item(&candidate.features, &mut items)
                .map_err(|source| ReplayErrorKind::Candidate { item: candidate.item.clone(), source })?;
        }
        let rows = manifest.exploration.score_rows();
        let noise = manifest
            .signature
            .noise
            .map_or_else(Vec::new, |draws| standard_normal(&mut seed.noise_generator(), rows * draws));
        Ok(Query { state, items, candidates, history: Vec::new(), noise, rows })
    }
}

/// The items shown, by index into the candidates.
fn shown(decision: &Decision) -> Result<Vec<usize>, ReplayErrorKind> {
    let index = |item: &String| decision.candidates.iter().position(|candidate| candidate.item == *item);
    let find = |item: &String| index(item).ok_or_else(|| ReplayErrorKind::Stranger(item.clone()));
    decision.slate.iter().map(|shown| find(&shown.item)).collect()
}
