//! Settings of the journal.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::omit::OmittedFeature;
use super::upkeep::Retention;
use super::users::KeySource;

/// Where the journal is, and what it guarantees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JournalSettings {
    /// The folder.
    pub folder: PathBuf,
    /// What an acknowledged event survives.
    pub durability: Durability,
    /// What `/recommend` does while the journal cannot be written. Feedback is refused then.
    pub on_failure: OnFailure,
    /// How many requests may wait to be written; one more is refused.
    pub queue: usize,
    /// Events of a kind in the tail after which they are closed into a segment; also the most in one segment.
    pub seal_after_events: usize,
    /// How long an event may stay in the tail, in seconds.
    pub seal_after_seconds: u64,
    /// Whether a service that stops closes what is in the tail.
    pub seal_on_close: bool,
    /// How long ids are kept to recognise repeated events and find decisions, in days. Later repetitions are removed
    /// by the dataset builder.
    pub id_days: u32,
    /// The object store that closed segments are sent to, as `s3://bucket/prefix`; none where absent.
    pub upload_to: Option<String>,
    /// How long closed segments are kept here after they were sent, in days; for ever where absent.
    pub keep_local_days: Option<u32>,
    /// How long decisions and feedback are kept, in days; for ever where absent. Whole dates go.
    pub keep_days: Option<u32>,
    /// How many bytes of closed decisions and feedback are kept; the oldest dates go. Without limit where absent.
    pub keep_bytes: Option<u64>,
    /// Where the key is under which user ids are hashed before they are journalled, as `file:<path>` or
    /// `env:<variable>`; they are journalled as they are where absent.
    pub hash_users: Option<KeySource>,
    /// Features that are never journalled, as `user.age`.
    pub omit_features: Vec<OmittedFeature>,
}

/// What an acknowledged event survives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// The death of the process: written to the operating system before it is acknowledged.
    #[default]
    Process,
    /// The loss of power: synced to disk, in groups, before it is acknowledged.
    Power,
    /// Nothing: decisions are answered and not journalled, and feedback is refused. Changes of routes are kept.
    None,
}

/// What is done with a decision that cannot be journalled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// It is refused, 503.
    #[default]
    Refuse,
    /// It is answered, marked as not journalled, and counted.
    Serve,
}

impl JournalSettings {
    /// How much is kept.
    #[must_use]
    pub const fn retention(&self) -> Retention {
        Retention { days: self.keep_days, bytes: self.keep_bytes, only_sent: self.upload_to.is_some() }
    }
}

impl Default for JournalSettings {
    fn default() -> Self {
        Self {
            folder: "journal".into(),
            durability: Durability::default(),
            on_failure: OnFailure::default(),
            queue: 4096,
            seal_after_events: 10_000,
            seal_after_seconds: 300,
            seal_on_close: true,
            id_days: 7,
            upload_to: None,
            keep_local_days: None,
            keep_days: None,
            keep_bytes: None,
            hash_users: None,
            omit_features: Vec::new(),
        }
    }
}
