//! The folder of a run.

use std::fs;
use std::path::{Path, PathBuf};

use super::{EventFile, ProgressLog, ProgressRow, ReportError, RunReport};

/// The folder that a run writes: `progress.csv`, TensorBoard's event files, and, once there is something to report,
/// `report.html` with its plots as PNG files.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    progress: ProgressLog,
    events: EventFile,
}

impl RunFolder {
    /// Begins a run.
    ///
    /// # Errors
    /// A folder that holds a run already, or that cannot be written to.
    pub fn create(path: &Path) -> Result<Self, ReportError> {
        fs::create_dir_all(path).map_err(ReportError::at(path))?;
        let progress = ProgressLog::create(&path.join(PROGRESS))?;
        Ok(Self { path: path.to_owned(), progress, events: EventFile::begin(path, 0)? })
    }

    /// Goes on with a run from a checkpoint made at `step`. What was written for later steps is dropped.
    ///
    /// # Errors
    /// A folder that holds no run, or that cannot be written to.
    pub fn resume(path: &Path, step: u64) -> Result<Self, ReportError> {
        let progress = ProgressLog::resume(&path.join(PROGRESS), step)?;
        Ok(Self { path: path.to_owned(), progress, events: EventFile::begin(path, step + 1)? })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The rows so far.
    #[must_use]
    pub fn rows(&self) -> &[ProgressRow] {
        self.progress.rows()
    }

    /// Writes down how the run stands.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn record(&mut self, row: ProgressRow) -> Result<(), ReportError> {
        self.progress.append(row)?;
        let scalars = [
            ("rollout/mean_return", row.mean_return),
            ("rollout/episodes", Some(row.episodes as f64)),
            ("rollout/epsilon", row.epsilon),
            ("train/loss", row.loss),
            ("train/validation_loss", row.validation_loss),
            ("train/gradient_norm", row.gradient_norm),
            ("time/steps_per_second", row.steps_per_second),
            ("evaluation/mean_return", row.evaluation.map(|estimate| estimate.mean)),
            ("evaluation/lower", row.evaluation.map(|estimate| estimate.lower)),
            ("evaluation/upper", row.evaluation.map(|estimate| estimate.upper)),
        ];
        self.events.append(row.step, scalars.into_iter().filter_map(|(tag, value)| Some((tag, value?))))
    }

    /// Writes the page and its plots from the rows so far, over any earlier ones. Can be called at any time, so that
    /// an interrupted run has a report too.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write_report(&self, report: &RunReport) -> Result<(), ReportError> {
        for (name, plot) in report.plots(self.rows()) {
            let path = self.path.join(format!("{name}.png"));
            fs::write(&path, plot.png(960, 540)?).map_err(ReportError::at(&path))?;
        }
        let path = self.path.join("report.html");
        fs::write(&path, report.page(self.rows())?).map_err(ReportError::at(&path))
    }
}

const PROGRESS: &str = "progress.csv";
