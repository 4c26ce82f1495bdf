//! Decisions in the order in which they were decided, straight from the segments.
//!
//! Decisions are wide: tens of candidates with features each. They are not sorted or joined but read in the order in
//! which they lie, merging the files of one date at a time. Each file's next batch is read on another thread while its
//! last one is used.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::vec;

use chrono::{DateTime, Utc};
use slated_contract::event::{DateSegments, Decision, Event, SegmentError, SegmentReader};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Decisions in memory at most, over all files of a date.
const BUFFER: usize = 4096;

/// Where a decision stands.
type Place = (DateTime<Utc>, String);

/// All decisions of the segments, in order.
pub struct MergedDecisions {
    dates: vec::IntoIter<DateSegments>,
    files: Vec<File>,
    /// The next decision of each file that has one.
    heads: BinaryHeap<Reverse<(Place, usize)>>,
    /// One permit for each core.
    cores: Arc<Semaphore>,
}

/// A file, read ahead by one batch.
struct File {
    path: PathBuf,
    ready: VecDeque<Decision>,
    ahead: Option<JoinHandle<Ahead>>,
    last: Option<Place>,
}

/// A batch, and the file to read on; `None` at its end.
type Ahead = Option<(Result<Vec<Decision>, SegmentError>, SegmentReader<Decision>)>;

impl MergedDecisions {
    /// Merges the segments.
    pub fn new(dates: Vec<DateSegments>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let cores = Arc::new(Semaphore::new(cores));
        Self { dates: dates.into_iter(), files: Vec::new(), heads: BinaryHeap::new(), cores }
    }

    /// The next decision; `None` at the end.
    ///
    /// # Errors
    /// A segment that does not read, or is not in order.
    pub async fn next(&mut self) -> Result<Option<Decision>, SegmentError> {
        while self.heads.is_empty() {
            let Some(date) = self.dates.next() else { return Ok(None) };
            self.open(date).await?;
        }
        let Some(Reverse((place, index))) = self.heads.pop() else { return Ok(None) };
        let file = &mut self.files[index];
        file.last = Some(place);
        let decision = file.ready.pop_front();
        self.advance(index).await?;
        Ok(decision)
    }

    async fn open(&mut self, date: DateSegments) -> Result<(), SegmentError> {
        // One batch of each file in use and one ahead.
        let batch = (BUFFER / 2 / date.files.len()).clamp(8, 512);
        self.files.clear();
        for path in date.files {
            let reader = SegmentReader::open(&path, batch)?;
            let ahead = Some(read(Arc::clone(&self.cores), reader));
            self.files.push(File { path, ready: VecDeque::new(), ahead, last: None });
        }
        for index in 0..self.files.len() {
            self.advance(index).await?;
        }
        Ok(())
    }

    /// Puts the next decision of a file into the heap.
    async fn advance(&mut self, index: usize) -> Result<(), SegmentError> {
        let file = &mut self.files[index];
        while file.ready.is_empty() {
            let Some(ahead) = file.ahead.take() else { return Ok(()) };
            let ahead = ahead.await.map_err(|error| SegmentError::at(&file.path)(error.to_string()))?;
            let Some((batch, reader)) = ahead else { return Ok(()) };
            file.ready = batch?.into();
            file.ahead = Some(read(Arc::clone(&self.cores), reader));
        }
        if let Some(next) = file.ready.front() {
            let (time, id) = next.order();
            if file.last.as_ref().is_some_and(|(last, last_id)| (*last, last_id.as_str()) > (time, id)) {
                let reason = "its decisions are not in the order of time and id; `slated journal` writes them so";
                return Err(SegmentError::at(&file.path)(reason.to_owned()));
            }
            self.heads.push(Reverse(((time, id.to_owned()), index)));
        }
        Ok(())
    }
}

/// Reads a file's next batch on another thread, when a core is free.
fn read(cores: Arc<Semaphore>, mut reader: SegmentReader<Decision>) -> JoinHandle<Ahead> {
    tokio::spawn(async move {
        // Neither fails: nothing closes the semaphore, and a panic of the reader goes on here.
        let _core = cores.acquire_owned().await;
        let batch = tokio::task::spawn_blocking(move || reader.next().map(|batch| (batch, reader))).await;
        batch.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    })
}
