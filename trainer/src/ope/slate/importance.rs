//! Importance weighting of slates. `w_k` is the weight of the item at position k: the ratio of the policies'
//! probabilities of whatever its reward is taken to depend on.

use super::super::{Contributions, Estimator, OpeError};
use super::{Dependence, SlateLog};

/// Standard inverse propensity scoring: `mean(w sum_k r_k)`, w the ratio of the joint propensities.
///
/// Unbiased whatever the rewards depend on; of a variance that grows exponentially with the size of the slate (Precup,
/// Sutton & Singh 2000, "Eligibility traces for off-policy policy evaluation", ICML, for one step).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StandardIps;

/// Independent inverse propensity scoring: `mean(sum_k w_k r_k)`, `w_k` the ratio of the marginal propensities.
///
/// Unbiased where the reward of an item depends on the item and its position alone (Li et al. 2018, arXiv:1804.10488).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IndependentIps;

/// Reward-interaction inverse propensity scoring: `mean(sum_k w_k r_k)`, `w_k` the ratio of the cascade propensities.
///
/// Unbiased where the reward of an item depends on the item and those above it: a user who reads from the top
/// (McInerney et al. 2020, arXiv:2007.12986).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RewardInteractionIps;

/// Self-normalised [`StandardIps`]: `sum(w sum_k r_k) / sum(w)`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SelfNormalisedStandardIps;

/// Self-normalised [`IndependentIps`]: each position by itself, `sum_k share_k sum(w_k r_k) / sum(w_k)`, `share_k` the
/// share of the slates that have a position k.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SelfNormalisedIndependentIps;

/// Self-normalised [`RewardInteractionIps`], each position by itself as in [`SelfNormalisedIndependentIps`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SelfNormalisedRewardInteractionIps;

/// The pseudo-inverse estimator: `mean(w sum_k r_k)` with `w = q' Gamma^+ 1_s`, `1_s` the indicator of the slate's items
/// by position, q its expectation under the evaluation policy and Gamma its second moment under the logging policy.
///
/// Unbiased where the slate's total is a sum of unknown effects of each item at its position, though these are never
/// seen apart; of far less variance than [`StandardIps`] (Swaminathan et al. 2017, arXiv:1605.04812). Weights may be
/// negative.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PseudoInverse;

/// The self-normalised form of [`PseudoInverse`], the paper's weighted one: `sum(w sum_k r_k) / sum(w)`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SelfNormalisedPseudoInverse;

macro_rules! importance_estimator {
    ($type:ident, $name:literal, $make:expr) => {
        impl Estimator<SlateLog> for $type {
            fn name(&self) -> String {
                $name.to_owned()
            }

            fn contributions(&self, log: &SlateLog) -> Result<Contributions, OpeError> {
                $make(log)
            }
        }
    };
}

importance_estimator!(StandardIps, "sips", |log| Ok(weighted(log, Dependence::Slate)));
importance_estimator!(IndependentIps, "iips", |log| Ok(weighted(log, Dependence::Position)));
importance_estimator!(RewardInteractionIps, "rips", |log| Ok(weighted(log, Dependence::Cascade)));
importance_estimator!(SelfNormalisedStandardIps, "snsips", |log: &SlateLog| {
    let weights = log.weights(Dependence::Slate);
    Ok(Contributions::ratio(totals(log, &weights), log.slates().map(|items| weights[items.start]).collect()))
});
importance_estimator!(SelfNormalisedIndependentIps, "sniips", |log| Ok(by_position(log, Dependence::Position)));
importance_estimator!(SelfNormalisedRewardInteractionIps, "snrips", |log| Ok(by_position(log, Dependence::Cascade)));
importance_estimator!(PseudoInverse, "pi", |log: &SlateLog| {
    Ok(Contributions::mean(pseudo_inverse(log, log.pseudo_inverse("pi")?)))
});
importance_estimator!(SelfNormalisedPseudoInverse, "wpi", |log: &SlateLog| {
    let weights = log.pseudo_inverse("wpi")?;
    Ok(Contributions::ratio(pseudo_inverse(log, weights), weights.to_vec()))
});

fn weighted(log: &SlateLog, dependence: Dependence) -> Contributions {
    Contributions::mean(totals(log, &log.weights(dependence)))
}

/// `sum_k w_k r_k` of each slate.
fn totals(log: &SlateLog, weights: &[f64]) -> Vec<f64> {
    let rewards = log.rewards();
    log.slates().map(|items| items.map(|item| weights[item] * rewards[item]).sum()).collect()
}

fn pseudo_inverse(log: &SlateLog, weights: &[f64]) -> Vec<f64> {
    log.totals().iter().zip(weights).map(|(total, weight)| weight * total).collect()
}

/// Each position normalised by itself, over the slates that have it.
fn by_position(log: &SlateLog, dependence: Dependence) -> Contributions {
    let (weights, rewards) = (log.weights(dependence), log.rewards());
    let slates: Vec<_> = log.slates().collect();
    let positions = slates.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
    let position = |position: usize| {
        let having = |value: &dyn Fn(usize) -> f64| {
            let at = |items: &std::ops::Range<usize>| items.clone().nth(position).map_or(0.0, value);
            slates.iter().map(at).collect::<Vec<_>>()
        };
        let share = having(&|_| 1.0).iter().sum::<f64>() / slates.len() as f64;
        Contributions::ratio(having(&|item| weights[item] * rewards[item]), having(&|item| weights[item])).scaled(share)
    };
    (0..positions).map(position).fold(Contributions::default(), Contributions::plus)
}
