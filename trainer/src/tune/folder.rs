//! The folder of a search.

use std::fs;
use std::path::{Path, PathBuf};

use toml::Table;

use super::log::{LogError, TrialLog};
use super::outcome::Tuned;
use super::{TuneSettings, report};
use crate::report::{Plot, ReportError};

/// The names that a search's plots and page go by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TuneLabels {
    /// What is tuned.
    pub title: String,
    /// What is made great or small, such as `mean return`.
    pub objective: String,
    /// What the budget counts, such as `environment steps`.
    pub budget: String,
}

/// The folder that a search writes: `results.jsonl` while it goes, and at its end `trials.csv`, `trials.json`,
/// `best.toml`, `trials.png`, `parameters.png` and `report.html`.
#[derive(Debug)]
pub struct TuneFolder {
    path: PathBuf,
}

impl TuneFolder {
    /// Opens the folder of a search, with the results of an interrupted one of the same settings, or of one that was to
    /// try fewer: what a trial tries does not depend on how many come after it.
    ///
    /// # Errors
    /// A folder that cannot be written to, or that another search wrote.
    pub fn open(path: &Path, settings: &TuneSettings, base: &Table) -> Result<(Self, TrialLog), LogError> {
        fs::create_dir_all(path).map_err(|source| LogError::File { path: path.to_owned(), source })?;
        let search = TuneSettings { trials: None, ..settings.clone() };
        let identity = serde_json::json!({ "search": search, "settings": base });
        Ok((Self { path: path.to_owned() }, TrialLog::open(&path.join("results.jsonl"), &identity)?))
    }

    /// Writes what the search found.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, tuned: &Tuned, settings: &TuneSettings, labels: &TuneLabels) -> Result<(), ReportError> {
        self.write_file("best.toml", tuned.best_settings().as_bytes())?;
        self.write_file("trials.csv", csv(tuned).as_bytes())?;
        self.write_file("trials.json", format!("{:#}\n", serde_json::json!(tuned)).as_bytes())?;
        self.write_file("trials.png", &report::trials(tuned, labels).png(960, 540)?)?;
        let parameters = report::parameters(tuned, settings, labels);
        let columns = if parameters.len() < 5 { 2 } else { 3 };
        self.write_file("parameters.png", &Plot::png_grid(&parameters, columns, 480, 360)?)?;
        self.write_file("report.html", report::page(tuned, settings, labels)?.as_bytes())
    }

    fn write_file(&self, name: &str, bytes: &[u8]) -> Result<(), ReportError> {
        let path = self.path.join(name);
        fs::write(&path, bytes).map_err(ReportError::at(&path))
    }
}

/// The trials in the order in which they began.
fn csv(tuned: &Tuned) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let rows = tuned.trials.iter().map(|tried| tuned.row(tried, |value| value.to_string()));
    let head = tuned.head().into_iter().map(ToOwned::to_owned).collect();
    // Writing into memory cannot fail.
    for row in std::iter::once(head).chain(rows) {
        let _ = writer.write_record(&row);
    }
    writer.into_inner().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
