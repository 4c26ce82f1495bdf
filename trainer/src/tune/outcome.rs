//! What a search found.

use std::fmt;

use serde::Serialize;
use toml::{Table, Value};

use super::log::JobResult;
use super::{Goal, TuneError};

/// How a trial ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "status", content = "failure", rename_all = "snake_case")]
pub enum Status {
    /// At its whole budget.
    Finished,
    /// Earlier, since others did better.
    Stopped,
    /// By failing.
    Failed(String),
}

/// Settings that were tried.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tried {
    /// The trial, from 0.
    pub trial: usize,
    /// How it ended.
    #[serde(flatten)]
    pub status: Status,
    /// What it tried: one value for each parameter.
    pub values: Vec<Value>,
    /// All its settings.
    #[serde(skip)]
    pub settings: Table,
    /// What came of it at each budget, the least first.
    pub results: Vec<JobResult>,
}

/// The trials of a search that is done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tuned {
    /// The paths of the parameters.
    pub parameters: Vec<String>,
    /// Whether the objective should be great or small.
    pub goal: Goal,
    /// The best trial.
    best: usize,
    /// The trials, in the order in which they began.
    pub trials: Vec<Tried>,
}

impl Tried {
    /// The budget it came to, and its value there.
    #[must_use]
    pub fn last(&self) -> Option<(u64, f64)> {
        self.results.iter().rev().find_map(|result| Some((result.budget, result.value?)))
    }

    /// How long it took, in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.results.iter().map(|result| result.seconds).sum()
    }

    /// How it ended, in a word.
    const fn status_word(&self) -> &'static str {
        match self.status {
            Status::Finished => "finished",
            Status::Stopped => "stopped early",
            Status::Failed(_) => "failed",
        }
    }
}

impl Tuned {
    pub(super) fn new(parameters: Vec<String>, goal: Goal, trials: Vec<Tried>) -> Result<Self, TuneError> {
        let mut tuned = Self { parameters, goal, best: 0, trials };
        let best = tuned.ranked().first().filter(|best| best.last().is_some()).map(|best| best.trial);
        match best {
            Some(best) => tuned.best = best,
            None => {
                let failure = tuned.trials.iter().find_map(|tried| match &tried.status {
                    Status::Failed(failure) => Some(failure.clone()),
                    _ => None,
                });
                return Err(TuneError::Failed { trials: tuned.trials.len(), first: failure.unwrap_or_default() });
            }
        }
        Ok(tuned)
    }

    /// The best trial: of those that came furthest, the one with the best value, and of equal ones the first.
    #[must_use]
    pub fn best(&self) -> &Tried {
        &self.trials[self.best]
    }

    /// The trials, the best first. Values at different budgets cannot be compared, so one that came further stands
    /// before one that did not; a failed one stands after all others.
    #[must_use]
    pub fn ranked(&self) -> Vec<&Tried> {
        let mut ranked: Vec<_> = self.trials.iter().collect();
        let key = |tried: &Tried| {
            let (budget, value) = tried.last().unwrap_or_default();
            let is_failed = matches!(tried.status, Status::Failed(_));
            (is_failed, std::cmp::Reverse(budget), self.goal.loss(value))
        };
        ranked.sort_by(|a, b| {
            let (a, b) = (key(a), key(b));
            (a.0, a.1).cmp(&(b.0, b.1)).then(a.2.total_cmp(&b.2))
        });
        ranked
    }

    /// The best trial's settings as TOML, ready for the run that they are settings of.
    #[must_use]
    pub fn best_settings(&self) -> String {
        toml::to_string_pretty(&self.best().settings).unwrap_or_default()
    }

    /// The names of a table's columns.
    pub(super) fn head(&self) -> Vec<&str> {
        let own = ["trial", "value", "budget", "status", "seconds"];
        own.into_iter().chain(self.parameters.iter().map(String::as_str)).collect()
    }

    /// A trial as a row of a table.
    pub(super) fn row(&self, tried: &Tried, value: impl Fn(f64) -> String) -> Vec<String> {
        let (budget, number) = match tried.last() {
            Some((budget, number)) => (budget.to_string(), value(number)),
            None => (String::new(), String::new()),
        };
        let own = [tried.trial.to_string(), number, budget, tried.status_word().to_owned()];
        let seconds = format!("{:.1}", tried.seconds());
        own.into_iter().chain([seconds]).chain(tried.values.iter().map(written)).collect()
    }
}

/// A value as it is read: a text without its quotes, a small number without its zeros.
pub fn written(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Float(number) if *number != 0.0 && number.abs() < 1e-3 => format!("{number:e}"),
        value => value.to_string(),
    }
}

/// A table of the trials, the best first.
impl fmt::Display for Tuned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = self.head().into_iter().map(ToOwned::to_owned).collect::<Vec<_>>();
        let rows = self.ranked().into_iter().map(|tried| self.row(tried, |value| format!("{value:.4}")));
        let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<_> = (0..rows[0].len()).map(width).collect();
        for (index, row) in rows.iter().enumerate() {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}"));
            let line = cells.collect::<Vec<_>>().join("  ");
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(line.trim_end())?;
        }
        Ok(())
    }
}
