//! Users under a keyed hash, so that the journal holds no id of a person.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// The shortest key, in bytes: as long as the hash, as RFC 2104 advises.
const SHORTEST_KEY: usize = 32;
/// The block of SHA-256, in bytes.
const BLOCK: usize = 64;
/// What a hashed id begins with.
const PREFIX: &str = "hmac:";

/// Where the key is: `file:<path>` or `env:<variable>`. The key itself is no setting, so that none prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
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
pub struct UserKey {
    inner: [u8; BLOCK],
    outer: [u8; BLOCK],
}

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
        Ok(Self::new(key))
    }

    fn new(key: &[u8]) -> Self {
        let mut block = [0; BLOCK];
        if key.len() > BLOCK {
            block[..32].copy_from_slice(&Sha256::digest(key));
        } else {
            block[..key.len()].copy_from_slice(key);
        }
        Self { inner: block.map(|byte| byte ^ 0x36), outer: block.map(|byte| byte ^ 0x5c) }
    }

    /// HMAC-SHA256 (RFC 2104): `H(key ^ opad || H(key ^ ipad || message))`.
    fn mac(&self, message: &[u8]) -> [u8; 32] {
        let inner = Sha256::new().chain_update(self.inner).chain_update(message).finalize();
        Sha256::new().chain_update(self.outer).chain_update(inner).finalize().into()
    }

    /// What stands in the journal for a user: `hmac:` and 64 hexadecimal digits, the same for the same user and key.
    #[must_use]
    pub fn hash(&self, user_id: &str) -> String {
        self.mac(user_id.as_bytes()).iter().fold(PREFIX.to_owned(), |mut text, byte| {
            // Writing to a text does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// RFC 4231, test cases 1, 2, 6 and 7.
    #[test]
    fn the_hash_is_hmac_sha256() {
        for (key, message, expected) in [
            (vec![0x0b; 20], "Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
            (
                b"Jefe".to_vec(),
                "what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                vec![0xaa; 131],
                "Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
            (
                vec![0xaa; 131],
                "This is a test using a larger than block-size key and a larger than block-size data. The key needs \
                 to be hashed before being used by the HMAC algorithm.",
                "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
            ),
        ] {
            assert_eq!(hex(&UserKey::new(&key).mac(message.as_bytes())), expected);
        }
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
        assert_eq!(hashed, UserKey::new(&[b'k'; 32]).hash("anna"));
        assert!("secret".parse::<KeySource>().unwrap_err().to_string().contains("env:<variable>"));
    }
}
