//! The results of a search as they come, so that an interrupted one goes on where it was.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What came of running a trial up to a budget.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobResult {
    /// The trial, from 0.
    pub trial: usize,
    /// What the trial has used in all.
    pub budget: u64,
    /// The objective; `None` where the trial failed.
    pub value: Option<f64>,
    /// Why the trial failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// The results of a search, by trial and budget; JSON lines in a file where it has one.
#[derive(Debug, Default)]
pub struct TrialLog {
    results: HashMap<(usize, u64), JobResult>,
    file: Option<(PathBuf, File)>,
}

/// A log that cannot be used.
#[derive(Debug, Error)]
pub enum LogError {
    /// The file.
    #[error("{}: {source}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// A log of another search.
    #[error("{} is of a search with other settings; name another folder, or remove this one", .0.display())]
    Other(PathBuf),
    /// A line that is no result.
    #[error("{} line {line}: {source}", path.display())]
    Line {
        /// The file's path.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl TrialLog {
    /// Opens the log of a search, or begins it. Its first line says what the search is asked to do.
    ///
    /// # Errors
    /// A file that cannot be read or written, that another search wrote, or with a line that is no result.
    pub fn open(path: &Path, identity: &serde_json::Value) -> Result<Self, LogError> {
        let file_error = |source| LogError::File { path: path.to_owned(), source };
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(file_error)?;
        let text = fs::read_to_string(path).map_err(file_error)?;
        // A last line without its break was cut short.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64).map_err(file_error)?;
        let mut log = Self { results: HashMap::new(), file: Some((path.to_owned(), file)) };
        let identity = identity.to_string();
        let mut lines = text[..whole].lines().enumerate();
        match lines.next() {
            None => log.write(&identity)?,
            Some((_, first)) if first == identity => {}
            Some(_) => return Err(LogError::Other(path.to_owned())),
        }
        for (index, line) in lines {
            let result: JobResult = serde_json::from_str(line).map_err(|source| LogError::Line {
                path: path.to_owned(),
                line: index + 1,
                source,
            })?;
            log.results.insert((result.trial, result.budget), result);
        }
        Ok(log)
    }

    /// How many results it holds.
    pub(super) fn len(&self) -> usize {
        self.results.len()
    }

    /// What is known already of a trial at a budget.
    pub(super) fn known(&self, trial: usize, budget: u64) -> Option<&JobResult> {
        self.results.get(&(trial, budget))
    }

    pub(super) fn record(&mut self, result: JobResult) -> Result<(), LogError> {
        if self.file.is_some() {
            self.write(&serde_json::json!(result).to_string())?;
        }
        self.results.insert((result.trial, result.budget), result);
        Ok(())
    }

    fn write(&mut self, line: &str) -> Result<(), LogError> {
        let Some((path, file)) = &mut self.file else { return Ok(()) };
        writeln!(file, "{line}").map_err(|source| LogError::File { path: path.clone(), source })
    }
}
