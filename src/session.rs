//! The service's sessions: one accumulator each, bounded in number, forgotten when idle.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use slated_contract::event::Feedback;
use slated_contract::feature::Features;
use slated_contract::policy::Manifest;
use slated_contract::reward::RewardDefinition;
use slated_contract::session::SessionAccumulator;

/// How many sessions are kept, and how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SessionStoreSettings {
    /// The most sessions in memory; beyond it the least used are forgotten.
    pub capacity: u64,
    /// A session without a request for so long has ended.
    pub idle_seconds: u64,
}

impl Default for SessionStoreSettings {
    fn default() -> Self {
        Self { capacity: 100_000, idle_seconds: 30 * 60 }
    }
}

/// The sessions in memory. They are lost with the process; the journal is not.
#[derive(Debug)]
pub struct SessionStore {
    sessions: Cache<SessionKey, Arc<Mutex<SessionAccumulator>>>,
    /// What each recent decision showed, for the feedback that will name only the decision.
    shown: Cache<String, Arc<ShownSlate>>,
}

/// Policies keep different things of a session, so each has its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionKey {
    policy: String,
    /// The settings of the accumulator and the width of an item: a new version that changes them starts afresh.
    shape: String,
    session: String,
}

/// What a decision showed to a session.
#[derive(Debug)]
pub struct ShownSlate {
    key: SessionKey,
    decided: DateTime<Utc>,
    reward: RewardDefinition,
    /// Id and encoded features, by position.
    items: Vec<(String, Vec<f32>)>,
}

/// What the model sees of a session.
#[derive(Debug, Default)]
pub struct SessionView {
    /// The session features.
    pub features: Features,
    /// The rows of the history tensor, laid one after the other.
    pub history: Vec<f32>,
}

impl SessionKey {
    /// The key of `session` under the policy of `manifest`.
    #[must_use]
    pub fn new(manifest: &Manifest, session: &str) -> Self {
        let settings = &manifest.session;
        let shape = format!("{:?}/{}/{}", settings.decay_rates, settings.history, manifest.signature.item_width);
        Self { policy: manifest.name.clone(), shape, session: session.to_owned() }
    }
}

impl SessionStore {
    /// An empty store.
    #[must_use]
    pub fn new(settings: &SessionStoreSettings) -> Self {
        let idle = Duration::from_secs(settings.idle_seconds.max(1));
        Self {
            sessions: Cache::builder().max_capacity(settings.capacity).time_to_idle(idle).build(),
            shown: Cache::builder().max_capacity(settings.capacity.saturating_mul(4)).time_to_live(idle).build(),
        }
    }

    /// What the policy of `manifest` sees of a session at `now`; an empty session where there is none, or where the
    /// caller names none.
    #[must_use]
    pub fn view(&self, manifest: &Manifest, key: Option<&SessionKey>, now: DateTime<Utc>) -> SessionView {
        let view = |session: &SessionAccumulator| SessionView {
            features: session.features(now),
            history: session.history().flatten().copied().collect(),
        };
        match key.and_then(|key| self.sessions.get(key)) {
            Some(session) => view(&session.lock().unwrap_or_else(PoisonError::into_inner)),
            // The settings were checked when the bundle was read.
            None => SessionAccumulator::new(&manifest.session, manifest.signature.item_width)
                .map(|s| view(&s))
                .unwrap_or_default(),
        }
    }

    /// A slate was shown: `items` are ids with encoded features, by position.
    pub fn show(
        &self,
        manifest: &Manifest,
        key: SessionKey,
        decision_id: &str,
        now: DateTime<Utc>,
        items: Vec<(String, Vec<f32>)>,
    ) {
        let Ok(empty) = SessionAccumulator::new(&manifest.session, manifest.signature.item_width) else { return };
        let session = self.sessions.get_with(key.clone(), || Arc::new(Mutex::new(empty)));
        session.lock().unwrap_or_else(PoisonError::into_inner).show(now);
        let reward = manifest.training.as_ref().map(|training| training.reward.clone()).unwrap_or_default();
        self.shown.insert(decision_id.to_owned(), Arc::new(ShownSlate { key, decided: now, reward, items }));
    }

    /// Feedback arrived. What does not count by the policy's reward definition, or names an item that was not shown,
    /// changes nothing.
    pub fn respond(&self, feedback: &Feedback) {
        let Some(slate) = self.shown.get(&feedback.decision_id) else { return };
        let worth = slate.reward.worth(&feedback.event, feedback.value, slate.decided, feedback.occurred);
        let item = match (&feedback.item, feedback.position) {
            (Some(id), _) => slate.items.iter().find(|(shown, _)| shown == id),
            (None, Some(position)) => usize::try_from(position).ok().and_then(|position| slate.items.get(position)),
            (None, None) => None,
        };
        let (Some(worth), Some((_, encoded)), Some(session)) = (worth, item, self.sessions.get(&slate.key)) else {
            return;
        };
        session.lock().unwrap_or_else(PoisonError::into_inner).respond(encoded, worth);
    }
}
