//! The table of the offline algorithms, and its plot.

use std::fmt;

use slated_trainer::offline::{Experience, OfflineSettings};
use slated_trainer::report::{Axis, Curve, CurvePlot, CurvePoint, CurveStyle, Line, Plot};
use slated_trainer::rollout::Summary;

use super::Run;

/// Mean returns by algorithm and by the share of expert sessions in the log.
pub struct Table {
    optimum: Option<f64>,
    shares: Vec<f64>,
    /// By share: the mean return of the sessions of each log.
    logged: Vec<Vec<f64>>,
    decisions: Vec<usize>,
    rows: Vec<Row>,
}

struct Row {
    name: &'static str,
    /// By share, a run a seed.
    runs: Vec<Vec<Run>>,
}

impl Table {
    pub fn new(settings: &OfflineSettings, names: Vec<&'static str>, shares: Vec<f64>) -> anyhow::Result<Self> {
        let environment = settings.evaluation.environment.as_ref();
        let optimum =
            environment.map(|environment| environment.build()).transpose()?.and_then(|one| one.spec().optimum);
        let row = |name| Row { name, runs: shares.iter().map(|_| Vec::new()).collect() };
        let rows = names.into_iter().map(row).collect();
        Ok(Self { optimum, logged: vec![Vec::new(); shares.len()], decisions: Vec::new(), rows, shares })
    }

    /// Notes a log.
    pub fn log(&mut self, column: usize, log: &Experience) {
        self.logged[column].push(log.mean_return());
        self.decisions.push(log.steps());
    }

    /// Notes a run.
    pub fn run(&mut self, row: usize, column: usize, run: Run) {
        self.rows[row].runs[column].push(run);
    }

    /// The mean return over the share of expert sessions, with the interval over seeds.
    pub fn plot(&self) -> Plot {
        let curve = |name: &str, values: Vec<Summary>| {
            let points = self.shares.iter().zip(values).filter(|(_, summary)| summary.count > 0);
            let point = |(share, summary): (&f64, Summary)| CurvePoint {
                x: 100.0 * share,
                mean: summary.mean,
                interval: (summary.count > 1)
                    .then_some((summary.mean - summary.standard_error, summary.mean + summary.standard_error)),
            };
            Curve { name: name.to_owned(), points: points.map(point).collect(), style: CurveStyle::Line }
        };
        let logged = self.logged.iter().map(|returns| Summary::of(returns)).collect();
        let learned = self.rows.iter().map(|row| curve(row.name, row.returns().collect()));
        let optimum = self.optimum.map(|value| Line { name: "optimum".to_owned(), value });
        Plot::Curves(CurvePlot {
            title: "Learned from logs alone: long-term satisfaction, the tutorial's parameters".to_owned(),
            x: Axis::linear("sessions of the expert in the log, %"),
            y: Axis::linear("mean return of an episode"),
            curves: learned.chain([curve("as logged", logged)]).collect(),
            lines: optimum.into_iter().collect(),
        })
    }
}

impl Row {
    fn returns(&self) -> impl Iterator<Item = Summary> + '_ {
        self.runs.iter().map(|runs| Summary::of(&runs.iter().map(|run| run.mean).collect::<Vec<_>>()))
    }

    /// Mean training time of a run.
    fn seconds(&self) -> f64 {
        let all: Vec<f64> = self.runs.iter().flatten().map(|run| run.seconds).collect();
        all.iter().sum::<f64>() / all.len().max(1) as f64
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let decisions = self.decisions.iter().sum::<usize>() / self.decisions.len().max(1);
        let seeds = self.logged.first().map_or(0, Vec::len);
        writeln!(
            formatter,
            "long-term satisfaction, the tutorial's parameters: logs of {decisions} decisions, mean return over {seeds} seeds"
        )?;
        write!(formatter, "{:12}", "expert")?;
        for share in &self.shares {
            write!(formatter, " {:>15}", format!("{} %", 100.0 * share))?;
        }
        writeln!(formatter, " {:>8}", "seconds")?;
        let cell = |summary: Summary| match summary.count {
            0 => "-".to_owned(),
            1 => format!("{:.2}", summary.mean),
            _ => format!("{:.2} +- {:.2}", summary.mean, summary.standard_error),
        };
        write!(formatter, "{:12}", "as logged")?;
        for returns in &self.logged {
            write!(formatter, " {:>15}", cell(Summary::of(returns)))?;
        }
        writeln!(formatter, " {:>8}", "-")?;
        for row in &self.rows {
            write!(formatter, "{:12}", row.name)?;
            for summary in row.returns() {
                write!(formatter, " {:>15}", cell(summary))?;
            }
            writeln!(formatter, " {:>8.1}", row.seconds())?;
        }
        if let Some(optimum) = self.optimum {
            writeln!(formatter, "{:12} {optimum:>15.2}", "optimum")?;
        }
        write!(formatter, "`+-` is the standard error over seeds, each with a log of its own.")
    }
}
