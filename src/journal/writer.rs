//! Appending: a group commit of whatever waits, then the acknowledgements.
//!
//! A commit that need not survive the loss of power is a write to the operating system's memory. That takes microseconds,
//! less than waking a thread and being woken by it, so callers commit themselves: each puts its entries down, and commits them
//! with whatever others put down meanwhile. Where the disk stands still that holds up one caller; others find that somebody
//! commits, and wait without holding up a thread. A commit that is synced is left to a thread, which also
//! commits what a caller left that went away, and opens the store again after a failure.

use std::cell::Cell;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use slated_contract::event::Event;
use tokio::sync::oneshot;

use super::log::Order;
use super::store::{NextSequence, Store};
use super::tail::Tail;
use super::{Durability, JournalError, JournalSettings};

/// The most requests in one commit.
const GROUP: usize = 256;
/// After a failure, how soon the store is opened again; twice as long after each further one, up to [`SLOWEST`].
const SOONEST: Duration = Duration::from_millis(200);
const SLOWEST: Duration = Duration::from_secs(5);
/// How long a commit may take before the journal no longer counts as one that can be written.
const STUCK: Duration = Duration::from_secs(5);

/// What became of an appended event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is kept.
    New,
    /// An event with its id was kept before; that one stays as it is.
    Duplicate,
}

/// Where the id of an event is from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IdFrom {
    /// From whoever sent the event, perhaps not for the first time.
    #[default]
    Sender,
    /// Made for this event, as a UUID is: nothing has it yet, and nobody needs to look.
    Us,
}

/// An event on its way to the tail; encoded before its turn to be committed comes.
#[derive(Debug)]
pub struct Entry {
    /// `Event::KIND`.
    pub kind: &'static str,
    /// Its id and time.
    pub order: Order,
    /// Where its id is from.
    pub id_from: IdFrom,
    /// The event, MessagePack with field names.
    pub bytes: Vec<u8>,
}

impl Entry {
    /// Encodes an event.
    pub fn new<E: Event>(event: &E, id_from: IdFrom) -> Result<Self, JournalError> {
        thread_local! {
            /// How long the last event was: the next will hardly be longer by much.
            static LENGTH: Cell<usize> = const { Cell::new(0) };
        }

        let mut bytes = Vec::with_capacity(LENGTH.get() + 256);
        rmp_serde::encode::write_named(&mut bytes, event).map_err(|error| JournalError::Encode(error.to_string()))?;
        LENGTH.set(bytes.len());
        Ok(Self { kind: E::KIND, order: Order::of(event), id_from, bytes })
    }
}

/// Entries that wait to be committed, and who waits for that.
type Waiting = (Vec<Entry>, oneshot::Sender<Result<Vec<Appended>, JournalError>>);

enum Command {
    /// Something waits.
    Look,
    Stop(oneshot::Sender<()>),
}

/// The handle of the writer; callers and its thread share the rest.
pub struct Writer {
    shared: Arc<Shared>,
    queue: Sender<Waiting>,
    commands: Sender<Command>,
    /// Whether callers commit themselves.
    by_callers: bool,
}

struct Shared {
    tail: Arc<Tail>,
    waiting: Receiver<Waiting>,
    /// Whoever holds it commits.
    turn: Mutex<Turn>,
    /// Since when a commit has been under way.
    since: Mutex<Option<Instant>>,
}

struct Turn {
    next: NextSequence,
    /// Whether the journal was closed.
    ended: bool,
}

impl Writer {
    /// Starts the thread.
    pub fn start(tail: Arc<Tail>, settings: &JournalSettings) -> Result<Self, JournalError> {
        let (queue, waiting) = crossbeam_channel::bounded(settings.queue.max(1));
        let (commands, received) = crossbeam_channel::bounded(1);
        let turn = Mutex::new(Turn { next: tail.read(Store::next_sequence)?, ended: false });
        let shared = Arc::new(Shared { tail, waiting, turn, since: Mutex::default() });
        let worker =
            Worker { shared: Arc::clone(&shared), commands: received, pause: SOONEST, retry_at: Instant::now() };
        thread::Builder::new()
            .name("journal-writer".to_owned())
            .spawn(move || worker.work())
            .map_err(|error| JournalError::Write(format!("cannot start its thread: {error}")))?;
        Ok(Self { shared, queue, commands, by_callers: settings.durability != Durability::Power })
    }

    /// Appends the entries in one commit.
    pub async fn append(&self, entries: Vec<Entry>) -> Result<Vec<Appended>, JournalError> {
        let (acknowledge, acknowledged) = oneshot::channel();
        self.queue.try_send((entries, acknowledge)).map_err(|error| match error {
            TrySendError::Full(_) => JournalError::Busy { queued: self.queue.len() },
            TrySendError::Disconnected(_) => JournalError::Closed,
        })?;
        if self.by_callers {
            // Not after giving way to requests that may be as far: where none is, the runtime wakes a thread for it, and that
            // takes longer than a commit of its own.
            self.shared.commit_waiting();
        } else {
            // One that is there already is as good.
            let _ = self.commands.try_send(Command::Look);
        }
        acknowledged.await.map_err(|_| JournalError::Closed)?
    }

    /// How many requests wait.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Whether the last commit succeeded, and none takes too long.
    pub fn health(&self) -> Result<(), JournalError> {
        if let Some(reason) = self.shared.tail.failure() {
            return Err(JournalError::Write(reason));
        }
        let since = *self.shared.since();
        match since.map(|since| since.elapsed()).filter(|elapsed| *elapsed > STUCK) {
            Some(elapsed) => Err(JournalError::Write(format!("the disk has not answered for {} s", elapsed.as_secs()))),
            None => Ok(()),
        }
    }

    /// Lets the thread write what is queued and end.
    pub async fn stop(&self) {
        let (stop, stopped) = oneshot::channel();
        let commands = self.commands.clone();
        // The queue may be full, and a full queue must not be waited for on an async thread.
        let sent = tokio::task::spawn_blocking(move || commands.send(Command::Stop(stop)).is_ok()).await;
        if matches!(sent, Ok(true)) {
            // An error means that the thread has ended already.
            let _ = stopped.await;
        }
    }
}

impl Shared {
    /// Commits what waits, unless somebody else is about to.
    fn commit_waiting(&self) {
        loop {
            // Of one who puts something down and finds the turn taken, and one who gives the turn back and looks whether
            // something was put down, at least one sees what the other did.
            fence(Ordering::SeqCst);
            if self.waiting.is_empty() {
                return;
            }
            match self.turn.try_lock() {
                Ok(turn) => self.commit(turn),
                Err(TryLockError::Poisoned(turn)) => self.commit(turn.into_inner()),
                Err(TryLockError::WouldBlock) => return,
            }
        }
    }

    /// Commits a group of what waits.
    fn commit(&self, mut turn: MutexGuard<'_, Turn>) {
        let (requests, acknowledgements): (Vec<Vec<Entry>>, Vec<_>) = self.waiting.try_iter().take(GROUP).unzip();
        if requests.is_empty() {
            return;
        }
        let sizes: Vec<usize> = requests.iter().map(Vec::len).collect();
        let entries: Vec<Entry> = requests.into_iter().flatten().collect();
        let written = self.write(&mut turn, &entries);
        drop(turn);
        match written {
            Ok(outcomes) => {
                for (entry, _) in entries.iter().zip(&outcomes).filter(|(_, outcome)| **outcome == Appended::New) {
                    metrics::counter!("slated_journal_events_total", "kind" => entry.kind).increment(1);
                }
                let mut outcomes = outcomes.into_iter();
                for (size, acknowledge) in sizes.into_iter().zip(acknowledgements) {
                    // Whoever gave up waiting has been told that the outcome is not known.
                    let _ = acknowledge.send(Ok(outcomes.by_ref().take(size).collect()));
                }
            }
            Err(error) => {
                for acknowledge in acknowledgements {
                    let _ = acknowledge.send(Err(match &error {
                        JournalError::Closed => JournalError::Closed,
                        JournalError::Write(reason) => JournalError::Write(reason.clone()),
                        error => JournalError::Write(error.to_string()),
                    }));
                }
            }
        }
    }

    fn write(&self, turn: &mut Turn, entries: &[Entry]) -> Result<Vec<Appended>, JournalError> {
        if turn.ended {
            return Err(JournalError::Closed);
        }
        if let Some(reason) = self.tail.failure() {
            return Err(JournalError::Write(reason));
        }
        let started = Instant::now();
        *self.since() = Some(started);
        let committed = self.tail.commit(entries, &mut turn.next);
        *self.since() = None;
        metrics::histogram!("slated_journal_commit_seconds").record(started.elapsed().as_secs_f64());
        committed
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Worker {
    shared: Arc<Shared>,
    commands: Receiver<Command>,
    /// How long to wait from one attempt to open the store again to the next.
    pause: Duration,
    retry_at: Instant,
}

impl Worker {
    fn work(mut self) {
        loop {
            let stop = match self.commands.recv_timeout(SOONEST) {
                Ok(Command::Stop(stopped)) => Some(stopped),
                Ok(Command::Look) | Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            self.recover();
            while !self.shared.waiting.is_empty() {
                self.shared.commit(self.shared.turn());
            }
            if let Some(stopped) = stop {
                self.shared.turn().ended = true;
                // Whoever waits for this may open the journal again at once.
                drop(self);
                let _ = stopped.send(());
                return;
            }
        }
    }

    /// Opens the store again after a failure, when it is time to.
    fn recover(&mut self) {
        let Shared { tail, .. } = &*self.shared;
        if tail.failure().is_none() || Instant::now() < self.retry_at {
            return;
        }
        let next = self.shared.turn().next;
        match tail.reopen(&next) {
            Ok(()) => {
                tracing::info!("the journal can be written again");
                self.pause = SOONEST;
            }
            Err(error) => {
                tracing::debug!(%error, "the journal still cannot be written");
                self.pause = (self.pause * 2).min(SLOWEST);
                self.retry_at = Instant::now() + self.pause;
            }
        }
    }
}
