//! Which version a feedback event speaks for.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use slated_contract::event::{Decision, Feedback};
use slated_contract::policy::Manifest;
use slated_contract::reward::RewardDefinition;
use xxhash_rust::xxh3::xxh3_128;

use super::super::policy::LoadedPolicy;

/// The latest decisions whose feedback is attributed, at least; at most twice as many.
const CAPACITY: usize = 100_000;
/// How long feedback on a decision is attributed.
const KEPT: Duration = Duration::from_secs(60 * 60);

/// Whose decisions feedback speaks of.
#[derive(Debug, PartialEq)]
pub struct Judged {
    policy: String,
    version: u64,
    definition: RewardDefinition,
}

impl Judged {
    /// The version of a manifest, whose reward is defined as in its training.
    #[must_use]
    pub fn of(manifest: &Manifest) -> Self {
        let definition = manifest.training.as_ref().map(|training| training.reward.clone()).unwrap_or_default();
        Self { policy: manifest.name.clone(), version: manifest.version, definition }
    }
}

/// The recent decisions of this service, for the figures of their versions. The journal, not this, is what training and
/// evaluation read.
#[derive(Debug)]
pub struct Attribution(Mutex<Generations>);

/// Decisions by the hash of their id. When the younger ones are enough, or old enough, the older ones are forgotten, and
/// they take their place.
#[derive(Debug)]
struct Generations {
    younger: HashMap<Key, Attributed>,
    older: HashMap<Key, Attributed>,
    begun: Instant,
}

/// 128 bits, of which a `u128` would round an entry up to 48 bytes.
type Key = [u64; 2];

fn key(id: &str) -> Key {
    let hash = xxh3_128(id.as_bytes());
    [(hash >> 64) as u64, hash as u64]
}

#[derive(Debug)]
struct Attributed {
    judged: Arc<Judged>,
    /// In microseconds, as the journal has it: there are many of these.
    decided: i64,
    reward: f64,
}

/// A decision's reward that changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Rewarded {
    /// The policy.
    pub policy: String,
    /// Its version.
    pub version: u64,
    /// The decision's reward before.
    pub before: f64,
    /// And now.
    pub after: f64,
}

impl Default for Attribution {
    fn default() -> Self {
        Self(Mutex::new(Generations { younger: HashMap::new(), older: HashMap::new(), begun: Instant::now() }))
    }
}

impl Attribution {
    /// A decision was made by a policy.
    pub fn decided(&self, decision: &Decision, policy: &LoadedPolicy) {
        self.note(&decision.decision_id, decision.time, &policy.judged);
    }

    fn note(&self, id: &str, decided: DateTime<Utc>, judged: &Arc<Judged>) {
        let attributed = Attributed { judged: Arc::clone(judged), decided: decided.timestamp_micros(), reward: 0.0 };
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if generations.younger.len() >= CAPACITY || generations.begun.elapsed() >= KEPT {
            let Generations { younger, older, begun } = &mut *generations;
            mem::swap(younger, older);
            younger.clear();
            *begun = Instant::now();
        }
        generations.younger.insert(key(id), attributed);
    }

    /// Feedback arrived that is new: the decision's reward is the sum of what its events are worth by the definition
    /// that the policy was trained with, a click where there is none. Its delay goes into the metrics.
    pub fn respond(&self, feedback: &Feedback) -> Option<Rewarded> {
        let id = key(&feedback.decision_id);
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Generations { younger, older, .. } = &mut *generations;
        let Attributed { judged, decided, reward } = younger.get_mut(&id).or_else(|| older.get_mut(&id))?;
        let decided = DateTime::from_timestamp_micros(*decided)?;
        let delay = feedback.time - decided;
        if delay.to_std().is_ok_and(|delay| delay > KEPT) {
            return None;
        }
        let worth = judged.definition.worth(&feedback.event, feedback.value, decided, feedback.occurred);
        let before = *reward;
        *reward += worth.unwrap_or(0.0);
        let (judged, after) = (Arc::clone(judged), *reward);
        drop(generations);
        metrics::histogram!("slated_feedback_delay_seconds").record(delay.as_seconds_f64().max(0.0));
        let Judged { policy, version, .. } = &*judged;
        metrics::gauge!("slated_reward_sum", "policy" => policy.clone(), "version" => version.to_string())
            .increment(worth?);
        Some(Rewarded { policy: policy.clone(), version: *version, before, after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feedback(decision: usize) -> Feedback {
        let now = Utc::now();
        Feedback {
            feedback_id: "f".to_owned(),
            decision_id: decision.to_string(),
            time: now,
            occurred: now,
            source: "service".to_owned(),
            event: "click".to_owned(),
            value: 1.0,
            item: None,
            position: None,
        }
    }

    #[test]
    fn the_latest_decisions_are_attributed_however_many_there_were() {
        let attribution = Attribution::default();
        let judged = Arc::new(Judged { policy: "p".to_owned(), version: 3, definition: RewardDefinition::default() });
        let all = 5 * CAPACITY / 2;
        for decision in 0..all {
            attribution.note(&decision.to_string(), Utc::now(), &judged);
            // Feedback on every one, so that nothing is told by how often it was asked for.
            assert!(attribution.respond(&feedback(decision)).is_some(), "{decision}");
        }
        for latest in [all - 1, all - CAPACITY] {
            let Rewarded { policy, version, before, after } = attribution.respond(&feedback(latest)).unwrap();
            assert_eq!((policy.as_str(), version, before, after), ("p", 3, 1.0, 2.0));
        }
        assert_eq!(attribution.respond(&feedback(0)), None);
        let held = attribution.0.lock().unwrap();
        assert!(held.younger.len() + held.older.len() <= 2 * CAPACITY);
    }

    #[test]
    fn feedback_that_comes_after_long_is_not_attributed() {
        let attribution = Attribution::default();
        let judged = Arc::new(Judged { policy: "p".to_owned(), version: 3, definition: RewardDefinition::default() });
        attribution.note("7", Utc::now() - 2 * KEPT, &judged);
        assert_eq!(attribution.respond(&feedback(7)), None);
    }
}
