//! What all estimators share.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::interval::standard_error;
use super::{Contributions, Interval, IntervalSettings, OpeError};

/// Rows of a log, checked when they were added: rounds, slates or episodes.
pub trait Log {
    /// What a row is, such as `round`.
    const ROW: &'static str;

    /// How many rows.
    fn rows(&self) -> usize;

    /// The cluster (user) of each row, numbered from 0; `None` where the rows are independent.
    fn clusters(&self) -> Option<&[u32]>;
}

/// An estimator of the value of a policy from a log that another policy wrote.
pub trait Estimator<L: Log> {
    /// Its name, with its parameter where it has one.
    fn name(&self) -> String;

    /// What each row contributes.
    ///
    /// # Errors
    /// A log without what the estimator needs, a parameter outside its range.
    fn contributions(&self, log: &L) -> Result<Contributions, OpeError>;

    /// The estimate with its interval, over users where the log has them.
    ///
    /// # Errors
    /// Those of [`Estimator::contributions`] and [`IntervalSettings::of`]; an empty log; policies without overlap.
    fn estimate(&self, log: &L, interval: &IntervalSettings) -> Result<Estimate, OpeError> {
        estimate(self.name(), &self.contributions(log)?, log, interval)
    }
}

/// An estimate with its uncertainty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// What was estimated, such as an estimator's name.
    pub name: String,
    /// The estimate.
    pub value: f64,
    /// Its interval.
    pub interval: Interval,
    /// Its standard error, by linearisation.
    pub standard_error: f64,
    /// How many independent units it rests on: rows, or users.
    pub units: usize,
}

/// The estimate of contributions that come from the rows of `log`, with its interval.
///
/// # Errors
/// As for [`Estimator::estimate`].
pub fn estimate<L: Log>(
    name: String,
    contributions: &Contributions,
    log: &L,
    interval: &IntervalSettings,
) -> Result<Estimate, OpeError> {
    if log.rows() == 0 {
        return Err(OpeError::Empty(L::ROW));
    }
    let clustered = log.clusters().map(|clusters| contributions.by_cluster(clusters));
    let unit = if clustered.is_some() { "user" } else { L::ROW };
    let contributions = clustered.as_ref().unwrap_or(contributions);
    let undefined = || OpeError::NoOverlap(name.clone());
    let value = contributions.value().ok_or_else(undefined)?;
    let standard_error = standard_error(&contributions.linearised().ok_or_else(undefined)?);
    let interval = interval.of(contributions, &name, unit)?;
    Ok(Estimate { name, value, interval, standard_error, units: contributions.rows() })
}

/// Numbers users as clusters. A row without a user is a cluster of its own.
#[derive(Debug, Clone, Default)]
pub(super) struct Clusters {
    numbers: HashMap<Box<str>, u32>,
    rows: Vec<u32>,
    next: u32,
}

impl Clusters {
    pub fn push(&mut self, user: Option<&str>) {
        let fresh = self.next;
        let number = match user {
            Some(user) => match self.numbers.get(user) {
                Some(&known) => known,
                None => {
                    self.numbers.insert(user.into(), fresh);
                    fresh
                }
            },
            None => fresh,
        };
        self.next += u32::from(number == fresh);
        self.rows.push(number);
    }

    /// The cluster of each row; `None` where every row is its own.
    pub fn rows(&self) -> Option<&[u32]> {
        (self.rows.len() > self.next as usize).then_some(&self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_without_user_stand_alone() {
        let mut clusters = Clusters::default();
        for user in [Some("a"), None, Some("b"), Some("a"), None] {
            clusters.push(user);
        }
        assert_eq!(clusters.rows(), Some(&[0, 1, 2, 0, 3][..]));
        let mut single = Clusters::default();
        single.push(Some("a"));
        single.push(None);
        assert_eq!(single.rows(), None);
    }
}
