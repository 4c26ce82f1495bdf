//! What came of each decision: feedback joined to decisions by DataFusion, on narrow columns alone.

use std::collections::VecDeque;
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use futures::StreamExt;
use serde::Deserialize;
use slated_contract::event::{self, DateSegments, Decision, Event, Feedback, SegmentReader};

use super::reward::Joined;
use super::{DatasetError, DatasetSettings};

/// A decision's id with its feedback.
#[derive(Debug, Deserialize)]
pub struct Outcome {
    pub decision_id: String,
    pub joined: Option<Vec<Joined>>,
}

/// The outcomes of the chosen decisions, in the order of (time, decision id).
pub struct Outcomes {
    stream: SendableRecordBatchStream,
    ready: VecDeque<Outcome>,
    /// Chosen decisions, those given twice included.
    pub decisions: u64,
    /// Feedback events.
    pub feedback: u64,
    /// Of these, those about no chosen decision.
    pub orphans: u64,
}

impl Outcomes {
    /// Starts the join.
    pub async fn open(
        settings: &DatasetSettings,
        decisions: &[DateSegments],
        feedback: &[DateSegments],
    ) -> Result<Self, DatasetError> {
        let context = session(settings)?;
        register::<Decision>(&context, decisions).await?;
        register::<Feedback>(&context, feedback).await?;
        let chosen = format!("SELECT decision_id, time FROM decisions WHERE {}", filter(settings));
        let orphans = format!(
            "SELECT count(*) FROM feedback LEFT ANTI JOIN ({chosen}) d ON feedback.decision_id = d.decision_id"
        );
        let joined = format!(
            "SELECT d.decision_id, f.joined FROM ({chosen}) d LEFT JOIN (
                 SELECT decision_id, array_agg(named_struct(
                     'feedback_id', feedback_id, 'occurred', occurred, 'event', event, 'value', value,
                     'item', item, 'position', \"position\")) AS joined
                 FROM feedback GROUP BY decision_id
             ) f ON d.decision_id = f.decision_id ORDER BY d.time, d.decision_id"
        );
        Ok(Self {
            decisions: count(&context, &format!("SELECT count(*) FROM ({chosen})")).await?,
            feedback: count(&context, "SELECT count(*) FROM feedback").await?,
            orphans: count(&context, &orphans).await?,
            stream: context.sql(&joined).await?.execute_stream().await?,
            ready: VecDeque::new(),
        })
    }

    /// The next outcome; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Outcome>, DatasetError> {
        while self.ready.is_empty() {
            let Some(batch) = self.stream.next().await else { return Ok(None) };
            let rows: Vec<Outcome> =
                serde_arrow::from_record_batch(&batch?).map_err(|error| DatasetError::Joined(error.to_string()))?;
            self.ready = rows.into();
        }
        Ok(self.ready.pop_front())
    }
}

fn session(settings: &DatasetSettings) -> Result<SessionContext, DatasetError> {
    let limit = settings.memory_limit_mib.max(64) * 1024 * 1024;
    // String views and plain strings are different column types; events are declared with plain ones.
    let config = SessionConfig::new()
        .set_bool("datafusion.execution.parquet.schema_force_view_types", false)
        .set_bool("datafusion.sql_parser.enable_ident_normalization", false);
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(FairSpillPool::new(limit))).build_arc()?;
    Ok(SessionContext::new_with_config_rt(config, runtime))
}

/// Registers exactly these files, so that a segment which appears meanwhile is not seen by one reader alone.
async fn register<E: Event>(context: &SessionContext, segments: &[DateSegments]) -> Result<(), DatasetError> {
    let paths = || segments.iter().flat_map(|date| &date.files);
    for path in paths() {
        // Reads the footer alone; a query over many files does not say which of them is torn.
        SegmentReader::<E>::open(path, 1)?;
    }
    let files: Vec<String> = paths().map(|path| path.display().to_string()).collect();
    let schema = event::schema::<E>();
    if files.is_empty() {
        context.register_batch(E::KIND, RecordBatch::new_empty(schema))?;
    } else {
        let options = ParquetReadOptions::default().schema(&schema).skip_metadata(true);
        context.register_table(E::KIND, context.read_parquet(files, options).await?.into_view())?;
    }
    Ok(())
}

async fn count(context: &SessionContext, query: &str) -> Result<u64, DataFusionError> {
    let batches = context.sql(query).await?.collect().await?;
    let value = batches.first().map_or(0, |batch| batch.column(0).as_primitive::<Int64Type>().value(0));
    Ok(u64::try_from(value).unwrap_or(0))
}

fn filter(settings: &DatasetSettings) -> String {
    let quote = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let mut conditions = vec!["true".to_owned()];
    conditions.extend(settings.policy.as_ref().map(|policy| format!("policy = {}", quote(policy))));
    conditions.extend(settings.source.as_ref().map(|source| format!("source = {}", quote(source))));
    conditions.extend(settings.after.as_ref().map(|(time, id)| {
        let time = format!("to_timestamp_micros({})", time.timestamp_micros());
        format!("(time > {time} OR (time = {time} AND decision_id > {}))", quote(id))
    }));
    conditions.join(" AND ")
}
