//! The gate's verdict, and how it reads as text.

use std::fmt;

use serde::Serialize;

use super::super::{Diagnostics, Estimate};
use super::GateSettings;

/// What the gate found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// The policy that wants to be promoted.
    pub candidate: String,
    /// The policy it would replace.
    pub baseline: String,
    /// What a row is: `round` or `slate`.
    pub row: &'static str,
    /// How many rows.
    pub rows: usize,
    /// How many users they come from; absent where the rows are independent.
    pub users: Option<usize>,
    /// What had to hold.
    pub settings: GateSettings,
    /// The mean reward of what was logged.
    pub logged: Figure,
    /// By estimator; the first decides.
    pub comparisons: Vec<Comparison>,
    /// What the log can say of the candidate.
    pub diagnostics: Diagnostics,
    /// What the log can say of the baseline; absent where that is whatever was logged.
    pub baseline_diagnostics: Option<Diagnostics>,
    /// What was tested.
    pub tests: Vec<GateTest>,
}

/// Both policies by one estimator.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The estimator.
    pub estimator: String,
    /// The candidate's value.
    pub candidate: Figure,
    /// The baseline's value.
    pub baseline: Figure,
    /// The difference, row by row, so that what both have in common is no uncertainty.
    pub improvement: Figure,
}

/// An estimate, or why there is none.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Figure {
    /// The estimate.
    Estimate(Estimate),
    /// There is none.
    Undefined {
        /// Why.
        reason: String,
    },
}

/// One test of the gate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GateTest {
    /// Its name.
    pub name: &'static str,
    /// How it came out.
    pub outcome: TestOutcome,
    /// What was found, and what had to hold.
    pub finding: String,
    /// What would help, where it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// How a test came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TestOutcome {
    /// It holds.
    Passed,
    /// It does not.
    Failed,
    /// There was nothing to test.
    NotApplicable,
}

impl Figure {
    /// The estimate, where there is one.
    #[must_use]
    pub const fn estimate(&self) -> Option<&Estimate> {
        match self {
            Self::Estimate(estimate) => Some(estimate),
            Self::Undefined { .. } => None,
        }
    }
}

impl Verdict {
    /// Whether the candidate may be promoted.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.tests.iter().all(|test| test.outcome != TestOutcome::Failed)
    }

    /// The tests that failed, by name.
    #[must_use]
    pub fn failed(&self) -> Vec<&'static str> {
        self.tests.iter().filter(|test| test.outcome == TestOutcome::Failed).map(|test| test.name).collect()
    }

    /// The headings of the table of estimates.
    #[must_use]
    pub fn headings(&self) -> [String; 4] {
        let baseline = if self.baseline_diagnostics.is_some() { &self.baseline } else { "what was logged" };
        ["estimator".into(), self.candidate.clone(), baseline.to_owned(), "improvement".into()]
    }

    /// What was looked at, as pairs of a name and a figure.
    #[must_use]
    pub fn facts(&self) -> Vec<(String, String)> {
        let mut facts = vec![(format!("{}s", self.row), self.rows.to_string())];
        facts.extend(self.users.map(|users| ("users".to_owned(), users.to_string())));
        facts.push(("mean reward of the log".to_owned(), self.logged.to_string()));
        let diagnosed =
            [(&self.candidate, Some(&self.diagnostics)), (&self.baseline, self.baseline_diagnostics.as_ref())];
        for (policy, diagnostics) in diagnosed.into_iter().filter_map(|(policy, found)| Some((policy, found?))) {
            let weights = &diagnostics.weights;
            let mut fact = |name: &str, figure: String| facts.push((format!("{policy}: {name}"), figure));
            fact("effective sample size", format!("{:.1}", weights.effective_sample_size));
            if let Some(users) = weights.effective_users {
                fact("effective users", format!("{users:.1}"));
            }
            fact("effective rewards", format!("{:.1}", diagnostics.effective_rewards));
            fact("largest weight", format!("{:.2} ({:.2}% of all)", weights.largest, 100.0 * weights.largest_share));
            fact("mean weight", format!("{:.4} (1 expected, p = {:.4})", weights.mean, weights.p_value));
            let support = &diagnostics.support;
            let judged = match support.judged {
                0 => "not known: the log does not say what else could have been shown".to_owned(),
                judged => {
                    format!("{:.3}% of what it would show, over {judged} {}s", 100.0 * support.unsupported, self.row)
                }
            };
            fact("never shown by the log", judged);
        }
        facts
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let text = match self {
            Self::Estimate(estimate) => {
                let (value, interval) = (estimate.value, &estimate.interval);
                let digits = digits(interval.upper - interval.lower);
                format!("{value:.digits$} [{:.digits$}, {:.digits$}]", interval.lower, interval.upper)
            }
            Self::Undefined { reason } => format!("- ({reason})"),
        };
        formatter.pad(&text)
    }
}

/// Decimals that show a width to three places.
fn digits(width: f64) -> usize {
    if width > 0.0 && width.is_finite() { (2.0 - width.log10().floor()).clamp(0.0, 9.0) as usize } else { 4 }
}

impl fmt::Display for TestOutcome {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.pad(match self {
            Self::Passed => "passed",
            Self::Failed => "FAILED",
            Self::NotApplicable => "n/a",
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        for (name, figure) in self.facts() {
            writeln!(formatter, "{name:40} {figure}")?;
        }
        let rows = self.comparisons.iter().enumerate().map(|(index, row)| {
            let decides = if index == 0 { " *" } else { "" };
            let figures = [&row.candidate, &row.baseline, &row.improvement].map(ToString::to_string);
            let [candidate, baseline, improvement] = figures;
            [format!("{}{decides}", row.estimator), candidate, baseline, improvement]
        });
        let rows: Vec<[String; 4]> = [self.headings()].into_iter().chain(rows).collect();
        // A reason for a missing figure may be long; it must not push the other columns apart.
        let width = |column: usize| {
            rows.iter().map(|row| row[column].chars().count()).filter(|width| *width <= 48).max().unwrap_or(0)
        };
        let widths = [0, 1, 2, 3].map(width);
        writeln!(formatter)?;
        for row in &rows {
            let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            writeln!(formatter, "{}", cells.join("  ").trim_end())?;
        }
        let interval = &self.settings.interval;
        writeln!(
            formatter,
            "* decides; intervals are {:.1}%, {}{}\n",
            100.0 * interval.confidence,
            interval.method.name(),
            if self.users.is_some() { ", over users" } else { "" }
        )?;
        for test in &self.tests {
            writeln!(formatter, "{:24} {:6}  {}", test.name, test.outcome, test.finding)?;
            if let Some(remedy) = &test.remedy {
                writeln!(formatter, "{:32} {remedy}", "")?;
            }
        }
        let verdict = if self.passed() { "may replace" } else { "may not replace" };
        write!(formatter, "\n{} {verdict} {}", self.candidate, self.baseline)
    }
}
