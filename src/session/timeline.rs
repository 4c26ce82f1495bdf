//! One session as the fold of its events, in the order in which they happened.
//!
//! Requests for one session may run side by side, on one replica or on several, so their events arrive in an order that
//! nobody can repeat. A timeline does not depend on it: events are put in the order of (time, kind, id), in which the
//! journal keeps them too, and one that arrives behind others is put in its place and what follows is done again. So the
//! same events give the same state to the last bit, whether they were applied as they came or read from the journal.

use std::collections::VecDeque;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use slated_contract::feature::Features;
use slated_contract::session::SessionAccumulator;

use super::slate::Encoded;

/// How far behind the newest event of its session one may arrive. A request is journalled within its time limit, and
/// clocks of replicas differ by less.
pub const SETTLED_AFTER: TimeDelta = TimeDelta::seconds(60);
/// How long a session, or what a decision showed, is kept that ends after `idle`: an event that happened before the end
/// may be told after it.
#[must_use]
pub fn kept(idle: TimeDelta) -> TimeDelta {
    idle + idle.min(SETTLED_AFTER)
}

/// The most events of a session that are kept apart, however close they are.
const MAX_RECENT: usize = 256;

/// What the model sees of a session.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SessionView {
    /// The session features.
    pub features: Features,
    /// The rows of the history tensor, laid one after the other.
    pub history: Vec<f32>,
}

impl SessionView {
    /// What there is to see at `now`.
    #[must_use]
    pub fn of(session: &SessionAccumulator, now: DateTime<Utc>) -> Self {
        Self { features: session.features(now), history: session.history().flatten().copied().collect() }
    }
}

/// Something that happened in a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Happened {
    /// Its place.
    pub place: Place,
    /// The item that was consumed, and what that was worth; absent where a slate was shown.
    pub consumed: Option<(Encoded, f64)>,
}

/// An event's place among those of its session; a slate is shown before what came of it, even in the same microsecond.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// When it was journalled.
    pub at: DateTime<Utc>,
    /// Whether it is feedback.
    pub feedback: bool,
    /// The decision's or the feedback's id.
    pub id: String,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// It counts.
    New,
    /// It had been recorded before.
    Known,
    /// What follows it is settled, so it is known already or too late.
    Settled,
}

/// One session.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeline {
    /// The state after every event that nothing can come before any more.
    settled: SessionAccumulator,
    settled_at: Option<Place>,
    /// The events after it, in order.
    recent: VecDeque<Happened>,
    /// The state after those.
    state: SessionAccumulator,
}

/// A timeline as it is stored; the state follows from the rest.
#[derive(Debug, Serialize, Deserialize)]
pub struct Stored(SessionAccumulator, Option<Place>, VecDeque<Happened>);

impl Timeline {
    /// A session in which nothing has happened.
    #[must_use]
    pub fn new(empty: SessionAccumulator) -> Self {
        Self { state: empty.clone(), settled: empty, settled_at: None, recent: VecDeque::new() }
    }

    /// Records an event of a session that ends after `idle` without one.
    pub fn record(&mut self, event: Happened, idle: TimeDelta) -> Recorded {
        if self.settled_at.as_ref().is_some_and(|settled| event.place <= *settled) {
            return Recorded::Settled;
        }
        match self.recent.binary_search_by(|known| known.place.cmp(&event.place)) {
            Ok(_) => return Recorded::Known,
            Err(place) if place == self.recent.len() => {
                let last = self.last();
                apply(&mut self.state, last, &event, idle);
                self.recent.push_back(event);
            }
            Err(place) => {
                self.recent.insert(place, event);
                self.fold(idle);
            }
        }
        self.settle(idle);
        Recorded::New
    }

    /// What there is to see at `now`; `None` where the session has ended.
    #[must_use]
    pub fn view(&self, now: DateTime<Utc>, idle: TimeDelta) -> Option<SessionView> {
        let last = self.last()?;
        (now - last <= idle).then(|| SessionView::of(&self.state, now))
    }

    /// When something happened last.
    #[must_use]
    pub fn last(&self) -> Option<DateTime<Utc>> {
        self.recent.back().map(|event| event.place.at).or_else(|| self.settled_at.as_ref().map(|place| place.at))
    }

    /// The events that are not settled.
    pub fn recent(&self) -> impl Iterator<Item = &Happened> {
        self.recent.iter()
    }

    /// As it is stored.
    #[must_use]
    pub fn stored(&self) -> Stored {
        Stored(self.settled.clone(), self.settled_at.clone(), self.recent.clone())
    }

    /// What was stored.
    #[must_use]
    pub fn restored(Stored(settled, settled_at, recent): Stored, idle: TimeDelta) -> Self {
        let mut timeline = Self { state: settled.clone(), settled, settled_at, recent };
        timeline.fold(idle);
        timeline
    }

    fn fold(&mut self, idle: TimeDelta) {
        let mut last = self.settled_at.as_ref().map(|place| place.at);
        self.state.clone_from(&self.settled);
        for event in &self.recent {
            apply(&mut self.state, last, event, idle);
            last = Some(event.place.at);
        }
    }

    fn settle(&mut self, idle: TimeDelta) {
        let Some(newest) = self.recent.back().map(|event| event.place.at) else { return };
        while let Some(oldest) = self.recent.front()
            && (newest - oldest.place.at > SETTLED_AFTER || self.recent.len() > MAX_RECENT)
        {
            let last = self.settled_at.as_ref().map(|place| place.at);
            apply(&mut self.settled, last, oldest, idle);
            self.settled_at = self.recent.pop_front().map(|event| event.place);
        }
    }
}

/// Feeds an event to the accumulator; `last` is when the one before it happened.
fn apply(session: &mut SessionAccumulator, last: Option<DateTime<Utc>>, event: &Happened, idle: TimeDelta) {
    if last.is_some_and(|last| event.place.at - last > idle) {
        session.restart();
    }
    match &event.consumed {
        None => session.show(event.place.at),
        // Of a session whose slates are forgotten nothing is known but this; it would begin with a response.
        Some(_) if session.steps() == 0 => {}
        Some((item, reward)) => session.respond(item, *reward),
    }
}
