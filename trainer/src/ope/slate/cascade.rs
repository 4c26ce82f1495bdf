//! Doubly robust estimation under the cascade assumption.

use super::super::{Contributions, Estimator, OpeError};
use super::{Dependence, SlateLog};

/// Cascade doubly robust: `mean(sum_k (w_k (r_k - q_k) + w_{k-1} sum_a pi(a | items before k) q_k(a)))`, `w_k` the ratio
/// of the cascade propensities up to k and `w_0 = 1`.
///
/// Unbiased where the reward of an item depends on the item and those above it and either the propensities or the
/// model are right; of less variance than [`super::RewardInteractionIps`] where the model explains some of the reward
/// (Kiyohara et al. 2022, arXiv:2202.01562).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CascadeDoublyRobust;

impl Estimator<SlateLog> for CascadeDoublyRobust {
    fn name(&self) -> String {
        "cascade_dr".to_owned()
    }

    fn contributions(&self, log: &SlateLog) -> Result<Contributions, OpeError> {
        let predicted = log.predicted(&self.name())?;
        let (weights, rewards) = (log.weights(Dependence::Cascade), log.rewards());
        let slate = |items: std::ops::Range<usize>| {
            let mut before = 1.0;
            items
                .map(|item| {
                    let (shown, expected) = predicted[item];
                    let weight_before = std::mem::replace(&mut before, weights[item]);
                    weights[item] * (rewards[item] - shown) + weight_before * expected
                })
                .sum()
        };
        Ok(Contributions::mean(log.slates().map(slate).collect()))
    }
}
