//! The table of the tutorial, and its plot.

use std::fmt;

use slated_trainer::report::{Axis, Curve, CurvePlot, Line, Plot};
use slated_trainer::rollout::Summary;

use super::super::super::train::PublishedOnline;
use super::over_seeds;

/// One environment's policies.
pub struct Table {
    pub preset: &'static str,
    title: &'static str,
    pub optimum: Option<f64>,
    pub rows: Vec<Row>,
}

/// One policy.
pub struct Row {
    name: String,
    /// What the tutorial, RecSim or the paper reports.
    known: String,
    returns: Summary,
    seeds: Option<Seeds>,
}

/// What several runs of a learner say.
struct Seeds {
    count: usize,
    worst: f64,
    /// Mean training time, in seconds.
    seconds: f64,
    curves: Vec<Vec<(f64, f64)>>,
}

impl Table {
    pub const fn new(preset: &'static str, title: &'static str) -> Self {
        Self { preset, title, optimum: None, rows: Vec::new() }
    }

    /// The learning curves, with the other policies as lines.
    pub fn plot(&self) -> Plot {
        let learned = self.rows.iter().filter_map(|row| Some((row, row.seeds.as_ref()?)));
        let curves = learned.flat_map(|(row, seeds)| {
            let name = |index: usize| format!("{}, seed {}", row.name, index + 1);
            seeds.curves.iter().enumerate().map(move |(index, curve)| Curve::line(name(index), curve.iter().copied()))
        });
        let fixed = self.rows.iter().filter(|row| row.seeds.is_none());
        let lines = fixed.map(|row| Line { name: row.name.clone(), value: row.returns.mean });
        let optimum = self.optimum.map(|value| Line { name: "optimum".to_owned(), value });
        Plot::Curves(CurvePlot {
            title: self.title.to_owned(),
            x: Axis::linear("slates shown"),
            y: Axis::linear("mean return of an episode"),
            curves: curves.collect(),
            lines: lines.chain(optimum).collect(),
        })
    }
}

impl Row {
    pub fn fixed(name: &str, known: &str, returns: Summary) -> Self {
        Self { name: name.to_owned(), known: known.to_owned(), returns, seeds: None }
    }

    pub fn learned(name: &str, known: &str, runs: &[PublishedOnline]) -> Self {
        let means = runs.iter().map(|run| run.learned.returns.mean);
        let seeds = Seeds {
            count: runs.len(),
            worst: means.fold(f64::INFINITY, f64::min),
            seconds: runs.iter().map(|run| run.seconds).sum::<f64>() / runs.len() as f64,
            curves: runs.iter().map(|run| run.curve.clone()).collect(),
        };
        Self { name: name.to_owned(), known: known.to_owned(), returns: over_seeds(runs), seeds: Some(seeds) }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        writeln!(formatter, "{}", self.title)?;
        writeln!(
            formatter,
            "{:26} {:>10} {:>9} {:>8} {:>8} {:>6} {:>9}",
            "policy", "elsewhere", "here", "+-", "worst", "seeds", "seconds"
        )?;
        for Row { name, known, returns, seeds } in &self.rows {
            write!(
                formatter,
                "{name:26} {known:>10} {:>9.2} {:>8.2}",
                returns.mean,
                if returns.standard_error > 0.0 { returns.standard_error } else { 0.0 }
            )?;
            match seeds {
                Some(Seeds { count, worst, seconds, .. }) => {
                    writeln!(formatter, " {worst:>8.2} {count:>6} {seconds:>9.1}")?;
                }
                None => writeln!(formatter, " {:>8} {:>6} {:>9}", "-", "-", "-")?,
            }
        }
        if let Some(optimum) = self.optimum {
            writeln!(formatter, "{:26} {optimum:>10.2}", "optimum, latent state known")?;
        }
        write!(
            formatter,
            "`+-` is the standard error: over episodes of a fixed policy, over the seeds of one that learned."
        )
    }
}
