//! What became of every row.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Refusals that are kept with their reason; the rest are counted.
const KEPT: usize = 1000;

/// What became of the rows of all files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportReport {
    /// By file.
    pub files: Vec<FileReport>,
}

/// What became of the rows of one file. Of a log whose rows are decisions with their feedback, `rows = decisions +
/// refused`; of a file of events, `rows = decisions + feedback + changes + refused`. A row may hold several decisions or
/// none where its format says so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileReport {
    /// The file.
    pub file: String,
    /// Rows read.
    pub rows: u64,
    /// Decisions written.
    pub decisions: u64,
    /// Feedback events written.
    pub feedback: u64,
    /// Changes of routes written.
    #[serde(default)]
    pub changes: u64,
    /// Rows that say of themselves that nothing is to be learned from them, and what a sampled log had to be thinned by.
    #[serde(default)]
    pub passed_over: u64,
    /// Rows refused.
    pub refused: u64,
    /// The first refusals.
    pub refusals: Vec<Refusal>,
}

/// A row that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Its line, from 1.
    pub line: u64,
    /// Why.
    pub reason: String,
}

impl FileReport {
    /// Counts a refusal.
    pub fn refuse(&mut self, line: u64, reason: String) {
        self.refused += 1;
        if self.refusals.len() < KEPT {
            self.refusals.push(Refusal { line, reason });
        }
    }
}

impl ImportReport {
    /// The sums over all files.
    #[must_use]
    pub fn total(&self) -> FileReport {
        self.files.iter().fold(FileReport { file: "total".to_owned(), ..FileReport::default() }, |mut total, file| {
            total.rows += file.rows;
            total.decisions += file.decisions;
            total.feedback += file.feedback;
            total.changes += file.changes;
            total.passed_over += file.passed_over;
            total.refused += file.refused;
            total
        })
    }
}

impl fmt::Display for ImportReport {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let total = self.total();
        let width = self.files.iter().map(|file| file.file.len()).max().unwrap_or(0).max(5);
        write!(
            formatter,
            "{:width$} {:>10} {:>10} {:>10} {:>8} {:>11} {:>8}",
            "file", "rows", "decisions", "feedback", "changes", "passed over", "refused"
        )?;
        for file in self.files.iter().chain([&total]) {
            let FileReport { file, rows, decisions, feedback, changes, passed_over, refused, .. } = file;
            write!(formatter, "\n{file:width$} {rows:>10} {decisions:>10} {feedback:>10} {changes:>8} ")?;
            write!(formatter, "{passed_over:>11} {refused:>8}")?;
        }
        for file in &self.files {
            for Refusal { line, reason } in &file.refusals {
                write!(formatter, "\n{}:{line}: {reason}", file.file)?;
            }
            if file.refused > file.refusals.len() as u64 {
                write!(formatter, "\n{}: {} more rows refused", file.file, file.refused - file.refusals.len() as u64)?;
            }
        }
        Ok(())
    }
}
