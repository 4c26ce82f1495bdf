//! The store of the durable tail: events that are acknowledged and not yet in a closed segment, in the [log](super::log), and
//! an index of what was closed.
//!
//! Keyspaces of the index, an embedded store, for each kind K of event:
//!
//! | keyspace | key | value |
//! |---|---|---|
//! | K`_ids` | id of an event in a closed segment | sequence number |
//! | K`_segments` | first sequence number | last sequence number and files, JSON |
//! | `state` | `writer` | id of this journal, part of every segment's name |
//! | `state` | `sealed/`K | the last sequence number in a closed segment |
//! | `state` | `sealing/`K | the range that is being closed; absent when none is |
//! | `state` | `missing/`K | up to which number missing events have been told |

mod closed;
mod former;

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::thread;

use chrono::{DateTime, Utc};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use slated_contract::event::{Decision, Event, Feedback, RouteChange};

use super::log::{self, KINDS, Log, NewEvent, Numbers, Waiting};
use super::salvage::Cut;
use super::segment::Place;
use super::writer::{Appended, Entry, IdFrom};
use super::{Durability, JournalError, JournalSettings};
use crate::{priority, unique};

pub use closed::{Range, SegmentRecord};
pub use former::take_over;

/// The open store. A write that fails leaves it refusing all further ones until it is opened again.
pub struct Store {
    folder: PathBuf,
    log: Log,
    database: Database,
    kinds: [Kind; KINDS.len()],
    state: Keyspace,
}

/// The keyspaces of one kind of event.
struct Kind {
    ids: Keyspace,
    segments: Keyspace,
}

/// How many events are in the tail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TailStats {
    /// Decisions.
    pub decisions: u64,
    /// Feedback events.
    pub feedback: u64,
    /// Changes of routes.
    pub changes: u64,
}

impl Store {
    /// Where the index is.
    pub fn index(journal: &Path) -> PathBuf {
        journal.join(".index")
    }

    /// Opens or creates the log in `<folder>/.tail` and the index beside it. Events from `refused` on, whose senders were told
    /// that they are not kept, are removed. What was damaged in the log is put aside, and said.
    pub fn open(settings: &JournalSettings, refused: &NextSequence) -> Result<(Self, Vec<Cut>), JournalError> {
        let folder = settings.folder.clone();
        let failed = |error: fjall::Error| match error {
            fjall::Error::Locked => JournalError::Locked(folder.clone()),
            error => JournalError::Tail { folder: folder.clone(), reason: error.to_string() },
        };
        std::fs::create_dir_all(&folder).map_err(|error| failed(error.into()))?;
        let database = open_index(&Self::index(&folder)).map_err(failed)?;
        let keyspace = |name: &str, memory: u64| {
            let options = || KeyspaceCreateOptions::default().max_memtable_size(memory);
            database.keyspace(name, options).map_err(failed)
        };
        let kind = |name: &str| -> Result<Kind, JournalError> {
            Ok(Kind {
                ids: keyspace(&format!("{name}_ids"), 2 * MIB)?,
                segments: keyspace(&format!("{name}_segments"), MIB)?,
            })
        };
        let [decisions, feedback, changes] = KINDS;
        let kinds = [kind(decisions)?, kind(feedback)?, kind(changes)?];
        let state = keyspace("state", MIB)?;
        let mut closed = Numbers::default();
        for (closed, kind) in closed.iter_mut().zip(KINDS) {
            *closed = state.get(format!("sealed/{kind}")).map_err(failed)?.map_or(0, |bytes| number(&bytes));
        }
        let synced = settings.durability == Durability::Power;
        let (log, cuts) = Log::open(folder.join(".tail"), &folder.join("damaged"), synced, &closed, &refused.0)
            .map_err(|error| failed(error.into()))?;
        Ok((Self { folder, log, database, kinds, state }, cuts))
    }

    /// The id of this journal, part of every segment's name.
    pub fn writer(&self) -> Result<String, JournalError> {
        match self.state.get("writer").map_err(|error| self.failed(&error))? {
            Some(id) => Ok(String::from_utf8_lossy(&id).into_owned()),
            None => self.new_writer(),
        }
    }

    /// Takes a new id, so that no segment from now on has the name of an earlier one.
    pub fn new_writer(&self) -> Result<String, JournalError> {
        let id = unique::random().simple().to_string()[..12].to_owned();
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        batch.insert(&self.state, "writer", id.as_str());
        batch.commit().map_err(|error| self.failed(&error))?;
        Ok(id)
    }

    fn kind(&self, name: &str) -> &Kind {
        &self.kinds[log::index(name)]
    }

    fn failed(&self, error: &impl fmt::Display) -> JournalError {
        JournalError::Tail { folder: self.folder.clone(), reason: error.to_string() }
    }

    /// Commits the entries as one, those whose id is new; `next` numbers them by kind and moves on.
    pub fn commit(&self, entries: &[Entry], next: &mut NextSequence) -> Result<Vec<Appended>, JournalError> {
        let mut after = *next;
        let mut in_commit = HashSet::new();
        let mut outcomes = Vec::with_capacity(entries.len());
        let mut events = Vec::with_capacity(entries.len());
        for Entry { kind, order, id_from, bytes } in entries {
            if *id_from == IdFrom::Sender {
                let known = self.number_of(kind, &order.id).map_err(|error| JournalError::Write(error.to_string()))?;
                if known.is_some() || !in_commit.insert((kind, &order.id)) {
                    outcomes.push(Appended::Duplicate);
                    continue;
                }
            }
            let kind = log::index(kind);
            events.push(NewEvent { kind, sequence: after.0[kind], order, bytes });
            after.0[kind] += 1;
            outcomes.push(Appended::New);
        }
        self.log.append(&events).map_err(|error| JournalError::Write(error.to_string()))?;
        *next = after;
        Ok(outcomes)
    }

    /// The numbers of acknowledged events that are neither in the tail nor in a segment, and have not been told yet.
    /// `acknowledged` is the last number that was.
    pub fn missing<E: Event>(&self, acknowledged: u64) -> Result<Vec<Range>, JournalError> {
        let told = self.state.get(format!("missing/{}", E::KIND)).map_err(|error| self.failed(&error))?;
        let mut expected = self.sealed::<E>()?.max(told.map_or(0, |bytes| number(&bytes))) + 1;
        let mut missing = Vec::new();
        for Waiting { sequence: found, .. } in self.log.within(log::index(E::KIND), expected..=u64::MAX) {
            if found > expected {
                missing.push(Range { first: expected, last: found - 1 });
            }
            expected = found + 1;
        }
        if acknowledged >= expected {
            missing.push(Range { first: expected, last: acknowledged });
        }
        Ok(missing)
    }

    /// Notes that missing events up to this number have been told.
    pub fn told_missing<E: Event>(&self, last: u64) -> Result<(), JournalError> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        batch.insert(&self.state, format!("missing/{}", E::KIND), last.to_be_bytes());
        batch.commit().map_err(|error| self.failed(&error))
    }

    /// The numbers that the next events get.
    pub fn next_sequence(&self) -> Result<NextSequence, JournalError> {
        Ok(NextSequence([self.last::<Decision>()? + 1, self.last::<Feedback>()? + 1, self.last::<RouteChange>()? + 1]))
    }

    /// The last number given to an event of the kind, 0 before the first.
    pub fn last<E: Event>(&self) -> Result<u64, JournalError> {
        let last = self.log.last(log::index(E::KIND));
        let told = self.state.get(format!("missing/{}", E::KIND)).map_err(|error| self.failed(&error))?;
        Ok(last.max(self.sealed::<E>()?).max(told.map_or(0, |bytes| number(&bytes))))
    }

    /// What the events of a range are ordered by, with their numbers.
    pub fn places<E: Event>(&self, range: Range) -> Vec<Place<u64>> {
        let waiting = self.log.within(log::index(E::KIND), range.first..=range.last).into_iter();
        waiting.map(|Waiting { sequence, order }| Place::new(order.time, order.id, sequence)).collect()
    }

    /// The events that wait to be closed and are not older than `from`, in order.
    pub fn events_since<E: Event>(&self, from: DateTime<Utc>) -> Result<Vec<E>, JournalError> {
        let mut events = Vec::new();
        for Waiting { sequence, order } in self.log.within(log::index(E::KIND), self.sealed::<E>()? + 1..=u64::MAX) {
            if order.time >= from {
                // One that has left meanwhile is in a segment, where whoever asks looks next.
                events.extend(self.event::<E>(sequence)?);
            }
        }
        Ok(events)
    }

    /// One event, if it is still in the tail.
    pub fn event<E: Event>(&self, sequence: u64) -> Result<Option<E>, JournalError> {
        let bytes = self.log.event(log::index(E::KIND), sequence).map_err(|error| self.failed(&error))?;
        let event = bytes.map(|bytes| rmp_serde::from_slice(&bytes)).transpose();
        event.map_err(|error| {
            let reason = format!("a {} event does not read: {error}", E::KIND);
            JournalError::Tail { folder: self.folder.clone(), reason }
        })
    }

    /// The time of the event that has been in the tail for longest.
    pub fn oldest<E: Event>(&self) -> Result<Option<DateTime<Utc>>, JournalError> {
        let first = self.log.first_from(log::index(E::KIND), self.sealed::<E>()? + 1);
        Ok(first.map(|waiting| waiting.order.time))
    }

    /// The number of the event with this id.
    pub fn sequence_of<E: Event>(&self, id: &str) -> Result<Option<u64>, JournalError> {
        self.number_of(E::KIND, id)
    }

    fn number_of(&self, kind: &str, id: &str) -> Result<Option<u64>, JournalError> {
        // In this order, because an id is in the index before it leaves the log.
        if let Some(sequence) = self.log.sequence_of(log::index(kind), id) {
            return Ok(Some(sequence));
        }
        let value = self.kind(kind).ids.get(id).map_err(|error| self.failed(&error))?;
        Ok(value.map(|bytes| number(&bytes)))
    }

    /// The ids that begin with `prefix`, in order; those that are still known.
    pub fn ids_with<E: Event>(&self, prefix: &str) -> Result<Vec<String>, JournalError> {
        let mut ids = self.log.ids_with(log::index(E::KIND), prefix);
        for guard in self.kind(E::KIND).ids.prefix(prefix) {
            let id = guard.key().map_err(|error| self.failed(&error))?;
            ids.push(String::from_utf8_lossy(&id).into_owned());
        }
        ids.sort_unstable();
        // One that was closed between the two looks is in both.
        ids.dedup();
        Ok(ids)
    }

    /// How many events are in the tail.
    pub fn stats(&self) -> Result<TailStats, JournalError> {
        Ok(TailStats {
            decisions: self.last::<Decision>()? - self.sealed::<Decision>()?,
            feedback: self.last::<Feedback>()? - self.sealed::<Feedback>()?,
            changes: self.last::<RouteChange>()? - self.sealed::<RouteChange>()?,
        })
    }

    /// Lets what is written from now on be in files of its own, so that what was written before goes once it is closed.
    pub fn leave_log(&self) {
        self.log.leave();
    }

    /// Syncs what was written to the log since the last time; no commit waits for it.
    pub fn flush(&self) -> Result<(), JournalError> {
        self.log.flush().map_err(|error| self.failed(&error))
    }

    /// Syncs to disk.
    pub fn sync(&self) -> Result<(), JournalError> {
        self.log.sync().map_err(|error| self.failed(&error))?;
        self.database.persist(PersistMode::SyncAll).map_err(|error| self.failed(&error))
    }
}

/// Opens the index. Its own threads, which write tables for a tenth of a second at a time, come after those that answer
/// requests: they are started by one of low priority, and have it from there.
fn open_index(folder: &Path) -> fjall::Result<Database> {
    let open = || {
        priority::lower();
        Database::builder(folder).cache_size(CACHE).open()
    };
    thread::scope(|scope| scope.spawn(open).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The number that the next event of each kind gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextSequence(pub Numbers);

impl NextSequence {
    /// After all that there can be.
    pub const END: Self = Self([u64::MAX; KINDS.len()]);
}

const MIB: u64 = 1024 * 1024;
/// Of the index, for what is read of it.
const CACHE: u64 = 4 * MIB;

fn number(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_be_bytes)
}
