//! Versions of the journal's schema: what a segment was written with, and what its columns hold that came later.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, ListArray, StringArray, new_empty_array, new_null_array};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::ParquetMetaData;

use super::{SCHEMA_VERSION, SegmentError};

/// The key of a file's metadata that holds the version.
pub const SCHEMA_KEY: &str = "slated.schema";

/// Columns that came with version 2, and with version 3; all of decisions.
const LATER: [&str; 10] = [
    "marginal_draws",
    "mode",
    "not_evaluable",
    "page_id",
    "slot",
    "rules",
    "baseline",
    "catalogue_version",
    "alternatives",
    "omitted_features",
];

/// The version of the schema that a file was written with; `None` where another writer did not say.
///
/// # Errors
/// A version that is none, or one that this slated does not know.
pub fn schema_version(metadata: &ParquetMetaData) -> Result<Option<u32>, String> {
    let said = metadata.file_metadata().key_value_metadata().into_iter().flatten();
    let Some(said) = said.filter(|pair| pair.key == SCHEMA_KEY).find_map(|pair| pair.value.as_deref()) else {
        return Ok(None);
    };
    match said.parse::<u32>() {
        Ok(version) if version > SCHEMA_VERSION => Err(format!(
            "it was written with version {version} of the journal's schema, and this slated knows those up to \
             {SCHEMA_VERSION}; upgrade slated to read it"
        )),
        Ok(version) => Ok(Some(version)),
        Err(_) => Err(format!("its version of the journal's schema is `{said}`, which is no number")),
    }
}

/// The version of the schema that a segment was written with, from its footer alone.
///
/// # Errors
/// A file that is no Parquet, or of a version that this slated does not know.
pub fn segment_version(path: &Path) -> Result<Option<u32>, SegmentError> {
    let metadata = super::segment::parquet(path)?.metadata().clone();
    schema_version(&metadata).map_err(SegmentError::at(path))
}

/// Refuses a segment of a version that this slated does not know; one that does not read at all is not refused for that.
///
/// # Errors
/// Such a version.
pub fn refuse_newer(path: &Path) -> Result<(), SegmentError> {
    let Ok(file) = File::open(path) else { return Ok(()) };
    let Ok(builder) = ParquetRecordBatchReaderBuilder::try_new(file) else { return Ok(()) };
    schema_version(builder.metadata()).map(drop).map_err(SegmentError::at(path))
}

/// What a column that came with a later version holds in a segment from before it; `None` where it was always there.
pub fn before(column: &Field, rows: usize) -> Option<ArrayRef> {
    if !LATER.contains(&column.name().as_str()) {
        return None;
    }
    match column.data_type() {
        DataType::List(element) => {
            let (values, offsets) = (new_empty_array(element.data_type()), OffsetBuffer::new_zeroed(rows));
            Some(Arc::new(ListArray::new(Arc::clone(element), offsets, values, None)))
        }
        // Every slate was the policy's then.
        _ if column.name() == "mode" => Some(Arc::new(StringArray::from(vec!["policy"; rows]))),
        kind => Some(new_null_array(kind, rows)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Decision, Event};

    /// The two ways in which older segments are read, as events and as columns, must agree.
    #[test]
    fn columns_from_before_read_as_events_do() {
        let batch = Decision::encode(&[Decision::default(), Decision::default()]).unwrap();
        for name in LATER {
            let (index, field) = Decision::columns().column_with_name(name).unwrap();
            assert_eq!(&before(field, 2).unwrap(), batch.column(index), "{name}");
        }
        assert_eq!(before(Decision::columns().field(0), 2), None);
    }
}
