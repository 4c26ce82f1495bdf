//! Importance weighting over what actions have in common instead of over actions.

use super::super::{Contributions, Estimator, OpeError};
use super::SingleLog;

/// Marginalised inverse propensity scoring: `mean(w(x, e) r)` with `w(x, e) = pi(e | x) / p(e | x)`, e being the
/// embedding (a category, say) of the action shown and `pi(e | x) = sum_a pi(a | x) P(e | x, a)`.
///
/// Unbiased where the embedding alone carries the action's effect on the reward, though actions may be many and some of
/// them never logged; the weights are smaller than those of actions (Saito & Joachims 2022, arXiv:2202.06317).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MarginalisedIps;

/// The self-normalised form: `sum(w(x, e) r) / sum(w(x, e))`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SelfNormalisedMarginalisedIps;

impl Estimator<SingleLog> for MarginalisedIps {
    fn name(&self) -> String {
        "mips".to_owned()
    }

    fn contributions(&self, log: &SingleLog) -> Result<Contributions, OpeError> {
        Ok(Contributions::mean(weighted(log, log.embedding_weights(&self.name())?)))
    }
}

impl Estimator<SingleLog> for SelfNormalisedMarginalisedIps {
    fn name(&self) -> String {
        "snmips".to_owned()
    }

    fn contributions(&self, log: &SingleLog) -> Result<Contributions, OpeError> {
        let weights = log.embedding_weights(&self.name())?;
        Ok(Contributions::ratio(weighted(log, weights), weights.to_vec()))
    }
}

fn weighted(log: &SingleLog, weights: &[f64]) -> Vec<f64> {
    weights.iter().zip(log.rewards()).map(|(w, r)| w * r).collect()
}

/// `sum_a policy(a) P(e | a)` for the embedding e that was observed: the probability of showing it. `given` holds
/// `P(e | a)` by action: 1 or 0 where each action has one embedding, the product over its dimensions where these are
/// drawn independently.
#[must_use]
pub fn embedding_probability(policy: &[f64], given: &[f64]) -> f64 {
    policy.iter().zip(given).map(|(action, embedding)| action * embedding).sum::<f64>().min(1.0)
}
