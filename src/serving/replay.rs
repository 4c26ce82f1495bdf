//! Scoring decisions of the journal again, with the policy that made them or with another one.

use slated_contract::event::Decision;
use slated_contract::feature::{EncodeError, FeatureRef, Features, Group};
use slated_contract::slate::{Constraints, DecisionSeed, DrawError, Exploration, Scores};
use thiserror::Error;

use super::ask::RecommendError;
use super::engine::{EngineError, Query};
use super::policy::LoadedPolicy;
use super::recommender::encode;
use super::rules::{RuleError, Rules};
use crate::session::SessionView;

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
    /// The policy needs features that were not journalled.
    #[error("`{policy}` version {version} reads {features}, which `journal.omit_features` kept out of the journal")]
    Omitted {
        /// The policy.
        policy: String,
        /// Its version.
        version: u64,
        /// The features.
        features: String,
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
    /// The rules that it was decided under.
    #[error("its rules do not read: {0}")]
    Rules(String),
    /// More candidates, or a larger slate, than the policy was made for.
    #[error(
        "it shows {size} of {candidates} candidates, `{policy}` takes slates of at most {max_size} of {max_candidates}"
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

impl From<RuleError> for ReplayErrorKind {
    fn from(error: RuleError) -> Self {
        Self::Rules(error.to_string())
    }
}

/// What a policy says of a decision's candidates.
#[derive(Debug, Clone, PartialEq)]
pub struct Rescored {
    /// How a slate is drawn from the scores.
    pub exploration: Exploration,
    /// What it is drawn by, `[rows, candidates]`, rows as the exploration needs.
    pub ranked: Vec<f32>,
    /// The items shown, by index into the candidates.
    pub shown: Vec<usize>,
    /// What it is drawn under.
    pub constraints: Constraints,
    /// The size that was asked for, as far as it can be told: constraints may leave a slate shorter.
    pub size: usize,
}

impl Rescored {
    /// The scores, checked.
    ///
    /// # Errors
    /// None for what [`LoadedPolicy::rescore`] gave.
    pub fn scores(&self, candidates: usize) -> Result<Scores<'_>, DrawError> {
        Scores::new(&self.ranked, candidates, &self.exploration)
    }

    /// What a decision's own journalled scores say, for one that no bundle made; `None` where it holds too little to
    /// draw its slate again.
    pub fn from_journal(decision: &Decision) -> Option<Self> {
        let exploration: Exploration = serde_json::from_str(decision.exploration.as_deref()?).ok()?;
        let ranked = decision.candidates.iter().map(|candidate| candidate.score).collect::<Option<Vec<f32>>>()?;
        let shown = shown(decision).ok()?;
        // The diversity of rules is over encoded features, and there is no encoder.
        let exact = exploration.score_rows() == 1 && decision.rules.is_none();
        let size = shown.len();
        exact.then_some(Self { exploration, ranked, shown, constraints: Constraints::default(), size })
    }
}

impl LoadedPolicy {
    /// Scores a decision's candidates for the slate that was asked for, to be drawn by `exploration`: the policy's own,
    /// or one that needs no more rows of scores. Noise is drawn from `seed`.
    ///
    /// # Errors
    /// A decision that the policy does not accept, a model that fails.
    pub async fn rescore(
        &self,
        decision: &Decision,
        exploration: Exploration,
        seed: DecisionSeed,
    ) -> Result<Rescored, ReplayError> {
        let rescored = self.rescore_or(decision, exploration, seed).await;
        rescored.map_err(|source| ReplayError { decision_id: decision.decision_id.clone(), source })
    }

    async fn rescore_or(
        &self,
        decision: &Decision,
        exploration: Exploration,
        seed: DecisionSeed,
    ) -> Result<Rescored, ReplayErrorKind> {
        let (manifest, candidates) = (&self.manifest, decision.candidates.len());
        if manifest.signature.history.is_some() && !begins(&decision.session) {
            return Err(ReplayErrorKind::History { policy: manifest.name.clone(), version: manifest.version });
        }
        check_omitted(self, decision)?;
        let shown = shown(decision)?;
        let rules: Rules = match &decision.rules {
            Some(text) => serde_json::from_str(text).map_err(|error| ReplayErrorKind::Rules(error.to_string()))?,
            None => Rules::default(),
        };
        let size = rules.size().max(shown.len()).min(candidates);
        let (max_size, max_candidates) = (manifest.slate.max_size, manifest.slate.max_candidates);
        if size > max_size || candidates > max_candidates {
            let policy = manifest.name.clone();
            return Err(ReplayErrorKind::Limits { policy, size, candidates, max_size, max_candidates });
        }
        let query = query(self, decision, Vec::new(), seed)?;
        let named = decision.candidates.iter().map(|candidate| (candidate.item.as_str(), &candidate.features));
        let constraints = rules.constraints(named, size, &query.items, self.encoder.item_width())?;
        let output = self.engine.run(query).await?;
        let mut ranked = manifest.drawn_by(output.scores, &output.appeal, candidates, size);
        ranked.truncate(exploration.score_rows() * candidates);
        let rescored = Rescored { exploration, ranked, shown, constraints, size };
        rescored.scores(candidates)?;
        Ok(rescored)
    }
}

/// Refuses a decision that lacks what the policy saw of it.
fn check_omitted(policy: &LoadedPolicy, decision: &Decision) -> Result<(), ReplayErrorKind> {
    let schema = &policy.manifest.features;
    let groups = [Group::User, Group::Context, Group::Session, Group::Item];
    let reads = |omitted: &&String| {
        let (group, name) = omitted.split_once('.').unwrap_or_default();
        let declared = groups.iter().any(|known| known.to_string() == group && schema.reads(*known, name));
        // Rules may be about any feature of an item.
        declared || (group == "item" && decision.rules.is_some())
    };
    let features: Vec<&str> = decision.omitted_features.iter().filter(reads).map(String::as_str).collect();
    if features.is_empty() {
        return Ok(());
    }
    let features = features.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ");
    let (policy, version) = (policy.manifest.name.clone(), policy.manifest.version);
    Err(ReplayErrorKind::Omitted { policy, version, features })
}

/// The query that a decision was made by. `history` is what the model saw of it, empty for a policy that reads none.
///
/// # Errors
/// A feature that the policy's schema refuses.
pub fn query(
    policy: &LoadedPolicy,
    decision: &Decision,
    history: Vec<f32>,
    seed: DecisionSeed,
) -> Result<Query, ReplayErrorKind> {
    check_omitted(policy, decision)?;
    let candidates: Vec<(usize, String, Features)> = decision
        .candidates
        .iter()
        .enumerate()
        .map(|(index, candidate)| (index, candidate.item.clone(), candidate.features.clone()))
        .collect();
    let view = SessionView { features: decision.session.clone(), history };
    encode(policy, &decision.user, &decision.context, &view, &candidates, seed).map_err(|error| match error {
        RecommendError::Candidate { id, source, .. } => ReplayErrorKind::Candidate { item: id, source },
        RecommendError::State(source) => ReplayErrorKind::State(source),
        error => ReplayErrorKind::Rules(error.to_string()),
    })
}

/// Whether nothing had been consumed in the session, so that its history was empty.
fn begins(session: &Features) -> bool {
    session.is_empty() || session.get("responses") == Some(FeatureRef::Number(0.0))
}

/// The items shown, by index into the candidates.
fn shown(decision: &Decision) -> Result<Vec<usize>, ReplayErrorKind> {
    let index = |item: &String| decision.candidates.iter().position(|candidate| candidate.item == *item);
    let find = |item: &String| index(item).ok_or_else(|| ReplayErrorKind::Stranger(item.clone()));
    decision.slate.iter().map(|shown| find(&shown.item)).collect()
}
