//! Confidence intervals of estimates.

use std::thread;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::{Contributions, OpeError};

/// How an interval is made. All of them take the rows of the contributions (rounds, slates, episodes, or users where
/// these are summed by user) to be independent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum IntervalMethod {
    /// The percentile bootstrap: rows are drawn with replacement, the whole estimate (its self-normalisation included)
    /// is made anew, and the bounds are quantiles of the results, interpolated linearly between order statistics
    /// (Efron & Tibshirani 1993, chapter 13; by user: Field & Welsh 2007, doi:10.1111/j.1467-9868.2007.00593.x).
    Bootstrap {
        /// How many resamples, from 100.
        #[serde(default = "resamples")]
        resamples: u32,
        /// Seeds the resampling.
        #[serde(default)]
        seed: u64,
    },
    /// `V -+ t_{n-1} s / sqrt(n)`, s the deviation of the linearised contributions.
    StudentT,
    /// `V -+ (sqrt(2 s^2 ln(4 / d) / n) + 7 R ln(4 / d) / (3 (n - 1)))` with d one minus the confidence, s the
    /// deviation and R the range of the linearised contributions (Maurer & Pontil 2009, arXiv:0907.3740, theorem 4 on
    /// both sides). It holds at any n if R bounds what could have been seen: give `range` where it is known, for IPS
    /// the greatest reward times the greatest possible weight. Without it the range seen is taken, and the guarantee
    /// is lost.
    EmpiricalBernstein {
        /// R.
        #[serde(default)]
        range: Option<f64>,
    },
}

const fn resamples() -> u32 {
    2000
}

/// Which interval to make.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IntervalSettings {
    /// The probability of covering the truth, such as 0.95; both tails have half of what is left.
    pub confidence: f64,
    /// How it is made.
    pub method: IntervalMethod,
}

impl Default for IntervalMethod {
    fn default() -> Self {
        Self::bootstrap()
    }
}

impl Default for IntervalSettings {
    fn default() -> Self {
        Self { confidence: 0.95, method: IntervalMethod::default() }
    }
}

/// A confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower bound.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
    /// The probability of covering the truth.
    pub confidence: f64,
}

impl IntervalMethod {
    /// The bootstrap with 2,000 resamples and the seed 0.
    #[must_use]
    pub const fn bootstrap() -> Self {
        Self::Bootstrap { resamples: resamples(), seed: 0 }
    }

    /// The method's name, such as `student_t`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Bootstrap { .. } => "bootstrap",
            Self::StudentT => "student_t",
            Self::EmpiricalBernstein { .. } => "empirical_bernstein",
        }
    }
}

impl IntervalSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// A confidence outside 0 to 1, fewer than 100 resamples, a range that is not above zero.
    pub fn check(&self) -> Result<(), OpeError> {
        let refuse = |parameter, value, allowed| {
            Err(OpeError::Parameter { of: format!("interval {}", self.method.name()), parameter, value, allowed })
        };
        if !(self.confidence > 0.0 && self.confidence < 1.0) {
            return refuse("confidence", self.confidence, "it must be above 0 and below 1, such as 0.95");
        }
        match self.method {
            IntervalMethod::Bootstrap { resamples, .. } if resamples < 100 => {
                refuse("resamples", f64::from(resamples), "at least 100 are needed")
            }
            IntervalMethod::EmpiricalBernstein { range: Some(range) } if !(range.is_finite() && range > 0.0) => {
                refuse("range", range, "it must be finite and above 0")
            }
            _ => Ok(()),
        }
    }

    /// The interval of an estimate; `of` names it and `unit` what its rows are, for errors.
    ///
    /// # Errors
    /// Settings that fail [`IntervalSettings::check`], fewer than two rows, an estimate that is undefined.
    pub fn of(&self, contributions: &Contributions, of: &str, unit: &'static str) -> Result<Interval, OpeError> {
        self.check()?;
        let rows = contributions.rows();
        if rows < 2 {
            return Err(OpeError::TooFew { unit, count: rows });
        }
        let undefined = || OpeError::NoOverlap(of.to_owned());
        let value = contributions.value().ok_or_else(undefined)?;
        let delta = 1.0 - self.confidence;
        let half = match self.method {
            IntervalMethod::Bootstrap { resamples, seed } => {
                let values = bootstrap(contributions, resamples, seed)?;
                let (lower, upper) = (percentile(&values, delta / 2.0), percentile(&values, 1.0 - delta / 2.0));
                return Ok(Interval { lower, upper, confidence: self.confidence });
            }
            IntervalMethod::StudentT => {
                let error = standard_error(&contributions.linearised().ok_or_else(undefined)?);
                student_t(1.0 - delta / 2.0, rows - 1) * error
            }
            IntervalMethod::EmpiricalBernstein { range } => {
                let values = contributions.linearised().ok_or_else(undefined)?;
                let seen = || {
                    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
                    values.iter().copied().fold(f64::NEG_INFINITY, f64::max) - least
                };
                let log = (4.0 / delta).ln();
                standard_error(&values) * (2.0 * log).sqrt()
                    + 7.0 * range.unwrap_or_else(seen) * log / (3.0 * (rows - 1) as f64)
            }
        };
        Ok(Interval { lower: value - half, upper: value + half, confidence: self.confidence })
    }
}

/// The standard error of the mean of `values`.
pub(super) fn standard_error(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (count - 1.0) / count).sqrt()
}

/// The quantile of Student's t.
pub(super) fn student_t(probability: f64, degrees: usize) -> f64 {
    StudentsT::new(0.0, 1.0, degrees as f64).map_or(f64::NAN, |student| student.inverse_cdf(probability))
}

/// The estimate in each resample, ascending. Each resample has a stream of the generator to itself, so the result does
/// not depend on how the resamples are spread over threads.
fn bootstrap(contributions: &Contributions, resamples: u32, seed: u64) -> Result<Vec<f64>, OpeError> {
    let table = contributions.table();
    let threads = thread::available_parallelism().map_or(1, usize::from) as u32;
    let run = |thread: u32| {
        let mut sums = Vec::new();
        let resample = |stream: u32| {
            let mut generator = ChaCha8Rng::seed_from_u64(seed);
            generator.set_stream(u64::from(stream));
            table.resampled(|| generator.random_range(0..table.rows), &mut sums)
        };
        (thread..resamples).step_by(threads as usize).map(resample).collect::<Vec<_>>()
    };
    let drawn: Vec<Option<f64>> = thread::scope(|scope| {
        let run = &run;
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        // A thread that panics is a defect, and is passed on as such.
        running
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let mut values: Vec<f64> = drawn.into_iter().flatten().collect();
    let undefined = f64::from(resamples) - values.len() as f64;
    if undefined > 0.01 * f64::from(resamples) {
        return Err(OpeError::Resamples { share: 100.0 * undefined / f64::from(resamples) });
    }
    values.sort_unstable_by(f64::total_cmp);
    Ok(values)
}

/// The quantile of ascending values, linear between the order statistics at `(m - 1) q`.
fn percentile(values: &[f64], quantile: f64) -> f64 {
    let place = quantile * (values.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(values.len() - 1);
    values[below] + (place - below as f64) * (values[above] - values[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(method: IntervalMethod) -> IntervalSettings {
        IntervalSettings { confidence: 0.95, method }
    }

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (probability, degrees, expected) in [
            (0.975, 1, 12.706_204_736),
            (0.975, 10, 2.228_138_852),
            (0.95, 30, 1.697_260_887),
            (0.975, 100_000, 1.959_987_708),
        ] {
            assert!((student_t(probability, degrees) - expected).abs() < 1e-7, "{degrees} degrees");
        }
        assert_eq!(percentile(&[1.0, 2.0, 4.0], 0.25), 1.5);
        assert_eq!(percentile(&[1.0, 2.0, 4.0], 1.0), 4.0);
    }

    #[test]
    fn a_bootstrap_is_the_same_each_time_and_close_to_t() {
        let values: Vec<f64> = (0..500).map(|row| f64::from(row * 7919 % 1009) / 1009.0).collect();
        let mean = Contributions::mean(values);
        let bootstrap =
            settings(IntervalMethod::Bootstrap { resamples: 2000, seed: 3 }).of(&mean, "", "round").unwrap();
        assert_eq!(
            bootstrap,
            settings(IntervalMethod::Bootstrap { resamples: 2000, seed: 3 }).of(&mean, "", "round").unwrap()
        );
        let student = settings(IntervalMethod::StudentT).of(&mean, "", "round").unwrap();
        let width = student.upper - student.lower;
        assert!((bootstrap.lower - student.lower).abs() < 0.05 * width, "{bootstrap:?} {student:?}");
        assert!((bootstrap.upper - student.upper).abs() < 0.05 * width, "{bootstrap:?} {student:?}");
        let bernstein = settings(IntervalMethod::EmpiricalBernstein { range: None }).of(&mean, "", "round").unwrap();
        assert!(bernstein.lower < student.lower && bernstein.upper > student.upper);
    }

    #[test]
    fn settings_outside_their_range_are_refused_by_name() {
        let mean = Contributions::mean(vec![1.0, 2.0]);
        for (settings, word) in [
            (IntervalSettings { confidence: 1.0, ..IntervalSettings::default() }, "confidence"),
            (settings(IntervalMethod::Bootstrap { resamples: 5, seed: 0 }), "resamples"),
            (settings(IntervalMethod::EmpiricalBernstein { range: Some(f64::NAN) }), "range"),
        ] {
            assert!(settings.of(&mean, "", "round").unwrap_err().to_string().contains(word));
        }
        let one = Contributions::mean(vec![1.0]);
        assert_eq!(IntervalSettings::default().of(&one, "", "user"), Err(OpeError::TooFew { unit: "user", count: 1 }));
    }
}
