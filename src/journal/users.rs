//! Users under a keyed hash, so that the journal holds no id of a person.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::str::FromStr;

use hmac::{Hmac, KeyInit, Mac};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use thiserror::Error;

/// The shortest key, in bytes: as long as the hash, as RFC 2104 advises.
const SHORTEST_KEY: usize = 32;
/// What a hashed id begins with.
const PREFIX: &str = "hmac:";

/// Where the key is: `file:<path>` or `env:<variable>`. The key itself is no setting, so that none prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(into = "String", try_from = "String")]
#[schemars(with = "String")]
pub enum KeySource {
    /// A file, whose bytes are the key; white space around them does not count.
    File(PathBuf),
    /// A variable of the environment.
    Variable(String),
}

/// A key that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyError {
    /// A setting that names none.
    #[error("`journal.hash_users` is `{0}`; expected `file:<path>` or `env:<variable>`, where the key is")]
    Source(String),
    /// A key that is not there.
    #[error("`journal.hash_users`: the key of `{place}` cannot be read: {reason}")]
    Absent {
        /// Where it should be.
        place: String,
        /// Why not.
        reason: String,
    },
    /// A key that is easily guessed.
    #[error(
        "`journal.hash_users`: the key of `{place}` has {length} bytes, at least {SHORTEST_KEY} are needed; \
         `openssl rand -hex 32` makes one"
    )]
    Short {
        /// Where it is.
        place: String,
        /// Its length.
        length: usize,
    },
}

impl FromStr for KeySource {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        match text.split_once(':') {
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            Some(("env", name)) if !name.is_empty() => Ok(Self::Variable(name.to_owned())),
            _ => Err(KeyError::Source(text.to_owned())),
        }
    }
}

impl TryFrom<String> for KeySource {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<KeySource> for String {
    fn from(source: KeySource) -> Self {
        match source {
            KeySource::File(path) => format!("file:{}", path.display()),
            KeySource::Variable(name) => format!("env:{name}"),
        }
    }
}

/// The key under which users are hashed.
#[derive(Clone)]
pub struct UserKey(Hmac<Sha256>);

impl UserKey {
    /// Reads the key.
    ///
    /// # Errors
    /// One that is not there or too short.
    pub fn read(source: &KeySource) -> Result<Self, KeyError> {
        let place = || String::from(source.clone());
        let absent = |reason: String| KeyError::Absent { place: place(), reason };
        let key = match source {
            KeySource::File(path) => fs::read(path).map_err(|error| absent(error.to_string()))?,
            KeySource::Variable(name) => std::env::var(name).map_err(|error| absent(error.to_string()))?.into_bytes(),
        };
        let key = key.trim_ascii();
        if key.len() < SHORTEST_KEY {
            return Err(KeyError::Short { place: place(), length: key.len() });
        }
        // A key of any length is one.
        Hmac::new_from_slice(key).map(Self).map_err(|error| absent(error.to_string()))
    }

    /// What stands in the journal for a user: `hmac:` and 64 hexadecimal digits, the same for the same user and key.
    #[must_use]
    pub fn hash(&self, user_id: &str) -> String {
        self.0.clone().chain_update(user_id).finalize().into_bytes().iter().fold(PREFIX.to_owned(), |mut text, byte| {
            // Writing to a text does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test case 7.
    #[test]
    fn the_hash_is_hmac_sha256() {
        let message = "This is a test using a larger than block-size key and a larger than block-size data. The key needs \
                       to be hashed before being used by the HMAC algorithm.";
        let key = UserKey(Hmac::new_from_slice(&[0xaa; 131]).unwrap());
        let expected = "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2";
        assert_eq!(key.hash(message), format!("{PREFIX}{expected}"));
    }

    #[test]
    fn keys_are_named_and_not_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let source: KeySource = format!("file:{}", path.display()).parse().unwrap();
        assert!(matches!(UserKey::read(&source), Err(KeyError::Absent { .. })));
        fs::write(&path, "too short\n").unwrap();
        assert!(matches!(UserKey::read(&source), Err(KeyError::Short { length: 9, .. })));
        fs::write(&path, format!("{}\n", "k".repeat(32))).unwrap();
        let hashed = UserKey::read(&source).unwrap().hash("anna");
        assert_eq!((hashed.len(), &hashed[..5]), (69, PREFIX));
        assert_eq!(hashed, UserKey(Hmac::new_from_slice(&[b'k'; 32]).unwrap()).hash("anna"));
        assert!("secret".parse::<KeySource>().unwrap_err().to_string().contains("env:<variable>"));
    }
}
