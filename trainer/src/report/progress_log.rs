//! The progress of a run as `progress.csv`.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Estimate, ReportError};

/// How a run stands after a step. What was not measured is empty in the file.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ProgressRow {
    /// Environment steps so far; gradient steps where a log is learned from.
    pub step: u64,
    /// Episodes ended so far; all those of a log.
    pub episodes: u64,
    /// Time that the run has taken so far, all its parts added up, in seconds.
    pub seconds: f64,
    /// Mean return of the episodes that ended since the last row, under exploration.
    pub mean_return: Option<f64>,
    /// Mean loss of the gradient updates since the last row.
    pub loss: Option<f64>,
    /// Loss over what is kept out of learning.
    pub validation_loss: Option<f64>,
    /// Mean norm of the gradient before it was clipped.
    pub gradient_norm: Option<f64>,
    /// Share of random slates.
    pub epsilon: Option<f64>,
    /// Environment steps a second since the last row.
    pub steps_per_second: Option<f64>,
    /// Mean return of an evaluation without exploration, with its interval.
    pub evaluation: Option<Estimate>,
}

/// A row as the file has it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    step: u64,
    episodes: u64,
    seconds: f64,
    mean_return: Option<f64>,
    loss: Option<f64>,
    gradient_norm: Option<f64>,
    epsilon: Option<f64>,
    steps_per_second: Option<f64>,
    evaluation_return: Option<f64>,
    evaluation_lower: Option<f64>,
    evaluation_upper: Option<f64>,
    validation_loss: Option<f64>,
}

impl From<ProgressRow> for Record {
    fn from(row: ProgressRow) -> Self {
        Self {
            step: row.step,
            episodes: row.episodes,
            seconds: row.seconds,
            mean_return: row.mean_return,
            loss: row.loss,
            gradient_norm: row.gradient_norm,
            epsilon: row.epsilon,
            steps_per_second: row.steps_per_second,
            evaluation_return: row.evaluation.map(|estimate| estimate.mean),
            evaluation_lower: row.evaluation.map(|estimate| estimate.lower),
            evaluation_upper: row.evaluation.map(|estimate| estimate.upper),
            validation_loss: row.validation_loss,
        }
    }
}

impl From<Record> for ProgressRow {
    fn from(record: Record) -> Self {
        let estimate = |mean| Some(Estimate { mean, lower: record.evaluation_lower?, upper: record.evaluation_upper? });
        Self {
            step: record.step,
            episodes: record.episodes,
            seconds: record.seconds,
            mean_return: record.mean_return,
            loss: record.loss,
            validation_loss: record.validation_loss,
            gradient_norm: record.gradient_norm,
            epsilon: record.epsilon,
            steps_per_second: record.steps_per_second,
            evaluation: record.evaluation_return.and_then(estimate),
        }
    }
}

/// The file, with its rows. Each row is handed to the system as it comes, so an interrupted run keeps its curve.
#[derive(Debug)]
pub struct ProgressLog {
    path: PathBuf,
    writer: csv::Writer<File>,
    rows: Vec<ProgressRow>,
}

impl ProgressLog {
    /// Begins a file.
    ///
    /// # Errors
    /// A file that is there already, or that cannot be written.
    pub fn create(path: &Path) -> Result<Self, ReportError> {
        let file = OpenOptions::new().write(true).create_new(true).open(path);
        let file = file.map_err(|source| match source.kind() {
            std::io::ErrorKind::AlreadyExists => ReportError::Taken(path.parent().unwrap_or(path).to_owned()),
            _ => ReportError::at(path)(source),
        })?;
        Ok(Self { path: path.to_owned(), writer: csv::Writer::from_writer(file), rows: Vec::new() })
    }

    /// Goes on with a file up to a checkpoint's step: the rows of later steps are cut, since they come again.
    ///
    /// # Errors
    /// A file that is not there, cannot be written, or has other columns.
    pub fn resume(path: &Path, step: u64) -> Result<Self, ReportError> {
        let text = fs::read_to_string(path).map_err(ReportError::at(path))?;
        // The end of a row that was cut short by a kill has no line break.
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        let records = csv::Reader::from_reader(whole.as_bytes()).into_deserialize::<Record>();
        let rows = records.collect::<Result<Vec<_>, _>>().map_err(|error| progress_error(path, &error))?;
        let kept = rows.into_iter().map(ProgressRow::from).take_while(|row| row.step <= step).collect::<Vec<_>>();

        // Written beside the old file first, so that there is always a whole one.
        let beside = path.with_extension("csv.new");
        let file = File::create(&beside).map_err(ReportError::at(&beside))?;
        let mut log = Self { path: path.to_owned(), writer: csv::Writer::from_writer(file), rows: Vec::new() };
        for row in kept {
            log.append(row)?;
        }
        fs::rename(&beside, path).map_err(ReportError::at(path))?;
        Ok(log)
    }

    /// Appends a row.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn append(&mut self, row: ProgressRow) -> Result<(), ReportError> {
        self.writer.serialize(Record::from(row)).map_err(|error| progress_error(&self.path, &error))?;
        self.writer.flush().map_err(ReportError::at(&self.path))?;
        self.rows.push(row);
        Ok(())
    }

    /// The rows so far.
    #[must_use]
    pub fn rows(&self) -> &[ProgressRow] {
        &self.rows
    }
}

fn progress_error(path: &Path, error: &csv::Error) -> ReportError {
    ReportError::Progress { path: path.to_owned(), problem: error.to_string() }
}
