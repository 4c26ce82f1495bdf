//! Manifests: what was written when segments were closed, so that damage to them is seen and its extent known.
//!
//! `<journal>/manifest/<kind>/<name>.json` is written after the files that it lists, which are those of the segment
//! `<name>`, one for each date. Files that no manifest lists, such as those of a journal from before there were any, are
//! read without being checked.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::segment::list;
use super::{DateSegments, Event, SegmentError, count};

/// The folder of the manifests in a journal.
pub const MANIFESTS: &str = "manifest";

/// What one closing wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentManifest {
    /// `Event::KIND`.
    pub kind: String,
    /// The name that its files share.
    pub name: String,
    /// Its files, by date.
    pub files: Vec<ManifestFile>,
}

/// One file of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    /// Its path in the journal, with `/` between the parts.
    pub path: String,
    /// How many events it holds.
    pub events: u64,
    /// Its size.
    pub bytes: u64,
    /// XXH3 of all its bytes, 128 bits in hex.
    pub xxh3: String,
}

impl SegmentManifest {
    /// Its own path in the journal.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{MANIFESTS}/{}/{}.json", self.kind, self.name)
    }

    /// Its bytes; the same segment gives the same ones.
    ///
    /// # Errors
    /// There is none that is known.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec_pretty(self)
    }
}

/// A segment file that cannot be relied upon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamagedSegment {
    /// The file.
    pub path: PathBuf,
    /// How many events it held, where that is known.
    pub events: Option<u64>,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for DamagedSegment {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let Self { path, events, reason } = self;
        let events = events.map_or_else(|| "an unknown number of".to_owned(), |events| events.to_string());
        write!(formatter, "journal segment {}: {reason}; {events} events are not read", path.display())
    }
}

/// Segments, told apart by whether they can be relied upon.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckedSegments {
    /// Those that are as they were written, or that no manifest lists.
    pub sound: Vec<DateSegments>,
    /// Those that are not.
    pub damaged: Vec<DamagedSegment>,
    /// How many of the sound ones no manifest lists: of these it is only known that they have a footer.
    pub unlisted: u64,
}

/// The manifests of a kind, by name.
///
/// # Errors
/// A folder or a manifest that cannot be read.
pub fn manifests<E: Event>(journal: &Path) -> Result<Vec<SegmentManifest>, SegmentError> {
    let files = list(&journal.join(MANIFESTS).join(E::KIND))?;
    let is_manifest = |path: &&PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with(".json") && !name.starts_with('.')
    };
    files
        .iter()
        .filter(is_manifest)
        .map(|path| {
            let failed = SegmentError::at(path);
            let bytes = fs::read(path).map_err(|error| failed(error.to_string()))?;
            serde_json::from_slice(&bytes).map_err(|error| {
                failed(format!("is no manifest ({error}); remove it, and its segment reads unchecked"))
            })
        })
        .collect()
}

/// Compares segments with their manifests, reading all their bytes.
///
/// # Errors
/// Manifests that cannot be read, and segments of a newer schema. Damaged segments are no error.
pub fn check_segments<E: Event>(journal: &Path, dates: Vec<DateSegments>) -> Result<CheckedSegments, SegmentError> {
    let listed = manifests::<E>(journal)?.into_iter().flat_map(|manifest| manifest.files);
    let listed: BTreeMap<PathBuf, ManifestFile> = listed.map(|file| (journal.join(&file.path), file)).collect();
    let mut checked = CheckedSegments::default();
    for (path, file) in &listed {
        if !path.exists() {
            let reason = "is missing".to_owned();
            checked.damaged.push(DamagedSegment { path: path.clone(), events: Some(file.events), reason });
        }
    }
    for DateSegments { date, files } in dates {
        let mut sound = Vec::with_capacity(files.len());
        for path in files {
            super::version::refuse_newer(&path)?;
            let file = listed.get(&path);
            let damage = match file {
                Some(file) => compare(&path, file),
                None => count(&path).err().map(|error| error.reason),
            };
            match damage {
                Some(reason) => {
                    checked.damaged.push(DamagedSegment { path, events: file.map(|file| file.events), reason });
                }
                None => {
                    checked.unlisted += u64::from(file.is_none());
                    sound.push(path);
                }
            }
        }
        if !sound.is_empty() {
            checked.sound.push(DateSegments { date, files: sound });
        }
    }
    Ok(checked)
}

/// What is wrong with a file, if anything.
fn compare(path: &Path, expected: &ManifestFile) -> Option<String> {
    let ManifestFile { bytes, xxh3, .. } = expected;
    match digest(path) {
        Err(error) => Some(error.to_string()),
        Ok((found, _)) if found != *bytes => Some(format!("has {found} bytes, {bytes} were written")),
        Ok((_, found)) if found != *xxh3 => Some(format!("its checksum is {found}, that of what was written {xxh3}")),
        Ok(_) => None,
    }
}

/// The size of a file and the XXH3 of its bytes, 128 bits in hex.
///
/// # Errors
/// A file that cannot be read.
pub fn digest(path: &Path) -> io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let mut digest = Digesting::new(io::sink());
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(digest.finish().1),
            read => digest.write_all(&buffer[..read])?,
        }
    }
}

/// Counts and hashes what is written through it.
pub struct Digesting<W> {
    inner: W,
    bytes: u64,
    hash: Xxh3,
}

impl<W: Write> Digesting<W> {
    /// Writes to `inner`.
    pub fn new(inner: W) -> Self {
        Self { inner, bytes: 0, hash: Xxh3::new() }
    }

    /// What it wrote to, how many bytes, and their XXH3, 128 bits in hex.
    pub fn finish(self) -> (W, (u64, String)) {
        (self.inner, (self.bytes, format!("{:032x}", self.hash.digest128())))
    }
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.hash.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
