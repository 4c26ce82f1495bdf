//! What a log can say of a policy, and whether its propensities can be true. Reported with every estimate.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ChiSquared, ContinuousCDF, Normal};

use super::Contributions;
use super::interval::standard_error;

/// A log looked at with a policy in mind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Diagnostics {
    /// The weights of the evaluation policy.
    pub weights: Weights,
    /// `(sum w |r|)^2 / sum (w r)^2`: so many rewards of one size would say as much. Where rewards are rare, such as
    /// clicks, it is what an interval's approximations live by.
    pub effective_rewards: f64,
    /// The weights of the policy that shows every candidate alike: a test of the logged propensities alone. Absent for
    /// slates and episodes.
    pub uniform: Option<Weights>,
    /// What the evaluation policy does and the log never shows.
    pub support: Support,
    /// Logged probabilities against what was shown; absent where the log does not hold them for all candidates.
    pub reliability: Option<ReliabilityTest>,
}

/// Importance weights, summarised. Where the logged propensities are true and the log shows whatever the policy may,
/// their mean is 1 but for chance.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Weights {
    /// How many rows.
    pub rows: usize,
    /// `(sum w)^2 / sum w^2`: so many rows of the policy itself would say as much (Kish 1965).
    pub effective_sample_size: f64,
    /// The same over users, of the sums of their weights; absent where the rows are independent.
    pub effective_users: Option<f64>,
    /// The largest weight.
    pub largest: f64,
    /// Its share in the sum of all.
    pub largest_share: f64,
    /// Their mean.
    pub mean: f64,
    /// The standard error of the mean, over users where there are users.
    pub standard_error: f64,
    /// The probability of a mean as far from 1 where propensities and support are as they should be (two-sided, normal
    /// approximation).
    pub p_value: f64,
}

impl Weights {
    /// Summarises the weights of the rows, of which there must be one at least.
    #[must_use]
    pub fn of(weights: &[f64], clusters: Option<&[u32]>) -> Self {
        let rows = weights.len();
        let sum: f64 = weights.iter().sum();
        let mean = sum / rows as f64;
        let largest = weights.iter().copied().fold(0.0, f64::max);
        let by_user = clusters.map(|clusters| {
            let mut sums = vec![0.0; clusters.iter().max().map_or(0, |last| *last as usize + 1)];
            weights.iter().zip(clusters).for_each(|(weight, &cluster)| sums[cluster as usize] += weight);
            sums
        });
        let contributions = Contributions::mean(weights.to_vec());
        let contributions = clusters.map_or(contributions.clone(), |clusters| contributions.by_cluster(clusters));
        let standard_error = contributions.linearised().map_or(f64::NAN, |values| standard_error(&values));
        Self {
            rows,
            effective_sample_size: kish(weights),
            effective_users: by_user.as_deref().map(kish),
            largest,
            largest_share: if sum > 0.0 { largest / sum } else { 0.0 },
            mean,
            standard_error,
            p_value: two_sided(mean - 1.0, standard_error),
        }
    }
}

/// `(sum w)^2 / sum w^2`.
pub(super) fn kish(weights: &[f64]) -> f64 {
    let sum: f64 = weights.iter().sum();
    let squares: f64 = weights.iter().map(|weight| weight * weight).sum();
    if squares > 0.0 { sum * sum / squares } else { 0.0 }
}

/// `P(|N(0, error)| >= |difference|)`.
fn two_sided(difference: f64, error: f64) -> f64 {
    if difference.abs() <= 1e-9 {
        // Weights that are all 1 have no deviation.
        return 1.0;
    }
    if error == 0.0 {
        return 0.0;
    }
    Normal::standard().sf((difference / error).abs()) * 2.0
}

/// What the evaluation policy does and the log never shows: no estimator that weights the log sees the rewards of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Support {
    /// Rows in which the evaluation policy may show what the logging policy never shows.
    pub violations: usize,
    /// Rows that could be judged: the logging policy's probabilities are known, or it was certain of what it showed.
    pub judged: usize,
    /// Mean over the judged rows of the evaluation policy's probability of what the logging policy never shows.
    pub unsupported: f64,
}

impl Support {
    /// Judges a row of a single action.
    pub(super) fn add(&mut self, evaluation: &[f64], behaviour: Option<&[f64]>, propensity: f64, shown: usize) {
        let unsupported = match behaviour {
            Some(behaviour) => {
                Some(evaluation.iter().zip(behaviour).filter(|(_, p)| **p == 0.0).map(|(pi, _)| pi).sum())
            }
            None => certain(propensity, evaluation[shown]),
        };
        self.judge(unsupported);
    }

    /// Judges a row of which the probability of what was shown is known alone: under the logging policy, and under the
    /// evaluation policy.
    pub(super) fn add_shown(&mut self, propensity: f64, evaluation: f64) {
        self.judge(certain(propensity, evaluation));
    }

    fn judge(&mut self, unsupported: Option<f64>) {
        let Some(unsupported) = unsupported else { return };
        self.judged += 1;
        self.violations += usize::from(unsupported > 0.0);
        self.unsupported += (unsupported - self.unsupported) / self.judged as f64;
    }
}

/// A policy that was certain of what it showed never shows anything else.
fn certain(propensity: f64, evaluation: f64) -> Option<f64> {
    (propensity >= 1.0).then_some(1.0 - evaluation)
}

/// How often candidates were shown, by the probability that the log gives them.
#[derive(Debug, Clone, Default)]
pub(super) struct Reliability {
    bins: [ReliabilityBin; BINS],
}

const BINS: usize = 10;

/// Candidates of like probability.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// How many candidates, over all rows.
    pub candidates: u64,
    /// How many of them should have been shown: the sum of their probabilities.
    pub expected: f64,
    /// How many were.
    pub shown: u64,
    /// The variance of that: the sum of `p (1 - p)`.
    pub variance: f64,
}

/// A test of the logged probabilities against what was shown, over bins of like probability:
/// `X^2 = sum over bins of (shown - expected)^2 / sum p (1 - p)`, compared with a chi-squared of as many degrees as
/// bins. Like Hosmer & Lemeshow (1980, doi:10.1080/03610928008827941), but the probabilities are not fitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityTest {
    /// The bins that hold candidates, by probability from the least: up to 2^-9, to 2^-8, ..., to 1/2, to 1.
    pub bins: Vec<ReliabilityBin>,
    /// X^2.
    pub statistic: f64,
    /// The probability of a statistic as great where the logged probabilities are true.
    pub p_value: f64,
}

impl Reliability {
    pub fn add(&mut self, behaviour: &[f64], shown: usize) {
        for (candidate, &p) in behaviour.iter().enumerate() {
            // Above 1/2, above 1/4, and so on: it is the small probabilities that make great weights.
            let bin = (-p.log2()).floor().clamp(0.0, (BINS - 1) as f64) as usize;
            let bin = &mut self.bins[bin];
            bin.candidates += 1;
            bin.expected += p;
            bin.variance += p * (1.0 - p);
            bin.shown += u64::from(candidate == shown);
        }
    }

    pub fn test(&self) -> Option<ReliabilityTest> {
        let bins: Vec<ReliabilityBin> = self.bins.iter().rev().filter(|bin| bin.candidates > 0).copied().collect();
        if bins.is_empty() {
            return None;
        }
        let (mut statistic, mut degrees) = (0.0, 0);
        for bin in &bins {
            let difference = bin.shown as f64 - bin.expected;
            if bin.variance > 1e-12 {
                statistic += difference * difference / bin.variance;
                degrees += 1;
            } else if difference.abs() > 1e-6 {
                // What was certain did not happen, or what was impossible did.
                statistic = f64::INFINITY;
            }
        }
        let p_value = match (statistic.is_finite(), degrees) {
            (false, _) => 0.0,
            (true, 0) => 1.0,
            (true, degrees) => ChiSquared::new(f64::from(degrees)).map_or(f64::NAN, |chi| chi.sf(statistic)),
        };
        Some(ReliabilityTest { bins, statistic, p_value })
    }
}
