//! The file of API keys: names, roles and hashes, never the keys.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use chrono::{DateTime, Utc};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::{AccessError, Role};

/// What every key begins with, so that scanners of leaked secrets can tell one.
const PREFIX: &str = "slk_";

/// A file of keys, TOML: `[[keys]]` tables.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeyFile {
    /// The keys.
    pub keys: Vec<KeyEntry>,
}

/// One key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyEntry {
    /// Whose it is; stands in logs and metrics.
    pub name: String,
    /// What it allows.
    pub roles: Vec<Role>,
    /// SHA-256 of the key, in hex. A key is 256 random bits, so that no slow hash is needed to keep it from being guessed.
    pub sha256: String,
    /// The most requests a second, on average; not limited where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u32>,
    /// The most requests at once that the average allows; those of one second where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// When it ends to be valid; never where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<DateTime<Utc>>,
}

impl KeyFile {
    /// Reads a file of keys.
    ///
    /// # Errors
    /// A file that cannot be read or is none; the message names the key.
    pub fn read(path: &Path) -> Result<Self, AccessError> {
        let text = fs::read_to_string(path).map_err(|source| AccessError::File { path: path.to_owned(), source })?;
        let wrong = |reason: String| AccessError::Keys { path: path.to_owned(), reason };
        let file: Self = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        for (index, entry) in file.keys.iter().enumerate() {
            let KeyEntry { name, roles, sha256, requests_per_second, burst, .. } = entry;
            let wrong = |reason: &str| wrong(format!("key `{name}` {reason}"));
            if sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
            {
                return Err(wrong("has a `sha256` that is not 64 lower-case hex digits"));
            }
            if roles.is_empty() {
                return Err(wrong("has no `roles`; allowed are recommend, feedback, admin and metrics"));
            }
            if *requests_per_second == Some(0) || *burst == Some(0) {
                return Err(wrong("has a limit of 0; leave `requests_per_second` and `burst` out for none"));
            }
            if burst.is_some() && requests_per_second.is_none() {
                return Err(wrong("has a `burst` without `requests_per_second`"));
            }
            if file.keys[..index].iter().any(|other| other.name == *name || other.sha256 == *sha256) {
                return Err(wrong("stands twice, by its name or its hash"));
            }
        }
        Ok(file)
    }

    /// Writes the file, whole or not at all, readable by its owner alone.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), AccessError> {
        let failed = |source| AccessError::File { path: path.to_owned(), source };
        let text = toml::to_string(self)
            .map_err(|error| AccessError::Keys { path: path.to_owned(), reason: error.to_string() })?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        // Made with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
        let file: File = file.persist(path).map_err(|error| failed(error.error))?;
        drop(file);
        Ok(())
    }
}

/// A new key. The one random choice that no seed repeats: a key must not be guessed.
#[must_use]
pub fn new_key() -> String {
    let bytes: [u8; 32] = rand::rng().random();
    bytes.iter().fold(PREFIX.to_owned(), |key, byte| format!("{key}{byte:02x}"))
}
