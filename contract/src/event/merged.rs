//! The events of several files in one order.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::path::PathBuf;

use chrono::{DateTime, Utc};

use super::{Event, SegmentError, SegmentReader};

/// Events in memory at most, over all files.
const BUFFER: usize = 4096;

/// The events of several files in the order of (time, id), each file being in that order itself; those that stand twice
/// come twice, next to each other.
pub struct Merged<E> {
    files: Vec<File<E>>,
    /// The next event of each file that has one.
    heads: BinaryHeap<Reverse<(Place, usize)>>,
}

/// Where an event stands.
type Place = (DateTime<Utc>, String);

struct File<E> {
    path: PathBuf,
    batches: SegmentReader<E>,
    ready: VecDeque<E>,
    last: Option<Place>,
}

impl<E: Event> Merged<E> {
    /// Opens the files.
    ///
    /// # Errors
    /// A file that does not read.
    pub fn open(paths: &[PathBuf]) -> Result<Self, SegmentError> {
        let batch = (BUFFER / paths.len().max(1)).clamp(8, 512);
        let open = |path: &PathBuf| {
            let batches = SegmentReader::open(path, batch)?;
            Ok(File { path: path.clone(), batches, ready: VecDeque::new(), last: None })
        };
        let files = paths.iter().map(open).collect::<Result<Vec<_>, SegmentError>>()?;
        let mut merged = Self { heads: BinaryHeap::with_capacity(files.len()), files };
        for index in 0..merged.files.len() {
            merged.advance(index)?;
        }
        Ok(merged)
    }

    /// Puts the next event of a file into the heap.
    fn advance(&mut self, index: usize) -> Result<(), SegmentError> {
        let file = &mut self.files[index];
        while file.ready.is_empty() {
            let Some(batch) = file.batches.next() else { return Ok(()) };
            file.ready = batch?.into();
        }
        if let Some(next) = file.ready.front() {
            let (time, id) = next.order();
            if file.last.as_ref().is_some_and(|(last, last_id)| (*last, last_id.as_str()) > (time, id)) {
                let reason = "its events are not in the order of time and id; `slated journal` writes them so";
                return Err(SegmentError::at(&file.path)(reason.to_owned()));
            }
            self.heads.push(Reverse(((time, id.to_owned()), index)));
        }
        Ok(())
    }

    fn take(&mut self) -> Result<Option<E>, SegmentError> {
        let Some(Reverse((place, index))) = self.heads.pop() else { return Ok(None) };
        let file = &mut self.files[index];
        file.last = Some(place);
        let event = file.ready.pop_front();
        self.advance(index)?;
        Ok(event)
    }
}

impl<E: Event> Iterator for Merged<E> {
    type Item = Result<E, SegmentError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.take().transpose()
    }
}
