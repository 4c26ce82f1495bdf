//! Decisions, one after the other, to sessions.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use slated_contract::feature::{EncodeError, Encoder, Features};
use slated_contract::session::{SessionAccumulator, SessionSettings};
use xxhash_rust::xxh3::xxh3_64;

use super::episodes::{Episode, LoggedStep, user_number};
use super::error::OfflineError;
use crate::replay::{Logged, Propensity};
use crate::rollout::Observation;

/// A decision as it was logged, raw.
#[derive(Debug, Clone)]
pub(super) struct Seen<'a> {
    pub session_id: Option<&'a str>,
    pub user_id: Option<&'a str>,
    pub time: DateTime<Utc>,
    pub user: &'a Features,
    pub context: &'a Features,
    /// As the policy saw them; empty where they were not logged.
    pub session: &'a Features,
    /// The id and the features of each.
    pub candidates: Vec<(&'a str, &'a Features)>,
}

/// What came of it.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    /// Indices of candidates.
    pub slate: Vec<usize>,
    pub consumed: Option<usize>,
    /// By position.
    pub rewards: Vec<f64>,
    /// Absent where it says nothing of what was shown.
    pub propensity: Option<Propensity>,
}

/// Puts decisions, which come in the order of time, into their sessions.
pub(super) struct Gatherer {
    encoder: Encoder,
    fresh: SessionAccumulator,
    gap_seconds: f64,
    sessions: Vec<Session>,
    /// Where the session of an id is, and that of a user without one.
    by_id: HashMap<Box<str>, usize>,
    by_user: HashMap<Box<str>, usize>,
}

struct Session {
    episode: Episode,
    accumulator: SessionAccumulator,
    last: DateTime<Utc>,
}

impl Gatherer {
    pub fn new(encoder: Encoder, session: &SessionSettings, gap_seconds: f64) -> Result<Self, OfflineError> {
        let fresh = SessionAccumulator::new(session, encoder.item_width())?;
        Ok(Self { encoder, fresh, gap_seconds, sessions: Vec::new(), by_id: HashMap::new(), by_user: HashMap::new() })
    }

    /// Adds a decision to its session.
    pub fn add(&mut self, seen: &Seen<'_>, outcome: Outcome) -> Result<(), EncodeError> {
        let index = self.session_of(seen);
        let session = &mut self.sessions[index];
        let mut observation = Observation { candidates: seen.candidates.len(), ..Observation::default() };
        let own;
        // The journal has the session as the policy saw it; a caller that logs none leaves it to be computed again.
        let features = if seen.session.is_empty() {
            own = session.accumulator.features(seen.time);
            &own
        } else {
            seen.session
        };
        self.encoder.encode_state(seen.user, seen.context, features, &mut observation.state)?;
        for (id, features) in &seen.candidates {
            self.encoder.encode_item(id, features, &mut observation.items)?;
        }
        observation.history.extend(session.accumulator.history().flatten());
        session.accumulator.show(seen.time);
        let Outcome { slate, consumed, rewards, propensity } = outcome;
        let reward = rewards.iter().sum();
        if let Some(position) = consumed {
            let width = self.encoder.item_width();
            let item = slate[position] * width;
            session.accumulator.respond(&observation.items[item..item + width], reward);
        }
        session.last = seen.time;
        observation.state.shrink_to_fit();
        observation.items.shrink_to_fit();
        let rewards = rewards.iter().map(|&reward| reward as f32).collect();
        let logged = Arc::new(Logged { rewards, propensity, half: u8::from(session.episode.user & 1 == 1) });
        let observation = Arc::new(observation);
        session.episode.steps.push(LoggedStep { observation, slate, consumed, reward, logged });
        Ok(())
    }

    fn session_of(&mut self, seen: &Seen<'_>) -> usize {
        let known = match (seen.session_id, seen.user_id) {
            (Some(id), _) => self.by_id.get(id).copied(),
            (None, Some(user)) => self
                .by_user
                .get(user)
                .copied()
                .filter(|&index| (seen.time - self.sessions[index].last).as_seconds_f64() <= self.gap_seconds),
            (None, None) => None,
        };
        if let Some(index) = known {
            return index;
        }
        let index = self.sessions.len();
        let user = seen.user_id.or(seen.session_id);
        self.sessions.push(Session {
            // Whoever is not named is someone else each time.
            episode: Episode {
                user: user.map_or_else(|| xxh3_64(&index.to_le_bytes()), user_number),
                steps: Vec::new(),
            },
            accumulator: self.fresh.clone(),
            last: seen.time,
        });
        match (seen.session_id, seen.user_id) {
            (Some(id), _) => self.by_id.insert(id.into(), index),
            (None, Some(user)) => self.by_user.insert(user.into(), index),
            (None, None) => None,
        };
        index
    }

    /// The sessions, in the order in which they began, without those that may go on: the last decision of each is more than
    /// `open_seconds` before that of the log.
    pub fn finish(self, open_seconds: f64) -> Vec<Episode> {
        let end = self.sessions.iter().map(|session| session.last).max();
        let ended = |session: &Session| {
            open_seconds == 0.0 || end.is_none_or(|end| (end - session.last).as_seconds_f64() > open_seconds)
        };
        self.sessions.into_iter().filter(ended).map(|session| session.episode).collect()
    }
}

#[cfg(test)]
mod tests {
    use slated_contract::feature::FeatureSchema;

    use super::*;

    #[test]
    fn sessions_are_told_apart_by_id_or_by_silence() {
        let schema: FeatureSchema =
            serde_json::from_str(r#"{"user": [], "context": [], "session": [], "item": []}"#).unwrap();
        let mut gatherer = Gatherer::new(Encoder::new(&schema).unwrap(), &SessionSettings::default(), 60.0).unwrap();
        let none = Features::new();
        let mut add = |session_id, user_id, second: i64| {
            let time = DateTime::from_timestamp(1_700_000_000 + second, 0).unwrap();
            let seen = Seen {
                session_id,
                user_id,
                time,
                user: &none,
                context: &none,
                session: &none,
                candidates: vec![("a", &none), ("b", &none)],
            };
            let rewards = vec![second as f64];
            gatherer.add(&seen, Outcome { slate: vec![1], consumed: None, rewards, propensity: None }).unwrap();
        };
        add(Some("s"), Some("u"), 0);
        add(None, Some("u"), 10);
        add(None, Some("v"), 20);
        add(None, Some("u"), 70);
        add(None, None, 80);
        add(None, Some("u"), 131);
        add(Some("s"), None, 9000);
        add(None, None, 9001);
        let episodes = gatherer.finish(0.0);
        let rewards: Vec<Vec<f64>> =
            episodes.iter().map(|episode| episode.steps.iter().map(|step| step.reward).collect()).collect();
        let expected: [&[f64]; 6] = [&[0.0, 9000.0], &[10.0, 70.0], &[20.0], &[80.0], &[131.0], &[9001.0]];
        assert_eq!(rewards, expected);
        assert!(episodes[0].user == episodes[1].user && episodes[1].user == episodes[4].user, "the user is u");
        assert!(episodes[3].user != episodes[5].user && episodes[2].user != episodes[1].user);
    }
}
