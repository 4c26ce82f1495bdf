//! The narrow columns of segments, as a table that DataFusion can query.
//!
//! Read by ourselves rather than by DataFusion's own Parquet source, which keeps the footers of all files at hand: wide
//! events have wide footers, and a journal has thousands of files. And this one says which file is torn.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use slated_contract::event::{Columns, DateSegments, Event, SegmentError};

/// Rows read at a time, over the ends of files: sorting and joining cost a little for each batch.
const BATCH: usize = 8192;

/// The columns of all events of these files, dealt out to as many partitions as there are cores.
pub fn table<E: Event>(segments: &[DateSegments], columns: &[&str]) -> Result<StreamingTable, DataFusionError> {
    let columns = Columns::of::<E>(columns);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let files: Vec<&PathBuf> = segments.iter().flat_map(|date| &date.files).collect();
    let partition = |core: usize| -> Arc<dyn PartitionStream> {
        let files = files.iter().skip(core).step_by(cores).map(|path| (*path).clone()).collect();
        Arc::new(Partition { files, columns: columns.clone() })
    };
    StreamingTable::try_new(Arc::clone(columns.schema()), (0..cores).map(partition).collect())
}

struct Partition {
    files: Vec<PathBuf>,
    columns: Columns,
}

impl fmt::Debug for Partition {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{} segments", self.files.len())
    }
}

impl PartitionStream for Partition {
    fn schema(&self) -> &SchemaRef {
        self.columns.schema()
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let columns = self.columns.clone();
        let read = move |path: PathBuf| {
            let (batches, failed) = match columns.read(&path, BATCH) {
                Ok(batches) => (Some(batches), None),
                Err(error) => (None, Some(Err(error))),
            };
            batches.into_iter().flatten().chain(failed)
        };
        let batches = self.files.clone().into_iter().flat_map(read);
        let whole = Whole { batches, schema: Arc::clone(self.columns.schema()) };
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(self.columns.schema()), futures::stream::iter(whole)))
    }
}

/// Batches put together to [`BATCH`] rows and more.
struct Whole<I> {
    batches: I,
    schema: SchemaRef,
}

impl<I: Iterator<Item = Result<RecordBatch, SegmentError>>> Iterator for Whole<I> {
    type Item = Result<RecordBatch, DataFusionError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut parts = Vec::new();
        let mut rows = 0;
        while rows < BATCH {
            match self.batches.next() {
                Some(Ok(batch)) => {
                    rows += batch.num_rows();
                    parts.push(batch);
                }
                Some(Err(error)) => return Some(Err(DataFusionError::External(Box::new(error)))),
                None if parts.is_empty() => return None,
                None => break,
            }
        }
        Some(concat_batches(&self.schema, &parts).map_err(DataFusionError::from))
    }
}
