//! UCB1: the upper confidence bound of each item's mean reward.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use slated_contract::slate::Exploration;

use super::learner::not_negative;
use super::table::{Arm, MOST, Table, TableLearner, TableRule, places};
use super::{BanditError, BanditLearner, BanditModel, BanditSettings, TableScores, Widths};

/// Settings of UCB1: `score(a) = mean_a + scale sqrt(2 ln t / n_a)`, with n the item's showings and t those of all
/// items (Auer, Cesa-Bianchi & Fischer 2002, doi:10.1023/A:1013689704352). An item that was never shown stands one above
/// the highest bound, so before every other.
///
/// The bound moves when a version is trained, not from decision to decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ucb1Settings {
    /// The range of the rewards: 1 is the paper's bound for rewards from 0 to 1.
    pub scale: f64,
}

impl Default for Ucb1Settings {
    fn default() -> Self {
        Self { scale: 1.0 }
    }
}

fn bounds(arms: &[Arm], scale: f64) -> Vec<f64> {
    let total = arms.iter().map(|arm| arm.plays).sum::<u64>().max(1) as f64;
    let bound = |arm: &Arm| {
        let plays = arm.plays as f64;
        (arm.plays > 0).then(|| arm.reward / plays + scale * (2.0 * total.ln() / plays).sqrt())
    };
    let highest = arms.iter().filter_map(bound).reduce(f64::max).unwrap_or(0.0);
    arms.iter().map(|arm| bound(arm).unwrap_or(highest + 1.0)).collect()
}

impl BanditSettings for Ucb1Settings {
    fn problem(&self) -> Option<String> {
        not_negative("scale", self.scale)
    }

    /// As with LinUCB, a little besides the bound: a log of certain decisions says nothing of any other policy.
    fn exploration(&self) -> Exploration {
        Exploration::EpsilonGreedy { epsilon: 0.05 }
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

impl TableRule for Ucb1Settings {
    const ALGORITHM: &'static str = "ucb1";
    const MOST: usize = MOST;

    fn model(&self, table: &Table) -> Result<Box<dyn BanditModel>, BanditError> {
        Ok(Box::new(TableScores { scores: bounds(&places(table, self.spare()), self.scale) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_the_paper() {
        let arms = [Arm { plays: 8, reward: 6.0 }, Arm { plays: 2, reward: 1.0 }, Arm::default()];
        let found = bounds(&arms, 1.0);
        // ln 10 = 2.302585: 0.75 + sqrt(4.60517 / 8) and 0.5 + sqrt(4.60517 / 2).
        assert!((found[0] - 1.508_71).abs() < 1e-4 && (found[1] - 2.017_43).abs() < 1e-4, "{found:?}");
        assert_eq!(found[2], found[1] + 1.0);
        assert_eq!(bounds(&[Arm::default()], 1.0), [1.0]);
    }
}
