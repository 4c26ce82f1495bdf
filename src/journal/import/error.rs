//! Logs that cannot be imported.

use std::path::PathBuf;

use slated_contract::event::SegmentError;
use thiserror::Error;

use crate::files::FileError;

/// A log that cannot be imported.
#[derive(Debug, Error)]
pub enum ImportError {
    /// No Open Bandit log there.
    #[error(
        "{0} holds no Open Bandit log; expected {0}/<random or bts>/<all, men or women>/<campaign>.csv with item_context.csv beside it"
    )]
    NotFound(PathBuf),
    /// No file of the format there.
    #[error("{path} holds no file that ends in {format}")]
    NoFiles {
        /// The folder.
        path: PathBuf,
        /// The endings that were looked for.
        format: &'static str,
    },
    /// The disk.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file whose header or items cannot be used, so that no row could be.
    #[error("{path}: {problem}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The journal.
    #[error(transparent)]
    Journal(#[from] SegmentError),
}

impl From<FileError> for ImportError {
    fn from(FileError { path, source }: FileError) -> Self {
        Self::Io { path, source }
    }
}
