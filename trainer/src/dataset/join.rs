//! What came of each decision: feedback joined to decisions by DataFusion, on narrow columns alone.
//!
//! Both sides are sorted by decision and merged, and the outcome is sorted by time: each step spills to disk beyond the
//! limit of memory.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt;
use slated_contract::event::{self, DateSegments, Decision, Feedback, SegmentError};

use super::mirror::local;
use super::scan::table;
use super::sound::sound_segments;
use super::{DatasetError, DatasetSettings};

/// Columns of decisions, by which they are chosen and joined.
const CHOOSING: [&str; 4] = ["decision_id", "time", "policy", "source"];
/// Columns of feedback that the join brings.
const JOINED: [&str; 8] = ["decision_id", "feedback_id", "time", "occurred", "event", "value", "item", "position"];
/// The condition that chooses every decision.
const EVERY: &str = "true";

/// One feedback event, as the join brings it.
#[derive(Debug, Clone, PartialEq)]
pub struct Joined {
    /// Its id.
    pub feedback_id: String,
    /// When it happened.
    pub occurred: DateTime<Utc>,
    /// Its type.
    pub event: String,
    /// Its value.
    pub value: f64,
    /// The item that it is about, if it names one.
    pub item: Option<String>,
    /// The position that it is about, if it names one.
    pub position: Option<i32>,
}

/// A decision's place in the journal, with its feedback in no particular order.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// When it was decided; of a decision that stands twice, the first time.
    pub time: DateTime<Utc>,
    /// Its id.
    pub decision_id: String,
    /// What came of it.
    pub feedback: Vec<Joined>,
}

/// The outcomes of the chosen decisions, each once, in the order of (time, decision id).
///
/// The narrow half of a [`super::Dataset`], for what needs no features: rates, counts, delays.
pub struct Outcomes {
    stream: SendableRecordBatchStream,
    ready: VecDeque<Outcome>,
    /// The last outcome of a batch, whose feedback may go on in the next one.
    open: Option<Outcome>,
    decisions: u64,
    feedback: u64,
    joined: u64,
}

impl Outcomes {
    /// Starts the join.
    ///
    /// # Errors
    /// A journal that does not read.
    pub async fn open(settings: &DatasetSettings) -> Result<Self, DatasetError> {
        let journal = local(&settings.journal, settings.cache.as_deref()).await?;
        let (decisions, _) = chosen_dates(&journal, settings)?;
        let (feedback, _) = sound_segments::<Feedback>(&journal, None)?;
        Self::of(settings, &decisions, &feedback).await
    }

    /// Starts the join of these segments.
    pub(super) async fn of(
        settings: &DatasetSettings,
        decisions: &[DateSegments],
        feedback: &[DateSegments],
    ) -> Result<Self, DatasetError> {
        let context = session(settings.memory_limit_mib)?;
        context.register_table("decisions", Arc::new(table::<Decision>(decisions, &CHOOSING)?))?;
        context.register_table("feedback", Arc::new(table::<Feedback>(feedback, &JOINED)?))?;
        let chosen = filter(settings);
        let received = settings.until.map_or_else(|| EVERY.to_owned(), |until| format!("time <= {}", moment(until)));
        // Files of several services may hold one decision twice; it has its feedback once.
        let joined = format!(
            "SELECT d.time, d.decision_id, f.feedback_id, f.occurred, f.event, f.value, f.item, f.\"position\"
             FROM (SELECT decision_id, min(time) AS time FROM decisions WHERE {chosen} GROUP BY decision_id) d
             LEFT JOIN (SELECT * FROM feedback WHERE {received}) f ON d.decision_id = f.decision_id
             ORDER BY d.time, d.decision_id"
        );
        Ok(Self {
            decisions: match chosen.as_str() {
                EVERY => rows(decisions)?,
                _ => count(&context, &format!("SELECT count(*) FROM decisions WHERE {chosen}")).await?,
            },
            feedback: match received.as_str() {
                EVERY => rows(feedback)?,
                _ => count(&context, &format!("SELECT count(*) FROM feedback WHERE {received}")).await?,
            },
            stream: context.sql(&joined).await?.execute_stream().await?,
            ready: VecDeque::new(),
            open: None,
            joined: 0,
        })
    }

    /// Chosen decisions, those given twice included.
    #[must_use]
    pub const fn decisions(&self) -> u64 {
        self.decisions
    }

    /// Feedback events in the journal.
    #[must_use]
    pub const fn feedback(&self) -> u64 {
        self.feedback
    }

    /// Of these, those about no chosen decision; known when the last outcome is out.
    #[must_use]
    pub const fn orphans(&self) -> u64 {
        self.feedback.saturating_sub(self.joined)
    }

    /// The next outcome, not taken; `None` at the end.
    pub(super) async fn peek(&mut self) -> Result<Option<&Outcome>, DatasetError> {
        while self.ready.is_empty() {
            let Some(batch) = self.stream.next().await else {
                self.ready.extend(self.open.take());
                break;
            };
            self.add(&batch?)?;
        }
        Ok(self.ready.front())
    }

    /// The next outcome; `None` at the end.
    ///
    /// # Errors
    /// A journal that does not read.
    pub async fn next(&mut self) -> Result<Option<Outcome>, DatasetError> {
        self.peek().await?;
        Ok(self.ready.pop_front())
    }

    fn add(&mut self, batch: &RecordBatch) -> Result<(), DatasetError> {
        let rows = Rows::of(batch.columns())?;
        for row in 0..batch.num_rows() {
            let (time, decision_id) = (micros(rows.time.value(row))?, rows.decision_id.value(row));
            if self.open.as_ref().is_none_or(|open| open.time != time || open.decision_id != decision_id) {
                let opened = Outcome { time, decision_id: decision_id.to_owned(), feedback: Vec::new() };
                self.ready.extend(self.open.replace(opened));
            }
            if let (true, Some(open)) = (rows.feedback_id.is_valid(row), &mut self.open) {
                self.joined += 1;
                open.feedback.push(rows.joined(row)?);
            }
        }
        Ok(())
    }
}

/// The join's columns.
struct Rows<'a> {
    time: &'a TimestampMicrosecondArray,
    decision_id: &'a StringArray,
    feedback_id: &'a StringArray,
    occurred: &'a TimestampMicrosecondArray,
    event: &'a StringArray,
    value: &'a Float64Array,
    item: &'a StringArray,
    position: &'a Int32Array,
}

impl<'a> Rows<'a> {
    fn of(columns: &'a [ArrayRef]) -> Result<Self, DatasetError> {
        let text = |index: usize| columns[index].as_string_opt::<i32>();
        let time = |index: usize| columns[index].as_primitive_opt::<TimestampMicrosecondType>();
        let rows = || {
            Some(Self {
                time: time(0)?,
                decision_id: text(1)?,
                feedback_id: text(2)?,
                occurred: time(3)?,
                event: text(4)?,
                value: columns[5].as_primitive_opt::<Float64Type>()?,
                item: text(6)?,
                position: columns[7].as_primitive_opt::<Int32Type>()?,
            })
        };
        rows().ok_or_else(|| DatasetError::Joined(format!("its columns are not those of events: {columns:?}")))
    }

    fn joined(&self, row: usize) -> Result<Joined, DatasetError> {
        Ok(Joined {
            feedback_id: self.feedback_id.value(row).to_owned(),
            occurred: micros(self.occurred.value(row))?,
            event: self.event.value(row).to_owned(),
            value: self.value.value(row),
            item: self.item.is_valid(row).then(|| self.item.value(row).to_owned()),
            position: self.position.is_valid(row).then(|| self.position.value(row)),
        })
    }
}

fn micros(time: i64) -> Result<DateTime<Utc>, DatasetError> {
    DateTime::from_timestamp_micros(time).ok_or_else(|| DatasetError::Joined(format!("time {time} is out of range")))
}

/// The sound segments of decisions that may hold chosen ones, and how many are damaged.
pub(super) fn chosen_dates(
    journal: &Path,
    settings: &DatasetSettings,
) -> Result<(Vec<DateSegments>, u64), DatasetError> {
    let from = settings.after.as_ref().map(|(after, _)| after.format("%Y-%m-%d").to_string());
    let (mut decisions, damaged) = sound_segments::<Decision>(journal, from.as_deref())?;
    if let Some(until) = settings.until {
        let date = until.format("%Y-%m-%d").to_string();
        decisions.retain(|segments| segments.date <= date);
    }
    Ok((decisions, damaged))
}

/// A context in which queries spill to disk beyond so much memory.
pub(super) fn session(memory_limit_mib: usize) -> Result<SessionContext, DataFusionError> {
    let limit = memory_limit_mib.max(64) * 1024 * 1024;
    let mut config = SessionConfig::new().with_batch_size(2048).with_information_schema(true);
    // A hash join does not spill.
    config.options_mut().optimizer.prefer_hash_join = false;
    // What each of the sorts keeps back to merge what it spilled: what is not kept back, the others take. A merge holds a
    // batch of each spilled run.
    config.options_mut().execution.sort_spill_reservation_bytes = limit / 24;
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(FairSpillPool::new(limit))).build_arc()?;
    Ok(SessionContext::new_with_config_rt(config, runtime))
}

/// How many events there are, by the footers.
fn rows(segments: &[DateSegments]) -> Result<u64, SegmentError> {
    segments.iter().flat_map(|date| &date.files).map(|path| event::count(path)).sum()
}

async fn count(context: &SessionContext, query: &str) -> Result<u64, DataFusionError> {
    let batches = context.sql(query).await?.collect().await?;
    let value = batches.first().map_or(0, |batch| batch.column(0).as_primitive::<Int64Type>().value(0));
    Ok(u64::try_from(value).unwrap_or(0))
}

fn filter(settings: &DatasetSettings) -> String {
    let quote = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let mut conditions = Vec::new();
    conditions.extend(settings.policy.as_ref().map(|policy| format!("policy = {}", quote(policy))));
    conditions.extend(settings.source.as_ref().map(|source| format!("source = {}", quote(source))));
    conditions.extend(settings.after.as_ref().map(|(time, id)| {
        let time = moment(*time);
        format!("(time > {time} OR (time = {time} AND decision_id > {}))", quote(id))
    }));
    conditions.extend(settings.until.map(|until| format!("time <= {}", moment(until))));
    if conditions.is_empty() { EVERY.to_owned() } else { conditions.join(" AND ") }
}

fn moment(time: DateTime<Utc>) -> String {
    format!("to_timestamp_micros({})", time.timestamp_micros())
}
