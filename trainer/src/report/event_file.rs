//! Scalars as TensorBoard event files.
//!
//! An event file is a sequence of TFRecords, each a protocol buffer: its length as 8 bytes little-endian, the masked
//! CRC-32C of these, the bytes, and their masked CRC-32C.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;

use super::ReportError;
use super::event_proto::event::What;
use super::event_proto::{Event, SessionLog, Summary, Value};

/// An event file that scalars are appended to.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: BufWriter<File>,
}

impl EventFile {
    /// Begins the next event file of a folder; TensorBoard reads all of a folder's files as one run. What earlier
    /// files hold for steps from `step` on is thereby superseded.
    ///
    /// # Errors
    /// A folder that cannot be written to.
    pub fn begin(folder: &Path, step: u64) -> Result<Self, ReportError> {
        let names = fs::read_dir(folder).map_err(ReportError::at(folder))?;
        let is_event_file = |entry: &io::Result<fs::DirEntry>| {
            entry.as_ref().is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX))
        };
        // TensorBoard looks for `tfevents` in a name, and reads the files in the order of their names.
        let path = folder.join(format!("{PREFIX}.{:06}.slated", names.filter(is_event_file).count()));
        let file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(ReportError::at(&path))?;
        let mut events = Self { path, file: BufWriter::new(file) };
        events.write(0, What::FileVersion("brain.Event:2".to_owned()))?;
        events.write(step, What::SessionLog(SessionLog { status: START }))?;
        events.flush()?;
        Ok(events)
    }

    /// Appends the values of a step, and hands them to the system.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn append<'a>(
        &mut self,
        step: u64,
        scalars: impl IntoIterator<Item = (&'a str, f64)>,
    ) -> Result<(), ReportError> {
        let value = |(tag, value): (&str, f64)| Value { tag: tag.to_owned(), simple_value: Some(value as f32) };
        self.write(step, What::Summary(Summary { value: scalars.into_iter().map(value).collect() }))?;
        self.flush()
    }

    fn write(&mut self, step: u64, what: What) -> Result<(), ReportError> {
        let wall_time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let event = Event { wall_time, step: step as i64, what: Some(what) };
        write_record(&mut self.file, &event.encode_to_vec()).map_err(ReportError::at(&self.path))
    }

    fn flush(&mut self) -> Result<(), ReportError> {
        self.file.flush().map_err(ReportError::at(&self.path))
    }
}

const PREFIX: &str = "events.out.tfevents";
/// `SessionLog.START`: what TensorBoard has read for this step and later ones is purged.
const START: i32 = 1;

fn write_record(file: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let length = (bytes.len() as u64).to_le_bytes();
    file.write_all(&length)?;
    file.write_all(&masked_crc32c(&length).to_le_bytes())?;
    file.write_all(bytes)?;
    file.write_all(&masked_crc32c(bytes).to_le_bytes())
}

/// The checksum is masked because a checksum of data that holds checksums says little.
fn masked_crc32c(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}
