//! From one request's features to a decision.

use std::sync::Arc;
use std::time::Instant as Clock;

use chrono::{DateTime, SubsecRound, Utc};
use futures::future::join_all;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use slated_contract::event::{Alternative, Candidate, Decision, Feedback, Mode, Shown};
use slated_contract::feature::Features;
use slated_contract::slate::{
    Constraints, DecisionSeed, DrawError, DrawnSlate, Exploration, Scores, constrained_propensities, draw,
    draw_constrained, next_choice, propensities, standard_normal,
};
use tokio::time::{Instant, timeout_at};

use super::ask::{Ask, RecommendError};
use super::candidates::{Resolved, caller_order, resolve};
use super::engine::Query;
use super::model::Output;
use super::policy::LoadedPolicy;
use super::registry::{Chosen, Registry};
use super::traffic::{Attribution, Traffic};
use crate::catalogue::Catalogue;
use crate::journal::{IdFrom, UserKey};
use crate::session::{Encoded, Seen, SessionKey, SessionView, Sessions, ShownSlate, UNAVAILABLE};

/// A decision, ready to be journalled and answered.
#[derive(Debug)]
pub struct Pick {
    /// The decision.
    pub decision: Decision,
    /// Where its id is from.
    pub id_from: IdFrom,
    /// The version that decided.
    pub policy: Arc<LoadedPolicy>,
    /// The rows of its history tensor, `[length, F]`.
    pub history: Vec<f32>,
    /// The probability with which each candidate stands first, by index into the decision's candidates; empty unless it
    /// was asked for.
    pub distribution: Vec<f64>,
    /// Index into the decision's candidates of each item of the slate, by position.
    pub slate: Vec<usize>,
    session: Option<SessionKey>,
    /// The encoded items of the slate, by position.
    encoded: Vec<Encoded>,
}

/// Decides slates with the live policies.
pub struct Recommender {
    registry: Arc<Registry>,
    traffic: Arc<Traffic>,
    sessions: Arc<Sessions>,
    catalogue: Arc<Catalogue>,
    attribution: Attribution,
    fallback: Fallback,
    seed: u64,
    /// Under which the journal keeps users; a session that is named by its user goes by the journal's name, because it is
    /// rebuilt from there.
    users: Option<Arc<UserKey>>,
}

/// What is answered where the model does not answer in time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    /// An error, 503.
    #[default]
    None,
    /// The caller's own order; the decision is marked as one that no evaluation may weigh.
    CallerOrder,
}

/// Why the propensities of what the caller put in order mean nothing.
const FALLBACK: &str = "the policy did not answer in time, and the caller's own order was shown";
const APPRENTICE: &str = "the caller's own order was shown, and its propensities are not known";

impl Recommender {
    /// A recommender whose random choices all derive from `seed`; `users` is the key under which the journal hashes users.
    #[must_use]
    pub fn new(
        registry: Arc<Registry>,
        traffic: Arc<Traffic>,
        sessions: Arc<Sessions>,
        catalogue: Arc<Catalogue>,
        fallback: Fallback,
        seed: u64,
        users: Option<Arc<UserKey>>,
    ) -> Self {
        Self { registry, traffic, sessions, catalogue, attribution: Attribution::default(), fallback, seed, users }
    }

    /// Decides a slate.
    ///
    /// # Errors
    /// A request that the policy does not accept, a model that is busy, late or fails.
    pub async fn recommend(&self, ask: Ask) -> Result<Pick, RecommendError> {
        let started = Clock::now();
        let key = ask.user_id.as_deref().or(ask.session_id.as_deref()).unwrap_or(&ask.decision_id);
        let chosen = self.registry.choose(ask.policy.as_deref(), ask.policy_version, key)?;
        let routed = ask.policy_version.is_none();
        let result = self.decide(ask, &chosen).await;
        let failed = match &result {
            Ok(pick) => pick.decision.mode == Mode::Fallback,
            Err(error) => error.is_the_policys(),
        };
        // What a caller did wrong, and whom a test asked for, says nothing of a version on trial.
        if routed && (failed || result.is_ok()) {
            let manifest = &chosen.policy.manifest;
            let breach = self.registry.count(&manifest.name, manifest.version, failed, started.elapsed());
            self.take_back(&manifest.name, breach);
        }
        result
    }

    /// The slate was journalled and will be shown: tells the session, so that it never knows more than the journal.
    pub async fn shown(&self, pick: &Pick) {
        let Pick { decision, policy, session, encoded, .. } = pick;
        // What the caller put in order earns nothing for the policy.
        if decision.mode == Mode::Policy {
            self.attribution.decided(decision, policy);
        }
        if let (Some(key), Some(kind)) = (session, &policy.sessions) {
            self.sessions.show(kind, ShownSlate::new(kind, key.clone(), decision, encoded)).await;
        }
    }

    /// Feedback was journalled that is new: tells the session, and the figures of the version that decided.
    pub async fn responded(&self, feedback: &Feedback) {
        if self.registry.reads_sessions() {
            self.sessions.respond(feedback).await;
        }
        if let Some(rewarded) = self.attribution.respond(feedback) {
            let breach = self.registry.reward(&rewarded.policy, rewarded.version, rewarded.before, rewarded.after);
            self.take_back(&rewarded.policy, breach);
        }
    }

    fn take_back(&self, policy: &str, breach: Option<String>) {
        let Some(why) = breach else { return };
        let on_trial = self.registry.state(policy).ok().and_then(|state| state.route.canary);
        if let Some(canary) = on_trial {
            let (traffic, policy) = (Arc::clone(&self.traffic), policy.to_owned());
            tokio::spawn(async move { traffic.take_back(&policy, canary.version, why).await });
        }
    }

    async fn decide(&self, mut ask: Ask, chosen: &Chosen) -> Result<Pick, RecommendError> {
        let policy = &chosen.policy;
        let limits = policy.manifest.slate;
        let resolved = resolve(&mut ask, &self.catalogue).await?;
        let count = resolved.candidates.len();
        if count > limits.max_candidates {
            return Err(RecommendError::TooManyCandidates { given: count, most: limits.max_candidates });
        }
        let most = limits.max_size.min(count);
        if ask.size == 0 || ask.size > most {
            return Err(RecommendError::Size { size: ask.size, most });
        }
        // Whole microseconds are what the journal keeps, so the decision reads back as it was made.
        let now = Utc::now().trunc_subsecs(6);
        let seed = DecisionSeed::derive(self.seed, &ask.decision_id);
        let baseline = caller_order(&ask, &resolved.candidates)?;
        let (Seen { view, away }, session) = self.session_view(&ask, policy, now).await?;
        let asked = Asked::new(policy, &ask, &resolved, &view, seed)?;
        let shadows = chosen.shadow.iter().map(|shadow| self.shadow(shadow, &ask, &resolved, now, seed));
        let (answered, shadows) =
            futures::join!(within(ask.deadline, policy.engine.run(asked.query.clone())), join_all(shadows));
        let own = match answered {
            Ok(output) => Some(asked.draw(&output?, ask.size, seed)?),
            Err(late) if self.fallback == Fallback::None => return Err(late),
            Err(_) => None,
        };
        let scores = own.as_ref().map(|own| own.scores[..count].to_vec());
        let mut distribution = match &own {
            Some(own) if ask.distribution => own.first().unwrap_or_default(),
            _ => Vec::new(),
        };
        let ids = |items: &[usize]| items.iter().map(|&item| resolved.candidates[item].1.clone()).collect::<Vec<_>>();
        let (drawn, mode, mut alternatives) = match own {
            None => (DrawnSlate::certain(baseline[..ask.size].to_vec()), Mode::Fallback, Vec::new()),
            Some(own) if chosen.apprentice => {
                let shown = DrawnSlate::certain(baseline[..ask.size].to_vec());
                let beside = own.beside(&shown.items, ids);
                (shown, Mode::Apprentice, vec![beside])
            }
            Some(own) => (own.drawn, Mode::Policy, Vec::new()),
        };
        if ask.distribution && mode != Mode::Policy {
            // What the caller's order puts first is certain.
            distribution = (0..count).map(|item| f64::from(u8::from(item == drawn.items[0]))).collect();
        }
        alternatives.extend(shadows.into_iter().flatten().map(|shadow| shadow.beside(&drawn.items, ids)));
        let width = policy.encoder.item_width();
        let encoded =
            drawn.items.iter().map(|&item| Encoded::from(&asked.query.items[item * width..][..width])).collect();
        let candidates: Vec<Candidate> = resolved
            .candidates
            .into_iter()
            .enumerate()
            .map(|(index, (_, item, features))| {
                let score = scores.as_ref().map(|scores| scores[index]);
                Candidate { item, features, score }
            })
            .collect();
        let (page_id, slot) = ask.slot.unzip();
        let mut session_features = view.features;
        if away {
            session_features.insert(UNAVAILABLE, 1.0);
        }
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
            user: resolved.user,
            context: ask.context,
            session: session_features,
            slate: Shown::from_drawn(&drawn, &candidates),
            candidates,
            propensity: drawn.propensities.joint(),
            propensity_draws: drawn.propensities.draws.map(|draws| draws as i32),
            marginal_draws: drawn.propensities.marginal_draws.map(|draws| draws as i32),
            mode,
            not_evaluable: match mode {
                Mode::Policy => None,
                Mode::Apprentice => Some(APPRENTICE.to_owned()),
                Mode::Fallback => Some(FALLBACK.to_owned()),
            },
            page_id,
            slot,
            rules: (!ask.rules.is_empty()).then(|| serde_json::json!(ask.rules).to_string()),
            baseline: ask.baseline,
            catalogue_version: resolved.catalogue_version.map(|version| version as i64),
            alternatives,
            omitted_features: Vec::new(),
        };
        let (policy, slate) = (Arc::clone(policy), drawn.items);
        Ok(Pick {
            decision,
            id_from: ask.id_from,
            policy,
            history: view.history,
            distribution,
            slate,
            session,
            encoded,
        })
    }

    /// What a policy would show that is not asked for it; `None`, logged and counted, where it cannot answer.
    async fn shadow<'a>(
        &self,
        policy: &'a LoadedPolicy,
        ask: &Ask,
        resolved: &Resolved,
        now: DateTime<Utc>,
        seed: DecisionSeed,
    ) -> Option<Own<'a>> {
        let answer = async {
            let (Seen { view, .. }, _) = self.session_view(ask, policy, now).await?;
            let asked = Asked::new(policy, ask, resolved, &view, seed)?;
            let output = within(ask.deadline, policy.engine.run(asked.query.clone())).await??;
            Ok::<_, RecommendError>(asked.draw(&output, ask.size, seed)?)
        };
        let manifest = &policy.manifest;
        match answer.await {
            Ok(own) => Some(own),
            Err(error) => {
                tracing::debug!(policy = manifest.name, version = manifest.version, %error, "a shadow did not answer");
                metrics::counter!("slated_shadow_failures_total", "policy" => manifest.name.clone(), "version" => manifest.version.to_string())
                    .increment(1);
                None
            }
        }
    }

    async fn session_view(
        &self,
        ask: &Ask,
        policy: &LoadedPolicy,
        now: DateTime<Utc>,
    ) -> Result<(Seen, Option<SessionKey>), RecommendError> {
        let Some(kind) = &policy.sessions else { return Ok((Seen::default(), None)) };
        let user = match &self.users {
            Some(users) => ask.user_id.as_deref().map(|id| users.hash(id)),
            None => ask.user_id.clone(),
        };
        let key = kind.key(ask.session_id.as_deref(), user.as_deref());
        let mut seen = self.sessions.view(kind, key.as_ref(), now).await.map_err(RecommendError::Session)?;
        if let Some(own) = &ask.session {
            seen.view.features = seen.view.features.overlaid_with(own);
        }
        Ok((seen, key))
    }
}

/// A request as one policy sees it.
struct Asked<'a> {
    policy: &'a LoadedPolicy,
    query: Query,
    constraints: Constraints,
}

/// What one policy chose.
struct Own<'a> {
    policy: &'a LoadedPolicy,
    constraints: Constraints,
    /// `[rows, candidates]`.
    scores: Vec<f32>,
    candidates: usize,
    size: usize,
    seed: DecisionSeed,
    drawn: DrawnSlate,
}

impl<'a> Asked<'a> {
    fn new(
        policy: &'a LoadedPolicy,
        ask: &Ask,
        resolved: &Resolved,
        view: &SessionView,
        seed: DecisionSeed,
    ) -> Result<Self, RecommendError> {
        let candidates = &resolved.candidates;
        let query = encode(policy, &resolved.user, &ask.context, view, candidates, seed)?;
        let named = candidates.iter().map(|(_, id, features)| (id.as_str(), features));
        let constraints = ask.rules.constraints(named, ask.size, &query.items, policy.encoder.item_width())?;
        Ok(Self { policy, query, constraints })
    }

    fn draw(&self, output: &Output, size: usize, seed: DecisionSeed) -> Result<Own<'a>, DrawError> {
        let exploration = &self.policy.manifest.exploration;
        let ranked = self.policy.manifest.drawn_by(output.scores.clone(), &output.appeal, self.query.candidates, size);
        let scores = Scores::new(&ranked, self.query.candidates, exploration)?;
        let constraints = self.constraints.clone();
        let drawn = if constraints.is_empty() {
            draw(exploration, &scores, size, seed)?
        } else {
            draw_constrained(exploration, &scores, size, &constraints, seed)?
        };
        let candidates = scores.candidates();
        Ok(Own { policy: self.policy, constraints, scores: ranked, candidates, size, seed, drawn })
    }
}

impl Own<'_> {
    /// This choice beside what was shown.
    fn beside(self, shown: &[usize], ids: impl Fn(&[usize]) -> Vec<String>) -> Alternative {
        let items = &self.drawn.items;
        let same = items.iter().zip(shown).filter(|(own, shown)| own == shown).count();
        let manifest = &self.policy.manifest;
        Alternative {
            policy: manifest.name.clone(),
            policy_version: manifest.version as i64,
            model_sha256: manifest.model_sha256.clone(),
            slate: ids(items),
            propensity: self.drawn.propensities.joint(),
            shown_propensity: self.probability_of(shown),
            agreement: same as f64 / items.len().max(shown.len()).max(1) as f64,
        }
    }

    /// The probability with which each candidate stands first.
    fn first(&self) -> Option<Vec<f64>> {
        let exploration = &self.policy.manifest.exploration;
        let scores = Scores::new(&self.scores, self.candidates, exploration).ok()?;
        next_choice(exploration, &scores, &[], &self.constraints)
    }

    /// The probability of another slate. The estimate that posterior draws give holds for a drawn slate alone.
    fn probability_of(&self, shown: &[usize]) -> Option<f64> {
        let exploration = &self.policy.manifest.exploration;
        if matches!(exploration, Exploration::PosteriorSampling { .. }) {
            return None;
        }
        let scores = Scores::new(&self.scores, self.candidates, exploration).ok()?;
        let found = if self.constraints.is_empty() {
            propensities(exploration, &scores, shown, self.seed)
        } else {
            constrained_propensities(exploration, &scores, shown, self.size, &self.constraints, self.seed)
        };
        found.ok().map(|propensities| propensities.joint())
    }
}

async fn within<T>(deadline: Option<Instant>, answer: impl Future<Output = T>) -> Result<T, RecommendError> {
    match deadline {
        Some(deadline) => timeout_at(deadline, answer).await.map_err(|_| RecommendError::Late),
        None => Ok(answer.await),
    }
}

/// The query that a policy's model is asked.
///
/// # Errors
/// A feature that its schema refuses.
pub fn encode(
    policy: &LoadedPolicy,
    user: &Features,
    context: &Features,
    view: &SessionView,
    candidates: &[(usize, String, Features)],
    seed: DecisionSeed,
) -> Result<Query, RecommendError> {
    let encoder = &policy.encoder;
    let mut state = Vec::with_capacity(encoder.state_width());
    encoder.encode_state(user, context, &view.features, &mut state).map_err(RecommendError::State)?;
    let mut items = Vec::new();
    let named = candidates.iter().map(|(_, id, features)| (id.as_str(), features));
    encoder.encode_items(named, &mut items).map_err(|(at, source)| {
        let (index, id, _) = &candidates[at];
        RecommendError::Candidate { index: *index, id: id.clone(), source }
    })?;
    let rows = policy.manifest.exploration.score_rows();
    let noise = policy
        .manifest
        .signature
        .noise
        .map_or_else(Vec::new, |draws| standard_normal(&mut seed.noise_generator(), rows * draws));
    Ok(Query { state, items, candidates: candidates.len(), history: view.history.clone(), noise, rows })
}
