//! Closing the tail into segments, and finishing at start what a crash interrupted.
//!
//! A range of sequence numbers is closed in four steps: note the range, write its files, note that it is closed, remove
//! its events from the tail. The range decides the files' names and bytes, so whatever the step at which the process
//! dies, repeating from the note leads to the same files:
//!
//! - before the note: nothing has happened;
//! - after the note, with no, some or all files in place: all are written again, over their like;
//! - with the ids of some of its events in the index: they are written again, the same;
//! - the range counts as closed by one atomic commit together with the end of the note;
//! - what is left of a closed range in the log is passed over when it is opened next, and goes with its files.

use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use slated_contract::event::{Decision, Event, Feedback, RouteChange};
use tokio::sync::oneshot;

use super::segment::{Changing, Place, SegmentFile, write_places};
use super::store::{Range, SegmentRecord, Store};
use super::tail::Tail;
use super::upkeep::{self, Removed};
use super::{JournalError, JournalSettings};
use crate::memory;

/// How often the tail's size and age are looked at.
const TICK: Duration = Duration::from_millis(500);
/// How long after a failure closing is not tried again by itself.
const PAUSE: Duration = Duration::from_secs(5);

/// Events forgotten by the log at a time, while which no request is written or looked up.
const FORGOTTEN: usize = 256;

/// How long the thread works between two pauses, about, and the longest pause.
const STINT: Duration = Duration::from_micros(250);
const REST: Duration = Duration::from_millis(20);
/// How many times as long as the work before it a pause is, at most.
const LONGEST: u64 = 3;

type Sealed = Result<Vec<SegmentFile>, JournalError>;

/// How often it is looked for segments that are too old or too much.
const RETIRE: Duration = Duration::from_secs(60);

/// Something to be done on the sealing thread.
type Work = Box<dyn FnOnce(&Tail) + Send>;

enum Command {
    Seal(oneshot::Sender<Sealed>),
    Work(Work),
    Stop(oneshot::Sender<Sealed>),
}

/// The handle of the sealing thread.
pub struct Sealer {
    commands: Sender<Command>,
    failure: Failure,
}

/// Why the last closing failed; `None` where it did not.
type Failure = Arc<Mutex<Option<String>>>;

impl Sealer {
    /// Starts the thread; `on_sealed` is called on it whenever segments may have been closed.
    pub fn start(
        tail: Arc<Tail>,
        settings: &JournalSettings,
        changing: Changing,
        on_sealed: impl Fn() + Send + 'static,
    ) -> Result<Self, JournalError> {
        let (commands, received) = crossbeam_channel::unbounded();
        let failure = Failure::default();
        let worker = Worker {
            tail,
            settings: settings.clone(),
            changing,
            commands: received,
            waiting_since: None,
            paused_until: Instant::now(),
            retired_at: None,
            failure: Arc::clone(&failure),
            on_sealed,
        };
        thread::Builder::new()
            .name("journal-sealer".to_owned())
            .spawn(move || worker.work())
            .map_err(|error| JournalError::Write(format!("cannot start its thread: {error}")))?;
        Ok(Self { commands, failure })
    }

    /// Whether the last closing succeeded.
    pub fn health(&self) -> Result<(), JournalError> {
        match &*self.failure.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(reason) => Err(JournalError::Write(reason.clone())),
            None => Ok(()),
        }
    }

    /// Closes what is in the tail.
    pub async fn seal(&self) -> Sealed {
        self.ask(Command::Seal).await
    }

    /// Does something to closed segments, while none is being closed.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Tail) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let (answer, answered) = oneshot::channel();
        let work: Work = Box::new(move |tail| {
            // Whoever asked may be gone.
            let _ = answer.send(work(tail));
        });
        self.commands.send(Command::Work(work)).map_err(|_| JournalError::Closed)?;
        answered.await.map_err(|_| JournalError::Closed)?
    }

    /// Closes what is in the tail, where the settings say so, and ends the thread.
    pub async fn stop(&self) -> Sealed {
        self.ask(Command::Stop).await
    }

    async fn ask(&self, command: impl FnOnce(oneshot::Sender<Sealed>) -> Command) -> Sealed {
        let (answer, answered) = oneshot::channel();
        self.commands.send(command(answer)).map_err(|_| JournalError::Closed)?;
        answered.await.map_err(|_| JournalError::Closed)?
    }
}

struct Worker<F> {
    tail: Arc<Tail>,
    settings: JournalSettings,
    changing: Changing,
    commands: Receiver<Command>,
    /// Since when the tail has held an event without interruption.
    waiting_since: Option<Instant>,
    /// Until when nothing is closed by itself, after a failure.
    paused_until: Instant,
    /// When it was last looked for segments that are too old or too much.
    retired_at: Option<Instant>,
    failure: Failure,
    on_sealed: F,
}

impl<F: Fn()> Worker<F> {
    fn work(mut self) {
        loop {
            match self.commands.recv_timeout(TICK) {
                Ok(Command::Seal(answer)) => {
                    // Whoever asked may be gone.
                    let _ = answer.send(self.seal(&Pace::full()));
                }
                Ok(Command::Work(work)) => {
                    self.alone(|| work(&self.tail));
                    (self.on_sealed)();
                }
                Ok(Command::Stop(answer)) => {
                    let sealed = if self.settings.seal_on_close { self.seal(&Pace::full()) } else { Ok(Vec::new()) };
                    // Whoever waits for this may open the journal again at once.
                    drop(self);
                    let _ = answer.send(sealed);
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.look();
                    self.retire();
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn look(&mut self) {
        let failed = self.failure.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if Instant::now() < self.paused_until {
            return;
        }
        let stats = self.tail.stats();
        let most = stats.decisions.max(stats.feedback).max(stats.changes);
        if most == 0 {
            self.waiting_since = None;
            return;
        }
        let age = self.waiting_since.get_or_insert_with(Instant::now).elapsed();
        let due = failed
            || most >= self.settings.seal_after_events as u64
            || age >= Duration::from_secs(self.settings.seal_after_seconds);
        if due && let Err(error) = self.seal(&Pace::pausing(&self.commands)) {
            tracing::error!(%error, "the journal's tail cannot be closed into segments; its events stay in the tail");
        }
    }

    /// Removes segments that are too old or too much, where the settings say so.
    fn retire(&mut self) {
        let retention = self.settings.retention();
        if retention.keeps_all() || self.retired_at.is_some_and(|at| at.elapsed() < RETIRE) {
            return;
        }
        self.retired_at = Some(Instant::now());
        let today = Utc::now().date_naive();
        match self.alone(|| upkeep::retain(self.tail.folder(), &retention, today, false)) {
            Ok(report) if report.removed.is_empty() => {}
            Ok(report) => {
                for Removed { kind, date, events, files, bytes } in report.removed {
                    tracing::info!(
                        kind,
                        date,
                        events,
                        files,
                        bytes,
                        "closed segments removed, as they were kept for long enough"
                    );
                    metrics::counter!("slated_journal_retired_events_total", "kind" => kind).increment(events);
                }
                (self.on_sealed)();
            }
            Err(error) => tracing::error!(%error, "old segments cannot be removed"),
        }
    }

    /// Does something to closed segments while nobody else does.
    fn alone<T>(&self, work: impl FnOnce() -> T) -> T {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        work()
    }

    fn seal(&mut self, pace: &Pace) -> Sealed {
        self.waiting_since = None;
        let sealed = self.seal_all(pace);
        let failure = sealed.as_ref().err().map(ToString::to_string);
        if failure.is_some() {
            self.paused_until = Instant::now() + PAUSE;
        }
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
        (self.on_sealed)();
        sealed
    }

    fn seal_all(&self, pace: &Pace) -> Sealed {
        self.tail.write(|store| {
            store.leave_log();
            Ok(())
        })?;
        let most = self.settings.seal_after_events;
        let mut files = seal_kind::<Decision>(&self.tail, most, pace)?;
        files.extend(seal_kind::<Feedback>(&self.tail, most, pace)?);
        files.extend(seal_kind::<RouteChange>(&self.tail, most, pace)?);
        let before = Utc::now() - TimeDelta::days(i64::from(self.settings.id_days));
        self.tail.write(|store| store.forget_ids::<Decision>(before))?;
        self.tail.write(|store| store.forget_ids::<Feedback>(before))?;
        self.tail.write(|store| store.forget_ids::<RouteChange>(before))?;
        Ok(files)
    }
}

/// Finishes what a crash interrupted.
pub fn recover(tail: &Tail) -> Result<(), JournalError> {
    recover_kind::<Decision>(tail)?;
    recover_kind::<Feedback>(tail)?;
    recover_kind::<RouteChange>(tail)
}

fn recover_kind<E: Event>(tail: &Tail) -> Result<(), JournalError> {
    if let Some(range) = tail.read(Store::sealing::<E>)? {
        tracing::warn!(
            kind = E::KIND,
            first = range.first,
            last = range.last,
            "finishing a segment that was interrupted"
        );
        close_range::<E>(tail, range, &Pace::full())?;
    }
    let waiting = tail.read(|store| Ok(store.last::<E>()? - store.sealed::<E>()?))?;
    if waiting > 0 {
        tracing::info!(kind = E::KIND, events = waiting, "events found in the journal's tail");
    }
    Ok(())
}

/// Closes everything of the kind that is in the tail now, in segments of at most `most` events.
fn seal_kind<E: Event>(tail: &Tail, most: usize, pace: &Pace) -> Sealed {
    let last = tail.read(Store::last::<E>)?;
    let mut files = Vec::new();
    loop {
        let first = tail.read(Store::sealed::<E>)? + 1;
        if first > last {
            return Ok(files);
        }
        // A range that failed half-way is repeated as it was, like one that a crash interrupted.
        let range = match tail.read(Store::sealing::<E>)? {
            Some(range) => range,
            None => {
                let range = Range { first, last: last.min(first + most.max(1) as u64 - 1) };
                tail.write(|store| store.begin_seal::<E>(range))?;
                range
            }
        };
        let waiting = tail.read(Store::last::<E>)?.saturating_sub(range.first);
        pace.set(waiting / most.max(1) as u64);
        files.extend(close_range::<E>(tail, range, pace)?);
    }
}

/// Writes the files of a noted range, notes that it is closed, then removes it from the tail.
fn close_range<E: Event>(tail: &Tail, range: Range, pace: &Pace) -> Sealed {
    let files = write_range::<E>(tail, range, pace)?;
    tail.write(|store| {
        store.end_seal::<E>(range, &files, &|| pace.rest())?;
        let parts = (range.first..range.last).step_by(FORGOTTEN).chain([range.last]);
        for last in parts {
            store.remove::<E>(last);
            pace.rest();
        }
        store.remove_closed(&|| pace.rest())
    })?;
    memory::give_back();
    tracing::debug!(kind = E::KIND, first = range.first, last = range.last, "segment closed");
    Ok(files.files)
}

fn write_range<E: Event>(tail: &Tail, range: Range, pace: &Pace) -> Result<SegmentRecord, JournalError> {
    let places = tail.read(|store| Ok(store.places::<E>(range)))?;
    let name = format!("{}-{:012}-{:012}", tail.writer(), range.first, range.last);
    let until = places.iter().map(Place::time).max().unwrap_or_default();
    let fetch = |&sequence: &u64| {
        let gone = || JournalError::Write(format!("event {sequence} of {} has left the tail", E::KIND));
        tail.read(|store| store.event::<E>(sequence))?.ok_or_else(gone)
    };
    let files = write_places(tail.folder(), &name, places, fetch, &|| pace.rest())?;
    Ok(SegmentRecord { last: range.last, until, files })
}

/// How fast a range is closed: with pauses, so that the requests that come meanwhile do not all wait for it.
struct Pace {
    /// What is asked of the thread meanwhile; whoever asks does not wait for the pauses.
    asked: Option<Receiver<Command>>,
    /// How many times as long as the work before it a pause is.
    pause: Cell<u32>,
    /// When the work since the last pause began.
    since: Cell<Instant>,
}

impl Pace {
    /// As fast as it goes: somebody waits for it.
    fn full() -> Self {
        Self { asked: None, pause: Cell::new(0), since: Cell::new(Instant::now()) }
    }

    /// With pauses until something is asked.
    fn pausing(asked: &Receiver<Command>) -> Self {
        Self { asked: Some(asked.clone()), ..Self::full() }
    }

    /// Sets how long the pauses are by how many segments wait: shorter with each, because steps in the pace are steps in how long
    /// requests wait.
    fn set(&self, segments: u64) {
        self.pause.set((LONGEST + 1).saturating_sub(segments).min(LONGEST) as u32);
    }

    /// Called between small steps; pauses where there was enough work since the last pause.
    fn rest(&self) {
        let worked = self.since.get().elapsed();
        if worked < STINT {
            return;
        }
        if self.asked.as_ref().is_some_and(Receiver::is_empty) {
            thread::sleep((worked * self.pause.get()).min(REST));
        }
        self.since.set(Instant::now());
    }
}
