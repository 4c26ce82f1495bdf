//! What many episodes say of a mean.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

/// A sample's mean with its 95% confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// n, how many values there are.
    pub count: usize,
    /// The mean; 0 where there is no value.
    pub mean: f64,
    /// s, the standard deviation, with n - 1 degrees of freedom; 0 where there are fewer than two values.
    pub deviation: f64,
    /// `s / sqrt(n)`.
    pub standard_error: f64,
    /// `mean - t s / sqrt(n)`, t the 97.5% quantile of Student's t with n - 1 degrees of freedom; where there are fewer
    /// than two values, minus infinity.
    pub lower: f64,
    /// `mean + t s / sqrt(n)`; where there are fewer than two values, infinity.
    pub upper: f64,
}

impl Summary {
    /// Summarises a sample.
    #[must_use]
    pub fn of(values: &[f64]) -> Self {
        let count = values.len();
        let n = count as f64;
        // A sum of nothing is minus zero.
        let mean = 0.0 + values.iter().sum::<f64>() / n.max(1.0);
        // Fewer than two values have no degree of freedom, and no such distribution.
        let Ok(student) = StudentsT::new(0.0, 1.0, n - 1.0) else {
            let (lower, upper) = (f64::NEG_INFINITY, f64::INFINITY);
            return Self { count, mean, deviation: 0.0, standard_error: 0.0, lower, upper };
        };
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (squares / (n - 1.0)).sqrt();
        let standard_error = deviation / n.sqrt();
        let half = student.inverse_cdf(0.975) * standard_error;
        Self { count, mean, deviation, standard_error, lower: mean - half, upper: mean + half }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_students() {
        // t_{0.975, 3} = 3.182446.
        let summary = Summary::of(&[1.0, 2.0, 3.0, 6.0]);
        let half = 3.182_446 * (14.0_f64 / 3.0).sqrt() / 2.0;
        assert_eq!((summary.count, summary.mean), (4, 3.0));
        assert!((summary.upper - 3.0 - half).abs() < 1e-5 && (3.0 - summary.lower - half).abs() < 1e-5, "{summary:?}");
    }

    #[test]
    fn one_value_says_nothing_of_its_spread() {
        let summary = Summary::of(&[5.0]);
        assert_eq!((summary.mean, summary.lower, summary.upper), (5.0, f64::NEG_INFINITY, f64::INFINITY));
        assert_eq!(Summary::of(&[]).mean.to_string(), "0");
    }
}
