//! Progress bars on a terminal, plain lines otherwise.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressStyle};
use slated_trainer::progress::{Figures, Progress};
use slated_trainer::report::significant;

/// How often a plain line is written where there is no terminal.
const LINE: Duration = Duration::from_secs(5);

/// A bar on the standard error; nothing where that is no terminal.
pub fn bar(name: &str, total: Option<u64>) -> ProgressBar {
    // Where there is no terminal, indicatif draws nothing by itself.
    let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    draw(&bar, if total.is_some() { BAR } else { SPINNER });
    bar.set_message(name.to_owned());
    bar
}

const BAR: &str = "{msg:24} {bar:40} {human_pos:>9}/{human_len} {per_sec} {eta}";
const SPINNER: &str = "{msg:24} {spinner} {human_pos:>9} {per_sec}";
/// The figures stand last, where a narrow terminal cuts them off rather than breaking the line.
const BAR_WITH_FIGURES: &str = "{prefix:12} {bar:20} {human_pos:>9}/{human_len} {eta:>4}  {wide_msg}";
const SPINNER_WITH_FIGURES: &str = "{prefix:12} {spinner} {human_pos:>9}  {wide_msg}";

fn draw(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}

/// Draws a trainer's progress.
#[derive(Debug, Default)]
pub struct Drawn {
    name: String,
    bar: Option<ProgressBar>,
    done: u64,
    total: Option<u64>,
    figures: Figures,
    /// Where there is no terminal: when the stage began, and when the latest line was written.
    lines: Option<(Instant, Instant)>,
}

impl Progress for Drawn {
    fn stage(&mut self, name: &str, total: Option<u64>) {
        self.finish();
        *self = Self { name: name.to_owned(), total, ..Self::default() };
        if std::io::stderr().is_terminal() {
            self.bar = Some(bar(name, total));
        } else {
            let now = Instant::now();
            self.lines = Some((now, now));
            eprintln!("{name}: {} to go", total.map_or_else(|| "?".to_owned(), |total| total.to_string()));
        }
    }

    fn advance(&mut self, steps: u64) {
        self.done += steps;
        if let Some(bar) = &self.bar {
            bar.inc(steps);
        }
        if let Some((begun, latest)) = self.lines.as_mut().filter(|(_, latest)| latest.elapsed() >= LINE) {
            *latest = Instant::now();
            let begun = *begun;
            eprintln!("{}", self.line(begun.elapsed()));
        }
    }

    fn figures(&mut self, figures: &Figures) {
        if let Some(bar) = &self.bar {
            if self.figures == Figures::default() {
                draw(bar, if self.total.is_some() { BAR_WITH_FIGURES } else { SPINNER_WITH_FIGURES });
                bar.set_prefix(self.name.clone());
            }
            bar.set_message(described(figures).join("  "));
        }
        self.figures = *figures;
    }
}

impl Drawn {
    /// Ends the last stage.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        if self.lines.take().is_some() {
            let done = format!("{}: {} done", self.name, self.done);
            eprintln!("{}", [vec![done], described(&self.figures)].concat().join(", "));
        }
    }

    /// A plain line: how far the stage has come, the figures, and the time left.
    fn line(&self, elapsed: Duration) -> String {
        let total = self.total.map_or_else(|| "?".to_owned(), |total| total.to_string());
        let mut parts = vec![format!("{}: {} of {total}", self.name, self.done)];
        parts.extend(described(&self.figures));
        if let Some(left) = self.total.and_then(|total| total.checked_sub(self.done)).filter(|_| self.done > 0) {
            let rate = self.figures.steps_per_second.filter(|rate| *rate > 0.0);
            let rate = rate.unwrap_or(self.done as f64 / elapsed.as_secs_f64());
            if let Ok(left) = Duration::try_from_secs_f64(left as f64 / rate) {
                parts.push(format!("{} left", HumanDuration(left)));
            }
        }
        parts.join(", ")
    }
}

/// The figures that there are, as they are read.
fn described(figures: &Figures) -> Vec<String> {
    let mean_return = figures.mean_return.map(|value| format!("return {}", significant(value)));
    let loss = figures.loss.map(|value| format!("loss {}", significant(value)));
    let rate = figures.steps_per_second.map(|value| format!("{} steps/s", HumanCount(value as u64)));
    [mean_return, loss, rate].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_line_says_what_the_bar_says() {
        let mut drawn = Drawn { name: "training".to_owned(), total: Some(100_000), ..Drawn::default() };
        drawn.advance(40_000);
        assert_eq!(drawn.line(Duration::from_secs(4)), "training: 40000 of 100000, 6 seconds left");
        let figures = Figures { mean_return: Some(170.234), loss: Some(0.031_416), steps_per_second: Some(20_000.0) };
        drawn.figures(&figures);
        let line = "training: 40000 of 100000, return 170.2, loss 0.03142, 20,000 steps/s, 3 seconds left";
        assert_eq!(drawn.line(Duration::from_secs(4)), line);
        let unbounded = Drawn { total: None, figures: Figures::default(), ..drawn };
        assert_eq!(unbounded.line(Duration::from_secs(4)), "training: 40000 of ?");
    }
}
