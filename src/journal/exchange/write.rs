//! One file of an export: it appears whole or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use parquet::arrow::ArrowWriter;
use slated_contract::event::{self, SegmentError};

use super::cells::cells;
use super::check::Check;
use super::line::{Line, Written};
use super::{ExchangeError, Format};
use crate::journal::segment::properties;

/// Events encoded at a time.
const CHUNK: usize = 256;

/// Writes events of one kind into a file.
pub struct FileWriter<E> {
    path: PathBuf,
    hidden: PathBuf,
    form: Form<E>,
    events: u64,
}

enum Form<E> {
    Jsonl(BufWriter<File>),
    Csv(Box<csv::Writer<File>>),
    Parquet(Box<ArrowWriter<File>>, Vec<E>),
}

impl<E: Line + Check> FileWriter<E> {
    /// Begins the file that will be at `path`.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn create(path: &Path, format: Format) -> Result<Self, ExchangeError> {
        let failed = |source| ExchangeError::Io { path: path.to_owned(), source };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(failed)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let hidden = folder.join(format!(".{name}.part"));
        let file = File::create(&hidden).map_err(failed)?;
        let form = match format {
            Format::Jsonl => Form::Jsonl(BufWriter::new(file)),
            Format::Csv => {
                let mut writer = csv::Writer::from_writer(file);
                let names = E::columns().fields().iter().map(|field| field.name());
                writer.write_record(names).map_err(|error| failed(error.into()))?;
                Form::Csv(Box::new(writer))
            }
            Format::Parquet => {
                let writer =
                    properties::<E>().and_then(|as_set| ArrowWriter::try_new(file, event::schema::<E>(), Some(as_set)));
                let writer = writer.map_err(|error| SegmentError::at(path)(error.to_string()))?;
                Form::Parquet(Box::new(writer), Vec::with_capacity(CHUNK))
            }
        };
        Ok(Self { path: path.to_owned(), hidden, form, events: 0 })
    }

    /// Writes an event.
    ///
    /// # Errors
    /// The disk, or an event that the format cannot hold.
    pub fn write(&mut self, event: E) -> Result<(), ExchangeError> {
        let failed = |source| ExchangeError::Io { path: self.path.clone(), source };
        if !matches!(self.form, Form::Parquet(..)) {
            event.check_numbers().map_err(|problem| ExchangeError::Event {
                kind: E::KIND,
                id: event.id().to_owned(),
                problem,
            })?;
        }
        match &mut self.form {
            Form::Jsonl(writer) => {
                serde_json::to_writer(&mut *writer, &Written(&event)).map_err(|error| failed(error.into()))?;
                writer.write_all(b"\n").map_err(failed)?;
            }
            Form::Csv(writer) => {
                let cells = cells(&event).map_err(|error| failed(error.into()))?;
                writer.write_record(cells).map_err(|error| failed(error.into()))?;
            }
            Form::Parquet(writer, waiting) => {
                waiting.push(event);
                if waiting.len() == CHUNK {
                    write_batch(&self.path, writer, waiting)?;
                }
            }
        }
        self.events += 1;
        Ok(())
    }

    /// Makes the file appear; how many events it holds.
    ///
    /// # Errors
    /// The disk.
    pub fn finish(self) -> Result<u64, ExchangeError> {
        let Self { path, hidden, form, events } = self;
        let failed = |source| ExchangeError::Io { path: path.clone(), source };
        let file = match form {
            Form::Jsonl(writer) => writer.into_inner().map_err(|error| failed(error.into_error()))?,
            Form::Csv(writer) => {
                let problem = |error: csv::IntoInnerError<_>| failed(io::Error::other(error.to_string()));
                writer.into_inner().map_err(problem)?
            }
            Form::Parquet(mut writer, mut waiting) => {
                write_batch(&path, &mut writer, &mut waiting)?;
                writer.into_inner().map_err(|error| SegmentError::at(&path)(error.to_string()))?
            }
        };
        file.sync_all().and_then(|()| fs::rename(&hidden, &path)).map_err(failed)?;
        Ok(events)
    }
}

fn write_batch<E: Line>(path: &Path, writer: &mut ArrowWriter<File>, events: &mut Vec<E>) -> Result<(), SegmentError> {
    if events.is_empty() {
        return Ok(());
    }
    let failed = SegmentError::at(path);
    let batch = E::encode(events).map_err(|error| failed(error.to_string()))?;
    writer.write(&batch).map_err(|error| failed(error.to_string()))?;
    events.clear();
    Ok(())
}
