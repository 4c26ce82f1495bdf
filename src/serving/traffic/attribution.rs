//! Which version a feedback event speaks for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use moka::sync::Cache;
use slated_contract::event::{Decision, Feedback};
use slated_contract::reward::RewardDefinition;

use super::super::policy::LoadedPolicy;

/// The most decisions whose feedback is still attributed; beyond it the oldest are forgotten.
const CAPACITY: u64 = 100_000;
/// How long feedback on a decision is attributed.
const KEPT: Duration = Duration::from_secs(60 * 60);

/// The recent decisions of this service, for the figures of their versions. The journal, not this, is what training and
/// evaluation read.
#[derive(Debug)]
pub struct Attribution {
    decisions: Cache<String, Arc<Attributed>>,
}

#[derive(Debug)]
struct Attributed {
    policy: String,
    version: u64,
    decided: DateTime<Utc>,
    definition: Arc<RewardDefinition>,
    reward: Mutex<f64>,
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
        Self { decisions: Cache::builder().max_capacity(CAPACITY).time_to_live(KEPT).build() }
    }
}

impl Attribution {
    /// A decision was made by a policy.
    pub fn decided(&self, decision: &Decision, policy: &LoadedPolicy) {
        let attributed = Attributed {
            policy: decision.policy.clone(),
            version: policy.manifest.version,
            decided: decision.time,
            definition: Arc::clone(&policy.reward),
            reward: Mutex::new(0.0),
        };
        self.decisions.insert(decision.decision_id.clone(), Arc::new(attributed));
    }

    /// Feedback arrived that is new: the decision's reward is the sum of what its events are worth by the definition
    /// that the policy was trained with, a click where there is none. Its delay goes into the metrics.
    pub fn respond(&self, feedback: &Feedback) -> Option<Rewarded> {
        let attributed = self.decisions.get(&feedback.decision_id)?;
        let delay = (feedback.time - attributed.decided).as_seconds_f64().max(0.0);
        metrics::histogram!("slated_feedback_delay_seconds").record(delay);
        let Attributed { policy, version, decided, definition, reward } = &*attributed;
        let worth = definition.worth(&feedback.event, feedback.value, *decided, feedback.occurred)?;
        let mut reward = reward.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *reward;
        *reward += worth;
        metrics::gauge!("slated_reward_sum", "policy" => policy.clone(), "version" => version.to_string())
            .increment(worth);
        Some(Rewarded { policy: policy.clone(), version: *version, before, after: *reward })
    }
}
