//! The log: events that are acknowledged and not yet in a closed segment, in the order in which they came.
//!
//! A commit is one write to the end of a file, whole or not there ([`frame`]); where it must survive the loss of power, a sync
//! after it. Files are never written again: one that is full, or of an earlier process, is followed by another, and goes as
//! soon as all its events are in closed segments. Where an event lies, and its id, is in memory.

mod frame;
mod order;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use slated_contract::event::{Decision, Event, Feedback, RouteChange};

use super::salvage::{Cut, rewrite};
use super::segment::sync_folder;
use frame::{Commit, Frame, Scanned, scan};

pub use order::Order;

/// The kinds of events; a commit has the index here.
pub const KINDS: [&str; 3] = [Decision::KIND, Feedback::KIND, RouteChange::KIND];

/// A number of each kind.
pub type Numbers = [u64; KINDS.len()];

/// How long a file becomes, in bytes. To remove one takes longer the longer it is.
const FULL: u64 = 8 * 1024 * 1024;
/// Bytes of a removed file that go back at a time.
const STEP: u64 = 1024 * 1024;

/// The index of a kind.
pub fn index(kind: &str) -> usize {
    KINDS.iter().position(|known| *known == kind).unwrap_or(KINDS.len() - 1)
}

/// An event to be written.
#[derive(Debug, Clone, Copy)]
pub struct NewEvent<'a> {
    /// The index of its kind.
    pub kind: usize,
    /// Its number; numbers of a kind ascend.
    pub sequence: u64,
    /// Its id and time.
    pub order: &'a Order,
    /// MessagePack with field names.
    pub bytes: &'a [u8],
}

/// The open log. Events are written one commit after the other, and read at any time.
pub struct Log {
    folder: PathBuf,
    /// Whether a commit is synced.
    synced: bool,
    active: Mutex<Active>,
    live: RwLock<Live>,
}

/// What is written to.
struct Active {
    /// None before the first commit, and after the last one was left.
    file: Option<ActiveFile>,
    /// Files before it that were left before all of them was synced.
    left: Vec<Arc<File>>,
    /// The number of the next one.
    next: u64,
    /// The commit that is put together.
    frame: Frame,
}

struct ActiveFile {
    number: u64,
    file: Arc<File>,
    length: u64,
    /// How much of it was synced since it was begun.
    synced: u64,
}

/// What is in the files.
#[derive(Default)]
struct Live {
    kinds: [Events; KINDS.len()],
    files: BTreeMap<u64, LogFile>,
}

/// The events of a kind that are in no closed segment.
#[derive(Default)]
struct Events {
    /// By number.
    places: VecDeque<Place>,
    ids: BTreeMap<Arc<str>, u64>,
}

struct Place {
    waiting: Waiting,
    file: Arc<File>,
    at: u64,
    length: usize,
}

/// An event that waits to be closed.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// Its number.
    pub sequence: u64,
    /// Its id and time.
    pub order: Order,
}

struct LogFile {
    file: Arc<File>,
    /// The last number of each kind in it, 0 where there is none.
    last: Numbers,
}

/// Gives the space of a removed file back in steps: all at once takes milliseconds, for which nobody else has the processor.
/// What is left when it fails goes back with the file.
fn shrink(file: &File, rest: &dyn Fn()) {
    let mut length = file.metadata().map_or(0, |metadata| metadata.len());
    while length > STEP {
        rest();
        length -= STEP;
        if file.set_len(length).is_err() {
            return;
        }
    }
    rest();
}

impl Log {
    /// Opens the log in `folder`, or makes one. What is damaged is cut out and kept in `aside`. What holds numbers from `refused`
    /// on is removed: whoever sent it was told that it is not kept. Events up to `closed` are in segments.
    pub fn open(
        folder: PathBuf,
        aside: &Path,
        synced: bool,
        closed: &Numbers,
        refused: &Numbers,
    ) -> io::Result<(Self, Vec<Cut>)> {
        fs::create_dir_all(&folder)?;
        let (mut live, mut cuts, mut next) = (Live::default(), Vec::new(), 1);
        for (number, path) in files(&folder)? {
            next = number + 1;
            let mut bytes = fs::read(&path)?;
            let Scanned { mut commits, damaged } = scan(&bytes, |commit| is_sound(&bytes, commit));
            let found = commits.len();
            commits.retain(|commit| commit.records.iter().all(|record| record.sequence < refused[record.kind]));
            let is_closed =
                |commit: &Commit| commit.records.iter().all(|record| record.sequence <= closed[record.kind]);
            if commits.len() < found || !damaged.is_empty() {
                let end = commits.last().map_or(0, |commit| commit.at.end);
                let kept = keep(&bytes, &mut commits);
                cuts.extend(rewrite(&path, aside, &bytes, &damaged, &kept, end)?);
                bytes = kept;
            }
            if commits.iter().all(is_closed) {
                fs::remove_file(&path)?;
                continue;
            }
            live.add(number, &Arc::new(File::open(&path)?), &bytes, &commits, closed);
        }
        let active = Mutex::new(Active { file: None, left: Vec::new(), next, frame: Frame::default() });
        Ok((Self { folder, synced, active, live: RwLock::new(live) }, cuts))
    }

    /// Writes events as one commit.
    pub fn append(&self, events: &[NewEvent<'_>]) -> io::Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        let mut active = self.active();
        if active.file.as_ref().is_some_and(|file| file.length >= FULL) {
            self.leave_file(&mut active);
        }
        let Active { file, next, frame, .. } = &mut *active;
        let ActiveFile { number, file: to, length, .. } = match file {
            Some(file) => file,
            None => {
                *next += 1;
                file.insert(self.begin(*next - 1)?)
            }
        };
        frame.begin();
        let at: Vec<usize> = events.iter().map(|event| frame.push(event.kind, event.sequence, event.bytes)).collect();
        let bytes = frame.end();
        let written = to.write_all_at(bytes, *length).and_then(|()| if self.synced { to.sync_data() } else { Ok(()) });
        if let Err(error) = written {
            // Nobody reads it on: what cannot be cut off goes when the log is opened again.
            let _ = to.set_len(*length);
            *file = None;
            return Err(error);
        }
        let start = std::mem::replace(length, *length + bytes.len() as u64);
        let mut live = self.live_mut();
        for (event, at) in events.iter().zip(at) {
            live.insert(*number, to, event, start + at as u64);
        }
        Ok(())
    }

    /// Begins a file.
    fn begin(&self, number: u64) -> io::Result<ActiveFile> {
        let path = path(&self.folder, number);
        let file = Arc::new(File::options().read(true).write(true).create_new(true).open(path)?);
        self.live_mut().files.insert(number, LogFile { file: Arc::clone(&file), last: Numbers::default() });
        if self.synced {
            sync_folder(&self.folder)?;
        }
        Ok(ActiveFile { number, file, length: 0, synced: 0 })
    }

    /// Lets the next commit begin a file, so that what was written until now goes as soon as it is closed.
    pub fn leave(&self) {
        self.leave_file(&mut self.active());
    }

    fn leave_file(&self, active: &mut Active) {
        let left = active.file.take().filter(|file| !self.synced && file.synced < file.length);
        active.left.extend(left.map(|file| file.file));
    }

    /// Syncs what was written since the last time, while commits go on.
    pub fn flush(&self) -> io::Result<()> {
        let (left, current) = {
            let mut active = self.active();
            let current = active.file.as_ref().filter(|file| file.synced < file.length);
            let current = current.map(|file| (file.number, Arc::clone(&file.file), file.length));
            (std::mem::take(&mut active.left), current)
        };
        left.iter().try_for_each(|file| file.sync_data())?;
        let Some((number, file, length)) = current else { return Ok(()) };
        file.sync_data()?;
        if let Some(active) = self.active().file.as_mut().filter(|active| active.number == number) {
            active.synced = length;
        }
        Ok(())
    }

    /// Syncs everything.
    pub fn sync(&self) -> io::Result<()> {
        let files: Vec<Arc<File>> = self.live().files.values().map(|file| Arc::clone(&file.file)).collect();
        files.iter().try_for_each(|file| file.sync_data())?;
        sync_folder(&self.folder)
    }

    /// Forgets where events up to this number are: they are in closed segments.
    pub fn forget(&self, kind: usize, upto: u64) {
        let mut live = self.live_mut();
        let Events { places, ids } = &mut live.kinds[kind];
        while places.front().is_some_and(|place| place.waiting.sequence <= upto) {
            if let Some(Place { waiting, .. }) = places.pop_front() {
                ids.remove(&waiting.order.id);
            }
        }
    }

    /// Removes the files of which everything up to `closed` is in segments, but for the one that is written to. Between small
    /// steps it calls `rest`.
    pub fn remove_closed(&self, closed: &Numbers, rest: &dyn Fn()) -> io::Result<()> {
        let active = self.active();
        let number = active.file.as_ref().map(|active| active.number);
        let mut live = self.live_mut();
        let is_closed = |file: &LogFile| file.last.iter().zip(closed).all(|(last, closed)| last <= closed);
        let gone = live.files.extract_if(.., |number_of, file| Some(*number_of) != number && is_closed(file));
        let gone: Vec<(u64, LogFile)> = gone.collect();
        drop((live, active));
        for (number, LogFile { file, .. }) in gone {
            let path = path(&self.folder, number);
            let left = File::options().write(true).open(&path)?;
            fs::remove_file(path)?;
            // Whoever still reads it has it to its end.
            if Arc::into_inner(file).is_some() {
                shrink(&left, rest);
            }
        }
        Ok(())
    }

    /// The bytes of an event, if it is here.
    pub fn event(&self, kind: usize, sequence: u64) -> io::Result<Option<Vec<u8>>> {
        let (file, at, length) = {
            let live = self.live();
            let places = &live.kinds[kind].places;
            let Ok(index) = places.binary_search_by_key(&sequence, |place| place.waiting.sequence) else {
                return Ok(None);
            };
            let Place { file, at, length, .. } = &places[index];
            (Arc::clone(file), *at, *length)
        };
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, at)?;
        Ok(Some(bytes))
    }

    /// The events in a range of numbers, by number.
    pub fn within(&self, kind: usize, range: RangeInclusive<u64>) -> Vec<Waiting> {
        let live = self.live();
        let waiting = live.kinds[kind].from(*range.start());
        waiting.take_while(|waiting| waiting.sequence <= *range.end()).cloned().collect()
    }

    /// The first event here from the number `from` on.
    pub fn first_from(&self, kind: usize, from: u64) -> Option<Waiting> {
        self.live().kinds[kind].from(from).next().cloned()
    }

    /// The number of the event with this id, if it is here.
    pub fn sequence_of(&self, kind: usize, id: &str) -> Option<u64> {
        self.live().kinds[kind].ids.get(id).copied()
    }

    /// The ids that begin with `prefix`.
    pub fn ids_with(&self, kind: usize, prefix: &str) -> Vec<String> {
        let live = self.live();
        let from =
            live.kinds[kind].ids.range::<str, _>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded));
        from.map(|(id, _)| id).take_while(|id| id.starts_with(prefix)).map(|id| (**id).to_owned()).collect()
    }

    /// The last number here, 0 where there is none.
    pub fn last(&self, kind: usize) -> u64 {
        self.live().kinds[kind].last()
    }

    fn active(&self) -> MutexGuard<'_, Active> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self) -> RwLockReadGuard<'_, Live> {
        self.live.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn live_mut(&self) -> RwLockWriteGuard<'_, Live> {
        self.live.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Events {
    /// The last number, 0 where there is none.
    fn last(&self) -> u64 {
        self.places.back().map_or(0, |place| place.waiting.sequence)
    }

    /// Those from the number `from` on.
    fn from(&self, from: u64) -> impl Iterator<Item = &Waiting> {
        let first = self.places.partition_point(|place| place.waiting.sequence < from);
        self.places.range(first..).map(|place| &place.waiting)
    }
}

impl Live {
    /// Takes up the events of a file that are not closed.
    fn add(&mut self, number: u64, file: &Arc<File>, bytes: &[u8], commits: &[Commit], closed: &Numbers) {
        self.files.insert(number, LogFile { file: Arc::clone(file), last: Numbers::default() });
        for record in commits.iter().flat_map(|commit| &commit.records) {
            let event = &bytes[record.at.clone()];
            // One that is here already is in a copy of a file.
            if record.sequence > self.kinds[record.kind].last().max(closed[record.kind])
                && let Some(order) = Order::read(event)
            {
                let event = NewEvent { kind: record.kind, sequence: record.sequence, order: &order, bytes: event };
                self.insert(number, file, &event, record.at.start as u64);
            }
        }
    }

    fn insert(&mut self, number: u64, file: &Arc<File>, event: &NewEvent<'_>, at: u64) {
        let &NewEvent { kind, sequence, order, bytes } = event;
        let Events { places, ids } = &mut self.kinds[kind];
        ids.insert(Arc::clone(&order.id), sequence);
        let waiting = Waiting { sequence, order: order.clone() };
        places.push_back(Place { waiting, file: Arc::clone(file), at, length: bytes.len() });
        if let Some(file) = self.files.get_mut(&number) {
            file.last[kind] = sequence;
        }
    }
}

/// Whether a commit that is as it was written holds what this version writes.
fn is_sound(bytes: &[u8], commit: &Commit) -> bool {
    let mut records = commit.records.iter();
    records.all(|record| record.kind < KINDS.len() && Order::read(&bytes[record.at.clone()]).is_some())
}

/// The bytes of these commits alone, in which they are then where they say.
fn keep(bytes: &[u8], commits: &mut [Commit]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(bytes.len());
    for Commit { at, records } in commits {
        let cut = at.start - kept.len();
        kept.extend_from_slice(&bytes[at.clone()]);
        for range in std::iter::once(at).chain(records.iter_mut().map(|record| &mut record.at)) {
            *range = range.start - cut..range.end - cut;
        }
    }
    kept
}

fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:012}.log"))
}

/// The files in `folder` by their number.
fn files(folder: &Path) -> io::Result<BTreeMap<u64, PathBuf>> {
    let mut files = BTreeMap::new();
    for entry in folder.read_dir()? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".log")?.parse().ok());
        if let Some(number) = name {
            files.insert(number, path);
        }
    }
    Ok(files)
}
