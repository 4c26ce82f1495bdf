//! Progress bars on a terminal, plain lines otherwise.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use slated_trainer::progress::Progress;

/// How often a plain line is written where there is no terminal.
const LINE: Duration = Duration::from_secs(5);

/// A bar on the standard error; nothing where that is no terminal.
pub fn bar(name: &str, total: Option<u64>) -> ProgressBar {
    // Where there is no terminal, indicatif draws nothing by itself.
    let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    let template = if total.is_some() {
        "{msg:24} {bar:40} {human_pos:>9}/{human_len} {per_sec} {eta}"
    } else {
        "{msg:24} {spinner} {human_pos:>9} {per_sec}"
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(name.to_owned());
    bar
}

/// Draws a trainer's progress.
#[derive(Debug, Default)]
pub struct Drawn {
    name: String,
    bar: Option<ProgressBar>,
    done: u64,
    total: Option<u64>,
    line: Option<Instant>,
}

impl Progress for Drawn {
    fn stage(&mut self, name: &str, total: Option<u64>) {
        self.finish();
        *self = Self { name: name.to_owned(), total, ..Self::default() };
        if std::io::stderr().is_terminal() {
            self.bar = Some(bar(name, total));
        } else {
            self.line = Some(Instant::now());
            eprintln!("{name}: {} to go", total.map_or_else(|| "?".to_owned(), |total| total.to_string()));
        }
    }

    fn advance(&mut self, steps: u64) {
        self.done += steps;
        if let Some(bar) = &self.bar {
            bar.inc(steps);
        }
        if let Some(line) = self.line.as_mut().filter(|line| line.elapsed() >= LINE) {
            *line = Instant::now();
            eprintln!(
                "{}: {} of {}",
                self.name,
                self.done,
                self.total.map_or_else(|| "?".to_owned(), |total| total.to_string())
            );
        }
    }
}

impl Drawn {
    /// Ends the last stage.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        if self.line.take().is_some() {
            eprintln!("{}: {} done", self.name, self.done);
        }
    }
}
