//! Exact propensities of softmax slates: the Plackett-Luce model without replacement.
//!
//! With weights `w_i = exp(score_i / temperature)` and their total W:
//!
//! - prefix: `P(a_1..a_k) = prod_{j<=k} w_{a_j} / (W - sum_{l<j} w_{a_l})`
//!   (Plackett 1975; Luce 1959);
//! - marginal at the first position: `w_a / W`; at the second: `sum_{b != a} (w_b / W) w_a / (W - w_b)`;
//! - marginal at a later position k: in continuous time, let candidate i arrive at an exponential time of rate `w_i`;
//!   the order of arrival is a Plackett-Luce ranking, so
//!   `P = integral over t of w_a exp(-w_a t) P(exactly k - 1 of the others have arrived by t)`, the last factor a
//!   Poisson-binomial. Under `t = exp(x)` the integrand is analytic and decays on both sides, for which the
//!   trapezoidal rule converges exponentially (Trefethen & Weideman 2014, doi:10.1137/130932132): with the step used
//!   here the result is exact to about 1e-12. Enumerating the prefixes would take `n! / (n - k)!` terms instead.

use super::propensity::check_slate;
use super::{DrawError, Propensities};

/// Propensities of a slate drawn from `scores` at a temperature.
pub(super) fn propensities(scores: &[f32], slate: &[usize], temperature: f64) -> Propensities {
    let greatest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    // The temperature divides the difference, not the score, so that a small temperature cannot overflow to inf - inf.
    let logits: Vec<f64> = scores.iter().map(|&score| (f64::from(score) - f64::from(greatest)) / temperature).collect();
    of_logits(&logits, slate)
}

/// Propensities of a slate drawn from `logits` (n finite numbers, `w_i = exp(logit_i)`), for a policy whose logits are
/// known to more than a model's 32 bits.
///
/// # Errors
/// A slate that is empty or too long, or names a candidate twice or one that does not exist; a logit that is not
/// finite.
pub fn plackett_luce(logits: &[f64], slate: &[usize]) -> Result<Propensities, DrawError> {
    check_slate(slate, logits.len())?;
    match logits.iter().position(|logit| !logit.is_finite()) {
        Some(candidate) => Err(DrawError::NotFinite { candidate, score: logits[candidate].to_string() }),
        None => Ok(of_logits(logits, slate)),
    }
}

fn of_logits(logits: &[f64], slate: &[usize]) -> Propensities {
    Propensities {
        cascade: cascade(logits, slate),
        marginal: marginals(logits, slate),
        draws: None,
        marginal_draws: None,
    }
}

fn cascade(logits: &[f64], slate: &[usize]) -> Vec<f64> {
    let mut left: Vec<f64> = logits.to_vec();
    let mut log_prefix = 0.0;
    slate
        .iter()
        .map(|&candidate| {
            log_prefix += left[candidate] - log_sum_exp(&left);
            left[candidate] = f64::NEG_INFINITY;
            log_prefix.exp()
        })
        .collect()
}

fn marginals(logits: &[f64], slate: &[usize]) -> Vec<f64> {
    let log_total = log_sum_exp(logits);
    let first = |candidate: usize| (logits[candidate] - log_total).exp();
    let mut marginals: Vec<f64> = slate.iter().take(1).map(|&candidate| first(candidate)).collect();
    if let Some(&candidate) = slate.get(1) {
        marginals.push(second(logits, candidate));
    }
    if slate.len() > 2 {
        marginals.extend(later(logits, log_total, &slate[2..], 2));
    }
    marginals
}

/// The marginal at the second position. `W - w_b` is summed afresh where cancellation would spoil it.
fn second(logits: &[f64], candidate: usize) -> f64 {
    let log_total = log_sum_exp(logits);
    logits
        .iter()
        .enumerate()
        .filter(|&(other, _)| other != candidate)
        .map(|(other, &logit)| {
            let share = (logit - log_total).exp();
            let log_rest = if share < 0.5 {
                log_total + (-share).ln_1p()
            } else {
                let rest: Vec<f64> = logits.iter().enumerate().filter(|(i, _)| *i != other).map(|(_, &l)| l).collect();
                log_sum_exp(&rest)
            };
            share * (logits[candidate] - log_rest).exp()
        })
        .sum()
}

/// The step of the trapezoidal rule in `x = ln t`. The integrand is analytic for `|Im x| < pi / 2`, so the error is of
/// the order `exp(-pi^2 / step)`; measured against enumeration it is below 1e-12.
const STEP: f64 = 0.25;
/// Left of `ln t = -ln W - TAIL / (k + 1)` and right of `ln t = ln 36 - ln w` the integrand is below 1e-15 of its sum.
const TAIL: f64 = 36.0;

/// Marginals of `items` at the positions from `first_position` (counted from 0) on.
fn later(logits: &[f64], log_total: f64, items: &[usize], first_position: usize) -> Vec<f64> {
    let faintest = items.iter().map(|&item| logits[item]).fold(f64::INFINITY, f64::min);
    let start = -log_total - TAIL / (first_position + 1) as f64;
    let end = TAIL.ln() - faintest;
    let nodes = ((end - start) / STEP).ceil() as usize + 1;
    let mut sums = vec![0.0; items.len()];
    let mut arrived = vec![0.0; logits.len()];
    let mut count = Vec::new();
    for node in 0..nodes {
        let x = start + node as f64 * STEP;
        for (arrived, logit) in arrived.iter_mut().zip(logits) {
            *arrived = -(-(logit + x).exp()).exp_m1();
        }
        for (offset, (&item, sum)) in items.iter().zip(&mut sums).enumerate() {
            let density = (logits[item] + x - (logits[item] + x).exp()).exp();
            if density > 0.0 {
                *sum += density * exactly_arrived(&arrived, item, first_position + offset, &mut count);
            }
        }
    }
    sums.iter().map(|sum| (sum * STEP).min(1.0)).collect()
}

/// `P(exactly k of the candidates but `without` have arrived)`, by the recursion over candidates; `count` is scratch.
fn exactly_arrived(arrived: &[f64], without: usize, k: usize, count: &mut Vec<f64>) -> f64 {
    count.clear();
    count.resize(k + 1, 0.0);
    count[0] = 1.0;
    for (candidate, &probability) in arrived.iter().enumerate() {
        if candidate == without {
            continue;
        }
        for already in (1..=k).rev() {
            count[already] = count[already] * (1.0 - probability) + count[already - 1] * probability;
        }
        count[0] *= 1.0 - probability;
    }
    count[k]
}

fn log_sum_exp(logits: &[f64]) -> f64 {
    let greatest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if greatest == f64::NEG_INFINITY {
        return greatest;
    }
    greatest + logits.iter().map(|logit| (logit - greatest).exp()).sum::<f64>().ln()
}
