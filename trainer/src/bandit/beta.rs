//! Quantiles of the beta distribution.

use statrs::function::beta::{beta_reg, ln_beta};
use statrs::function::erf::erfc;

use crate::logistic::{sigmoid, softplus};

/// Newton's steps towards a quantile; about five are needed.
const STEPS: usize = 100;
/// Counts beyond which the continued fraction of F no longer converges in the steps that the library takes.
const LARGE: f64 = 1e4;

/// `P(Z <= z)` of a standard normal Z.
pub(super) fn normal_cdf(z: f64) -> f64 {
    0.5 * erfc(-z / std::f64::consts::SQRT_2)
}

/// The log odds `ln(x / (1 - x))` of the beta distribution's quantile x at the probability that a standard normal number
/// is below z, for a, b > 0.
///
/// Where both are large, it is the expansion of Cornish & Fisher around the normal distribution, with the cumulants of the
/// log odds up to the third.
pub(super) fn quantile_log_odds(a: f64, b: f64, z: f64) -> f64 {
    if a.min(b) < LARGE {
        return by_newton(a, b, z);
    }
    // The cumulants are differences of polygamma functions, here to the order that matters.
    let mean = (a / b).ln() - 0.5 / a + 0.5 / b;
    let variance = 1.0 / a + 1.0 / b + 0.5 / (a * a) + 0.5 / (b * b);
    let skewness = (1.0 / (b * b) - 1.0 / (a * a)) / variance.powf(1.5);
    mean + variance.sqrt() * (z + skewness * (z * z - 1.0) / 6.0)
}

/// Newton's method on the logarithm of the distribution function F of the log odds l, which is concave and in its lower
/// tail nearly linear: `d ln F / dl = x^a (1 - x)^b / (B(a, b) F)`. Above the median the mirrored distribution is asked.
fn by_newton(a: f64, b: f64, z: f64) -> f64 {
    if z > 0.0 {
        return -by_newton(b, a, -z);
    }
    let (target, log_beta) = (normal_cdf(z).ln(), ln_beta(a, b));
    let mut at = (a / b).ln() + z * (1.0 / a + 1.0 / b).sqrt();
    let (mut low, mut high) = (f64::NEG_INFINITY, f64::INFINITY);
    for _ in 0..STEPS {
        let log_f = beta_reg(a, b, sigmoid(at)).ln();
        if log_f < target {
            low = at
        } else {
            high = at
        }
        // ln x and ln (1 - x), without cancellation.
        let (log_x, log_rest) = (-softplus(-at), -softplus(at));
        let slope = (a * log_x + b * log_rest - log_beta - log_f).exp();
        let mut next = at + (target - log_f) / slope;
        if !(next > low && next < high) {
            next = match (low.is_finite(), high.is_finite()) {
                (true, true) => 0.5 * (low + high),
                (true, false) => low + 1.0 + low.abs(),
                _ => high - 1.0 - high.abs(),
            };
        }
        if (next - at).abs() < 1e-10 * (1.0 + at.abs()) {
            return next;
        }
        at = next;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_closed_forms() {
        assert!((normal_cdf(1.959_963_985) - 0.975).abs() < 1e-9);
        for z in [-4.0, -2.5, -0.1, 0.0, 0.7, 3.0, 4.0] {
            let of = |a, b| sigmoid(quantile_log_odds(a, b, z));
            // F(x) = x^a for b = 1, and 1 - (1 - x)^b for a = 1.
            for shape in [0.1, 1.0, 3.0, 250.0, 1e5] {
                let up = normal_cdf(z).powf(1.0 / shape);
                let down = -(normal_cdf(-z).ln() / shape).exp_m1();
                assert!((of(shape, 1.0) / up - 1.0).abs() < 1e-7, "{shape} {z}: {} {up}", of(shape, 1.0));
                assert!((of(1.0, shape) / down - 1.0).abs() < 1e-7, "{shape} {z}: {} {down}", of(1.0, shape));
            }
            for (a, b) in [(0.1, 0.1), (5.0, 5.0), (500.0, 99_500.0), (0.5, 1e6)] {
                let log_odds = quantile_log_odds(a, b, z);
                // Each tail by itself: near one, x does not tell the quantiles apart.
                let (below, above) = (beta_reg(a, b, sigmoid(log_odds)), beta_reg(b, a, sigmoid(-log_odds)));
                let (found, expected) = if z <= 0.0 { (below, normal_cdf(z)) } else { (above, normal_cdf(-z)) };
                assert!((found / expected - 1.0).abs() < 1e-7, "{a} {b} {z}: {found}, {expected}");
            }
        }
    }

    #[test]
    fn large_counts_go_over_into_their_expansion() {
        // Where both ways hold, and where the continued fraction would not converge: the median of a symmetric one is 0.
        for (a, b) in [(1e4, 1e4), (1e4, 1e6), (2e4, 3e4)] {
            for z in [-4.0, -3.0, -1.0, 2.0, 4.0] {
                let apart = (quantile_log_odds(a, b, z) - by_newton(a, b, z)) / (1.0 / a + 1.0 / b).sqrt();
                assert!(apart.abs() < 1e-3, "{a} {b} {z}: {apart} deviations");
            }
        }
        assert!(quantile_log_odds(1e7, 1e7, 0.0).abs() < 1e-9);
    }
}
