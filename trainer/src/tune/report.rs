//! A search as plots and as a page.

use super::outcome::{Status, Tried, Tuned, written};
use super::{Domain, Goal, TuneLabels, TuneSettings};
use crate::report::{Axis, Curve, CurvePlot, CurvePoint, CurveStyle, Page, Plot, PlotError, Scale, Tile, significant};

/// Trials in the page's table; all are in the CSV.
const TABLE: usize = 25;

/// The value of each trial, with the best so far.
pub fn trials(tuned: &Tuned, labels: &TuneLabels) -> Plot {
    let is_finished = |tried: &&Tried| tried.status == Status::Finished;
    let mut best = None;
    let mut best_so_far = Vec::new();
    for tried in tuned.trials.iter().filter(is_finished) {
        let Some((_, value)) = tried.last() else { continue };
        let mean = best.filter(|best| tuned.goal.loss(*best) < tuned.goal.loss(value)).unwrap_or(value);
        best_so_far.push(CurvePoint { x: tried.trial as f64, mean, interval: None });
        best = Some(mean);
    }
    // It is the best until the last trial.
    best_so_far.extend(best.map(|mean| CurvePoint { x: (tuned.trials.len() - 1) as f64, mean, interval: None }));
    let best_so_far = Curve { name: "best so far".to_owned(), points: best_so_far, style: CurveStyle::Steps };
    let dots = value_dots(tuned, |tried| Some(tried.trial as f64));
    Plot::Curves(CurvePlot {
        title: format!("{} of each trial", capitalised(&labels.objective)),
        x: Axis::linear("trial"),
        y: Axis::linear(&labels.objective),
        curves: dots.into_iter().chain([best_so_far]).collect(),
        lines: Vec::new(),
    })
}

/// The value of each trial by one parameter after the other.
pub fn parameters(tuned: &Tuned, settings: &TuneSettings, labels: &TuneLabels) -> Vec<Plot> {
    let plot = |(index, parameter): (usize, &super::Parameter)| {
        let number = |tried: &Tried| {
            let value = &tried.values[index];
            value.as_float().or_else(|| value.as_integer().map(|value| value as f64))
        };
        let (scale, curves) = match &parameter.domain {
            Domain::Choice(choices) => {
                let place = |tried: &Tried| choices.iter().position(|choice| *choice == tried.values[index]);
                let names = choices.iter().map(written).collect();
                (Scale::Names(names), value_dots(tuned, |tried| place(tried).map(|place| place as f64)))
            }
            Domain::LogUniform(..) | Domain::LogInteger(..) => (Scale::Log, value_dots(tuned, number)),
            Domain::Uniform(..) | Domain::Integer(..) => (Scale::Linear, value_dots(tuned, number)),
        };
        let title = format!("{} by {}", capitalised(&labels.objective), parameter.path);
        let (x, y) = (Axis { label: parameter.path.clone(), scale }, Axis::linear(&labels.objective));
        Plot::Curves(CurvePlot { title, x, y, curves, lines: Vec::new() })
    };
    settings.space.parameters().iter().enumerate().map(plot).collect()
}

/// The page, a self-contained HTML file.
pub fn page(tuned: &Tuned, settings: &TuneSettings, labels: &TuneLabels) -> Result<String, PlotError> {
    let mut page = Page::new(&labels.title, &format!("{} over {}", labels.objective, labels.budget));
    page = page.tiles(&tiles(tuned, labels));
    page = page.plot(&trials(tuned, labels))?;
    for plot in parameters(tuned, settings, labels) {
        page = page.plot(&plot)?;
    }
    let ranked = tuned.ranked();
    let rows: Vec<_> = ranked.iter().take(TABLE).map(|tried| tuned.row(tried, significant)).collect();
    let title = if ranked.len() > TABLE { format!("The best {TABLE} trials") } else { "Trials".to_owned() };
    page = page.table(&title, &tuned.head(), &rows);
    let search = toml::to_string_pretty(settings).unwrap_or_default();
    Ok(page.text("The best settings", &tuned.best_settings()).text("The search", &search).finish())
}

fn tiles(tuned: &Tuned, labels: &TuneLabels) -> Vec<Tile> {
    let tile = |label: &str, value: String, note: String| Tile { label: label.to_owned(), value, note };
    let count = |is: fn(&Status) -> bool| tuned.trials.iter().filter(|tried| is(&tried.status)).count();
    let finished = count(|status| *status == Status::Finished);
    let stopped = count(|status| *status == Status::Stopped);
    let failed = tuned.trials.len() - finished - stopped;
    let best = tuned.best();
    let (budget, value) = best.last().unwrap_or_default();
    let goal = match tuned.goal {
        Goal::Maximize => "greatest",
        Goal::Minimize => "least",
    };
    let used: u64 = tuned.trials.iter().filter_map(|tried| Some(tried.results.last()?.budget)).sum();
    let seconds: f64 = tuned.trials.iter().map(Tried::seconds).sum();
    vec![
        tile(
            &format!("The {goal} {}", labels.objective),
            significant(value),
            format!("trial {} after {} {}", best.trial, significant(budget as f64), labels.budget),
        ),
        tile(
            "Trials",
            tuned.trials.len().to_string(),
            format!("{finished} finished, {stopped} stopped early, {failed} failed"),
        ),
        tile("Used", significant(used as f64), labels.budget.clone()),
        tile("Time", format!("{} s", significant(seconds)), "of all trials together".to_owned()),
    ]
}

/// Trials with a value as dots, the finished ones and the others apart.
fn value_dots(tuned: &Tuned, x: impl Fn(&Tried) -> Option<f64>) -> Vec<Curve> {
    let dots = |name: &str, is_finished: bool| {
        let tried = tuned.trials.iter().filter(|tried| (tried.status == Status::Finished) == is_finished);
        let points = tried.filter_map(|tried| {
            let (_, mean) = tried.last()?;
            Some(CurvePoint { x: x(tried)?, mean, interval: None })
        });
        Curve { name: name.to_owned(), points: points.collect(), style: CurveStyle::Dots }
    };
    let dots = [dots("whole budget", true), dots("ended earlier", false)];
    dots.into_iter().filter(|curve| !curve.points.is_empty()).collect()
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
