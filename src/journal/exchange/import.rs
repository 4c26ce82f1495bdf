//! Importing files that [`super::export`] wrote, or that another system wrote in their form.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::marker::PhantomData;
use std::path::Path;

use arrow::array::RecordBatch;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use slated_contract::event::{Decision, Event, Feedback, RouteChange, SegmentError, schema_version};

use super::cells::Header;
use super::check::Check;
use super::line::Line;
use super::{ExchangeError, Format, Kind};
use crate::files;
use crate::journal::import::{FileReport, ImportReport, Lines};
use crate::journal::write_segment;

/// Events in one segment.
const SEGMENT: usize = 5000;
/// Rows of a Parquet file decoded at a time.
const BATCH: usize = 256;
/// The column that tells a kind.
const IDS: [(&str, Kind); 3] = [
    ("change_id", Kind::Changes),
    ("feedback_id", Kind::Feedback),
    // Feedback has one as well, beside its own.
    ("decision_id", Kind::Decisions),
];

/// Imports a file, or every file of the format in a folder and those below it. Which kind of event a file holds is told
/// by its columns. The same file gives the same segments, so importing it again changes nothing; a service may have the
/// journal open meanwhile.
///
/// Rows that cannot be used are refused with their line and reason, and the rest imported; `advance` is told of every
/// row. The line of a Parquet file's row is its number, from 1.
///
/// # Errors
/// No such file, a file that cannot be read at all, a journal that cannot be written.
pub fn import_files(
    path: &Path,
    format: Format,
    journal: &Path,
    advance: &mut dyn FnMut(),
) -> Result<ImportReport, ExchangeError> {
    let files = files::find(path, &[format.extension()])?;
    if files.is_empty() {
        return Err(ExchangeError::NoFiles { path: path.to_owned(), format });
    }
    let files = files.into_iter().map(|file| {
        let kind = kind_of(&file, format)?;
        let name = files::name_within(path, &file);
        match kind {
            Some(Kind::Decisions) => import_file::<Decision>(&file, name, format, journal, advance),
            Some(Kind::Feedback) => import_file::<Feedback>(&file, name, format, journal, advance),
            Some(Kind::Changes) => import_file::<RouteChange>(&file, name, format, journal, advance),
            None => Ok(FileReport { file: name, ..FileReport::default() }),
        }
    });
    Ok(ImportReport { files: files.collect::<Result<_, _>>()? })
}

/// The kind of event that a file holds, by its columns; `None` of an empty file.
fn kind_of(path: &Path, format: Format) -> Result<Option<Kind>, ExchangeError> {
    let failed = |source| ExchangeError::Io { path: path.to_owned(), source };
    let wrong = |problem: String| ExchangeError::File { path: path.to_owned(), problem };
    let columns: Vec<String> = match format {
        Format::Jsonl => {
            let mut columns = Vec::new();
            for line in BufReader::new(File::open(path).map_err(failed)?).lines() {
                // A line that does not read is refused when its turn comes.
                let Ok(line) = line else { continue };
                if let Ok(serde_json::Value::Object(object)) = serde_json::from_str(&line) {
                    columns = object.keys().cloned().collect();
                    break;
                }
            }
            if columns.is_empty() && path.metadata().map_err(failed)?.len() > 0 {
                return Err(wrong("none of its lines is a JSON object".to_owned()));
            }
            columns
        }
        Format::Csv => {
            let mut reader = csv::Reader::from_path(path).map_err(|error| wrong(error.to_string()))?;
            let header = reader.headers().map_err(|error| wrong(error.to_string()))?;
            header.iter().filter(|name| !name.is_empty()).map(str::to_owned).collect()
        }
        Format::Parquet => {
            let fields = open_parquet(path)?.schema().fields().clone();
            fields.iter().map(|field| field.name().clone()).collect()
        }
    };
    if columns.is_empty() {
        return Ok(None);
    }
    let kind = IDS.iter().find(|(id, _)| columns.iter().any(|column| column == id)).map(|&(_, kind)| kind);
    let unknown = || {
        let expected = "expected `decision_id`, `feedback_id` or `change_id` among its columns";
        wrong(format!("its events are of no kind that is known; {expected}, found {}", columns.join(", ")))
    };
    kind.map(Some).ok_or_else(unknown)
}

fn open_parquet(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>, ExchangeError> {
    let file = File::open(path).map_err(|source| ExchangeError::Io { path: path.to_owned(), source })?;
    let wrong = |problem| ExchangeError::File { path: path.to_owned(), problem };
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| wrong(error.to_string()))?;
    schema_version(builder.metadata()).map_err(wrong)?;
    Ok(builder)
}

fn import_file<E: Line + Check>(
    path: &Path,
    name: String,
    format: Format,
    journal: &Path,
    advance: &mut dyn FnMut(),
) -> Result<FileReport, ExchangeError> {
    let mut importing = Importing::<E> {
        journal,
        digest: files::sha256(path).map_err(|source| ExchangeError::Io { path: path.to_owned(), source })?,
        events: Vec::new(),
        segments: 0,
        report: FileReport { file: name, ..FileReport::default() },
        advance,
        kind: PhantomData,
    };
    match format {
        Format::Jsonl => importing.jsonl(path)?,
        Format::Csv => importing.csv(path)?,
        Format::Parquet => importing.parquet(path)?,
    }
    importing.write()?;
    Ok(importing.report)
}

struct Importing<'a, E> {
    journal: &'a Path,
    digest: String,
    events: Vec<E>,
    segments: usize,
    report: FileReport,
    advance: &'a mut dyn FnMut(),
    kind: PhantomData<E>,
}

impl<E: Line + Check> Importing<'_, E> {
    fn jsonl(&mut self, path: &Path) -> Result<(), ExchangeError> {
        let mut lines = Lines::open(path)?;
        while let Some((number, line)) = lines.read()? {
            let event = line.and_then(parse);
            self.add(number, event)?;
        }
        Ok(())
    }

    fn csv(&mut self, path: &Path) -> Result<(), ExchangeError> {
        let wrong = |problem: String| ExchangeError::File { path: path.to_owned(), problem };
        let reader = csv::ReaderBuilder::new().flexible(true).from_path(path);
        let mut reader = reader.map_err(|error| wrong(error.to_string()))?;
        let header = Header::read::<E>(reader.headers().map_err(|error| wrong(error.to_string()))?).map_err(wrong)?;
        let mut record = csv::StringRecord::new();
        loop {
            let more = reader.read_record(&mut record);
            let line = record.position().map_or(0, csv::Position::line);
            match more {
                Ok(false) => return Ok(()),
                Ok(true) => self.add(line, header.object(&record).and_then(|object| parse(&object)))?,
                // The reader goes on with the next record.
                Err(error) if !error.is_io_error() => self.add(line, Err(error.to_string()))?,
                Err(error) => return Err(wrong(error.to_string())),
            }
        }
    }

    fn parquet(&mut self, path: &Path) -> Result<(), ExchangeError> {
        let wrong = |problem: String| ExchangeError::File { path: path.to_owned(), problem };
        let batches = open_parquet(path)?.with_batch_size(BATCH).build().map_err(|error| wrong(error.to_string()))?;
        let mut row = 0;
        for batch in batches {
            let batch = batch.map_err(|error| wrong(error.to_string()))?;
            match E::decode(&batch) {
                Ok(events) => {
                    for event in events {
                        row += 1;
                        self.add(row, Ok(event))?;
                    }
                }
                // One of its rows does not read; the others may.
                Err(_) => {
                    for index in 0..batch.num_rows() {
                        row += 1;
                        self.add(row, alone(&batch.slice(index, 1)))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, line: u64, event: Result<E, String>) -> Result<(), SegmentError> {
        match event.and_then(|event| event.check().map(|()| event)) {
            Ok(event) => {
                match E::KIND {
                    Decision::KIND => self.report.decisions += 1,
                    Feedback::KIND => self.report.feedback += 1,
                    _ => self.report.changes += 1,
                }
                self.events.push(event);
            }
            Err(reason) => self.report.refuse(line, reason),
        }
        self.report.rows += 1;
        (self.advance)();
        if self.events.len() >= SEGMENT { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), SegmentError> {
        let name = format!("import-{:.16}-{:04}", self.digest, self.segments);
        self.segments += 1;
        write_segment(self.journal, &name, &self.events)?;
        self.events.clear();
        Ok(())
    }
}

fn parse<E: Line>(object: &str) -> Result<E, String> {
    let mut deserializer = serde_json::Deserializer::from_str(object);
    let mut track = serde_path_to_error::Track::new();
    let event = E::read(serde_path_to_error::Deserializer::new(&mut deserializer, &mut track));
    let event = event.map_err(|error| {
        // Its line is that of the file, which is told already.
        let error = error.to_string();
        let problem = error.rsplit_once(" at line ").map_or(error.as_str(), |(problem, _)| problem).to_owned();
        let path = track.path().to_string();
        if path == "." { problem } else { format!("`{path}`: {problem}") }
    })?;
    deserializer.end().map_err(|_| "it goes on after its end".to_owned())?;
    Ok(event)
}

fn alone<E: Event>(row: &RecordBatch) -> Result<E, String> {
    let event = E::decode(row).map_err(|error| error.to_string())?.pop();
    event.ok_or_else(|| "it holds no event".to_owned())
}
