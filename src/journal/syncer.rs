//! Keeping little of the tail's log unsynced.
//!
//! Where acknowledged events need not survive the loss of power, no commit syncs the log, but closing a range does, under
//! the lock that every commit waits for: for as long as the disk takes for all that was written since. So the log is
//! synced all the time, through a handle of its own, which no commit waits for.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use crossbeam_channel::{RecvTimeoutError, Sender};

use super::salvage::logs;
use super::{Durability, JournalError, JournalSettings};

/// How often.
const TICK: Duration = Duration::from_millis(200);

/// The thread, which ends when this is dropped.
pub struct Syncer {
    _ends: Option<Sender<()>>,
}

impl Syncer {
    /// Starts it, where acknowledgements do not wait for the disk by themselves.
    pub fn start(settings: &JournalSettings) -> Result<Self, JournalError> {
        if settings.durability == Durability::Power {
            return Ok(Self { _ends: None });
        }
        let (ends, ended) = crossbeam_channel::bounded::<()>(0);
        let store = settings.folder.join(".tail");
        let work = move || {
            let mut synced = None;
            while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                // A log that cannot be synced is told by whoever writes it.
                synced = sync(&store, synced).unwrap_or(None);
            }
        };
        thread::Builder::new()
            .name("journal-syncer".to_owned())
            .spawn(work)
            .map_err(|error| JournalError::Write(format!("cannot start its thread: {error}")))?;
        Ok(Self { _ends: Some(ends) })
    }
}

/// Syncs the log that is written now, unless it is as it was when it was `synced` last.
fn sync(store: &Path, synced: Option<(PathBuf, SystemTime)>) -> io::Result<Option<(PathBuf, SystemTime)>> {
    let Some(log) = logs(store)?.pop() else { return Ok(None) };
    let file = File::open(&log)?;
    let now = Some((log, file.metadata()?.modified()?));
    if now != synced {
        file.sync_data()?;
    }
    Ok(now)
}
