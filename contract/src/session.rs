//! The session accumulator: what happened so far, as features.
//!
//! What happened in the session is part of the state; that is what separates reinforcement learning from a bandit
//! here. The service runs one accumulator per session, the trainer runs the same code over the journal, and the
//! simulators run it live.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::feature::{Features, FeaturesBuilder};

/// What the accumulator keeps, and so which session features it offers.
///
/// | feature | value |
/// |---|---|
/// | `steps` | slates shown so far |
/// | `responses` | items consumed so far |
/// | `seconds_since_last` | seconds since the last slate was shown; 0 before the first |
/// | `last_consumed` | 1 if an item of the last slate was consumed, else 0 |
/// | `last_reward` | reward of the last response; 0 before the first |
/// | `total_reward` | sum of the rewards |
/// | `reward_decay_R`, for each decay rate R | `r_t = R r_{t-1} + reward` |
/// | `consumed_decay_R`, for each decay rate R | `c_t = R c_{t-1} + x`, x the encoded consumed item; a vector of D |
///
/// The decay is applied once a slate, when it is shown; a response adds to the sums when it arrives.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionSettings {
    /// Decay rates per step, each from 0 up to and including 1.
    #[serde(default)]
    pub decay_rates: Vec<f64>,
    /// H, how many of the last interactions the `history` tensor holds; 0 where the model takes none.
    #[serde(default)]
    pub history: usize,
}

/// Settings that cannot be used.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum SessionError {
    /// A decay rate outside 0 to 1.
    #[error("session decay rate {0} is outside 0 to 1")]
    DecayRate(f64),
    /// A window longer than [`SessionSettings::MAX_HISTORY`].
    #[error("session history of {0} interactions is above {max}", max = SessionSettings::MAX_HISTORY)]
    History(usize),
}

impl SessionSettings {
    /// The longest window of interactions.
    pub const MAX_HISTORY: usize = 1024;

    /// Checks the settings.
    ///
    /// # Errors
    /// A decay rate outside 0 to 1, a window that is too long.
    pub fn check(&self) -> Result<(), SessionError> {
        if let Some(rate) = self.decay_rates.iter().find(|rate| !(0.0..=1.0).contains(*rate)) {
            return Err(SessionError::DecayRate(*rate));
        }
        if self.history > Self::MAX_HISTORY {
            return Err(SessionError::History(self.history));
        }
        Ok(())
    }

    /// F, the width of one row of the `history` tensor: the encoded item, the reward, and the seconds since the slate
    /// before.
    #[must_use]
    pub const fn history_width(item_width: usize) -> usize {
        item_width + 2
    }
}

/// The state of one session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionAccumulator {
    item_width: usize,
    steps: u64,
    responses: u64,
    shown_at: Option<DateTime<Utc>>,
    gap_seconds: f64,
    last_consumed: bool,
    last_reward: f64,
    total_reward: f64,
    decays: Vec<Decay>,
    history_limit: usize,
    history: VecDeque<Vec<f32>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Decay {
    rate: f64,
    reward: f64,
    consumed: Vec<f64>,
}

impl SessionAccumulator {
    /// A session in which nothing has happened, for items that encode to `item_width` (D) numbers.
    ///
    /// # Errors
    /// Settings that fail [`SessionSettings::check`].
    pub fn new(settings: &SessionSettings, item_width: usize) -> Result<Self, SessionError> {
        settings.check()?;
        Ok(Self::empty(item_width, settings.decay_rates.iter().copied(), settings.history))
    }

    /// The session ended: what follows begins one in which nothing has happened.
    pub fn restart(&mut self) {
        *self = Self::empty(self.item_width, self.decays.iter().map(|decay| decay.rate), self.history_limit);
    }

    fn empty(item_width: usize, rates: impl Iterator<Item = f64>, history_limit: usize) -> Self {
        Self {
            item_width,
            steps: 0,
            responses: 0,
            shown_at: None,
            gap_seconds: 0.0,
            last_consumed: false,
            last_reward: 0.0,
            total_reward: 0.0,
            decays: rates.map(|rate| Decay { rate, reward: 0.0, consumed: vec![0.0; item_width] }).collect(),
            history_limit,
            history: VecDeque::new(),
        }
    }

    /// Slates shown so far.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// A slate was shown.
    pub fn show(&mut self, time: DateTime<Utc>) {
        self.gap_seconds = self.seconds_until(time);
        self.shown_at = Some(time);
        self.steps += 1;
        self.last_consumed = false;
        for decay in &mut self.decays {
            decay.reward *= decay.rate;
            decay.consumed.iter_mut().for_each(|sum| *sum *= decay.rate);
        }
    }

    /// The user consumed an item, encoded as `item` (D numbers), for a reward.
    ///
    /// A response that arrives after the next slate was shown counts from then on, undecayed.
    ///
    /// # Panics
    /// Never: an `item` of another width is cut or padded with zeros, as the caller took it from another encoder.
    pub fn respond(&mut self, item: &[f32], reward: f64) {
        self.responses += 1;
        self.last_consumed = true;
        self.last_reward = reward;
        self.total_reward += reward;
        for decay in &mut self.decays {
            decay.reward += reward;
            decay.consumed.iter_mut().zip(item).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        if self.history_limit > 0 {
            if self.history.len() == self.history_limit {
                self.history.pop_front();
            }
            let mut row = item.to_vec();
            row.resize(self.item_width, 0.0);
            row.extend([reward as f32, self.gap_seconds as f32]);
            self.history.push_back(row);
        }
    }

    /// The session features at `now`, by the names that [`SessionSettings`] lists.
    #[must_use]
    pub fn features(&self, now: DateTime<Utc>) -> Features {
        let mut features = FeaturesBuilder::default();
        let numbers = [
            ("steps", self.steps as f64),
            ("responses", self.responses as f64),
            ("seconds_since_last", self.seconds_until(now)),
            ("last_consumed", f64::from(u8::from(self.last_consumed))),
            ("last_reward", self.last_reward),
            ("total_reward", self.total_reward),
        ];
        numbers.into_iter().for_each(|(name, number)| features.set(name, number));
        for decay in &self.decays {
            features.set(&format!("reward_decay_{}", decay.rate), decay.reward);
            let consumed: Vec<f32> = decay.consumed.iter().map(|&sum| sum as f32).collect();
            features.set(&format!("consumed_decay_{}", decay.rate), &consumed[..]);
        }
        features.finish()
    }

    /// The rows of the `history` tensor, oldest first; at most H.
    pub fn history(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.history.iter().map(Vec::as_slice)
    }

    fn seconds_until(&self, time: DateTime<Utc>) -> f64 {
        // Clocks may run backwards between replicas; a session's gap is never negative.
        self.shown_at.map_or(0.0, |before| (time - before).as_seconds_f64().max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feature::FeatureRef;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_600_000_000 + second, 0).unwrap()
    }

    fn number(features: &Features, name: &str) -> f64 {
        match features.get(name) {
            Some(FeatureRef::Number(number)) => number,
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn sums_decay_once_a_slate() {
        let settings = SessionSettings { decay_rates: vec![0.5], history: 2 };
        let mut session = SessionAccumulator::new(&settings, 2).unwrap();
        assert_eq!(number(&session.features(at(0)), "steps"), 0.0);
        for (second, item) in [(0, [1.0, 0.0]), (10, [0.0, 1.0]), (40, [1.0, 1.0])] {
            session.show(at(second));
            session.respond(&item, 2.0);
        }
        let features = session.features(at(45));
        assert_eq!(number(&features, "steps"), 3.0);
        assert_eq!(number(&features, "seconds_since_last"), 5.0);
        assert_eq!(number(&features, "total_reward"), 6.0);
        assert_eq!(number(&features, "reward_decay_0.5"), 0.5 * (0.5 * 2.0 + 2.0) + 2.0);
        assert_eq!(features.get("consumed_decay_0.5"), Some(FeatureRef::Vector(&[0.25 + 1.0, 0.5 + 1.0])));
        let history: Vec<_> = session.history().collect();
        assert_eq!(history, [[0.0, 1.0, 2.0, 10.0], [1.0, 1.0, 2.0, 30.0]]);
    }

    #[test]
    fn a_slate_without_response_is_remembered_as_such() {
        let mut session = SessionAccumulator::new(&SessionSettings::default(), 1).unwrap();
        session.show(at(0));
        session.respond(&[1.0], 1.0);
        session.show(at(1));
        assert_eq!(number(&session.features(at(1)), "last_consumed"), 0.0);
        assert_eq!(number(&session.features(at(1)), "responses"), 1.0);
    }

    #[test]
    fn a_rate_above_one_is_refused() {
        let settings = SessionSettings { decay_rates: vec![0.9, 1.5], history: 0 };
        assert_eq!(SessionAccumulator::new(&settings, 1), Err(SessionError::DecayRate(1.5)));
    }
}
