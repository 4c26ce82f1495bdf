//! Epsilon-greedy over the mean reward of each item.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use slated_contract::slate::Exploration;

use super::learner::not_negative;
use super::table::{Arm, MOST, Table, TableLearner, TableRule, places};
use super::{BanditError, BanditLearner, BanditModel, BanditSettings, TableScores, Widths};

/// Settings of epsilon-greedy: `score(a) = (w m + sum of a's rewards) / (w + n_a)`, a's mean reward over its n showings,
/// drawn towards the prior mean m as if it had been seen w times; explored by [`Exploration::EpsilonGreedy`]
/// (Sutton & Barto 2018, section 2.2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EpsilonGreedySettings {
    /// The share of positions at which a random item is shown.
    pub epsilon: f64,
    /// m, the score of an item that was never shown.
    pub prior_mean: f64,
    /// w, how many showings the prior is worth.
    pub prior_weight: f64,
}

impl Default for EpsilonGreedySettings {
    fn default() -> Self {
        Self { epsilon: 0.1, prior_mean: 0.0, prior_weight: 1.0 }
    }
}

impl EpsilonGreedySettings {
    fn score(&self, arm: &Arm) -> f64 {
        if arm.plays == 0 {
            return self.prior_mean;
        }
        (self.prior_weight * self.prior_mean + arm.reward) / (self.prior_weight + arm.plays as f64)
    }
}

impl BanditSettings for EpsilonGreedySettings {
    fn problem(&self) -> Option<String> {
        let epsilon = (!(0.0..=1.0).contains(&self.epsilon))
            .then(|| format!("`algorithm.epsilon` is {}, allowed are 0 to 1", self.epsilon));
        let mean = (!self.prior_mean.is_finite())
            .then(|| format!("`algorithm.prior_mean` is {}, it must be finite", self.prior_mean));
        epsilon.or(mean).or_else(|| not_negative("prior_weight", self.prior_weight))
    }

    fn exploration(&self) -> Exploration {
        Exploration::EpsilonGreedy { epsilon: self.epsilon }
    }

    fn reads_features(&self) -> bool {
        false
    }

    fn kept(&self) -> Value {
        json!({"state": "table"})
    }

    fn learner(&self, _: Widths, _: u64) -> Result<Box<dyn BanditLearner>, BanditError> {
        Ok(Box::new(TableLearner::new(self.clone())))
    }
}

impl TableRule for EpsilonGreedySettings {
    const ALGORITHM: &'static str = "epsilon_greedy";
    const MOST: usize = MOST;

    fn model(&self, table: &Table) -> Result<Box<dyn BanditModel>, BanditError> {
        let scores = places(table, self.spare()).iter().map(|arm| self.score(arm)).collect();
        Ok(Box::new(TableScores { scores }))
    }
}
