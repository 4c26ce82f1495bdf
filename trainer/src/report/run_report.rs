//! What a run's page says.

use super::page::{Page, Tile};
use super::{Axis, Curve, CurvePlot, CurvePoint, Estimate, Line, Plot, PlotError, ProgressRow, Scale, significant};

/// The final evaluation of a policy, without exploration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// How many episodes it took.
    pub episodes: u64,
    /// The mean return with its interval.
    pub mean_return: Estimate,
    /// The interval's level, such as 0.95.
    pub confidence: f64,
}

/// What a run counts its progress in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RunSteps {
    /// Slates shown in an environment.
    #[default]
    Environment,
    /// Gradient steps over a log.
    Gradient,
}

impl RunSteps {
    const fn label(self) -> &'static str {
        match self {
            Self::Environment => "environment steps",
            Self::Gradient => "gradient steps",
        }
    }
}

/// What is to be said of a run besides its progress.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunReport {
    /// The policy's name and version.
    pub title: String,
    /// The algorithm's name.
    pub algorithm: String,
    /// What it learned in, or from.
    pub environment: String,
    /// What its steps are.
    pub steps: RunSteps,
    /// The seed of everything random.
    pub seed: u64,
    /// The settings of the run, as TOML.
    pub settings: String,
    /// Mean returns of known policies.
    pub baselines: Vec<Line>,
    /// The greatest possible mean return, where it is known.
    pub optimum: Option<f64>,
    /// The final evaluation; `None` where the run has not come to it.
    pub evaluation: Option<Evaluation>,
    /// The most memory in use, in bytes; see [`super::peak_memory`].
    pub peak_memory: Option<u64>,
    /// Anything more that is worth knowing: name and value.
    pub facts: Vec<(String, String)>,
}

impl RunReport {
    /// The plots, each with the name of its file.
    #[must_use]
    pub fn plots(&self, rows: &[ProgressRow]) -> Vec<(&'static str, Plot)> {
        let mut plots = Vec::new();
        if self.steps == RunSteps::Environment || rows.iter().any(|row| row.evaluation.is_some()) {
            plots.push(("learning_curve", Plot::Curves(self.learning_curve(rows))));
        }
        if rows.iter().any(|row| row.loss.is_some()) {
            plots.push(("loss", Plot::Curves(self.loss_curve(rows))));
        }
        plots
    }

    /// The page, a self-contained HTML file.
    ///
    /// # Errors
    /// A plot that cannot be drawn.
    pub fn page(&self, rows: &[ProgressRow]) -> Result<String, PlotError> {
        let mut page = Page::new(&self.title, &format!("{} in {}", self.algorithm, self.environment));
        page = page.tiles(&self.tiles(rows));
        for (_, plot) in self.plots(rows) {
            page = page.plot(&plot)?;
        }
        if self.evaluation.is_some() || !self.baselines.is_empty() {
            page = page.table("Mean return", &["policy", "mean return", "interval", "of the optimum"], &self.table());
        }
        Ok(page.facts("The run", &self.facts(rows)).text("Settings", &self.settings).finish())
    }

    fn learning_curve(&self, rows: &[ProgressRow]) -> CurvePlot {
        let exploring = curve("training, exploring", rows, |row| row.mean_return);
        let mut curves = if self.steps == RunSteps::Environment { vec![exploring] } else { Vec::new() };
        let evaluated = rows.iter().filter_map(|row| {
            let Estimate { mean, lower, upper } = row.evaluation?;
            Some(CurvePoint { x: row.step as f64, mean, interval: Some((lower, upper)) })
        });
        let evaluated = Curve { name: "evaluation".to_owned(), points: evaluated.collect(), ..Curve::default() };
        if !evaluated.points.is_empty() {
            curves.push(evaluated);
        }
        let optimum = self.optimum.map(|value| Line { name: "optimum".to_owned(), value });
        CurvePlot {
            title: format!("Mean return while learning: {}", self.title),
            x: Axis::linear(self.steps.label()),
            y: Axis::linear("mean return per episode"),
            curves,
            lines: optimum.into_iter().chain(self.baselines.iter().cloned()).collect(),
        }
    }

    fn loss_curve(&self, rows: &[ProgressRow]) -> CurvePlot {
        let curves = [
            curve("loss", rows, |row| row.loss),
            curve("validation loss", rows, |row| row.validation_loss),
            curve("gradient norm", rows, |row| row.gradient_norm),
        ];
        CurvePlot {
            title: "Loss and gradient norm".to_owned(),
            x: Axis::linear(self.steps.label()),
            y: Axis { label: "mean since the point before".to_owned(), scale: Scale::Log },
            curves: curves.into_iter().filter(|curve| !curve.points.is_empty()).collect(),
            lines: Vec::new(),
        }
    }

    fn tiles(&self, rows: &[ProgressRow]) -> Vec<Tile> {
        let tile = |label: &str, value: String, note: String| Tile { label: label.to_owned(), value, note };
        let last = rows.last().copied().unwrap_or_default();
        let mut tiles = Vec::new();
        if let Some(Evaluation { episodes, mean_return: Estimate { mean, lower, upper }, confidence }) = self.evaluation
        {
            let interval = format!("{:.0} % interval {lower:.2} to {upper:.2}", 100.0 * confidence);
            tiles.push(tile("Mean return", format!("{mean:.2}"), format!("{interval}, {episodes} episodes")));
            if let Some(share) = self.share_of_optimum(mean) {
                tiles.push(tile(
                    "Of the optimum",
                    share,
                    format!("{} is possible", significant(self.optimum.unwrap_or(0.0))),
                ));
            }
        } else if let Some(mean) = rows.iter().rev().find_map(|row| row.mean_return) {
            tiles.push(tile("Mean return so far", format!("{mean:.2}"), "while exploring".to_owned()));
        }
        tiles.push(tile("Steps", significant(last.step as f64), format!("{} episodes", last.episodes)));
        let rate = if last.seconds > 0.0 { last.step as f64 / last.seconds } else { 0.0 };
        tiles.push(tile("Time", duration(last.seconds), format!("{} steps a second", significant(rate))));
        if let Some(bytes) = self.peak_memory {
            tiles.push(tile("Peak memory", memory(bytes), String::new()));
        }
        tiles
    }

    fn table(&self) -> Vec<Vec<String>> {
        let share = |mean| self.share_of_optimum(mean).unwrap_or_default();
        let trained = self.evaluation.iter().map(|evaluation| {
            let Estimate { mean, lower, upper } = evaluation.mean_return;
            vec![self.title.clone(), format!("{mean:.2}"), format!("{lower:.2} to {upper:.2}"), share(mean)]
        });
        let known = self.baselines.iter().map(|Line { name, value }| (name.as_str(), *value));
        let known = known.chain(self.optimum.map(|value| ("optimum", value)));
        let known =
            known.map(|(name, value)| vec![name.to_owned(), format!("{value:.2}"), String::new(), share(value)]);
        trained.chain(known).collect()
    }

    fn facts(&self, rows: &[ProgressRow]) -> Vec<(String, String)> {
        let last = rows.last().copied().unwrap_or_default();
        let mut facts = vec![
            ("algorithm".to_owned(), self.algorithm.clone()),
            ("environment".to_owned(), self.environment.clone()),
            ("seed".to_owned(), self.seed.to_string()),
            (self.steps.label().to_owned(), last.step.to_string()),
            ("episodes".to_owned(), last.episodes.to_string()),
            ("wall time".to_owned(), duration(last.seconds)),
        ];
        facts.extend(self.peak_memory.map(|bytes| ("peak memory".to_owned(), memory(bytes))));
        facts.extend(self.facts.iter().cloned());
        facts
    }

    /// How much of the optimum a mean return is, in percent; says nothing where the optimum is not above 0.
    fn share_of_optimum(&self, mean: f64) -> Option<String> {
        let optimum = self.optimum.filter(|optimum| *optimum > 0.0)?;
        Some(format!("{:.1} %", 100.0 * mean / optimum))
    }
}

fn curve(name: &str, rows: &[ProgressRow], value: impl Fn(&ProgressRow) -> Option<f64>) -> Curve {
    Curve::line(name, rows.iter().filter_map(|row| Some((row.step as f64, value(row)?))))
}

/// A time in the units that a person would use.
fn duration(seconds: f64) -> String {
    if seconds < 120.0 {
        return format!("{seconds:.1} s");
    }
    let minutes = (seconds / 60.0).round() as u64;
    if minutes < 120 { format!("{minutes} min") } else { format!("{} h {} min", minutes / 60, minutes % 60) }
}

fn memory(bytes: u64) -> String {
    let mebibytes = bytes as f64 / (1024.0 * 1024.0);
    if mebibytes < 1024.0 { format!("{mebibytes:.0} MiB") } else { format!("{:.1} GiB", mebibytes / 1024.0) }
}
