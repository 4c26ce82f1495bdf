//! The durable tail: the store, what it has acknowledged, and opening it again after a write that failed.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use slated_contract::event::{Decision, Event, Feedback, RouteChange};

use super::acknowledged::Acknowledged;
use super::salvage::{Cut, Salvaged, salvage};
use super::store::{NextSequence, Range, Store, TailStats, take_over};
use super::writer::{Appended, Entry};
use super::{JournalError, JournalSettings};

/// What must fit on the disk before a store that a full disk stopped is opened again.
static PROBE: [u8; 256 * 1024] = [0x5a; 256 * 1024];

/// Events that were acknowledged and are lost, a line of `<journal>/lost.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostEvents {
    /// When that was found.
    pub found: DateTime<Utc>,
    /// `Event::KIND`.
    pub kind: String,
    /// The first one's number, in the order in which this journal took them.
    pub first: u64,
    /// The last one's.
    pub last: u64,
    /// How many they are.
    pub events: u64,
}

/// The store, while it is open. Events are written one commit after the other, and all sealing goes through one thread.
pub struct Tail {
    settings: JournalSettings,
    writer: String,
    /// `None` where it could not be opened again yet.
    store: RwLock<Option<Store>>,
    /// Why the last write failed; `None` where it did not.
    failure: Mutex<Option<String>>,
    acknowledged: Acknowledged,
}

impl Tail {
    /// Opens or creates the tail, and tells what it lost since it was last open.
    pub fn open(settings: &JournalSettings) -> Result<Self, JournalError> {
        let failed = |error: io::Error| failed(&settings.folder, &error);
        fs::create_dir_all(&settings.folder).map_err(failed)?;
        let Salvaged { mut cuts, renumbered } = cut(&settings.folder)?;
        take_over(settings)?;
        let (store, of_log) = Store::open(settings, &NextSequence::END)?;
        cuts.extend(of_log);
        let acknowledged = Acknowledged::open(&settings.folder).map_err(failed)?;
        let lost = tell_lost(&settings.folder, &store, acknowledged.read())?;
        if renumbered > 0 {
            tracing::error!(
                commits = renumbered,
                "numbers of commits in the journal's index were damaged, and set right"
            );
        }
        for Cut { log, bytes, at_end } in &cuts {
            if lost.is_empty() && *at_end {
                tracing::info!(
                    log,
                    bytes = bytes.len(),
                    "a write that was never acknowledged was torn, and is cut off"
                );
            } else {
                tracing::error!(
                    log,
                    first = bytes.start,
                    end = bytes.end,
                    "damaged bytes were cut out of the journal's tail"
                );
            }
        }
        // An event that is lost from the tail may be in a segment already; the number it had is another's then, and no
        // segment from now on may take the name of an earlier one.
        let writer = if lost.is_empty() { store.writer()? } else { store.new_writer()? };
        let next = store.next_sequence()?;
        acknowledged.write(&next).map_err(failed)?;
        let settings = settings.clone();
        Ok(Self { settings, writer, store: RwLock::new(Some(store)), failure: Mutex::default(), acknowledged })
    }

    /// The journal's folder.
    pub fn folder(&self) -> &Path {
        &self.settings.folder
    }

    /// The id of this journal, part of every segment's name.
    pub fn writer(&self) -> &str {
        &self.writer
    }

    /// Reads from the store.
    pub fn read<T>(&self, read: impl FnOnce(&Store) -> Result<T, JournalError>) -> Result<T, JournalError> {
        match &*self.store.read().unwrap_or_else(PoisonError::into_inner) {
            Some(store) => read(store),
            None => Err(JournalError::Write(self.failure().unwrap_or_else(|| "its store is being opened".to_owned()))),
        }
    }

    /// Writes to the store; a failure lasts until [`Tail::reopen`].
    pub fn write<T>(&self, write: impl FnOnce(&Store) -> Result<T, JournalError>) -> Result<T, JournalError> {
        if let Some(reason) = self.failure() {
            return Err(JournalError::Write(reason));
        }
        let written = self.read(write);
        if let Err(error) = &written {
            tracing::error!(%error, "the journal cannot be written");
            self.fail(error.to_string());
        }
        written
    }

    /// Commits the entries as one batch, those whose id is new; `next` numbers them by kind and moves on.
    pub fn commit(&self, entries: &[Entry], next: &mut NextSequence) -> Result<Vec<Appended>, JournalError> {
        let outcomes = self.write(|store| store.commit(entries, next))?;
        if let Err(error) = self.acknowledged.write(next) {
            tracing::warn!(%error, "what the journal acknowledged cannot be noted; a loss would be told too small");
        }
        Ok(outcomes)
    }

    /// Why nothing can be written now.
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fail(&self, reason: String) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }

    /// Opens the store again after a write failed. Events from `next` on, which were refused, are removed where they were
    /// written all the same. Reading goes on until there is room to write.
    pub fn reopen(&self, next: &NextSequence) -> Result<(), JournalError> {
        let reopened = probe(&self.settings.folder).and_then(|()| {
            let mut slot = self.store.write().unwrap_or_else(PoisonError::into_inner);
            // Lets go of the lock on its folder.
            *slot = None;
            cut(&self.settings.folder)?;
            let (store, _) = Store::open(&self.settings, next)?;
            store.sync()?;
            *slot = Some(store);
            Ok(())
        });
        match &reopened {
            Ok(()) => *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = None,
            Err(error) => self.fail(error.to_string()),
        }
        reopened
    }

    /// How many events are in the tail; none where it cannot be read.
    pub fn stats(&self) -> TailStats {
        self.read(Store::stats).unwrap_or_default()
    }
}

fn failed(folder: &Path, error: &io::Error) -> JournalError {
    JournalError::Tail { folder: folder.to_owned(), reason: error.to_string() }
}

/// Cuts what is damaged out of the index's logs; refuses where another process has it open.
fn cut(journal: &Path) -> Result<Salvaged, JournalError> {
    let index = Store::index(journal);
    let Ok(lock) = File::options().read(true).write(true).open(index.join("lock")) else {
        return Ok(Salvaged::default());
    };
    match lock.try_lock() {
        Ok(()) => salvage(&index, &journal.join("damaged")).map_err(|error| failed(journal, &error)),
        Err(TryLockError::WouldBlock) => Err(JournalError::Locked(journal.to_owned())),
        Err(TryLockError::Error(error)) => Err(failed(journal, &error)),
    }
}

/// Fails where the disk does not take a little.
fn probe(journal: &Path) -> Result<(), JournalError> {
    let path = journal.join(".probe");
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(&PROBE)?;
        file.sync_all()
    });
    // What it takes must go whether it fitted or not.
    let removed = fs::remove_file(&path);
    written.and(removed).map_err(|error| JournalError::Write(error.to_string()))
}

/// Finds what was acknowledged and is not there, and writes it down.
fn tell_lost(
    journal: &Path,
    store: &Store,
    acknowledged: Option<NextSequence>,
) -> Result<Vec<LostEvents>, JournalError> {
    let mut lost = Vec::new();
    let [decisions, feedback, changes] = acknowledged.map_or([0; 3], |next| next.0.map(|next| next.saturating_sub(1)));
    add_lost::<Decision>(store, decisions, &mut lost)?;
    add_lost::<Feedback>(store, feedback, &mut lost)?;
    add_lost::<RouteChange>(store, changes, &mut lost)?;
    if lost.is_empty() {
        return Ok(lost);
    }
    let mut file =
        File::options().create(true).append(true).open(journal.join(LOST)).map_err(|error| failed(journal, &error))?;
    for entry in &lost {
        let LostEvents { kind, first, last, events, .. } = entry;
        tracing::error!(kind, first, last, events, "acknowledged events are missing from the journal's tail");
        metrics::counter!("slated_journal_lost_events_total", "kind" => kind.clone()).increment(*events);
        let line = serde_json::to_string(entry).map_err(|error| JournalError::Encode(error.to_string()))?;
        writeln!(file, "{line}").map_err(|error| failed(journal, &error))?;
    }
    file.sync_all().map_err(|error| failed(journal, &error))?;
    // Told once; what comes next is numbered after it.
    tell::<Decision>(store, &lost)?;
    tell::<Feedback>(store, &lost)?;
    tell::<RouteChange>(store, &lost)?;
    Ok(lost)
}

fn add_lost<E: Event>(store: &Store, acknowledged: u64, lost: &mut Vec<LostEvents>) -> Result<(), JournalError> {
    let found = Utc::now();
    let missing = store.missing::<E>(acknowledged)?.into_iter();
    lost.extend(missing.map(|Range { first, last }| LostEvents {
        found,
        kind: E::KIND.to_owned(),
        first,
        last,
        events: last - first + 1,
    }));
    Ok(())
}

fn tell<E: Event>(store: &Store, lost: &[LostEvents]) -> Result<(), JournalError> {
    match lost.iter().filter(|lost| lost.kind == E::KIND).map(|lost| lost.last).max() {
        Some(last) => store.told_missing::<E>(last.max(store.last::<E>()?)),
        None => Ok(()),
    }
}

const LOST: &str = "lost.jsonl";

/// What a journal has written down as lost from its tail.
///
/// # Errors
/// A file that cannot be read, or is not what was written.
pub fn lost_events(journal: &Path) -> Result<Vec<LostEvents>, JournalError> {
    let path: PathBuf = journal.join(LOST);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(journal, &error)),
    };
    let parsed = text.lines().map(serde_json::from_str).collect::<Result<_, _>>();
    parsed.map_err(|error| JournalError::Tail { folder: journal.to_owned(), reason: format!("{LOST}: {error}") })
}
