//! The latest events of a journal, whether they are in the tail or in closed segments.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use chrono::{DateTime, Utc};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowPredicateFn, ParquetRecordBatchReaderBuilder, RowFilter};
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::statistics::Statistics;
use slated_contract::event::{Decision, Event, Feedback, SegmentError, segments};

use super::JournalError;
use super::tail::Tail;

/// What can be known of a decision without reading it whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head<'a> {
    /// When it was decided.
    pub time: DateTime<Utc>,
    /// What wrote it.
    pub source: &'a str,
    /// The policy.
    pub policy: &'a str,
    /// The session.
    pub session_id: Option<&'a str>,
    /// The user.
    pub user_id: Option<&'a str>,
}

/// Says by its head whether a decision is wanted.
pub type Wanted = Arc<dyn Fn(Head<'_>) -> bool + Send + Sync>;

/// Says which rows of a batch are wanted.
type Rows = Arc<dyn Fn(&RecordBatch) -> Vec<bool> + Send + Sync>;

/// The columns of a head, in this order.
const HEAD: [&str; 5] = ["time", "source", "policy", "session_id", "user_id"];

/// The events of a kind from some moment on. What is appended after it was opened is not in it.
pub struct Recent<E> {
    /// From the tail, in its order.
    tail: Vec<E>,
    files: Vec<Segment>,
}

struct Segment {
    path: PathBuf,
    /// Of its events, in microseconds.
    first: i64,
    last: i64,
}

impl<E: Event> Recent<E> {
    /// The events from `from` on.
    pub(super) fn open(tail: &Tail, from: DateTime<Utc>) -> Result<Self, JournalError> {
        // In this order, because sealing moves events from the tail to segments, never the other way.
        let waiting = tail.read(|store| store.events_since::<E>(from))?;
        let date = from.format("%Y-%m-%d").to_string();
        let dates = segments::<E>(tail.folder())?.into_iter().filter(|segments| segments.date >= date);
        let mut files = Vec::new();
        for path in dates.flat_map(|segments| segments.files) {
            let groups = open(&path).map(|file| file.metadata().row_groups().iter().map(span).collect::<Vec<_>>());
            let Some(groups) = unless_damaged(groups) else { continue };
            let span = groups.into_iter().reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
            if let Some((first, last)) = span.filter(|(_, last)| *last >= from.timestamp_micros()) {
                files.push(Segment { path, first, last });
            }
        }
        Ok(Self { tail: waiting, files })
    }

    /// Its events from `from` to before `to`, those that are wanted, by (time, id).
    fn events_where(
        &self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        columns: &[&str],
        in_tail: impl Fn(&E) -> bool,
        in_file: &Rows,
    ) -> Vec<E> {
        let within = |event: &&E| from <= event.time() && event.time() < to;
        let mut events: Vec<E> = self.tail.iter().filter(within).filter(|event| in_tail(event)).cloned().collect();
        for path in self.overlapping(from, to) {
            let read = read_where::<E>(path, from, to, columns, in_file);
            events.extend(unless_damaged(read).into_iter().flatten().filter(|event| within(&event)));
        }
        // An event that was sealed between the two looks is in both.
        let mut seen = HashSet::with_capacity(events.len());
        events.retain(|event| seen.insert(event.id().to_owned()));
        events.sort_by(|a, b| a.order().cmp(&b.order()));
        events
    }

    fn overlapping(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> impl Iterator<Item = &Path> {
        let (from, to) = (from.timestamp_micros(), to.timestamp_micros());
        let overlaps = move |file: &&Segment| file.first < to && file.last >= from;
        self.files.iter().filter(overlaps).map(|file| file.path.as_path())
    }
}

impl Recent<Decision> {
    /// The heads of the decisions from `from` to before `to`, in no order, told one after the other.
    pub fn heads(&self, from: DateTime<Utc>, to: DateTime<Utc>, mut each: impl FnMut(Head<'_>)) {
        let mut each = |head: Head<'_>| {
            if from <= head.time && head.time < to {
                each(head);
            }
        };
        self.tail.iter().map(head).for_each(&mut each);
        for path in self.overlapping(from, to) {
            unless_damaged(read_heads(path, from, to, &mut each));
        }
    }

    /// The decisions from `from` to before `to` whose head is `wanted`, by (time, id).
    #[must_use]
    pub fn decisions(&self, from: DateTime<Utc>, to: DateTime<Utc>, wanted: &Wanted) -> Vec<Decision> {
        let by_row = Arc::clone(wanted);
        let in_file: Rows = Arc::new(move |batch| {
            // Columns that are not a journal's are left to the decoder, which says what is wrong.
            let heads = Heads::of(batch);
            let wanted = |row| heads.as_ref().is_none_or(|heads| heads.row(row).is_some_and(|head| by_row(head)));
            (0..batch.num_rows()).map(wanted).collect()
        });
        self.events_where(from, to, &HEAD, |decision| wanted(head(decision)), &in_file)
    }
}

impl Recent<Feedback> {
    /// The feedback from `from` to before `to` on decisions that are `wanted` by id, by (time, id).
    #[must_use]
    pub fn feedback(&self, from: DateTime<Utc>, to: DateTime<Utc>, wanted: &Arc<HashSet<String>>) -> Vec<Feedback> {
        let known = Arc::clone(wanted);
        let in_file: Rows = Arc::new(move |batch| {
            let ids = batch.column(0).as_string_opt::<i32>();
            (0..batch.num_rows()).map(|row| ids.is_none_or(|ids| known.contains(ids.value(row)))).collect()
        });
        self.events_where(from, to, &["decision_id"], |feedback| wanted.contains(&feedback.decision_id), &in_file)
    }
}

fn head(decision: &Decision) -> Head<'_> {
    Head {
        time: decision.time,
        source: &decision.source,
        policy: &decision.policy,
        session_id: decision.session_id.as_deref(),
        user_id: decision.user_id.as_deref(),
    }
}

/// The columns of a batch of heads.
struct Heads<'a> {
    time: &'a ArrayRef,
    text: [&'a ArrayRef; 4],
}

impl<'a> Heads<'a> {
    fn of(batch: &'a RecordBatch) -> Option<Self> {
        let time = batch.column_by_name(HEAD[0])?;
        time.as_primitive_opt::<TimestampMicrosecondType>()?;
        let text = |name| batch.column_by_name(name).filter(|column| column.as_string_opt::<i32>().is_some());
        Some(Self { time, text: [text(HEAD[1])?, text(HEAD[2])?, text(HEAD[3])?, text(HEAD[4])?] })
    }

    fn row(&self, row: usize) -> Option<Head<'a>> {
        let text = |column: &'a ArrayRef| {
            let column = column.as_string::<i32>();
            column.is_valid(row).then(|| column.value(row))
        };
        let [source, policy, session_id, user_id] = self.text;
        Some(Head {
            time: DateTime::from_timestamp_micros(self.time.as_primitive::<TimestampMicrosecondType>().value(row))?,
            source: text(source)?,
            policy: text(policy)?,
            session_id: text(session_id),
            user_id: text(user_id),
        })
    }
}

/// What was read of a file; nothing, and a line in the log, where it is damaged. That a service starts matters more than
/// what one of its segments holds.
fn unless_damaged<T>(read: Result<T, SegmentError>) -> Option<T> {
    read.inspect_err(|error| tracing::error!(%error, "a segment is passed over; `slated journal check` says more")).ok()
}

fn read_where<E: Event>(
    path: &Path,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    columns: &[&str],
    wanted: &Rows,
) -> Result<Vec<E>, SegmentError> {
    let failed = SegmentError::at(path);
    let builder = open(path)?;
    let groups = groups(&builder, from, to);
    let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
    let wanted = Arc::clone(wanted);
    let filter = ArrowPredicateFn::new(mask, move |batch| Ok(BooleanArray::from(wanted(&batch))));
    let batches = builder.with_row_groups(groups).with_row_filter(RowFilter::new(vec![Box::new(filter)])).build();
    let mut events = Vec::new();
    for batch in batches.map_err(|error| failed(error.to_string()))? {
        let batch = batch.map_err(|error| failed(error.to_string()))?;
        events.extend(E::decode(&batch).map_err(|error| failed(error.to_string()))?);
    }
    Ok(events)
}

fn read_heads(
    path: &Path,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    mut each: impl FnMut(Head<'_>),
) -> Result<(), SegmentError> {
    let failed = SegmentError::at(path);
    let builder = open(path)?;
    let groups = groups(&builder, from, to);
    let mask = ProjectionMask::columns(builder.parquet_schema(), HEAD);
    let batches = builder.with_row_groups(groups).with_projection(mask).build();
    for batch in batches.map_err(|error| failed(error.to_string()))? {
        let batch = batch.map_err(|error| failed(error.to_string()))?;
        let heads = Heads::of(&batch).ok_or_else(|| failed("its columns are not a journal's".to_owned()))?;
        (0..batch.num_rows()).filter_map(|row| heads.row(row)).for_each(&mut each);
    }
    Ok(())
}

fn open(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>, SegmentError> {
    let failed = SegmentError::at(path);
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| failed(error.to_string()))
}

/// The row groups that may hold events from `from` to before `to`.
fn groups(builder: &ParquetRecordBatchReaderBuilder<File>, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<usize> {
    let (from, to) = (from.timestamp_micros(), to.timestamp_micros());
    let spans = builder.metadata().row_groups().iter().map(span).enumerate();
    spans.filter(|(_, (first, last))| *first < to && *last >= from).map(|(index, _)| index).collect()
}

/// The times of a row group's first and last event, in microseconds; all of time where the file does not say.
fn span(group: &RowGroupMetaData) -> (i64, i64) {
    let time = group.columns().iter().find(|column| column.column_path().string() == HEAD[0]);
    match time.and_then(|column| column.statistics()) {
        Some(Statistics::Int64(times)) => {
            (times.min_opt().copied().unwrap_or(i64::MIN), times.max_opt().copied().unwrap_or(i64::MAX))
        }
        _ => (i64::MIN, i64::MAX),
    }
}
