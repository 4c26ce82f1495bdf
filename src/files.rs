//! Files, whole.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use thiserror::Error;

/// A file or folder that does not read.
#[derive(Debug, Error)]
#[error("{path}: {source}")]
pub struct FileError {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl FileError {
    /// An error at `path`.
    pub fn at(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self { path: path.to_owned(), source }
    }
}

/// The file at `path`, whatever its name; or the files of the folder there and of those below it that end in one of the
/// `extensions`, by name. Hidden ones are passed over.
///
/// # Errors
/// What is not there or does not list.
pub fn find(path: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, FileError> {
    let failed = FileError::at(path);
    if !path.metadata().map_err(&failed)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut entries = Vec::new();
    for entry in path.read_dir().map_err(&failed)? {
        entries.push(entry.map_err(&failed)?.path());
    }
    entries.sort_unstable();
    let mut files = Vec::new();
    for entry in entries {
        let hidden = entry.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        let wanted = |extension: &std::ffi::OsStr| extensions.iter().any(|wanted| extension == *wanted);
        if !hidden && (entry.is_dir() || entry.extension().is_some_and(wanted)) {
            files.extend(find(&entry, extensions)?);
        }
    }
    Ok(files)
}

/// What a report calls a file that was found in `folder`: its path there, or as it was given.
#[must_use]
pub fn name_within(folder: &Path, file: &Path) -> String {
    let within = file.strip_prefix(folder).ok().filter(|name| !name.as_os_str().is_empty());
    within.unwrap_or(file).display().to_string()
}

/// Writes a file so that a reader finds the old one or the new, whole: beside it, synced, renamed. The folder must be there.
///
/// # Errors
/// The disk.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    // Not a temporary file, which nobody else could read: a collector of metrics is another user.
    let beside = path.with_file_name(format!(".{}.part", path.file_name().unwrap_or_default().to_string_lossy()));
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    File::open(folder)?.sync_all()
}

/// SHA-256 of a file, in hex.
///
/// # Errors
/// The disk.
pub fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            length => hash.update(&buffer[..length]),
        }
    }
}
