//! The one thread that appends: a group commit of whatever waits, then the acknowledgements.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use slated_contract::event::Event;
use tokio::sync::oneshot;

use super::store::{NextSequence, Store};
use super::tail::Tail;
use super::{JournalError, JournalSettings};

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

/// An event on its way to the tail; encoded by the caller, so that the one writing thread does not have to.
#[derive(Debug)]
pub struct Entry {
    /// `Event::KIND`.
    pub kind: &'static str,
    /// The event's id.
    pub id: String,
    /// The event, MessagePack with field names.
    pub bytes: Vec<u8>,
}

impl Entry {
    /// Encodes an event.
    pub fn new<E: Event>(event: &E) -> Result<Self, JournalError> {
        let bytes = rmp_serde::to_vec_named(event).map_err(|error| JournalError::Encode(error.to_string()))?;
        Ok(Self { kind: E::KIND, id: event.id().to_owned(), bytes })
    }
}

type Acknowledgement = oneshot::Sender<Result<Vec<Appended>, JournalError>>;

enum Command {
    Append(Vec<Entry>, Acknowledgement),
    Stop(oneshot::Sender<()>),
}

/// The handle of the thread.
pub struct Writer {
    queue: Sender<Command>,
    tail: Arc<Tail>,
    committing: Committing,
}

/// Since when a commit has been under way.
type Committing = Arc<Mutex<Option<Instant>>>;

impl Writer {
    /// Starts the thread.
    pub fn start(tail: Arc<Tail>, settings: &JournalSettings) -> Result<Self, JournalError> {
        let (queue, commands) = crossbeam_channel::bounded(settings.queue.max(1));
        let committing = Committing::default();
        let next = tail.read(Store::next_sequence)?;
        let worker = Worker {
            tail: Arc::clone(&tail),
            commands,
            next,
            committing: Arc::clone(&committing),
            pause: SOONEST,
            retry_at: Instant::now(),
        };
        thread::Builder::new()
            .name("journal-writer".to_owned())
            .spawn(move || worker.work())
            .map_err(|error| JournalError::Write(format!("cannot start its thread: {error}")))?;
        Ok(Self { queue, tail, committing })
    }

    /// Appends the entries in one commit.
    pub async fn append(&self, entries: Vec<Entry>) -> Result<Vec<Appended>, JournalError> {
        let (acknowledge, acknowledged) = oneshot::channel();
        self.queue.try_send(Command::Append(entries, acknowledge)).map_err(|error| match error {
            TrySendError::Full(_) => JournalError::Busy { queued: self.queue.len() },
            TrySendError::Disconnected(_) => JournalError::Closed,
        })?;
        acknowledged.await.map_err(|_| JournalError::Closed)?
    }

    /// How many requests wait.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Whether the last commit succeeded, and none takes too long.
    pub fn health(&self) -> Result<(), JournalError> {
        if let Some(reason) = self.tail.failure() {
            return Err(JournalError::Write(reason));
        }
        let since = *self.committing.lock().unwrap_or_else(PoisonError::into_inner);
        match since.map(|since| since.elapsed()).filter(|elapsed| *elapsed > STUCK) {
            Some(elapsed) => Err(JournalError::Write(format!("the disk has not answered for {} s", elapsed.as_secs()))),
            None => Ok(()),
        }
    }

    /// Lets the thread write what is queued and end.
    pub async fn stop(&self) {
        let (stop, stopped) = oneshot::channel();
        let queue = self.queue.clone();
        // The queue may be full, and a full queue must not be waited for on an async thread.
        let sent = tokio::task::spawn_blocking(move || queue.send(Command::Stop(stop)).is_ok()).await;
        if matches!(sent, Ok(true)) {
            // An error means that the thread has ended already.
            let _ = stopped.await;
        }
    }
}

struct Worker {
    tail: Arc<Tail>,
    commands: Receiver<Command>,
    next: NextSequence,
    committing: Committing,
    /// How long to wait from one attempt to open the store again to the next.
    pause: Duration,
    retry_at: Instant,
}

type Group = Vec<(Vec<Entry>, Acknowledgement)>;

impl Worker {
    fn work(mut self) {
        loop {
            let first = match self.commands.recv_timeout(SOONEST) {
                Ok(first) => Some(first),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            self.recover();
            let Some(first) = first else { continue };
            let waiting = self.commands.try_iter().take(GROUP - 1);
            let mut group = Group::new();
            let mut stop = None;
            for command in std::iter::once(first).chain(waiting) {
                match command {
                    Command::Append(entries, acknowledge) => group.push((entries, acknowledge)),
                    Command::Stop(stopped) => stop = Some(stopped),
                }
            }
            if !group.is_empty() {
                self.commit(group);
            }
            if let Some(stopped) = stop {
                // Whoever waits for this may open the journal again at once.
                drop(self);
                let _ = stopped.send(());
                return;
            }
        }
    }

    /// Opens the store again after a failure, when it is time to.
    fn recover(&mut self) {
        if self.tail.failure().is_none() || Instant::now() < self.retry_at {
            return;
        }
        match self.tail.reopen(&self.next) {
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

    fn commit(&mut self, group: Group) {
        let (requests, acknowledgements): (Vec<Vec<Entry>>, Vec<_>) = group.into_iter().unzip();
        let sizes: Vec<usize> = requests.iter().map(Vec::len).collect();
        let entries: Vec<Entry> = requests.into_iter().flatten().collect();
        match self.write(&entries) {
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
                let reason = match error {
                    JournalError::Write(reason) => reason,
                    error => error.to_string(),
                };
                for acknowledge in acknowledgements {
                    let _ = acknowledge.send(Err(JournalError::Write(reason.clone())));
                }
            }
        }
    }

    fn write(&mut self, entries: &[Entry]) -> Result<Vec<Appended>, JournalError> {
        if let Some(reason) = self.tail.failure() {
            return Err(JournalError::Write(reason));
        }
        let started = Instant::now();
        let set = |since| *self.committing.lock().unwrap_or_else(PoisonError::into_inner) = since;
        set(Some(started));
        let committed = self.tail.commit(entries, &mut self.next);
        set(None);
        metrics::histogram!("slated_journal_commit_seconds").record(started.elapsed().as_secs_f64());
        committed
    }
}
