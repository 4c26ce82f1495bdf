//! Ids that callers give, and ids that imports derive.

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use thiserror::Error;
use uuid::{Builder, Uuid};

/// The longest id, in characters.
pub const MAX_IDENTIFIER: usize = 256;
/// The longest event type, in characters.
const MAX_EVENT_TYPE: usize = 64;

/// An id, as text.
pub type Identifier = String;

/// An id or event type that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdentifierError {
    /// Nothing there.
    #[error("must not be empty")]
    Empty,
    /// Too long.
    #[error("is {length} characters long, at most {most} are allowed")]
    TooLong {
        /// Its length.
        length: usize,
        /// The greatest length.
        most: usize,
    },
    /// A control character.
    #[error("must not contain control characters")]
    Control,
    /// An event type with other characters.
    #[error("must be made of lower-case letters, digits, `_`, `-` and `.`, and begin with a letter")]
    EventType,
}

/// Checks an id that a caller gave: 1 to [`MAX_IDENTIFIER`] characters without control characters.
///
/// # Errors
/// What is wrong with it.
pub fn check_identifier(id: &str) -> Result<(), IdentifierError> {
    check_length(id, MAX_IDENTIFIER)?;
    if id.chars().any(char::is_control) { Err(IdentifierError::Control) } else { Ok(()) }
}

/// Checks an event type: a letter, then lower-case letters, digits, `_`, `-` and `.`, at most 64. Event types
/// become metric labels and keys of reward definitions, so they are kept plain.
///
/// # Errors
/// What is wrong with it.
pub fn check_event_type(event: &str) -> Result<(), IdentifierError> {
    check_length(event, MAX_EVENT_TYPE)?;
    let plain = event.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.".contains(&byte));
    let begins = event.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    if plain && begins { Ok(()) } else { Err(IdentifierError::EventType) }
}

fn check_length(id: &str, most: usize) -> Result<(), IdentifierError> {
    // A text has no more characters than bytes, and those need not be counted.
    match if id.len() > most { id.chars().count() } else { id.len() } {
        0 => Err(IdentifierError::Empty),
        length if length > most => Err(IdentifierError::TooLong { length, most }),
        _ => Ok(()),
    }
}

/// The UUIDv7 of an event that happened at `time` and is the only one that `parts` describe.
///
/// An import gives the same row the same id each time, so that importing twice counts once.
#[must_use]
pub fn deterministic_id(time: DateTime<Utc>, parts: &[&str]) -> Uuid {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    let mut random = [0; 10];
    random.copy_from_slice(&digest[..10]);
    let milliseconds = u64::try_from(time.timestamp_millis()).unwrap_or(0);
    Builder::from_unix_timestamp_millis(milliseconds, &random).into_uuid()
}
