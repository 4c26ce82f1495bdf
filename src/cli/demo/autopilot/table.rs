//! The cycles as a table, and as a plot.

use std::fmt;

use chrono::{DateTime, Utc};
use slated_trainer::report::{Axis, Curve, CurvePlot, CurvePoint, CurveStyle, Plot};
use slated_trainer::rollout::Summary;

use super::population::Played;
use crate::autopilot::{CycleReport, Outcome};

/// Sessions of a point of the plot.
const BIN: usize = 250;

/// A cycle with what its live version then returned.
pub struct Row {
    pub report: CycleReport,
    /// Which of the environments the users lived in when it ended.
    pub environment: usize,
    /// The version that was live after it.
    pub live: u64,
    /// The true returns of whole sessions that this version decided, up to the next cycle's end.
    pub returns: Option<Summary>,
    /// Requests that failed so far.
    pub failed: u64,
}

impl Row {
    /// The row of a report.
    pub fn new(report: CycleReport, environment: usize, failed: u64) -> Self {
        let promoted = report.cycle.outcome == Some(Outcome::Promoted);
        let live = if promoted { report.cycle.version } else { report.cycle.live };
        Self { report, environment, live, returns: None, failed }
    }

    /// Takes the returns of its version's sessions from its end up to `until`.
    pub fn measure(&mut self, played: &[Played], until: DateTime<Utc>) {
        let mine = |one: &&Played| {
            one.version == Some(self.live.cast_signed())
                && one.begun >= self.report.ended
                && one.ended <= until
                && one.environment == self.environment
        };
        let totals: Vec<f64> = played.iter().filter(mine).map(|one| one.total).collect();
        self.returns = (totals.len() > 1).then(|| Summary::of(&totals));
    }
}

/// The table of one run.
pub struct Table<'a> {
    pub rows: &'a [Row],
    /// The optimum of each environment.
    pub optima: &'a [f64],
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        writeln!(
            formatter,
            "{:>5} {:>5} {:>4} {:10} {:>26} {:>26} {:11} {:>19} {:>7} {:8} {:>6}",
            "cycle",
            "users",
            "live",
            "candidate",
            "its value, from the log",
            "better than live by",
            "outcome",
            "true return",
            "of best",
            "drift",
            "failed"
        )?;
        for row in self.rows {
            let cycle = &row.report.cycle;
            let best = row.report.winner().map(|(name, figure)| (name.to_owned(), figure.cloned()));
            // Where none was chosen, the one that came nearest.
            let best = best.or_else(|| {
                let lower = |one: &crate::autopilot::CandidateState| {
                    one.evaluation.first()?.against.as_ref().map(|it| it.lower)
                };
                let nearest = cycle
                    .candidates
                    .iter()
                    .max_by(|a, b| lower(a).unwrap_or(f64::MIN).total_cmp(&lower(b).unwrap_or(f64::MIN)));
                nearest.map(|one| (one.name.clone(), one.evaluation.first().cloned()))
            });
            let (name, figure) = best.unwrap_or_default();
            let against = figure.as_ref().and_then(|figure| figure.against.clone());
            let interval = |value: f64, lower: f64, upper: f64| format!("{value:.1} [{lower:.1}, {upper:.1}]");
            let drift = match &cycle.drift {
                Some(drift) if drift.of_rewards() => "rewards",
                Some(drift) if drift.of_features() => "features",
                _ => "",
            };
            let optimum = self.optima[row.environment];
            writeln!(
                formatter,
                "{:>5} {:>5} {:>4} {:10} {:>26} {:>26} {:11} {:>19} {:>7} {:8} {:>6}",
                cycle.number,
                if row.environment == 0 { "first" } else { "new" },
                row.live,
                name,
                figure.map_or_else(String::new, |figure| interval(figure.value, figure.lower, figure.upper)),
                against.map_or_else(String::new, |it| interval(it.improvement, it.lower, it.upper)),
                cycle.outcome.as_ref().map_or("", Outcome::name),
                row.returns.map_or_else(String::new, |it| format!("{:.1} +- {:.1}", it.mean, it.standard_error)),
                row.returns.map_or_else(String::new, |it| format!("{:.1}%", 100.0 * it.mean / optimum)),
                drift,
                row.failed,
            )?;
        }
        Ok(())
    }
}

/// The true return of all traffic over the cycles, with the promotions.
pub fn plot(rows: &[Row], played: &[Played], optima: &[f64], begun: DateTime<Utc>) -> Plot {
    let ends: Vec<DateTime<Utc>> = [begun].into_iter().chain(rows.iter().map(|row| row.report.ended)).collect();
    // Where between the ends of two cycles, in cycles.
    let place = |time: DateTime<Utc>| {
        let after = ends.partition_point(|end| *end <= time).max(1);
        let from = ends[after - 1];
        let to = ends.get(after).copied().unwrap_or_else(|| played.last().map_or(time, |last| last.ended.max(time)));
        let share = (time - from).as_seconds_f64() / (to - from).as_seconds_f64().max(1e-9);
        (after - 1) as f64 + share.clamp(0.0, 1.0)
    };
    let points = |environment: usize| {
        let mine: Vec<&Played> = played.iter().filter(|one| one.environment == environment).collect();
        mine.chunks(BIN)
            .filter(|bin| bin.len() > BIN / 2)
            .map(|bin| {
                let totals: Vec<f64> = bin.iter().map(|one| one.total).collect();
                let summary = Summary::of(&totals);
                let x = bin.iter().map(|one| place(one.ended)).sum::<f64>() / bin.len() as f64;
                CurvePoint { x, mean: summary.mean, interval: Some((summary.lower, summary.upper)) }
            })
            .collect::<Vec<_>>()
    };
    let curves: Vec<Vec<CurvePoint>> = (0..optima.len()).map(points).collect();
    let all: Vec<CurvePoint> = curves.iter().flatten().copied().collect();
    let near = |x: f64| {
        let distance = |point: &&CurvePoint| (point.x - x).abs();
        all.iter()
            .filter(|point| point.x >= x)
            .min_by(|a, b| distance(a).total_cmp(&distance(b)))
            .map(|point| point.mean)
    };
    let promotions = rows.iter().filter(|row| row.report.cycle.outcome == Some(Outcome::Promoted)).filter_map(|row| {
        let x = row.report.cycle.number as f64;
        Some(CurvePoint { x, mean: near(x)?, interval: None })
    });
    let shift = curves.get(1).and_then(|points| points.first()).map(|point| point.x);
    let end = all.last().map_or(1.0, |point| point.x);
    let level = |share: f64| {
        let mut points = vec![CurvePoint { x: 0.0, mean: share * optima[0], interval: None }];
        if let (Some(shift), Some(optimum)) = (shift, optima.get(1)) {
            points.push(CurvePoint { x: shift, mean: share * optimum, interval: None });
        }
        points.push(CurvePoint { x: end, mean: points.last().map_or(0.0, |point| point.mean), interval: None });
        points
    };
    Plot::Curves(CurvePlot {
        title: "The autopilot, from a random policy: true return of live traffic".to_owned(),
        x: Axis::linear("cycles"),
        y: Axis::linear("mean return of a session"),
        curves: vec![
            Curve { name: "traffic".to_owned(), points: all.clone(), style: CurveStyle::Line },
            Curve { name: "optimum".to_owned(), points: level(1.0), style: CurveStyle::Steps },
            Curve { name: "95% of it".to_owned(), points: level(0.95), style: CurveStyle::Steps },
            Curve { name: "promotion".to_owned(), points: promotions.collect(), style: CurveStyle::Dots },
        ],
        lines: Vec::new(),
    })
}
