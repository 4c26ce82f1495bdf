//! From one request's features to a decision.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};
use serde::{Deserialize, Serialize};
use slated_contract::event::{Candidate, Decision, Mode, Shown};
use slated_contract::feature::{EncodeError, Features};
use slated_contract::slate::{DecisionSeed, DrawError, DrawnSlate, Scores, draw, standard_normal};
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use super::engine::{EngineError, Query};
use super::policy::LoadedPolicy;
use super::registry::{Registry, RegistryError};
use crate::catalogue::Catalogue;
use crate::session::{SessionKey, SessionStore, SessionView};

/// What a caller asks for.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// The decision's id.
    pub decision_id: String,
    /// The policy to ask; the default one where absent.
    pub policy: Option<String>,
    /// The user.
    pub user_id: Option<String>,
    /// The session.
    pub session_id: Option<String>,
    /// Raw user features.
    pub user: Features,
    /// Raw context features.
    pub context: Features,
    /// Session features, from a caller that keeps its own state.
    pub session: Option<Features>,
    /// The candidates: ids, with features that go over those of the catalogue.
    pub candidates: Vec<(String, Option<Features>)>,
    /// Ids that must not be shown.
    pub exclude: Vec<String>,
    /// The caller's own order, best first; the order of the candidates where empty. What it leaves out comes last.
    pub baseline: Vec<String>,
    /// How many items to show.
    pub size: usize,
    /// By when the model must have answered; without end where absent.
    pub deadline: Option<Instant>,
}

/// A decision, ready to be journalled and answered.
#[derive(Debug)]
pub struct Pick {
    /// The decision.
    pub decision: Decision,
    policy: Arc<LoadedPolicy>,
    session: Option<SessionKey>,
    /// The encoded items of the slate, by position.
    encoded: Vec<Vec<f32>>,
}

/// A request that no slate can be decided for.
#[derive(Debug, Error)]
pub enum RecommendError {
    /// The policy is not there.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A user, context or session feature.
    #[error(transparent)]
    State(EncodeError),
    /// A candidate's feature.
    #[error("candidate `{id}`: {source}")]
    Candidate {
        /// Its index in the request.
        index: usize,
        /// Its id.
        id: String,
        /// What is wrong.
        source: EncodeError,
    },
    /// A candidate without features that the catalogue does not know.
    #[error("candidate `{id}` has no features in the request and is not in the catalogue")]
    UnknownItem {
        /// Its index in the request.
        index: usize,
        /// Its id.
        id: String,
    },
    /// A candidate given twice.
    #[error("candidate `{id}` is given twice")]
    Duplicate {
        /// Its index in the request.
        index: usize,
        /// Its id.
        id: String,
    },
    /// More candidates than the policy was made for.
    #[error("{given} candidates, the policy takes at most {most}")]
    TooManyCandidates {
        /// How many there are.
        given: usize,
        /// The policy's limit.
        most: usize,
    },
    /// A slate size that the policy or the candidates do not allow.
    #[error(
        "a slate of {size} is asked for; allowed are 1 to {most} (the policy's limit, and the candidates left after exclusions)"
    )]
    Size {
        /// The size asked for.
        size: usize,
        /// The greatest possible one.
        most: usize,
    },
    /// An id in the caller's own order that is no candidate, or stands there twice.
    #[error("`{id}` is not one of the candidates or stands twice")]
    Baseline {
        /// Its index in the order.
        index: usize,
        /// The id.
        id: String,
    },
    /// The model did not answer in time, and there is no fallback.
    #[error("the model did not answer within the request's time limit")]
    Late,
    /// The model.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The model's scores cannot be ranked.
    #[error("the policy cannot rank these candidates: {0}")]
    Draw(#[from] DrawError),
}

/// Decides slates with the live policies.
#[derive(Debug)]
pub struct Recommender {
    registry: Arc<Registry>,
    sessions: Arc<SessionStore>,
    catalogue: Catalogue,
    fallback: Fallback,
    seed: u64,
}

/// What is answered where the model does not answer in time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    /// An error, 503.
    #[default]
    None,
    /// The caller's own order; the decision is marked as one that no evaluation may weigh.
    CallerOrder,
}

/// Why a fallback's propensities mean nothing.
const FALLBACK: &str = "the policy did not answer in time, and the caller's own order was shown";

impl Recommender {
    /// A recommender whose random choices all derive from `seed`.
    #[must_use]
    pub fn new(
        registry: Arc<Registry>,
        sessions: Arc<SessionStore>,
        catalogue: Catalogue,
        fallback: Fallback,
        seed: u64,
    ) -> Self {
        Self { registry, sessions, catalogue, fallback, seed }
    }

    /// Decides a slate.
    ///
    /// # Errors
    /// A request that the live policy does not accept, a model that is busy or fails.
    pub async fn recommend(&self, ask: Ask) -> Result<Pick, RecommendError> {
        let policy = self.registry.live(ask.policy.as_deref())?;
        let limits = policy.manifest.slate;
        let candidates = self.candidates(&ask)?;
        if candidates.len() > limits.max_candidates {
            return Err(RecommendError::TooManyCandidates { given: candidates.len(), most: limits.max_candidates });
        }
        let most = limits.max_size.min(candidates.len());
        if ask.size == 0 || ask.size > most {
            return Err(RecommendError::Size { size: ask.size, most });
        }
        // Whole microseconds are what the journal keeps, so the decision reads back as it was made.
        let now = Utc::now().trunc_subsecs(6);
        let (view, session) = self.session_view(&ask, &policy, now);
        let seed = DecisionSeed::derive(self.seed, &ask.decision_id);
        let query = encode(&policy, &ask, &candidates, view.history, &view.features, seed)?;
        let item_width = policy.encoder.item_width();
        let items = query.items.clone();
        let exploration = policy.manifest.exploration;
        let baseline = caller_order(&ask, &candidates)?;
        let answered = match ask.deadline {
            Some(deadline) => timeout_at(deadline, policy.engine.run(query)).await.map_err(|_| RecommendError::Late),
            None => Ok(policy.engine.run(query).await),
        };
        let (slate, scores, mode) = match answered {
            Ok(output) => {
                let output = output?;
                let scores = Scores::new(&output.scores, candidates.len(), &exploration)?;
                (draw(&exploration, &scores, ask.size, seed)?, Some(scores.first().to_vec()), Mode::Policy)
            }
            Err(late) if self.fallback == Fallback::None => return Err(late),
            Err(_) => (DrawnSlate::certain(baseline[..ask.size].to_vec()), None, Mode::Fallback),
        };
        let encoded = slate.items.iter().map(|&item| items[item * item_width..][..item_width].to_vec()).collect();
        let candidates: Vec<Candidate> = candidates
            .into_iter()
            .enumerate()
            .map(|(index, (_, item, features))| Candidate {
                item,
                features,
                score: scores.as_ref().map(|scores| scores[index]),
            })
            .collect();
        let decision = Decision {
            decision_id: ask.decision_id,
            time: now,
            source: "service".to_owned(),
            policy: policy.manifest.name.clone(),
            policy_version: policy.manifest.version as i64,
            model_sha256: Some(policy.manifest.model_sha256.clone()),
            exploration: Some(policy.exploration_json.clone()),
            seed: Some(seed.value() as i64),
            user_id: ask.user_id,
            session_id: ask.session_id,
            user: ask.user,
            context: ask.context,
            session: view.features,
            slate: Shown::from_drawn(&slate, &candidates),
            candidates,
            propensity: slate.propensities.joint(),
            propensity_draws: slate.propensities.draws.map(|draws| draws as i32),
            mode,
            not_evaluable: (mode == Mode::Fallback).then(|| FALLBACK.to_owned()),
            baseline: ask.baseline,
            ..Decision::default()
        };
        Ok(Pick { decision, policy, session, encoded })
    }

    /// Tells the session that the slate was shown. Called once the decision is in the journal, so that the session
    /// never knows more than the journal.
    pub fn shown(&self, pick: &Pick) {
        let Pick { decision, policy, session, encoded } = pick;
        if let Some(key) = session {
            let ids = decision.slate.iter().map(|shown| shown.item.clone());
            let items = ids.zip(encoded.iter().cloned()).collect();
            self.sessions.show(&policy.manifest, key.clone(), &decision.decision_id, decision.time, items);
        }
    }

    /// The candidates left after exclusions: index in the request, id, features.
    fn candidates(&self, ask: &Ask) -> Result<Vec<(usize, String, Features)>, RecommendError> {
        let excluded: HashSet<&str> = ask.exclude.iter().map(String::as_str).collect();
        let mut seen = HashSet::with_capacity(ask.candidates.len());
        let mut candidates = Vec::with_capacity(ask.candidates.len());
        for (index, (id, given)) in ask.candidates.iter().enumerate() {
            if !seen.insert(id.as_str()) {
                return Err(RecommendError::Duplicate { index, id: id.clone() });
            }
            if excluded.contains(id.as_str()) {
                continue;
            }
            let features = match (self.catalogue.get(id), given) {
                (Some(known), Some(given)) => known.overlaid_with(given),
                (Some(known), None) => known.clone(),
                (None, Some(given)) => given.clone(),
                (None, None) => return Err(RecommendError::UnknownItem { index, id: id.clone() }),
            };
            candidates.push((index, id.clone(), features));
        }
        Ok(candidates)
    }

    fn session_view(&self, ask: &Ask, policy: &LoadedPolicy, now: DateTime<Utc>) -> (SessionView, Option<SessionKey>) {
        if !policy.manifest.reads_session() {
            return (SessionView::default(), None);
        }
        let key = ask.session_id.as_deref().or(ask.user_id.as_deref()).map(|id| SessionKey::new(&policy.manifest, id));
        let mut view = self.sessions.view(&policy.manifest, key.as_ref(), now);
        if let Some(own) = &ask.session {
            view.features = view.features.overlaid_with(own);
        }
        (view, key)
    }
}

/// The candidates by index in the caller's own order; what it leaves out follows as it stands.
fn caller_order(ask: &Ask, candidates: &[(usize, String, Features)]) -> Result<Vec<usize>, RecommendError> {
    if ask.baseline.is_empty() {
        return Ok((0..candidates.len()).collect());
    }
    let place: HashMap<&str, usize> = candidates.iter().enumerate().map(|(at, (_, id, _))| (id.as_str(), at)).collect();
    let mut taken = vec![false; candidates.len()];
    let mut order = Vec::with_capacity(candidates.len());
    for (index, id) in ask.baseline.iter().enumerate().filter(|(_, id)| !ask.exclude.contains(id)) {
        match place.get(id.as_str()) {
            Some(&at) if !taken[at] => {
                taken[at] = true;
                order.push(at);
            }
            _ => return Err(RecommendError::Baseline { index, id: id.clone() }),
        }
    }
    order.extend((0..candidates.len()).filter(|&at| !taken[at]));
    Ok(order)
}

fn encode(
    policy: &LoadedPolicy,
    ask: &Ask,
    candidates: &[(usize, String, Features)],
    history: Vec<f32>,
    session: &Features,
    seed: DecisionSeed,
) -> Result<Query, RecommendError> {
    let encoder = &policy.encoder;
    let mut state = Vec::with_capacity(encoder.state_width());
    encoder.encode_state(&ask.user, &ask.context, session, &mut state).map_err(RecommendError::State)?;
    let mut items = Vec::with_capacity(candidates.len() * encoder.item_width());
    for (index, id, features) in candidates {
        encoder.encode_item(features, &mut items).map_err(|source| RecommendError::Candidate {
            index: *index,
            id: id.clone(),
            source,
        })?;
    }
    let rows = policy.manifest.exploration.score_rows();
    let noise = policy
        .manifest
        .signature
        .noise
        .map_or_else(Vec::new, |draws| standard_normal(&mut seed.noise_generator(), rows * draws));
    Ok(Query { state, items, candidates: candidates.len(), history, noise, rows })
}
