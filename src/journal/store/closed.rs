//! What the store knows of closed segments: the ranges of numbers in them, their files, and how long their ids are known.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;

use arrow::array::AsArray;
use chrono::{DateTime, Utc};
use fjall::PersistMode;
use serde::{Deserialize, Serialize};
use slated_contract::event::{Columns, Decision, Event, Feedback, RouteChange};

use super::super::log::{self, Waiting};
use super::super::{JournalError, SegmentFile};
use super::{Store, number};

/// Ids that are noted at a time, while which no other thread may have the processor.
const NOTED: usize = 128;

/// Sequence numbers, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
}

/// What is known of a closed segment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SegmentRecord {
    /// The last sequence number; the first is the key.
    pub last: u64,
    /// The time of the latest event.
    pub until: DateTime<Utc>,
    /// The files, relative to the journal's folder.
    pub files: Vec<SegmentFile>,
}

impl Store {
    /// The last number in a closed segment.
    pub fn sealed<E: Event>(&self) -> Result<u64, JournalError> {
        let value = self.state.get(format!("sealed/{}", E::KIND)).map_err(|error| self.failed(&error))?;
        Ok(value.map_or(0, |bytes| number(&bytes)))
    }

    /// The range that a crash left half closed.
    pub fn sealing<E: Event>(&self) -> Result<Option<Range>, JournalError> {
        let value = self.state.get(format!("sealing/{}", E::KIND)).map_err(|error| self.failed(&error))?;
        Ok(value.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Notes that a range is about to be closed, so that a crash leads to the same files and not to others.
    pub fn begin_seal<E: Event>(&self, range: Range) -> Result<(), JournalError> {
        let note = serde_json::to_vec(&range).map_err(|error| JournalError::Encode(error.to_string()))?;
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        batch.insert(&self.state, format!("sealing/{}", E::KIND), note);
        batch.commit().map_err(|error| self.failed(&error))
    }

    /// Notes that a range is in a closed segment, now that its files are in place. Its events, which are still in the log,
    /// are [removed](Self::remove) after that. Between small steps it calls `rest`.
    ///
    /// Ids are noted before the range counts as closed: a crash between finds the events in the log, and notes the same ids
    /// again. So that this holds after a loss of power too, the log is synced first.
    pub fn end_seal<E: Event>(
        &self,
        range: Range,
        record: &SegmentRecord,
        rest: &dyn Fn(),
    ) -> Result<(), JournalError> {
        let record = serde_json::to_vec(record).map_err(|error| JournalError::Encode(error.to_string()))?;
        let kind = self.kind(E::KIND);
        self.log.sync().map_err(|error| self.failed(&error))?;
        for first in (range.first..=range.last).step_by(NOTED) {
            rest();
            let last = range.last.min(first + NOTED as u64 - 1);
            let mut ids = self.database.batch();
            for Waiting { sequence, order } in self.log.within(log::index(E::KIND), first..=last) {
                ids.insert(&kind.ids, &*order.id, sequence.to_be_bytes());
            }
            ids.commit().map_err(|error| self.failed(&error))?;
        }
        rest();
        // What was written before in the same store is synced with it.
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        batch.insert(&kind.segments, range.first.to_be_bytes(), record);
        batch.insert(&self.state, format!("sealed/{}", E::KIND), range.last.to_be_bytes());
        batch.remove(&self.state, format!("sealing/{}", E::KIND));
        batch.commit().map_err(|error| self.failed(&error))
    }

    /// Forgets where events up to this number are in the log: they are in a closed segment.
    pub fn remove<E: Event>(&self, last: u64) {
        self.log.forget(log::index(E::KIND), last);
    }

    /// Removes the files of the log that hold nothing but what is closed. Between small steps it calls `rest`.
    pub fn remove_closed(&self, rest: &dyn Fn()) -> Result<(), JournalError> {
        let closed = [self.sealed::<Decision>()?, self.sealed::<Feedback>()?, self.sealed::<RouteChange>()?];
        self.log.remove_closed(&closed, rest).map_err(|error| self.failed(&error))
    }

    /// The files of the closed segment that holds this number.
    pub fn segment_of<E: Event>(&self, sequence: u64) -> Result<Vec<PathBuf>, JournalError> {
        let upto = ..=sequence.to_be_bytes();
        let Some(guard) = self.kind(E::KIND).segments.range(upto).next_back() else { return Ok(Vec::new()) };
        let value = guard.value().map_err(|error| self.failed(&error))?;
        let record: SegmentRecord =
            serde_json::from_slice(&value).map_err(|error| JournalError::Encode(error.to_string()))?;
        let files = record.files.into_iter().map(|file| self.folder.join(file.path));
        Ok(if sequence <= record.last { files.collect() } else { Vec::new() })
    }

    /// Forgets the ids of segments whose events are all older than `before`.
    pub fn forget_ids<E: Event>(&self, before: DateTime<Utc>) -> Result<(), JournalError> {
        let kind = self.kind(E::KIND);
        let mut expired: BTreeMap<u64, SegmentRecord> = BTreeMap::new();
        for guard in kind.segments.iter() {
            let (key, value) = guard.into_inner().map_err(|error| self.failed(&error))?;
            let record: SegmentRecord =
                serde_json::from_slice(&value).map_err(|error| JournalError::Encode(error.to_string()))?;
            if record.until >= before {
                break;
            }
            expired.insert(number(&key), record);
        }
        if expired.is_empty() {
            return Ok(());
        }
        // Segments that were put together are in one file with others, which may have to be known for longer.
        let is_expired = |sequence: u64| {
            let record = expired.range(..=sequence).next_back();
            record.is_some_and(|(_, record)| sequence <= record.last)
        };
        let ids = Columns::of::<E>(&[E::columns().field(0).name()]);
        let mut batch = self.database.batch();
        let mut gone = false;
        for path in expired.values().flat_map(|record| &record.files).map(|file| &file.path).collect::<BTreeSet<_>>() {
            let Ok(batches) = ids.read(&self.folder.join(path), 8192) else {
                gone = true;
                continue;
            };
            for read in batches {
                let Ok(read) = read else {
                    gone = true;
                    break;
                };
                for id in read.column(0).as_string::<i32>().iter().flatten() {
                    if self.sequence_of::<E>(id)?.is_some_and(is_expired) {
                        batch.remove(&kind.ids, id);
                    }
                }
            }
        }
        if gone {
            // A file that was moved away, removed or damaged does not say which ids were its.
            for guard in kind.ids.iter() {
                let (id, sequence) = guard.into_inner().map_err(|error| self.failed(&error))?;
                if is_expired(number(&sequence)) {
                    batch.remove(&kind.ids, id);
                }
            }
        }
        expired.keys().for_each(|first| batch.remove(&kind.segments, first.to_be_bytes()));
        batch.commit().map_err(|error| self.failed(&error))
    }

    /// Notes that the events of some files are in other files now; both of one date.
    pub fn replace_files<E: Event>(&self, replaced: &[String], by: &[SegmentFile]) -> Result<(), JournalError> {
        let kind = self.kind(E::KIND);
        let replaced: HashSet<&str> = replaced.iter().map(String::as_str).collect();
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        for guard in kind.segments.iter() {
            let (key, value) = guard.into_inner().map_err(|error| self.failed(&error))?;
            let mut record: SegmentRecord =
                serde_json::from_slice(&value).map_err(|error| JournalError::Encode(error.to_string()))?;
            let files = record.files.len();
            record.files.retain(|file| !replaced.contains(file.path.as_str()));
            if record.files.len() < files {
                record.files.extend_from_slice(by);
                let value = serde_json::to_vec(&record).map_err(|error| JournalError::Encode(error.to_string()))?;
                batch.insert(&kind.segments, key, value);
            }
        }
        batch.commit().map_err(|error| self.failed(&error))
    }
}
