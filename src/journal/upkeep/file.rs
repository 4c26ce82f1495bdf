//! A segment file from a stream of events.

use std::path::Path;

use parquet::arrow::ArrowWriter;
use slated_contract::event::{self, Digesting, Event, ManifestFile, SegmentError};

use crate::journal::segment::{appear, properties};

/// Events encoded at a time.
const CHUNK: usize = 256;

/// Writes events, which come in their order, into the segment file at `journal`/`path`, which appears whole or replaces
/// what is there in one step; what its manifest is to say of it.
pub fn write_file<E: Event>(
    journal: &Path,
    path: &str,
    events: &mut dyn Iterator<Item = Result<E, SegmentError>>,
) -> Result<ManifestFile, SegmentError> {
    let whole = journal.join(path);
    let failed = SegmentError::at(&whole);
    appear(&whole, |file| {
        let mut writer = ArrowWriter::try_new(Digesting::new(file), event::schema::<E>(), Some(properties()))
            .map_err(|error| failed(error.to_string()))?;
        let mut written = 0;
        loop {
            let chunk = events.take(CHUNK).collect::<Result<Vec<E>, _>>()?;
            if chunk.is_empty() {
                break;
            }
            written += chunk.len() as u64;
            let batch = event::encode(&chunk).map_err(|error| failed(error.to_string()))?;
            writer.write(&batch).map_err(|error| failed(error.to_string()))?;
        }
        let (_, (bytes, xxh3)) = writer.into_inner().map_err(|error| failed(error.to_string()))?.finish();
        Ok(ManifestFile { path: path.to_owned(), events: written, bytes, xxh3 })
    })
}

/// What a manifest is to say of a file that is there.
pub fn describe(journal: &Path, path: &str) -> Result<ManifestFile, SegmentError> {
    let whole = journal.join(path);
    let (bytes, xxh3) = event::digest(&whole).map_err(|error| SegmentError::at(&whole)(error.to_string()))?;
    Ok(ManifestFile { path: path.to_owned(), events: event::count(&whole)?, bytes, xxh3 })
}
