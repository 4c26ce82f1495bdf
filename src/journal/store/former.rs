//! Taking over the tail of an earlier slated, which was one embedded store for events, ids and segments.

use std::fs;
use std::io;
use std::path::Path;

use fjall::{Database, KeyspaceCreateOptions, PersistMode};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::super::log::{KINDS, Log, NewEvent, Numbers, Order};
use super::super::segment::sync_folder;
use super::super::{JournalError, JournalSettings};
use super::{NextSequence, Store, number};

/// Events in one commit.
const MOST: usize = 256;

/// Writes what is in the earlier store into a log and an index, which take its place in one step; does nothing where there is no
/// such store. What is interrupted is begun again.
pub fn take_over(settings: &JournalSettings) -> Result<(), JournalError> {
    let journal = &settings.folder;
    let (former, fresh) = (journal.join(".tail"), journal.join(".tail.new"));
    if !former.join("lock").exists() {
        return clear(&fresh).map_err(|error| failed(journal, &error));
    }
    tracing::info!("the journal's tail is of an earlier slated; it is taken over");
    let taken = || -> Result<(), fjall::Error> {
        clear(&fresh)?;
        clear(&Store::index(journal))?;
        copy(&former, &Store::index(journal), &fresh)?;
        renameat_with(CWD, &fresh, CWD, &former, RenameFlags::EXCHANGE).map_err(io::Error::from)?;
        sync_folder(journal)?;
        Ok(clear(&fresh)?)
    };
    taken().map_err(|error| match error {
        fjall::Error::Locked => JournalError::Locked(journal.clone()),
        error => failed(journal, &error),
    })
}

fn failed(journal: &Path, error: &dyn std::fmt::Display) -> JournalError {
    let reason = format!("the tail of an earlier slated cannot be taken over: {error}");
    JournalError::Tail { folder: journal.to_owned(), reason }
}

fn clear(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Copies the store at `former` into an index, and its events into a log.
fn copy(former: &Path, index: &Path, log: &Path) -> Result<(), fjall::Error> {
    let (former, index) = (Database::builder(former).open()?, Database::builder(index).open()?);
    let keyspaces = |name: &str| {
        let open = |database: &Database| database.keyspace(name, KeyspaceCreateOptions::default);
        Ok::<_, fjall::Error>((open(&former)?, open(&index)?))
    };
    let (state, to) = keyspaces("state")?;
    for guard in state.iter() {
        let (key, value) = guard.into_inner()?;
        to.insert(key, value)?;
    }
    let (log, _) = Log::open(log.to_owned(), log, false, &Numbers::default(), &NextSequence::END.0)?;
    for (kind, name) in KINDS.into_iter().enumerate() {
        let closed = state.get(format!("sealed/{name}"))?.map_or(0, |bytes| number(&bytes));
        let (segments, to) = keyspaces(&format!("{name}_segments"))?;
        for guard in segments.iter() {
            let (key, value) = guard.into_inner()?;
            to.insert(key, value)?;
        }
        // The ids of events that are not closed are known from the log.
        let (ids, to) = keyspaces(&format!("{name}_ids"))?;
        for guard in ids.iter() {
            let (id, sequence) = guard.into_inner()?;
            if number(&sequence) <= closed {
                to.insert(id, sequence)?;
            }
        }
        let events = former.keyspace(name, KeyspaceCreateOptions::default)?;
        let mut waiting = events.range((closed + 1).to_be_bytes()..).peekable();
        while waiting.peek().is_some() {
            let mut chunk = Vec::new();
            for guard in waiting.by_ref().take(MOST) {
                let (sequence, bytes) = guard.into_inner()?;
                // What does not read is told as missing.
                chunk.extend(Order::read(&bytes).map(|order| (number(&sequence), order, bytes)));
            }
            let chunk: Vec<NewEvent<'_>> = chunk
                .iter()
                .map(|(sequence, order, bytes)| NewEvent { kind, sequence: *sequence, order, bytes })
                .collect();
            log.append(&chunk)?;
        }
    }
    log.sync()?;
    index.persist(PersistMode::SyncAll)
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use slated_contract::event::{Event, Feedback};

    use super::*;
    use crate::journal::tail::Tail;
    use crate::journal::writer::{Appended, Entry, IdFrom};

    fn entry(id: &str) -> Entry {
        let time = DateTime::UNIX_EPOCH;
        let (event, source) = ("click".to_owned(), "test".to_owned());
        let (feedback_id, decision_id) = (id.to_owned(), "decision".to_owned());
        let (value, item, position) = (1.0, None, None);
        Entry::new(
            &Feedback { feedback_id, decision_id, time, occurred: time, source, event, value, item, position },
            IdFrom::Sender,
        )
        .unwrap()
    }

    #[test]
    fn what_an_earlier_tail_holds_is_there_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let settings = JournalSettings { folder: folder.path().to_owned(), ..JournalSettings::default() };
        {
            let former = Database::builder(folder.path().join(".tail")).open().unwrap();
            let keyspace = |name: &str| former.keyspace(name, KeyspaceCreateOptions::default).unwrap();
            let (events, ids, state) = (keyspace(Feedback::KIND), keyspace("feedback_ids"), keyspace("state"));
            for sequence in 1..=1000_u64 {
                let entry = entry(&format!("id-{sequence:04}"));
                ids.insert(&*entry.order.id, sequence.to_be_bytes()).unwrap();
                // What is closed may be left where a crash came before it was removed.
                if sequence > 390 {
                    events.insert(sequence.to_be_bytes(), entry.bytes).unwrap();
                }
            }
            state.insert("writer", "0123456789ab").unwrap();
            state.insert("sealed/feedback", 400_u64.to_be_bytes()).unwrap();
            former.persist(PersistMode::SyncAll).unwrap();
        }
        for _ in 0..2 {
            let tail = Tail::open(&settings).unwrap();
            assert_eq!(tail.writer(), "0123456789ab");
            let since = tail.read(|store| store.events_since::<Feedback>(DateTime::UNIX_EPOCH)).unwrap();
            let ids: Vec<&str> = since.iter().map(Event::id).collect();
            assert_eq!((ids.len(), ids[0], ids[599]), (600, "id-0401", "id-1000"));
            let mut next = tail.read(Store::next_sequence).unwrap();
            assert_eq!(next, NextSequence([1, 1001, 1]));
            let again = tail.commit(&[entry("id-0001"), entry("id-0900")], &mut next).unwrap();
            assert_eq!(again, [Appended::Duplicate; 2]);
            assert!(!folder.path().join(".tail.new").exists() && !folder.path().join("lost.jsonl").exists());
        }
    }
}
