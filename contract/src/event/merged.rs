//! The events of several files in one order.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use super::segment::times;
use super::{Event, SegmentError, SegmentReader};

/// Events in memory at most, over all files.
const BUFFER: usize = 4096;

/// The events of several files in the order of (time, id), each file being in that order itself; those that stand twice
/// come twice, next to each other.
///
/// Files that a service closed one after the other hardly overlap in time: each is opened when its first event is next, by
/// what its footer says, and closed behind its last.
pub struct Merged<E> {
    /// Files that are not open yet, the one that begins first at the end.
    waiting: Vec<(DateTime<Utc>, PathBuf)>,
    files: Vec<File<E>>,
    /// The next event of each open file.
    heads: BinaryHeap<Reverse<(Place, usize)>>,
    /// The last event that was given.
    last: Option<Place>,
    /// Events read at a time.
    batch: usize,
}

/// Where an event stands.
type Place = (DateTime<Utc>, String);

struct File<E> {
    path: PathBuf,
    /// `None` behind the last batch.
    batches: Option<SegmentReader<E>>,
    ready: VecDeque<E>,
}

impl<E: Event> Merged<E> {
    /// Reads the files' footers.
    ///
    /// # Errors
    /// A file that does not read.
    pub fn open<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Result<Self, SegmentError> {
        let mut waiting = Vec::new();
        let mut ends = Vec::new();
        for path in paths {
            let times = times::<E>(path)?;
            waiting.push((*times.start(), path.clone()));
            ends.push(*times.end());
        }
        waiting.sort_unstable_by(|a, b| b.cmp(a));
        ends.sort_unstable();
        let batch = (BUFFER / together(&waiting, &ends).max(1)).clamp(8, 512);
        Ok(Self { waiting, files: Vec::new(), heads: BinaryHeap::new(), last: None, batch })
    }

    /// Opens every file that may hold the next event.
    fn begin(&mut self) -> Result<(), SegmentError> {
        let next_is_later = |begin: &DateTime<Utc>, heads: &BinaryHeap<Reverse<(Place, usize)>>| {
            heads.peek().is_some_and(|Reverse(((next, _), _))| next < begin)
        };
        while let Some((_, path)) = self.waiting.pop_if(|(begin, _)| !next_is_later(begin, &self.heads)) {
            let batches = Some(SegmentReader::open(&path, self.batch)?);
            self.files.push(File { path, batches, ready: VecDeque::new() });
            self.advance(self.files.len() - 1)?;
        }
        Ok(())
    }

    /// Puts the next event of a file into the heap.
    fn advance(&mut self, index: usize) -> Result<(), SegmentError> {
        let file = &mut self.files[index];
        while file.ready.is_empty() {
            let Some(batch) = file.batches.as_mut().and_then(Iterator::next) else {
                file.batches = None;
                return Ok(());
            };
            file.ready = batch?.into();
        }
        if let Some(next) = file.ready.front() {
            let (time, id) = next.order();
            self.heads.push(Reverse(((time, id.to_owned()), index)));
        }
        Ok(())
    }

    fn take(&mut self) -> Result<Option<E>, SegmentError> {
        self.begin()?;
        let Some(Reverse((place, index))) = self.heads.pop() else { return Ok(None) };
        if self.last.as_ref().is_some_and(|last| *last > place) {
            return Err(disordered(&self.files[index].path));
        }
        self.last = Some(place);
        let event = self.files[index].ready.pop_front();
        self.advance(index)?;
        Ok(event)
    }
}

/// The most files that are open at once, of the beginnings and ends of all.
fn together(waiting: &[(DateTime<Utc>, PathBuf)], ends: &[DateTime<Utc>]) -> usize {
    let (mut most, mut ended) = (0, 0);
    for (begun, (begin, _)) in (1..).zip(waiting.iter().rev()) {
        ended += ends[ended..].iter().take_while(|end| *end < begin).count();
        most = most.max(begun - ended);
    }
    most
}

fn disordered(path: &Path) -> SegmentError {
    let reason = "its events are not in the order of time and id; `slated journal` writes them so";
    SegmentError::at(path)(reason.to_owned())
}

impl<E: Event> Iterator for Merged<E> {
    type Item = Result<E, SegmentError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.take().transpose()
    }
}
