//! Closed segments: Parquet files that appear whole or not at all.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use arrow::array::AsArray;
use parquet::arrow::arrow_reader::{ArrowPredicateFn, ParquetRecordBatchReaderBuilder, RowFilter};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use serde::{Deserialize, Serialize};
use slated_contract::event::{self, Event, SCHEMA_VERSION, SegmentError};

/// Rows in one row group: small enough that reading one decision back does not read the whole file.
const ROW_GROUP: usize = 2048;

/// One file of a closed segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentFile {
    /// Its path in the journal's folder.
    pub path: String,
    /// How many events it holds.
    pub events: u64,
}

/// Writes events into `<journal>/<kind>/date=<UTC date>/<name>.parquet`, one file a date. The same events under the
/// same name give the same bytes; a file that is there is replaced by its like.
///
/// # Errors
/// The disk, or events that do not fit their columns.
pub fn write_segment<E: Event>(journal: &Path, name: &str, events: &[E]) -> Result<Vec<SegmentFile>, SegmentError> {
    let mut by_date: BTreeMap<String, Vec<E>> = BTreeMap::new();
    for event in events {
        by_date.entry(event.time().format("%Y-%m-%d").to_string()).or_default().push(event.clone());
    }
    by_date
        .into_iter()
        .map(|(date, mut events)| {
            events.sort_by(|a, b| a.order().cmp(&b.order()));
            let path = format!("{}/date={date}/{name}.parquet", E::KIND);
            write_file(&journal.join(&path), &events)?;
            Ok(SegmentFile { path, events: events.len() as u64 })
        })
        .collect()
}

fn write_file<E: Event>(path: &Path, events: &[E]) -> Result<(), SegmentError> {
    let failed = SegmentError::at(path);
    let (folder, name) = (path.parent().unwrap_or(path), path.file_name().unwrap_or_default().to_string_lossy());
    fs::create_dir_all(folder).map_err(|error| failed(error.to_string()))?;
    // Readers pass over names that begin with a dot.
    let hidden = folder.join(format!(".{name}.part"));
    let file = File::create(&hidden).map_err(|error| failed(error.to_string()))?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP))
        .set_key_value_metadata(Some(vec![KeyValue::new("slated.schema".to_owned(), SCHEMA_VERSION.to_string())]))
        .build();
    let mut writer = ArrowWriter::try_new(file, event::schema::<E>(), Some(properties))
        .map_err(|error| failed(error.to_string()))?;
    for chunk in events.chunks(ROW_GROUP) {
        let batch = event::encode(chunk).map_err(|error| failed(error.to_string()))?;
        writer.write(&batch).map_err(|error| failed(error.to_string()))?;
    }
    let file = writer.into_inner().map_err(|error| failed(error.to_string()))?;
    file.sync_all()
        .and_then(|()| fs::rename(&hidden, path))
        .and_then(|()| File::open(folder)?.sync_all())
        .map_err(|error| failed(error.to_string()))
}

/// The event with this id, if the file holds it. Only the ids are read of rows that do not match.
pub fn find<E: Event>(path: &Path, id: &str) -> Result<Option<E>, SegmentError> {
    let failed = SegmentError::at(path);
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| failed(error.to_string()))?;
    // The id is the first column of every kind.
    let ids = ProjectionMask::leaves(builder.parquet_schema(), [0]);
    let wanted = id.to_owned();
    let matches = ArrowPredicateFn::new(ids, move |batch| {
        let ids = batch.column(0).as_string::<i32>();
        Ok(ids.iter().map(|id| Some(id == Some(wanted.as_str()))).collect())
    });
    let filter = RowFilter::new(vec![Box::new(matches)]);
    let batches = builder.with_row_filter(filter).build().map_err(|error| failed(error.to_string()))?;
    for batch in batches {
        let batch = batch.map_err(|error| failed(error.to_string()))?;
        if let Some(event) = E::decode(&batch).map_err(|error| failed(error.to_string()))?.pop() {
            return Ok(Some(event));
        }
    }
    Ok(None)
}
