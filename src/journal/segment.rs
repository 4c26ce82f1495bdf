//! Closed segments: Parquet files that appear whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use arrow::array::AsArray;
use chrono::{DateTime, Utc};
use parquet::arrow::arrow_reader::{ArrowPredicateFn, ParquetRecordBatchReaderBuilder, RowFilter};
use parquet::arrow::{ArrowSchemaConverter, ProjectionMask};
use parquet::basic::{Compression, Type, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnDescPtr;
use serde::{Deserialize, Serialize};
use slated_contract::event::{
    self, Digesting, Event, ManifestFile, SCHEMA_KEY, SCHEMA_VERSION, SegmentError, SegmentManifest,
};

use super::columns::ColumnsWriter;

/// The most bytes and rows of a column that are encoded and compressed in one go. A page's values are in memory, and the
/// compressor of each of some fifty columns, which a row group has at the same time, takes as much as its longest page needs.
const PAGE: usize = 32 * 1024;
const PAGE_ROWS: usize = 256;
/// Rows in one row group: small enough that reading one decision back does not read the whole file.
const ROW_GROUP: usize = 2048;
/// Events decoded at a time: wide ones take much more memory than their bytes in a file, and the thread does not pause while a
/// chunk is encoded.
const CHUNK: usize = 32;

/// Held while closed segments are changed or removed: what one finds in the journal, another must not change meanwhile.
pub type Changing = Arc<Mutex<()>>;

/// One file of a closed segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentFile {
    /// Its path in the journal's folder.
    pub path: String,
    /// How many events it holds.
    pub events: u64,
}

/// Where an event stands in its segment, and a key by which it is fetched.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place<K> {
    time: DateTime<Utc>,
    id: Arc<str>,
    key: K,
}

impl<K> Place<K> {
    /// The place of an event.
    pub fn of<E: Event>(event: &E, key: K) -> Self {
        let (time, id) = event.order();
        Self::new(time, id.into(), key)
    }

    /// The place of an event of this time and id.
    pub const fn new(time: DateTime<Utc>, id: Arc<str>, key: K) -> Self {
        Self { time, id, key }
    }

    /// When the event was.
    pub const fn time(&self) -> DateTime<Utc> {
        self.time
    }
}

/// Writes events into `<journal>/<kind>/date=<UTC date>/<name>.parquet`, one file a date, and then their manifest. The
/// same events under the same name give the same bytes; a file that is there is replaced by its like.
///
/// # Errors
/// The disk, or events that do not fit their columns.
pub fn write_segment<E: Event>(journal: &Path, name: &str, events: &[E]) -> Result<Vec<SegmentFile>, SegmentError> {
    let places = events.iter().enumerate().map(|(index, event)| Place::of(event, index)).collect();
    write_places(journal, name, places, |&index| Ok(events[index].clone()), &|| ())
}

/// [`write_segment`] of events that are fetched when they are written, [`CHUNK`] at a time. Between small steps it calls `rest`.
///
/// # Errors
/// As for [`write_segment`], and those of `fetch`.
pub fn write_places<E, K, F>(
    journal: &Path,
    name: &str,
    mut places: Vec<Place<K>>,
    fetch: impl Fn(&K) -> Result<E, F>,
    rest: &dyn Fn(),
) -> Result<Vec<SegmentFile>, F>
where
    E: Event,
    K: Ord,
    F: From<SegmentError>,
{
    places.sort_unstable();
    let mut files = Vec::new();
    for places in places.chunk_by(|a, b| a.time.date_naive() == b.time.date_naive()) {
        let path = format!("{}/date={}/{name}.parquet", E::KIND, places[0].time.format("%Y-%m-%d"));
        let mut events = places.iter().map(|place| {
            rest();
            fetch(&place.key)
        });
        files.push(write_file(journal, path, &mut events, rest)?);
    }
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let manifest = SegmentManifest { kind: E::KIND.to_owned(), name: name.to_owned(), files };
    write_manifest(journal, &manifest)?;
    Ok(manifest.files.into_iter().map(|file| SegmentFile { path: file.path, events: file.events }).collect())
}

/// How every file of a kind of events is written. Texts, which repeat, have dictionaries, but for the events' ids; numbers
/// hardly repeat, and a dictionary is given up only after it has become large. Columns that are not within lists say what lies
/// in them, because events are looked for by them.
pub fn properties<E: Event>() -> Result<WriterProperties, ParquetError> {
    let leaves = ArrowSchemaConverter::new().convert(E::columns())?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP))
        .set_data_page_size_limit(PAGE)
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_key_value_metadata(Some(vec![KeyValue::new(SCHEMA_KEY.to_owned(), SCHEMA_VERSION.to_string())]))
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None);
    let set = |properties: WriterPropertiesBuilder, (index, leaf): (usize, &ColumnDescPtr)| {
        // The id is the first column of every kind.
        let repeats = index > 0 && leaf.physical_type() == Type::BYTE_ARRAY;
        let properties = properties.set_column_dictionary_enabled(leaf.path().clone(), repeats);
        if leaf.path().parts().len() == 1 {
            properties.set_column_statistics_enabled(leaf.path().clone(), EnabledStatistics::Chunk)
        } else {
            properties
        }
    };
    Ok(leaves.columns().iter().enumerate().fold(properties, set).build())
}

/// Writes the manifest of files that are there.
///
/// # Errors
/// The disk.
pub fn write_manifest(journal: &Path, manifest: &SegmentManifest) -> Result<(), SegmentError> {
    let path = journal.join(manifest.path());
    let failed = SegmentError::at(&path);
    let bytes = manifest.to_bytes().map_err(|error| failed(error.to_string()))?;
    appear(&path, |file| file.write_all(&bytes).map_err(|error| failed(error.to_string())))
}

/// Writes events, which come in their order, into the segment file at `journal`/`path`, [`CHUNK`] of them at a time. It appears
/// whole, or replaces what is there in one step; what its manifest is to say of it. Between small steps it calls `rest`.
///
/// # Errors
/// The disk, events that do not fit their columns, and those of the events.
pub fn write_file<E, F>(
    journal: &Path,
    path: String,
    events: &mut dyn Iterator<Item = Result<E, F>>,
    rest: &dyn Fn(),
) -> Result<ManifestFile, F>
where
    E: Event,
    F: From<SegmentError>,
{
    let whole = journal.join(&path);
    let failed = SegmentError::at(&whole);
    appear(&whole, |file| {
        let mut writer = properties::<E>()
            .and_then(|as_set| ColumnsWriter::new(Digesting::new(file), event::schema::<E>(), as_set, rest))
            .map_err(|error| failed(error.to_string()))?;
        let mut written = 0;
        loop {
            let chunk = events.take(CHUNK).collect::<Result<Vec<E>, F>>()?;
            if chunk.is_empty() {
                break;
            }
            written += chunk.len() as u64;
            let batch = E::encode(&chunk).map_err(|error| failed(error.to_string()))?;
            writer.write(&batch).map_err(|error| failed(error.to_string()))?;
        }
        let (_, (bytes, xxh3)) = writer.into_inner().map_err(|error| failed(error.to_string()))?.finish();
        Ok(ManifestFile { path, events: written, bytes, xxh3 })
    })
}

/// Makes a file appear whole: written under a name that readers pass over, synced, then renamed.
pub fn appear<T, F: From<SegmentError>>(path: &Path, write: impl FnOnce(&mut File) -> Result<T, F>) -> Result<T, F> {
    let failed = |error: io::Error| SegmentError::at(path)(error.to_string());
    let (folder, name) = (path.parent().unwrap_or(path), path.file_name().unwrap_or_default().to_string_lossy());
    make_folder(folder).map_err(failed)?;
    let hidden = folder.join(format!(".{name}.part"));
    let written = (|| {
        let mut file = File::create(&hidden).map_err(failed)?;
        let written = write(&mut file)?;
        file.sync_all().and_then(|()| fs::rename(&hidden, path)).map_err(failed)?;
        sync_folder(folder).map_err(failed)?;
        Ok(written)
    })();
    if written.is_err() {
        // A full disk must get back what it can; what cannot be removed is overwritten next time.
        let _ = fs::remove_file(&hidden);
    }
    written
}

/// Makes a folder and those above it, each synced into the one above, so that it survives the loss of power.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent().filter(|above| !above.as_os_str().is_empty()) {
        make_folder(above)?;
        // Another writer of the journal may make it at the same moment.
        fs::create_dir_all(folder)?;
        return sync_folder(above);
    }
    fs::create_dir_all(folder)
}

/// Syncs the names in a folder.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Removes a file that may have gone already.
pub fn remove(path: &Path) -> Result<(), SegmentError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(SegmentError::at(path)(error.to_string())),
        _ => Ok(()),
    }
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use parquet::basic::Encoding;
    use slated_contract::event::{Candidate, Decision};
    use slated_contract::feature::Features;

    use super::*;

    #[test]
    fn texts_have_dictionaries_and_what_events_are_looked_up_by_has_bounds() {
        let folder = tempfile::tempdir().unwrap();
        let features: Features = [("price", 1.5)].into_iter().collect();
        let candidate = Candidate { item: "a".to_owned(), features, score: Some(0.5) };
        let events: Vec<Decision> = (0..300)
            .map(|index| Decision {
                decision_id: format!("d-{index:03}"),
                candidates: vec![candidate.clone()],
                ..Decision::default()
            })
            .collect();
        let places = events.iter().enumerate().map(|(index, event)| Place::of(event, index)).collect();
        let rests = Cell::new(0);
        let fetch = |&index: &usize| Ok::<_, SegmentError>(events[index].clone());
        let files = write_places(folder.path(), "s", places, fetch, &|| rests.set(rests.get() + 1)).unwrap();
        let file = File::open(folder.path().join(&files[0].path)).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        let [group] = reader.metadata().row_groups() else { panic!("one group") };
        let column = |path: &str| {
            let column = group.columns().iter().find(|column| column.column_path().string() == path).unwrap();
            (column.encodings().any(|encoding| encoding == Encoding::RLE_DICTIONARY), column.statistics().is_some())
        };
        let feature = "candidates.list.element.features.entries";
        assert_eq!(column("decision_id"), (false, true));
        assert_eq!(column("time"), (false, true));
        assert_eq!(column("policy"), (true, true));
        assert_eq!(column("candidates.list.element.item"), (true, false));
        assert_eq!(column(&format!("{feature}.key")), (true, false));
        assert_eq!(column(&format!("{feature}.value.number")), (false, false));
        // One for each event, and one for each column of each chunk and of the group.
        let columns = group.num_columns();
        assert_eq!(rests.get(), 300 + (300_usize.div_ceil(CHUNK) + 1) * columns);
    }
}
