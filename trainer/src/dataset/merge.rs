//! Decisions in the order in which they were decided, straight from the segments.
//!
//! Decisions are wide: tens of candidates with features each. They are not sorted or joined but read in the order in
//! which they lie, merging the files of one date at a time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::path::PathBuf;
use std::vec;

use chrono::{DateTime, Utc};
use slated_contract::event::{DateSegments, Decision, Event, SegmentError, SegmentReader};

/// Decisions in memory at most, over all files of a date.
const BUFFER: usize = 4096;

/// All decisions of the segments, in order.
pub struct MergedDecisions {
    dates: vec::IntoIter<DateSegments>,
    files: Vec<Buffered>,
    /// The next decision of each file that has one.
    heads: BinaryHeap<Reverse<(DateTime<Utc>, String, usize)>>,
}

/// A file, read ahead by one batch.
struct Buffered {
    path: PathBuf,
    batches: SegmentReader<Decision>,
    ready: VecDeque<Decision>,
    last: Option<(DateTime<Utc>, String)>,
}

impl MergedDecisions {
    /// Merges the segments.
    pub fn new(dates: Vec<DateSegments>) -> Self {
        Self { dates: dates.into_iter(), files: Vec::new(), heads: BinaryHeap::new() }
    }

    /// The next decision; `None` at the end.
    ///
    /// # Errors
    /// A segment that does not read, or is not in order.
    pub fn next(&mut self) -> Result<Option<Decision>, SegmentError> {
        while self.heads.is_empty() {
            let Some(date) = self.dates.next() else { return Ok(None) };
            self.open(date)?;
        }
        let Some(Reverse((_, _, index))) = self.heads.pop() else { return Ok(None) };
        let decision = self.files[index].ready.pop_front();
        self.advance(index)?;
        Ok(decision)
    }

    fn open(&mut self, date: DateSegments) -> Result<(), SegmentError> {
        let batch = (BUFFER / date.files.len()).clamp(8, 512);
        self.files.clear();
        for path in date.files {
            let batches = SegmentReader::open(&path, batch)?;
            self.files.push(Buffered { path, batches, ready: VecDeque::new(), last: None });
            self.advance(self.files.len() - 1)?;
        }
        Ok(())
    }

    /// Puts the next decision of a file into the heap.
    fn advance(&mut self, index: usize) -> Result<(), SegmentError> {
        let file = &mut self.files[index];
        while file.ready.is_empty() {
            match file.batches.next() {
                Some(batch) => file.ready = batch?.into(),
                None => return Ok(()),
            }
        }
        if let Some(next) = file.ready.front() {
            let (time, id) = next.order();
            let order = (time, id.to_owned());
            if file.last.as_ref().is_some_and(|last| *last > order) {
                let reason = "its decisions are not in the order of time and id; `slated journal` writes them so";
                return Err(SegmentError::at(&file.path)(reason.to_owned()));
            }
            self.heads.push(Reverse((order.0, order.1.clone(), index)));
            file.last = Some(order);
        }
        Ok(())
    }
}
