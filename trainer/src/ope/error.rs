//! What keeps an evaluation from being made.

use thiserror::Error;

/// An evaluation that cannot be made. Each message names the row and the field, or the parameter and what it may be.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum OpeError {
    /// There is nothing to evaluate on.
    #[error("there is no {0} to evaluate on: the log, the split or the filter is empty")]
    Empty(&'static str),
    /// A row that nothing can be concluded from.
    #[error("{row}: `{field}` {problem}")]
    Row {
        /// Which row, with its id where it has one.
        row: String,
        /// The field at fault.
        field: &'static str,
        /// What is wrong, and what is allowed.
        problem: String,
    },
    /// The estimator needs what the log lacks.
    #[error("{estimator} needs `{field}` in every row, and this log has none")]
    Missing {
        /// The estimator.
        estimator: String,
        /// What it needs.
        field: &'static str,
    },
    /// A parameter outside its range.
    #[error("{of}: `{parameter}` is {value}, {allowed}")]
    Parameter {
        /// The estimator or the interval.
        of: String,
        /// The parameter.
        parameter: &'static str,
        /// Its value.
        value: f64,
        /// What is allowed.
        allowed: &'static str,
    },
    /// The policies have nothing in common.
    #[error(
        "{0} is undefined: the evaluation policy shows with probability 0 whatever was logged; \
         log with a policy that explores more"
    )]
    NoOverlap(String),
    /// Too few rows for an interval.
    #[error("an interval needs at least 2 independent {unit}s, this log has {count}")]
    TooFew {
        /// What is independent: a row, or a user.
        unit: &'static str,
        /// How many there are.
        count: usize,
    },
    /// A resample in which the estimate is undefined, too often to be passed over.
    #[error(
        "{share:.0}% of the bootstrap's resamples hold no row with a weight above 0; \
         the log says too little of this policy for an interval"
    )]
    Resamples {
        /// In percent.
        share: f64,
    },
    /// Linear equations without a solution.
    #[error("{0}: the equations are singular; raise `lambda`, or leave out features that are functions of others")]
    Singular(String),
}

/// Names a row: its number from 0, and its id where it has one.
pub(super) fn row(noun: &str, index: usize, id: &str) -> String {
    if id.is_empty() { format!("{noun} {index}") } else { format!("{noun} {index} (`{id}`)") }
}

/// The problem of a number that must be finite.
pub(super) fn finite(value: f64) -> Result<(), String> {
    if value.is_finite() { Ok(()) } else { Err(format!("is {value}, it must be finite")) }
}

/// The problem of the probability of something that happened. Written so that NaN fails.
pub(super) fn happened(probability: f64) -> Result<(), String> {
    if probability > 0.0 && probability <= 1.0 {
        Ok(())
    } else {
        Err(format!("is {probability}; what was shown must have had a probability above 0 and at most 1"))
    }
}

/// The problem of a probability. Written so that NaN fails.
pub(super) fn probability(probability: f64) -> Result<(), String> {
    if (0.0..=1.0).contains(&probability) { Ok(()) } else { Err(format!("is {probability}, allowed are 0 to 1")) }
}
