//! Settings of the journal.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where the journal is, and what it guarantees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JournalSettings {
    /// The folder.
    pub folder: PathBuf,
    /// What an acknowledged event survives.
    pub durability: Durability,
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
}

/// What an acknowledged event survives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// The death of the process: written to the operating system before it is acknowledged.
    #[default]
    Process,
    /// The loss of power: synced to disk, in groups, before it is acknowledged.
    Power,
}

impl Default for JournalSettings {
    fn default() -> Self {
        Self {
            folder: "journal".into(),
            durability: Durability::default(),
            queue: 4096,
            seal_after_events: 10_000,
            seal_after_seconds: 300,
            seal_on_close: true,
            id_days: 7,
        }
    }
}
