//! Doubly robust estimation of episodes: importance sampling with a model of the return as control variate.
//!
//! `w_t` is the product of the ratios up to step t, `w_{-1} = 1`; q and v are the predictions of [`super::Step`], from
//! elsewhere or of [`super::FittedQ::predict`].

use super::super::{Contributions, Estimator, OpeError};
use super::SequenceLog;
use super::importance::{alive, at, by_time, discounted};

/// Sequential doubly robust: `mean(sum_t gamma^t (w_t (r_t - q(s_t, a_t)) + w_{t-1} v(s_t)))`.
///
/// Unbiased where the propensities are right, without error where the model is right in a deterministic problem (Jiang
/// & Li 2016, arXiv:1511.03722).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SequentialDoublyRobust;

/// Weighted doubly robust: the same with `w_t / mean(w_t)` in place of `w_t`, an episode that has ended keeping its last
/// weight (Thomas & Brunskill 2016, arXiv:1604.00923).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WeightedDoublyRobust;

impl Estimator<SequenceLog> for SequentialDoublyRobust {
    fn name(&self) -> String {
        "sequential_dr".to_owned()
    }

    fn contributions(&self, log: &SequenceLog) -> Result<Contributions, OpeError> {
        let predicted = log.predicted(&self.name())?;
        let (weights, rewards) = (log.cumulative(), log.rewards());
        Ok(Contributions::mean(discounted(log, |time, step| {
            let before = if time == 0 { 1.0 } else { weights[step - 1] };
            let (q, v) = predicted[step];
            weights[step] * (rewards[step] - q) + before * v
        })))
    }
}

impl Estimator<SequenceLog> for WeightedDoublyRobust {
    fn name(&self) -> String {
        "weighted_dr".to_owned()
    }

    fn contributions(&self, log: &SequenceLog) -> Result<Contributions, OpeError> {
        let predicted = log.predicted(&self.name())?;
        let (weights, rewards) = (log.cumulative(), log.rewards());
        Ok(by_time(log, |time| {
            let residuals = at(log, time, |step| weights[step] * (rewards[step] - predicted[step].0));
            let correction = Contributions::ratio(residuals, alive(log, time, &weights));
            let values = match time {
                0 => Contributions::mean(at(log, time, |step| predicted[step].1)),
                _ => Contributions::ratio(
                    at(log, time, |step| weights[step - 1] * predicted[step].1),
                    alive(log, time - 1, &weights),
                ),
            };
            correction.plus(values)
        }))
    }
}
