//! Closed segments of a journal: where they are, and how they are read.
//!
//! A segment is `<journal>/<kind>/date=<UTC date>/<name>.parquet`; names that begin with a dot are being written. Its
//! events are in the order of [`Event::order`], so that a journal reads in that order by merging the files of each date.

use std::fs::File;
use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{FieldRef, Schema, SchemaRef, TimestampMicrosecondType};
use chrono::{DateTime, Utc};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use thiserror::Error;

use super::conform::conform;
use super::{Event, version};

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

/// What is in a folder, by name; nothing where it is not there.
pub(super) fn list(folder: &Path) -> Result<Vec<PathBuf>, SegmentError> {
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

pub(super) fn parquet(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>, SegmentError> {
    let failed = SegmentError::at(path);
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| failed(error.to_string()))?;
    version::schema_version(builder.metadata()).map_err(failed)?;
    Ok(builder)
}

/// How many events a file holds, from its footer alone.
///
/// # Errors
/// A file that is no Parquet.
pub fn count(path: &Path) -> Result<u64, SegmentError> {
    let rows = parquet(path)?.metadata().file_metadata().num_rows();
    u64::try_from(rows).map_err(|_| SegmentError::at(path)(format!("its footer counts {rows} rows")))
}

/// From when to when a file's events are, from its footer alone; all of time where the footer does not say.
///
/// # Errors
/// A file that is no Parquet.
pub(super) fn times<E: Event>(path: &Path) -> Result<RangeInclusive<DateTime<Utc>>, SegmentError> {
    let file = parquet(path)?;
    let said = || {
        let time = E::columns().field_with_name("time").ok()?;
        let statistics = StatisticsConverter::try_new("time", file.schema(), file.parquet_schema()).ok()?;
        // A group of rows without statistics has an empty cell here, which does not conform.
        let moments = |cells: ArrayRef| {
            let cells = conform(time, &cells).ok()?;
            Some(cells.as_primitive_opt::<TimestampMicrosecondType>()?.values().clone())
        };
        let groups = file.metadata().row_groups();
        let first = moments(statistics.row_group_mins(groups).ok()?)?.iter().min().copied()?;
        let last = moments(statistics.row_group_maxes(groups).ok()?)?.iter().max().copied()?;
        Some(DateTime::from_timestamp_micros(first)?..=DateTime::from_timestamp_micros(last)?)
    };
    Ok(said().unwrap_or(DateTime::<Utc>::MIN_UTC..=DateTime::<Utc>::MAX_UTC))
}

/// Some columns of a kind of event, to be read without the others.
#[derive(Debug, Clone)]
pub struct Columns {
    schema: SchemaRef,
}

impl Columns {
    /// The columns of these names, in this order; names that events of this kind do not have are passed over.
    #[must_use]
    pub fn of<E: Event>(names: &[&str]) -> Self {
        let fields = names.iter().filter_map(|name| E::columns().field_with_name(name).ok().cloned());
        Self { schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())) }
    }

    /// The columns.
    #[must_use]
    pub const fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Reads a file, `batch` events at a time.
    ///
    /// # Errors
    /// A file that is no Parquet or lacks a column; on the way, cells that are not of the declared type.
    pub fn read(
        &self,
        path: &Path,
        batch: usize,
    ) -> Result<impl Iterator<Item = Result<RecordBatch, SegmentError>> + use<>, SegmentError> {
        let builder = parquet(path)?;
        let names = self.schema.fields().iter().map(|field| field.name().as_str());
        let mask = ProjectionMask::columns(builder.parquet_schema(), names);
        let batches = builder.with_projection(mask).with_batch_size(batch).build();
        let batches = batches.map_err(|error| SegmentError::at(path)(error.to_string()))?;
        let (schema, path) = (Arc::clone(&self.schema), path.to_owned());
        Ok(batches.map(move |batch| {
            let failed = SegmentError::at(&path);
            let batch = batch.map_err(|error| failed(error.to_string()))?;
            let column = |field: &FieldRef| {
                let missing = || failed(format!("column `{}` is missing", field.name()));
                let array = batch.column_by_name(field.name()).cloned();
                let array = array.or_else(|| version::before(field, batch.num_rows())).ok_or_else(missing)?;
                conform(field, &array).map_err(|error| failed(error.to_string()))
            };
            let columns = schema.fields().iter().map(column).collect::<Result<_, _>>()?;
            RecordBatch::try_new(Arc::clone(&schema), columns).map_err(|error| failed(error.to_string()))
        }))
    }
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
        let batches = parquet(path)?.with_batch_size(batch).build();
        let batches = batches.map_err(|error| SegmentError::at(path)(error.to_string()))?;
        Ok(Self { path: path.to_owned(), batches, kind: PhantomData })
    }
}

impl<E: Event> Iterator for SegmentReader<E> {
    type Item = Result<Vec<E>, SegmentError>;

    fn next(&mut self) -> Option<Self::Item> {
        let failed = SegmentError::at(&self.path);
        let batch = self.batches.next()?.map_err(|error| failed(error.to_string()));
        Some(batch.and_then(|batch| E::decode(&batch).map_err(|error| failed(error.to_string()))))
    }
}
