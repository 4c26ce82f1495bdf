//! Closed segments of a journal: where they are, and how they are read.
//!
//! A segment is `<journal>/<kind>/date=<UTC date>/<name>.parquet`; names that begin with a dot are being written. Its
//! events are in the order of [`Event::order`], so that a journal reads in that order by merging the files of each date.

use std::fs::File;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use thiserror::Error;

use super::{Event, decode};

/// A segment that cannot be read or written.
#[derive(Debug, Error)]
#[error("journal segment {path}: {reason}")]
pub struct SegmentError {
    /// The file or folder.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

impl SegmentError {
    /// The error of `path`.
    pub fn at(path: &Path) -> impl Fn(String) -> Self + '_ {
        |reason| Self { path: path.to_owned(), reason }
    }
}

/// The files of one date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DateSegments {
    /// The date, `YYYY-MM-DD`.
    pub date: String,
    /// Its files, by name.
    pub files: Vec<PathBuf>,
}

/// The closed segments of a kind, by date; a journal without any has none.
///
/// # Errors
/// A folder that cannot be read.
pub fn segments<E: Event>(journal: &Path) -> Result<Vec<DateSegments>, SegmentError> {
    let mut dates = Vec::new();
    for folder in list(&journal.join(E::KIND))? {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(date) = name.strip_prefix("date=") {
            let files: Vec<PathBuf> = list(&folder)?.into_iter().filter(|path| is_segment(path)).collect();
            if !files.is_empty() {
                dates.push(DateSegments { date: date.to_owned(), files });
            }
        }
    }
    Ok(dates)
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, SegmentError> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let failed = |error: std::io::Error| SegmentError::at(folder)(error.to_string());
    let entries = folder.read_dir().map_err(failed)?;
    let mut paths = entries.map(|entry| Ok(entry.map_err(failed)?.path())).collect::<Result<Vec<_>, SegmentError>>()?;
    paths.sort_unstable();
    Ok(paths)
}

fn is_segment(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".parquet") && !name.starts_with('.')
}

/// The events of one file, in batches.
pub struct SegmentReader<E> {
    path: PathBuf,
    batches: ParquetRecordBatchReader,
    kind: PhantomData<E>,
}

impl<E: Event> SegmentReader<E> {
    /// Opens a file to be read `batch` events at a time.
    ///
    /// # Errors
    /// A file that is no Parquet.
    pub fn open(path: &Path, batch: usize) -> Result<Self, SegmentError> {
        let failed = SegmentError::at(path);
        let file = File::open(path).map_err(|error| failed(error.to_string()))?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| failed(error.to_string()))?;
        let batches = builder.with_batch_size(batch).build().map_err(|error| failed(error.to_string()))?;
        Ok(Self { path: path.to_owned(), batches, kind: PhantomData })
    }
}

impl<E: Event> Iterator for SegmentReader<E> {
    type Item = Result<Vec<E>, SegmentError>;

    fn next(&mut self) -> Option<Self::Item> {
        let failed = SegmentError::at(&self.path);
        let batch = self.batches.next()?.map_err(|error| failed(error.to_string()));
        Some(batch.and_then(|batch| decode(&batch).map_err(|error| failed(error.to_string()))))
    }
}
