//! Keeping little of the tail's log unsynced.
//!
//! Where acknowledged events need not survive the loss of power, no commit syncs the log. So that such a loss costs no more
//! than a moment, it is synced all the time, while commits go on.

use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender};

use super::store::Store;
use super::tail::Tail;
use super::{Durability, JournalError, JournalSettings};

/// How often.
const TICK: Duration = Duration::from_millis(200);

/// The thread, which has ended, and let go of the tail, once this is dropped.
pub struct Syncer(Option<(Sender<()>, JoinHandle<()>)>);

impl Syncer {
    /// Starts it, where acknowledgements do not wait for the disk by themselves.
    pub fn start(tail: &Arc<Tail>, settings: &JournalSettings) -> Result<Self, JournalError> {
        if settings.durability == Durability::Power {
            return Ok(Self(None));
        }
        let tail: Weak<Tail> = Arc::downgrade(tail);
        let (ends, ended) = crossbeam_channel::bounded::<()>(0);
        let work = move || {
            while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                if let Some(tail) = tail.upgrade() {
                    // A log that cannot be synced is told by whoever writes it.
                    let _ = tail.read(Store::flush);
                }
            }
        };
        let thread = thread::Builder::new()
            .name("journal-syncer".to_owned())
            .spawn(work)
            .map_err(|error| JournalError::Write(format!("cannot start its thread: {error}")))?;
        Ok(Self(Some((ends, thread))))
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        if let Some((ends, thread)) = self.0.take() {
            drop(ends);
            // It cannot panic, and if it did there would be nothing left to do.
            let _ = thread.join();
        }
    }
}
