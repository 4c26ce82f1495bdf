//! The journal's events in files that move: JSON lines, CSV and Parquet, the same events out of them as went in.
//!
//! - **JSON lines**: one event a line, features as plain objects, times in RFC 3339.
//! - **CSV**: one event a row, a column for each of the event's; what is nested stands as JSON in its cell. An empty cell
//!   is no value. A text that is empty or begins with `"` stands as JSON too, so that it is told from no value.
//! - **Parquet**: the columns of a closed segment.

mod cells;
mod check;
mod export;
mod import;
mod line;
mod write;

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use slated_contract::event::SegmentError;
use slated_trainer::dataset::{DatasetError, MirrorError};
use thiserror::Error;

use crate::files::FileError;

pub(in crate::journal) use check::Check;
pub use export::{ExportReport, ExportSettings, ExportedFile, Kind, export};
pub use import::import_files;
pub use line::Line;

/// The form of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// JSON lines.
    Jsonl,
    /// CSV with a header.
    Csv,
    /// Parquet.
    Parquet,
}

impl Format {
    /// What its files' names end in, without the dot.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(self.extension())
    }
}

/// Events that cannot be exported or imported.
#[derive(Debug, Error)]
pub enum ExchangeError {
    /// Nothing to export.
    #[error("{0} holds no such events in closed segments; a running service closes them on POST /journal/seal")]
    Nothing(PathBuf),
    /// Where the export is to go.
    #[error("{path}: {problem}")]
    Target {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// No file to import.
    #[error("{path} holds no file that ends in `.{format}`")]
    NoFiles {
        /// The folder.
        path: PathBuf,
        /// What was looked for.
        format: Format,
    },
    /// A file none of whose rows can be used.
    #[error("{path}: {problem}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// An event that the format cannot hold.
    #[error("{kind} `{id}`: {problem}; export it as Parquet")]
    Event {
        /// Its kind.
        kind: &'static str,
        /// Its id.
        id: String,
        /// What is wrong.
        problem: String,
    },
    /// The disk.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An object store.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// A segment of the journal.
    #[error(transparent)]
    Journal(#[from] SegmentError),
    /// The decisions with their rewards.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The settings of the export.
    #[error("{0}")]
    Settings(String),
}

impl From<FileError> for ExchangeError {
    fn from(FileError { path, source }: FileError) -> Self {
        Self::Io { path, source }
    }
}
