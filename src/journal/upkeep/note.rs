//! The note of what is being done to a segment, `<journal>/.upkeep.json`, and doing it again after a crash.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use slated_contract::event::{Decision, Event, Feedback, RouteChange, SegmentError};

use super::compact::Compaction;
use super::forget::finish_rewrite;
use crate::journal::JournalError;
use crate::journal::segment::{appear, remove};
use crate::journal::tail::Tail;

const NOTE: &str = ".upkeep.json";

/// What is being done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    /// Files of a date take the place of others.
    Compaction(Compaction),
    /// A file is written without some of its events.
    Rewrite {
        /// The kind of its events.
        kind: String,
        /// Its path in the journal.
        path: String,
    },
}

fn path(journal: &Path) -> PathBuf {
    journal.join(NOTE)
}

impl Note {
    /// Writes the note; it survives the loss of power.
    pub fn write(&self, journal: &Path) -> Result<(), SegmentError> {
        let path = path(journal);
        let failed = SegmentError::at(&path);
        let bytes = serde_json::to_vec_pretty(self).map_err(|error| failed(error.to_string()))?;
        appear(&path, |file| file.write_all(&bytes).map_err(|error| failed(error.to_string())))
    }

    /// Removes the note: it is done.
    pub fn done(journal: &Path) -> Result<(), SegmentError> {
        remove(&path(journal))
    }

    /// The note that is there.
    pub fn read(journal: &Path) -> Result<Option<Self>, SegmentError> {
        let path = path(journal);
        let failed = SegmentError::at(&path);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| failed(error.to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}

/// Finishes what a crash interrupted.
pub fn recover(tail: &Tail) -> Result<(), JournalError> {
    let journal = tail.folder();
    let Some(note) = Note::read(journal)? else { return Ok(()) };
    tracing::warn!(?note, "finishing a change of closed segments that was interrupted");
    let kind = match &note {
        Note::Compaction(compaction) => &compaction.kind,
        Note::Rewrite { kind, .. } => kind,
    };
    match kind.as_str() {
        Decision::KIND => again::<Decision>(tail, &note),
        Feedback::KIND => again::<Feedback>(tail, &note),
        _ => again::<RouteChange>(tail, &note),
    }
}

fn again<E: Event>(tail: &Tail, note: &Note) -> Result<(), JournalError> {
    match note {
        Note::Compaction(compaction) => compaction.finish::<E>(tail),
        Note::Rewrite { path, .. } => Ok(finish_rewrite::<E>(tail.folder(), path)?),
    }
}
