//! What many logs said, as tables in Markdown and a plot.

use std::fmt;

use slated_trainer::report::{Axis, Curve, CurvePlot, Plot};

use super::world::{STEPS, Target};
use super::{INTERVALS, estimators};

const ESTIMATORS: usize = 6;

/// What some logs of one size said.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub logs: u32,
    /// Intervals that held the truth, by estimator and kind.
    pub held: [[u32; INTERVALS.len()]; ESTIMATORS],
    /// Sums of squared errors.
    pub errors: [f64; ESTIMATORS],
    /// Logs by which the gate let each policy through.
    pub passed: [u32; 3],
}

/// The tables.
pub struct Table {
    /// The value of each policy.
    truths: Vec<f64>,
    logs: u32,
    sizes: Vec<(u32, Counts)>,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.logs += other.logs;
        self.errors.iter_mut().zip(other.errors).for_each(|(sum, error)| *sum += error);
        self.passed.iter_mut().zip(other.passed).for_each(|(sum, passed)| *sum += passed);
        let held = self.held.as_flattened_mut().iter_mut().zip(other.held.as_flattened());
        held.for_each(|(sum, held)| *sum += held);
    }

    fn percent(&self, count: u32) -> f64 {
        100.0 * f64::from(count) / f64::from(self.logs.max(1))
    }

    /// Root mean squared error over the truth.
    fn relative_error(&self, estimator: usize, truth: f64) -> f64 {
        (self.errors[estimator] / f64::from(self.logs.max(1))).sqrt() / truth
    }
}

impl Table {
    pub const fn new(truths: Vec<f64>, logs: u32) -> Self {
        Self { truths, logs, sizes: Vec::new() }
    }

    pub fn add(&mut self, users: u32, parts: Vec<Counts>) {
        let mut sum = Counts::default();
        parts.iter().for_each(|part| sum.add(part));
        self.sizes.push((users, sum));
    }

    /// The error of each estimator as the log grows.
    pub fn plot(&self) -> Plot {
        let curve = |(row, estimator): (usize, String)| {
            let points = self.sizes.iter().map(|(users, counts)| {
                let error = 100.0 * counts.relative_error(row, self.truths[0]);
                (f64::from(users * STEPS).log10(), error)
            });
            Curve::line(estimator, points.collect::<Vec<_>>())
        };
        Plot::Curves(CurvePlot {
            title: "How far off an estimate is as the log grows".to_owned(),
            x: Axis::linear("decisions in the log, logarithm to base 10"),
            y: Axis::linear("root mean squared error, % of the truth"),
            curves: estimators().iter().map(|estimator| estimator.name()).enumerate().map(curve).collect(),
            lines: Vec::new(),
        })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let [better, same, worse] = [0, 1, 2].map(|at| self.truths.get(at).copied().unwrap_or_default());
        writeln!(
            formatter,
            "Interest exploration, slates of 1 from 5 candidates, {STEPS} decisions a user, shown uniformly at random; {} logs of \
             each size.\nThe better policy earns {better:.4} a decision, the one as good {same:.4}, the worse {worse:.4}.\n",
            self.logs
        )?;
        writeln!(formatter, "95% intervals that hold the truth, of the better policy:\n")?;
        writeln!(
            formatter,
            "| decisions | estimator | {} | error |",
            INTERVALS.map(|name| format!("`{name}`")).join(" | ")
        )?;
        writeln!(formatter, "|---|---|{}---|", "---|".repeat(INTERVALS.len()))?;
        for (users, counts) in &self.sizes {
            for (row, estimator) in estimators().iter().enumerate() {
                let held = counts.held[row].map(|held| format!("{:.1}%", counts.percent(held))).join(" | ");
                let error = 100.0 * counts.relative_error(row, better);
                writeln!(formatter, "| {} | `{}` | {held} | {error:.1}% |", users * STEPS, estimator.name())?;
            }
        }
        writeln!(formatter, "\nLogs by which the gate lets a policy through:\n")?;
        writeln!(formatter, "| decisions | {} |\n|---|---|---|---|", Target::ALL.map(Target::name).join(" | "))?;
        for (users, counts) in &self.sizes {
            let passed = counts.passed.map(|passed| format!("{:.1}%", counts.percent(passed))).join(" | ");
            writeln!(formatter, "| {} | {passed} |", users * STEPS)?;
        }
        Ok(())
    }
}
