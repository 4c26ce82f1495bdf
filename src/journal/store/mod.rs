//! The store of the durable tail: events that are acknowledged and not yet in a closed segment.
//!
//! Keyspaces of the embedded store, for each kind K of event:
//!
//! | keyspace | key | value |
//! |---|---|---|
//! | K | sequence number, big-endian | the event, MessagePack with field names |
//! | K`_ids` | event id | sequence number |
//! | K`_segments` | first sequence number | last sequence number and files, JSON |
//! | `state` | `writer` | id of this journal, part of every segment's name |
//! | `state` | `sealed/`K | the last sequence number in a closed segment |
//! | `state` | `sealing/`K | the range that is being closed; absent when none is |
//! | `state` | `missing/`K | up to which number missing events have been told |

mod closed;
mod order;

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use slated_contract::event::{Decision, Event, Feedback, RouteChange};
use uuid::Uuid;

use super::segment::Place;
use super::writer::{Appended, Entry};
use super::{Durability, JournalError, JournalSettings};
use order::Order;

pub use closed::{Range, SegmentRecord};

/// The open store. A write that fails leaves it refusing all further ones until it is opened again.
pub struct Store {
    folder: PathBuf,
    database: Database,
    decisions: Kind,
    feedback: Kind,
    changes: Kind,
    state: Keyspace,
    persist: PersistMode,
}

/// The keyspaces of one kind of event.
struct Kind {
    events: Keyspace,
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
    /// Opens or creates the store in `<folder>/.tail`.
    pub fn open(settings: &JournalSettings) -> Result<Self, JournalError> {
        Self::open_at(settings, &settings.folder.join(".tail"))
    }

    /// Opens or creates the store of the journal in another folder.
    pub fn open_at(settings: &JournalSettings, store: &Path) -> Result<Self, JournalError> {
        let folder = settings.folder.clone();
        let failed = |error: fjall::Error| match error {
            fjall::Error::Locked => JournalError::Locked(folder.clone()),
            error => JournalError::Tail { folder: folder.clone(), reason: error.to_string() },
        };
        std::fs::create_dir_all(&folder).map_err(|error| failed(error.into()))?;
        // Packing events costs more than it saves: most of them is numbers, and none of them stays for long.
        let database = Database::builder(store)
            .cache_size(8 * 1024 * 1024)
            .journal_compression(CompressionType::None)
            .open()
            .map_err(failed)?;
        // What is full is flushed, and while the disk takes note of that, nothing of the keyspace is read or written: the more
        // memory, the rarer.
        let keyspace = |name: &str, memory_mib: u64| {
            let options = || KeyspaceCreateOptions::default().max_memtable_size(memory_mib * 1024 * 1024);
            database.keyspace(name, options).map_err(failed)
        };
        let kind = |name: &str| -> Result<Kind, JournalError> {
            Ok(Kind {
                events: keyspace(name, 32)?,
                ids: keyspace(&format!("{name}_ids"), 4)?,
                segments: keyspace(&format!("{name}_segments"), 1)?,
            })
        };
        let state = keyspace("state", 1)?;
        // `Buffer` hands the commit to the operating system before it returns, which is what survives the process; no
        // mode at all would leave it in the store's own buffer.
        let persist = match settings.durability {
            Durability::Process | Durability::None => PersistMode::Buffer,
            Durability::Power => PersistMode::SyncData,
        };
        let (decisions, feedback, changes) = (kind(Decision::KIND)?, kind(Feedback::KIND)?, kind(RouteChange::KIND)?);
        let store = Self { decisions, feedback, changes, state, database, persist, folder: settings.folder.clone() };
        store.remove_closed::<Decision>()?;
        store.remove_closed::<Feedback>()?;
        store.remove_closed::<RouteChange>()?;
        Ok(store)
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
        let id = Uuid::new_v4().simple().to_string()[..12].to_owned();
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        batch.insert(&self.state, "writer", id.as_str());
        batch.commit().map_err(|error| self.failed(&error))?;
        Ok(id)
    }

    fn kind(&self, name: &str) -> &Kind {
        match name {
            Decision::KIND => &self.decisions,
            Feedback::KIND => &self.feedback,
            _ => &self.changes,
        }
    }

    fn failed(&self, error: &fjall::Error) -> JournalError {
        JournalError::Tail { folder: self.folder.clone(), reason: error.to_string() }
    }

    /// Commits the entries as one batch, those whose id is new; `next` numbers them by kind and moves on.
    pub fn commit(&self, entries: &[Entry], next: &mut NextSequence) -> Result<Vec<Appended>, JournalError> {
        let mut batch = self.database.batch().durability(Some(self.persist));
        let mut after = *next;
        let mut in_batch = HashSet::new();
        let mut outcomes = Vec::with_capacity(entries.len());
        for entry in entries {
            let kind = self.kind(entry.kind);
            let known = kind.ids.contains_key(&entry.id).map_err(|error| JournalError::Write(error.to_string()))?;
            if known || !in_batch.insert((entry.kind, &entry.id)) {
                outcomes.push(Appended::Duplicate);
                continue;
            }
            let sequence = after.take(entry.kind).to_be_bytes();
            batch.insert(&kind.events, sequence, entry.bytes.as_slice());
            batch.insert(&kind.ids, entry.id.as_str(), sequence);
            outcomes.push(Appended::New);
        }
        batch.commit().map_err(|error| JournalError::Write(error.to_string()))?;
        *next = after;
        Ok(outcomes)
    }

    /// Removes events from these numbers on, whose writers were told that they are not kept.
    pub fn discard_from(&self, next: &NextSequence) -> Result<(), JournalError> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        for (name, first) in next.kinds() {
            let kind = self.kind(name);
            let refused: HashSet<_> = kind
                .events
                .range(first.to_be_bytes()..)
                .map(|guard| guard.key())
                .collect::<Result<_, _>>()
                .map_err(|error| self.failed(&error))?;
            if refused.is_empty() {
                continue;
            }
            refused.iter().for_each(|key| batch.remove(&kind.events, key.clone()));
            for guard in kind.ids.iter() {
                let (id, sequence) = guard.into_inner().map_err(|error| self.failed(&error))?;
                if refused.contains(&sequence) {
                    batch.remove(&kind.ids, id);
                }
            }
        }
        batch.commit().map_err(|error| self.failed(&error))
    }

    /// The numbers of acknowledged events that are neither in the tail nor in a segment, and have not been told yet.
    /// `acknowledged` is the last number that was.
    pub fn missing<E: Event>(&self, acknowledged: u64) -> Result<Vec<Range>, JournalError> {
        let told = self.state.get(format!("missing/{}", E::KIND)).map_err(|error| self.failed(&error))?;
        let mut expected = self.sealed::<E>()?.max(told.map_or(0, |bytes| number(&bytes))) + 1;
        let mut missing = Vec::new();
        for guard in self.kind(E::KIND).events.range(expected.to_be_bytes()..) {
            let found = number(&guard.key().map_err(|error| self.failed(&error))?);
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
        Ok(NextSequence {
            decisions: self.last::<Decision>()? + 1,
            feedback: self.last::<Feedback>()? + 1,
            changes: self.last::<RouteChange>()? + 1,
        })
    }

    /// The last number given to an event of the kind, 0 before the first.
    pub fn last<E: Event>(&self) -> Result<u64, JournalError> {
        let last = match self.kind(E::KIND).events.last_key_value() {
            Some(guard) => number(&guard.key().map_err(|error| self.failed(&error))?),
            None => 0,
        };
        let told = self.state.get(format!("missing/{}", E::KIND)).map_err(|error| self.failed(&error))?;
        Ok(last.max(self.sealed::<E>()?).max(told.map_or(0, |bytes| number(&bytes))))
    }

    /// What the events of a range are ordered by, with their numbers; the rest of an event is passed over.
    pub fn places<E: Event>(&self, range: Range) -> Result<Vec<Place<u64>>, JournalError> {
        let keys = range.first.to_be_bytes()..=range.last.to_be_bytes();
        let read = |guard: fjall::Guard| {
            let (key, value) = guard.into_inner().map_err(|error| self.failed(&error))?;
            let Order { id, time } = self.order::<E>(&value)?;
            Ok(Place::new(time, id, number(&key)))
        };
        self.kind(E::KIND).events.range(keys).map(read).collect()
    }

    /// The events that wait to be closed and are not older than `from`, in order.
    pub fn events_since<E: Event>(&self, from: DateTime<Utc>) -> Result<Vec<E>, JournalError> {
        let mut events = Vec::new();
        for guard in self.waiting::<E>()? {
            let value = guard.value().map_err(|error| self.failed(&error))?;
            if self.order::<E>(&value)?.time >= from {
                events.push(self.decode::<E>(&value)?);
            }
        }
        Ok(events)
    }

    /// Everything of the kind that is not in a closed segment.
    fn waiting<E: Event>(&self) -> Result<fjall::Iter, JournalError> {
        Ok(self.kind(E::KIND).events.range((self.sealed::<E>()? + 1).to_be_bytes()..))
    }

    /// One event, if it is still in the tail.
    pub fn event<E: Event>(&self, sequence: u64) -> Result<Option<E>, JournalError> {
        let value = self.kind(E::KIND).events.get(sequence.to_be_bytes()).map_err(|error| self.failed(&error))?;
        value.map(|bytes| self.decode::<E>(&bytes)).transpose()
    }

    fn decode<E: Event>(&self, bytes: &[u8]) -> Result<E, JournalError> {
        rmp_serde::from_slice(bytes).map_err(|error| self.unread::<E>(&error))
    }

    fn order<E: Event>(&self, bytes: &[u8]) -> Result<Order, JournalError> {
        Order::read(bytes).ok_or_else(|| self.unread::<E>(&"it does not begin with its id and time"))
    }

    fn unread<E: Event>(&self, error: &dyn fmt::Display) -> JournalError {
        let reason = format!("a {} event does not read: {error}", E::KIND);
        JournalError::Tail { folder: self.folder.clone(), reason }
    }

    /// The time of the event that has been in the tail for longest.
    pub fn oldest<E: Event>(&self) -> Result<Option<DateTime<Utc>>, JournalError> {
        let Some(guard) = self.waiting::<E>()?.next() else { return Ok(None) };
        let value = guard.value().map_err(|error| self.failed(&error))?;
        Ok(Some(self.order::<E>(&value)?.time))
    }

    /// The number of the event with this id.
    pub fn sequence_of<E: Event>(&self, id: &str) -> Result<Option<u64>, JournalError> {
        let value = self.kind(E::KIND).ids.get(id).map_err(|error| self.failed(&error))?;
        Ok(value.map(|bytes| number(&bytes)))
    }

    /// The ids that begin with `prefix`, in order; those that are still known.
    pub fn ids_with<E: Event>(&self, prefix: &str) -> Result<Vec<String>, JournalError> {
        let guards = self.kind(E::KIND).ids.prefix(prefix);
        let id = |guard: fjall::Guard| guard.key().map(|id| String::from_utf8_lossy(&id).into_owned());
        guards.map(id).collect::<Result<_, _>>().map_err(|error| self.failed(&error))
    }

    /// Copies everything that is in the store into another, empty one.
    pub fn copy_to(&self, other: &Self) -> Result<(), JournalError> {
        let keyspaces = |store: &Self| {
            let kinds = [&store.decisions, &store.feedback, &store.changes];
            let of_kinds = kinds.into_iter().flat_map(|kind| [&kind.events, &kind.ids, &kind.segments]);
            of_kinds.chain([&store.state]).cloned().collect::<Vec<_>>()
        };
        for (from, to) in keyspaces(self).iter().zip(keyspaces(other)) {
            for guard in from.iter() {
                let (key, value) = guard.into_inner().map_err(|error| self.failed(&error))?;
                to.insert(key, value).map_err(|error| self.failed(&error))?;
            }
        }
        other.sync()
    }

    /// How many events are in the tail.
    pub fn stats(&self) -> Result<TailStats, JournalError> {
        Ok(TailStats {
            decisions: self.last::<Decision>()? - self.sealed::<Decision>()?,
            feedback: self.last::<Feedback>()? - self.sealed::<Feedback>()?,
            changes: self.last::<RouteChange>()? - self.sealed::<RouteChange>()?,
        })
    }

    /// Syncs to disk.
    pub fn sync(&self) -> Result<(), JournalError> {
        self.database.persist(PersistMode::SyncAll).map_err(|error| self.failed(&error))
    }
}

/// The number that the next event of each kind gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextSequence {
    /// Of decisions.
    pub decisions: u64,
    /// Of feedback events.
    pub feedback: u64,
    /// Of changes of routes.
    pub changes: u64,
}

impl NextSequence {
    const fn kinds(&self) -> [(&'static str, u64); 3] {
        [(Decision::KIND, self.decisions), (Feedback::KIND, self.feedback), (RouteChange::KIND, self.changes)]
    }

    fn take(&mut self, kind: &str) -> u64 {
        let next = match kind {
            Decision::KIND => &mut self.decisions,
            Feedback::KIND => &mut self.feedback,
            _ => &mut self.changes,
        };
        *next += 1;
        *next - 1
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_be_bytes)
}
