//! Sessions in this process, bounded in number, forgotten when idle.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use moka::notification::RemovalCause;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use slated_contract::event::Feedback;
use slated_contract::session::SessionAccumulator;

use super::key::SessionKey;
use super::report;
use super::settings::SessionStoreSettings;
use super::slate::ShownSlate;
use super::timeline::{Happened, SETTLED_AFTER, SessionView, Timeline, kept};

/// Slates that are remembered for each session that may be held.
const SLATES: u64 = 4;
/// Decisions whose feedback may be there before them.
const EARLY: u64 = 10_000;
/// Feedback events that are remembered for each of them.
pub const EARLY_EVENTS: usize = 64;

/// The sessions of this process.
#[derive(Debug)]
pub struct Embedded {
    sessions: Cache<SessionKey, Arc<Mutex<Timeline>>>,
    /// What each recent decision showed.
    slates: Cache<String, Arc<ShownSlate>>,
    /// Feedback whose decision is not known, or not yet.
    early: Cache<String, Arc<Mutex<Vec<Feedback>>>>,
    idle: TimeDelta,
}

impl Embedded {
    /// An empty store.
    #[must_use]
    pub fn new(settings: &SessionStoreSettings) -> Self {
        let idle = TimeDelta::seconds(settings.idle_seconds.min(1 << 40).cast_signed());
        let for_so_long = kept(idle).to_std().unwrap_or(Duration::MAX);
        let lru = EvictionPolicy::lru;
        // What is rebuilt from the journal may be held for longer; whether it has ended, its own clock says.
        let ended = |_, _, cause| match cause {
            RemovalCause::Size => report::ended("evicted"),
            RemovalCause::Expired => report::ended("expired"),
            RemovalCause::Explicit | RemovalCause::Replaced => {}
        };
        let sessions =
            Cache::builder().max_capacity(settings.capacity).time_to_idle(for_so_long).eviction_policy(lru());
        let slates = Cache::builder().max_capacity(settings.capacity.saturating_mul(SLATES)).time_to_live(for_so_long);
        let early = Cache::builder().max_capacity(EARLY).time_to_live(SETTLED_AFTER.to_std().unwrap_or(for_so_long));
        Self {
            sessions: sessions.eviction_listener(ended).build(),
            slates: slates.eviction_policy(lru()).build(),
            early: early.eviction_policy(lru()).build(),
            idle,
        }
    }

    /// What there is to see of a session at `now`; `None` where there is none.
    #[must_use]
    pub fn view(&self, key: &SessionKey, now: DateTime<Utc>) -> Option<SessionView> {
        let session = self.sessions.get(key)?;
        let session = session.lock().unwrap_or_else(PoisonError::into_inner);
        session.view(now, self.idle)
    }

    /// A slate was shown.
    pub fn show(&self, slate: &Arc<ShownSlate>, empty: &SessionAccumulator) {
        let begin = || Arc::new(Mutex::new(Timeline::new(empty.clone())));
        let session = self.sessions.get_with_by_ref(&slate.key, begin);
        self.record(&session, slate.shown());
        // In this order, feedback that arrives meanwhile finds the slate, or is found.
        self.slates.insert(slate.decision_id.clone(), Arc::clone(slate));
        if let Some(early) = self.early.remove(&slate.decision_id) {
            for feedback in &*early.lock().unwrap_or_else(PoisonError::into_inner) {
                self.consume(slate, feedback);
            }
        }
    }

    /// Feedback arrived.
    pub fn respond(&self, feedback: &Feedback) {
        if let Some(slate) = self.slates.get(&feedback.decision_id) {
            return self.consume(&slate, feedback);
        }
        let early = self.early.get_with_by_ref(&feedback.decision_id, Arc::default);
        {
            let mut early = early.lock().unwrap_or_else(PoisonError::into_inner);
            if early.len() < EARLY_EVENTS {
                early.push(feedback.clone());
            }
        }
        // Twice is once, should the slate have been shown, and this been found, in between.
        if let Some(slate) = self.slates.get(&feedback.decision_id) {
            self.consume(&slate, feedback);
        }
    }

    fn consume(&self, slate: &ShownSlate, feedback: &Feedback) {
        if let (Some(event), Some(session)) = (slate.consumed(feedback, self.idle), self.sessions.get(&slate.key)) {
            self.record(&session, event);
        }
    }

    fn record(&self, session: &Mutex<Timeline>, event: Happened) {
        report::recorded(session.lock().unwrap_or_else(PoisonError::into_inner).record(event, self.idle));
    }

    /// How many sessions are held.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.sessions.run_pending_tasks();
        self.sessions.entry_count()
    }

    /// Every session that is held.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionKey, Timeline)> {
        let copy = |session: &Mutex<Timeline>| session.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.sessions.iter().map(move |(key, session)| ((*key).clone(), copy(&session)))
    }

    /// Every slate that is remembered.
    pub fn slates(&self) -> impl Iterator<Item = Arc<ShownSlate>> {
        self.slates.iter().map(|(_, slate)| slate)
    }
}
