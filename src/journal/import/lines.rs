//! The lines of a text file, however long the file.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use crate::files::FileError;

/// A file's lines.
pub struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    bytes: Vec<u8>,
    number: u64,
}

/// A line's number, from 1, and its text; or why it is none.
pub type Line<'a> = (u64, Result<&'a str, String>);

impl Lines {
    /// Opens the file.
    ///
    /// # Errors
    /// A file that does not open.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let file = File::open(path).map_err(FileError::at(path))?;
        Ok(Self { path: path.to_owned(), reader: BufReader::new(file), bytes: Vec::new(), number: 0 })
    }

    /// The next line that is not blank, without the blanks around it.
    ///
    /// # Errors
    /// The disk.
    pub fn read(&mut self) -> Result<Option<Line<'_>>, FileError> {
        loop {
            self.bytes.clear();
            if self.reader.read_until(b'\n', &mut self.bytes).map_err(FileError::at(&self.path))? == 0 {
                return Ok(None);
            }
            self.number += 1;
            if !self.bytes.trim_ascii().is_empty() {
                break;
            }
        }
        let text = std::str::from_utf8(&self.bytes).map_err(|error| format!("it is no UTF-8: {error}"));
        Ok(Some((self.number, text.map(str::trim))))
    }
}
