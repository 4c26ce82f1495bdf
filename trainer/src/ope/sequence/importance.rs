//! Importance sampling of episodes. `w_t` is the product of the ratios of both policies' probabilities up to step t.

use super::super::{Contributions, Estimator, OpeError};
use super::SequenceLog;

/// Trajectory-wise importance sampling: `mean(w_T sum_t gamma^t r_t)`, T the last step.
///
/// Unbiased; its variance grows exponentially with the length of the episode (Precup, Sutton & Singh 2000, "Eligibility
/// traces for off-policy policy evaluation", ICML).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrajectoryIs;

/// Per-decision importance sampling: `mean(sum_t gamma^t w_t r_t)`: a reward is weighted by the decisions before it
/// alone (Precup, Sutton & Singh 2000).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PerDecisionIs;

/// Weighted trajectory-wise importance sampling: `sum(w_T sum_t gamma^t r_t) / sum(w_T)`. Consistent, within the range
/// of the returns (Precup, Sutton & Singh 2000).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WeightedTrajectoryIs;

/// Consistent weighted per-decision importance sampling: `sum_t gamma^t sum(w_t r_t) / sum(w_t)`, an episode that has
/// ended keeping its last weight (Thomas 2015, "Safe reinforcement learning", section 3.10; Thomas & Brunskill 2016,
/// arXiv:1604.00923).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WeightedPerDecisionIs;

impl Estimator<SequenceLog> for TrajectoryIs {
    fn name(&self) -> String {
        "tis".to_owned()
    }

    fn contributions(&self, log: &SequenceLog) -> Result<Contributions, OpeError> {
        let weights = last(log);
        Ok(Contributions::mean(weights.iter().zip(log.returns()).map(|(weight, total)| weight * total).collect()))
    }
}

impl Estimator<SequenceLog> for PerDecisionIs {
    fn name(&self) -> String {
        "pdis".to_owned()
    }

    fn contributions(&self, log: &SequenceLog) -> Result<Contributions, OpeError> {
        let (weights, rewards) = (log.cumulative(), log.rewards());
        Ok(Contributions::mean(discounted(log, |_, step| weights[step] * rewards[step])))
    }
}

impl Estimator<SequenceLog> for WeightedTrajectoryIs {
    fn name(&self) -> String {
        "wis".to_owned()
    }

    fn contributions(&self, log: &SequenceLog) -> Result<Contributions, OpeError> {
        let weights = last(log);
        let weighted = weights.iter().zip(log.returns()).map(|(weight, total)| weight * total).collect();
        Ok(Contributions::ratio(weighted, weights))
    }
}

impl Estimator<SequenceLog> for WeightedPerDecisionIs {
    fn name(&self) -> String {
        "wpdis".to_owned()
    }

    fn contributions(&self, log: &SequenceLog) -> Result<Contributions, OpeError> {
        let weights = log.cumulative();
        let rewards = log.rewards();
        Ok(by_time(log, |time| {
            let (weighted, normaliser) =
                (at(log, time, |step| weights[step] * rewards[step]), alive(log, time, &weights));
            Contributions::ratio(weighted, normaliser)
        }))
    }
}

/// `w_T` of each episode.
fn last(log: &SequenceLog) -> Vec<f64> {
    let weights = log.cumulative();
    log.episodes().map(|steps| weights[steps.end - 1]).collect()
}

/// `sum_t gamma^t value(t, step)` of each episode.
pub(super) fn discounted(log: &SequenceLog, value: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    let episode = |steps: std::ops::Range<usize>| {
        let mut discount = 1.0;
        let step = |(time, step)| {
            let term = discount * value(time, step);
            discount *= log.discount();
            term
        };
        steps.enumerate().map(step).sum()
    };
    log.episodes().map(episode).collect()
}

/// `sum_t gamma^t of(t)` over the length of the longest episode.
pub(super) fn by_time(log: &SequenceLog, of: impl Fn(usize) -> Contributions) -> Contributions {
    let longest = log.episodes().map(|steps| steps.len()).max().unwrap_or(0);
    let mut discount = 1.0;
    (0..longest).fold(Contributions::default(), |sum, time| {
        let term = of(time).scaled(discount);
        discount *= log.discount();
        sum.plus(term)
    })
}

/// The value of each episode's step at a time; 0 after its end.
pub(super) fn at(log: &SequenceLog, time: usize, value: impl Fn(usize) -> f64) -> Vec<f64> {
    log.episodes().map(|steps| if time < steps.len() { value(steps.start + time) } else { 0.0 }).collect()
}

/// The weight of each episode at a time; its last one after its end.
pub(super) fn alive(log: &SequenceLog, time: usize, weights: &[f64]) -> Vec<f64> {
    log.episodes().map(|steps| weights[(steps.start + time).min(steps.end - 1)]).collect()
}
