//! Decisions in the order in which they were decided, straight from the segments.
//!
//! Decisions are wide: tens of candidates with features each. They are not sorted or joined but read in the order in
//! which they lie, on another thread, while those before are used.

use std::vec;

use slated_contract::event::{DateSegments, Decision, Merged, SegmentError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Decisions handed over at a time.
const BATCH: usize = 256;
/// Batches that are read ahead.
const AHEAD: usize = 2;

/// All decisions of the segments, in order.
pub struct Decisions {
    batches: mpsc::Receiver<Result<Vec<Decision>, SegmentError>>,
    reader: Option<JoinHandle<()>>,
    ready: vec::IntoIter<Decision>,
}

impl Decisions {
    /// Starts to read. Needs a Tokio runtime.
    pub fn read(dates: Vec<DateSegments>) -> Self {
        let (send, batches) = mpsc::channel(AHEAD);
        let reader = tokio::task::spawn_blocking(move || {
            let mut merged = match Merged::open(dates.iter().flat_map(|date| &date.files)) {
                Ok(merged) => merged,
                Err(error) => return drop(send.blocking_send(Err(error))),
            };
            let mut failed = false;
            while !failed {
                let batch: Result<Vec<_>, _> = merged.by_ref().take(BATCH).collect();
                failed = batch.is_err();
                let ended = batch.as_ref().is_ok_and(Vec::is_empty);
                // Refused where nobody reads any more.
                if ended || send.blocking_send(batch).is_err() {
                    break;
                }
            }
        });
        Self { batches, reader: Some(reader), ready: Vec::new().into_iter() }
    }

    /// The next decision; `None` at the end.
    ///
    /// # Errors
    /// A segment that does not read, or is not in order.
    pub async fn next(&mut self) -> Result<Option<Decision>, SegmentError> {
        loop {
            if let Some(decision) = self.ready.next() {
                return Ok(Some(decision));
            }
            let Some(batch) = self.batches.recv().await else { break };
            self.ready = batch?.into_iter();
        }
        // A panic of the reader is no end of the journal.
        if let Some(reader) = self.reader.take()
            && let Err(error) = reader.await
        {
            std::panic::resume_unwind(error.into_panic());
        }
        Ok(None)
    }
}
