//! Importance weighting: rewards of the log, weighted by how much likelier the evaluation policy makes the action.
//!
//! `w = pi(a | x) / p` is the weight of a round, `E[w] = 1` where the log supports the policy.

use super::super::{Contributions, Estimator, OpeError};
use super::SingleLog;

/// Inverse propensity scoring: `mean(w r)`.
///
/// Unbiased where the log supports the policy; its variance grows with the greatest weight (Horvitz & Thompson 1952,
/// doi:10.1080/01621459.1952.10483446; Strehl, Langford, Li & Kakade 2010, arXiv:1003.0120).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ips;

/// Clipped inverse propensity scoring: `mean(min(w, threshold) r)`.
///
/// Biased towards zero, with a bounded weight (Ionides 2008, doi:10.1198/106186008X320456; Bottou et al. 2013,
/// arXiv:1209.2355).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClippedIps {
    /// The greatest weight, above 0.
    pub threshold: f64,
}

/// Self-normalised inverse propensity scoring: `sum(w r) / sum(w)`.
///
/// Consistent, slightly biased, never outside the range of the rewards, and unmoved by a constant added to them
/// (Swaminathan & Joachims 2015, "The self-normalized estimator for counterfactual learning", NeurIPS).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SelfNormalisedIps;

/// Sub-Gaussian inverse propensity scoring: `mean(w r / (1 - lambda + lambda w))`, the weight's power mean of order -1
/// with 1.
///
/// `lambda = 0` is IPS; any other bounds the weight by `1 / lambda` smoothly, and gives the estimate sub-Gaussian tails
/// (Metelli, Russo & Restelli 2021, "Subgaussian and differentiable importance sampling for off-policy evaluation and
/// learning", NeurIPS).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SubGaussianIps {
    /// From 0 to 1.
    pub lambda: f64,
}

impl Estimator<SingleLog> for Ips {
    fn name(&self) -> String {
        "ips".to_owned()
    }

    fn contributions(&self, log: &SingleLog) -> Result<Contributions, OpeError> {
        Ok(Contributions::mean(weighted(log, |w| w)))
    }
}

impl Estimator<SingleLog> for ClippedIps {
    fn name(&self) -> String {
        format!("clipped_ips({})", self.threshold)
    }

    fn contributions(&self, log: &SingleLog) -> Result<Contributions, OpeError> {
        check_threshold(&self.name(), self.threshold)?;
        Ok(Contributions::mean(weighted(log, |w| w.min(self.threshold))))
    }
}

impl Estimator<SingleLog> for SelfNormalisedIps {
    fn name(&self) -> String {
        "snips".to_owned()
    }

    fn contributions(&self, log: &SingleLog) -> Result<Contributions, OpeError> {
        Ok(Contributions::ratio(weighted(log, |w| w), log.weights().to_vec()))
    }
}

impl Estimator<SingleLog> for SubGaussianIps {
    fn name(&self) -> String {
        format!("sub_gaussian_ips({})", self.lambda)
    }

    fn contributions(&self, log: &SingleLog) -> Result<Contributions, OpeError> {
        check_share(&self.name(), self.lambda)?;
        Ok(Contributions::mean(weighted(log, |w| sub_gaussian(w, self.lambda))))
    }
}

fn weighted(log: &SingleLog, weight: impl Fn(f64) -> f64) -> Vec<f64> {
    log.weights().iter().zip(log.rewards()).map(|(&w, r)| weight(w) * r).collect()
}

/// `w / (1 - lambda + lambda w)`; `lambda = 1` makes every positive weight 1.
pub(super) fn sub_gaussian(weight: f64, lambda: f64) -> f64 {
    if weight == 0.0 { 0.0 } else { weight / (1.0 - lambda + lambda * weight) }
}

/// Infinity is allowed: it changes no weight.
pub(super) fn check_threshold(estimator: &str, threshold: f64) -> Result<(), OpeError> {
    if threshold > 0.0 {
        return Ok(());
    }
    let (of, parameter) = (estimator.to_owned(), "threshold");
    Err(OpeError::Parameter { of, parameter, value: threshold, allowed: "it must be above 0" })
}

pub(super) fn check_share(estimator: &str, lambda: f64) -> Result<(), OpeError> {
    if (0.0..=1.0).contains(&lambda) {
        return Ok(());
    }
    let (of, parameter) = (estimator.to_owned(), "lambda");
    Err(OpeError::Parameter { of, parameter, value: lambda, allowed: "allowed are 0 to 1" })
}
