//! Doubly robust estimators: the direct method, corrected by the weighted residuals of what was shown.
//!
//! `w = pi(a | x) / p` is the weight of a round and `v = sum_a pi(a | x) q(x, a)` the reward model's value of it.

use super::super::{Contributions, Estimator, OpeError};
use super::SingleLog;
use super::importance::{check_share, check_threshold, sub_gaussian};

/// Doubly robust: `mean(v + w (r - q(x, a)))`.
///
/// Unbiased where the propensities are right or the reward model is, and of less variance than IPS where the model
/// explains some of the reward (Dudik, Langford & Li 2011, arXiv:1103.4601).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DoublyRobust;

/// Self-normalised doubly robust: `mean(v) + sum(w (r - q(x, a))) / sum(w)` (Thomas & Brunskill 2016,
/// arXiv:1604.00923, for one step; Kallus & Uehara 2019, arXiv:1906.03735).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SelfNormalisedDoublyRobust;

/// Switch: `mean(v + w 1[w <= threshold] (r - q(x, a)))`: rounds whose weight is too great are left to the reward model
/// (Wang, Agarwal & Dudik 2017, arXiv:1612.01205).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SwitchDoublyRobust {
    /// The greatest weight that corrects, above 0.
    pub threshold: f64,
}

/// Doubly robust with optimistic shrinkage: `mean(v + lambda w / (w^2 + lambda) (r - q(x, a)))`.
///
/// The weight that minimises a bound on the mean squared error; `lambda = 0` is the direct method, infinity is doubly
/// robust (Su, Dimakopoulou, Krishnamurthy & Dudik 2020, arXiv:1907.09623).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OptimisticShrinkage {
    /// At least 0.
    pub lambda: f64,
}

/// Sub-Gaussian doubly robust: `mean(v + w / (1 - lambda + lambda w) (r - q(x, a)))`; the weight is that of
/// [`super::SubGaussianIps`] (Metelli, Russo & Restelli 2021, NeurIPS).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SubGaussianDoublyRobust {
    /// From 0 to 1.
    pub lambda: f64,
}

impl Estimator<SingleLog> for DoublyRobust {
    fn name(&self) -> String {
        "dr".to_owned()
    }

    fn contributions(&self, log: &SingleLog) -> Result<Contributions, OpeError> {
        corrected(log, &self.name(), |w| w)
    }
}

impl Estimator<SingleLog> for SelfNormalisedDoublyRobust {
    fn name(&self) -> String {
        "sndr".to_owned()
    }

    fn contributions(&self, log: &SingleLog) -> Result<Contributions, OpeError> {
        let predicted = log.predicted(&self.name())?;
        let rows = log.weights().iter().zip(log.rewards()).zip(predicted);
        let residuals = rows.map(|((w, r), (q, _))| w * (r - q)).collect();
        let values = predicted.iter().map(|(_, expected)| *expected).collect();
        Ok(Contributions::mean(values).plus(Contributions::ratio(residuals, log.weights().to_vec())))
    }
}

impl Estimator<SingleLog> for SwitchDoublyRobust {
    fn name(&self) -> String {
        format!("switch_dr({})", self.threshold)
    }

    fn contributions(&self, log: &SingleLog) -> Result<Contributions, OpeError> {
        check_threshold(&self.name(), self.threshold)?;
        corrected(log, &self.name(), |w| if w <= self.threshold { w } else { 0.0 })
    }
}

impl Estimator<SingleLog> for OptimisticShrinkage {
    fn name(&self) -> String {
        format!("dr_os({})", self.lambda)
    }

    fn contributions(&self, log: &SingleLog) -> Result<Contributions, OpeError> {
        let lambda = self.lambda;
        if lambda.is_nan() || lambda < 0.0 {
            let (of, parameter) = (self.name(), "lambda");
            return Err(OpeError::Parameter { of, parameter, value: lambda, allowed: "it must be at least 0" });
        }
        corrected(log, &self.name(), |w| match lambda {
            f64::INFINITY => w,
            _ if w == 0.0 => 0.0,
            _ => lambda * w / (w * w + lambda),
        })
    }
}

impl Estimator<SingleLog> for SubGaussianDoublyRobust {
    fn name(&self) -> String {
        format!("sub_gaussian_dr({})", self.lambda)
    }

    fn contributions(&self, log: &SingleLog) -> Result<Contributions, OpeError> {
        check_share(&self.name(), self.lambda)?;
        corrected(log, &self.name(), |w| sub_gaussian(w, self.lambda))
    }
}

fn corrected(log: &SingleLog, name: &str, weight: impl Fn(f64) -> f64) -> Result<Contributions, OpeError> {
    let rows = log.weights().iter().zip(log.rewards()).zip(log.predicted(name)?);
    Ok(Contributions::mean(rows.map(|((&w, r), (q, expected))| expected + weight(w) * (r - q)).collect()))
}
