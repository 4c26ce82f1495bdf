//! Reading the journal: decisions joined with feedback by DataFusion, in the order in which they were decided.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use slated_contract::event::{self, ColumnsError, Decision, Event, Feedback};
use slated_contract::reward::{RewardDefinition, RewardError};
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_128;

use super::DatasetSummary;
use super::reward::{Joined, rewards};

/// What to read.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetSettings {
    /// The journal's folder.
    pub journal: PathBuf,
    /// How feedback becomes reward.
    #[serde(default)]
    pub reward: RewardDefinition,
    /// Only decisions of this policy.
    #[serde(default)]
    pub policy: Option<String>,
    /// Only decisions that this wrote, such as `service` or `import:open-bandit`.
    #[serde(default)]
    pub source: Option<String>,
    /// Only decisions after this one, in the order of (time, id).
    #[serde(default)]
    pub after: Option<(DateTime<Utc>, String)>,
    /// Memory for sorting and joining, in MiB; beyond it the query spills to disk.
    #[serde(default = "memory_limit_mib")]
    pub memory_limit_mib: usize,
}

const fn memory_limit_mib() -> usize {
    512
}

/// A decision with the reward of each item it showed.
#[derive(Debug, Clone, PartialEq)]
pub struct Round {
    /// The decision.
    pub decision: Decision,
    /// Rewards, by index in the slate.
    pub rewards: Vec<f64>,
}

/// A journal that cannot be learned from.
#[derive(Debug, Error)]
pub enum DatasetError {
    /// There is nothing to read.
    #[error(
        "{0} holds no decisions in closed segments; expected {0}/decisions/date=<date>/*.parquet (a running service closes them on POST /journal/seal)"
    )]
    Empty(PathBuf),
    /// The reward definition.
    #[error(transparent)]
    Reward(#[from] RewardError),
    /// The query.
    #[error("the journal does not read: {0}")]
    Query(#[from] DataFusionError),
    /// A row that is no event.
    #[error("the journal does not read: {0}")]
    Columns(#[from] ColumnsError),
    /// A column that the join made.
    #[error("the joined feedback does not read: {0}")]
    Joined(String),
    /// A decision that nothing can be learned from.
    #[error("decision `{decision_id}`: {problem}")]
    Decision {
        /// Its id.
        decision_id: String,
        /// What is wrong.
        problem: String,
    },
}

/// The journal as a stream of rounds, in the order of (time, decision id).
pub struct Dataset {
    stream: SendableRecordBatchStream,
    reward: RewardDefinition,
    summary: DatasetSummary,
    seen: HashSet<u128>,
    total: u64,
}

impl Dataset {
    /// Starts reading.
    ///
    /// # Errors
    /// A journal without decisions or that does not read, a reward definition that cannot be used.
    pub async fn open(settings: &DatasetSettings) -> Result<Self, DatasetError> {
        settings.reward.check()?;
        if !has_segments(&settings.journal.join(Decision::KIND)) {
            return Err(DatasetError::Empty(settings.journal.clone()));
        }
        let context = session(settings)?;
        register::<Decision>(&context, &settings.journal).await?;
        register::<Feedback>(&context, &settings.journal).await?;
        let chosen = format!("decisions WHERE {}", filter(settings));
        let count = async |query: String| -> Result<u64, DatasetError> {
            let batches = context.sql(&query).await?.collect().await?;
            let column = batches.first().map(|batch| Arc::clone(batch.column(0)));
            let value = column.map_or(0, |column| column.as_primitive::<Int64Type>().value(0));
            Ok(u64::try_from(value).unwrap_or(0))
        };
        let total = count(format!("SELECT count(*) FROM {chosen}")).await?;
        if total == 0 {
            return Err(DatasetError::Empty(settings.journal.clone()));
        }
        let orphans =
            format!("SELECT count(*) FROM feedback WHERE decision_id NOT IN (SELECT decision_id FROM {chosen})");
        let summary = DatasetSummary {
            feedback: count("SELECT count(*) FROM feedback".to_owned()).await?,
            orphan_feedback: count(orphans).await?,
            ..DatasetSummary::default()
        };
        let columns: Vec<String> =
            event::schema::<Decision>().fields().iter().map(|field| format!("d.\"{}\"", field.name())).collect();
        // The small side, feedback by decision, is what the join holds in memory; wide decisions stream past it.
        let query = format!(
            "SELECT {columns}, f.joined FROM (SELECT * FROM {chosen}) d LEFT JOIN (
                 SELECT decision_id, array_agg(named_struct(
                     'feedback_id', feedback_id, 'occurred', occurred, 'event', event, 'value', value,
                     'item', item, 'position', \"position\")) AS joined
                 FROM feedback GROUP BY decision_id
             ) f ON d.decision_id = f.decision_id ORDER BY d.time, d.decision_id",
            columns = columns.join(", "),
        );
        let stream = context.sql(&query).await?.execute_stream().await?;
        Ok(Self { stream, reward: settings.reward.clone(), summary, seen: HashSet::new(), total })
    }

    /// How many decisions there are, those given twice included.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// The next rounds; `None` at the end.
    ///
    /// # Errors
    /// A row that does not read, or a decision that nothing can be learned from, by its id.
    pub async fn next(&mut self) -> Result<Option<Vec<Round>>, DatasetError> {
        let Some(batch) = self.stream.next().await else { return Ok(None) };
        let (decisions, feedback) = split(&batch?)?;
        let mut rounds = Vec::with_capacity(decisions.len());
        for (decision, feedback) in decisions.into_iter().zip(feedback) {
            // A service counts a repeated id once; files of several services may still hold it twice.
            if !self.seen.insert(xxh3_128(decision.decision_id.as_bytes())) {
                self.summary.duplicate_decisions += 1;
                continue;
            }
            check(&decision)?;
            let rewards = rewards(&decision, feedback, &self.reward, &mut self.summary);
            if let Some(reward) = rewards.iter().find(|reward| !reward.is_finite()) {
                return Err(bad(
                    &decision,
                    format!("its reward is {reward}; a feedback value or weight is not finite"),
                ));
            }
            let round = Round { decision, rewards };
            self.summary.add(&round);
            rounds.push(round);
        }
        Ok(Some(rounds))
    }

    /// What was read so far.
    #[must_use]
    pub const fn summary(&self) -> &DatasetSummary {
        &self.summary
    }
}

fn session(settings: &DatasetSettings) -> Result<SessionContext, DatasetError> {
    // String views and plain strings are different column types; events are declared with plain ones.
    let config = SessionConfig::new()
        .with_batch_size(1024)
        .set_bool("datafusion.execution.parquet.schema_force_view_types", false)
        .set_bool("datafusion.sql_parser.enable_ident_normalization", false);
    let runtime =
        RuntimeEnvBuilder::new().with_memory_limit(settings.memory_limit_mib.max(64) * 1024 * 1024, 1.0).build_arc()?;
    Ok(SessionContext::new_with_config_rt(config, runtime))
}

async fn register<E: Event>(context: &SessionContext, journal: &Path) -> Result<(), DatasetError> {
    let folder = journal.join(E::KIND);
    let schema = event::schema::<E>();
    if !has_segments(&folder) {
        context.register_batch(E::KIND, RecordBatch::new_empty(schema))?;
        return Ok(());
    }
    // The metadata of each segment differs from the declared schema's, which does not matter.
    let options = ParquetReadOptions::default()
        .schema(&schema)
        .skip_metadata(true)
        .table_partition_cols(vec![("date".to_owned(), DataType::Utf8)]);
    let path = format!("{}/", folder.display());
    context.register_parquet(E::KIND, path, options).await?;
    Ok(())
}

fn has_segments(folder: &Path) -> bool {
    let list =
        |folder: &Path| folder.read_dir().into_iter().flatten().flatten().map(|entry| entry.path()).collect::<Vec<_>>();
    let is_segment = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with(".parquet") && !name.starts_with('.')
    };
    list(folder).iter().any(|date| list(date).iter().any(|path| is_segment(path)))
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

/// A joined batch as decisions and, row by row, their feedback.
fn split(batch: &RecordBatch) -> Result<(Vec<Decision>, Vec<Vec<Joined>>), DatasetError> {
    #[derive(Deserialize)]
    struct Row {
        joined: Option<Vec<Joined>>,
    }

    let last = batch.num_columns() - 1;
    let project = |columns: &[usize]| batch.project(columns).map_err(DataFusionError::from);
    let decisions = event::decode::<Decision>(&project(&(0..last).collect::<Vec<_>>())?)?;
    let joined = project(&[last])?;
    let rows: Vec<Row> =
        serde_arrow::from_record_batch(&joined).map_err(|error| DatasetError::Joined(error.to_string()))?;
    Ok((decisions, rows.into_iter().map(|row| row.joined.unwrap_or_default()).collect()))
}

fn bad(decision: &Decision, problem: String) -> DatasetError {
    DatasetError::Decision { decision_id: decision.decision_id.clone(), problem }
}

fn check(decision: &Decision) -> Result<(), DatasetError> {
    if decision.slate.is_empty() {
        return Err(bad(decision, "its slate is empty".to_owned()));
    }
    let propensities = decision.slate.iter().flat_map(|shown| [shown.cascade_propensity, shown.marginal_propensity]);
    // Written so that NaN fails.
    if let Some(propensity) =
        propensities.chain([decision.propensity]).find(|propensity| !(*propensity > 0.0 && *propensity <= 1.0))
    {
        return Err(bad(
            decision,
            format!("its propensity {propensity} is outside (0, 1]; what was shown cannot have had it"),
        ));
    }
    for shown in &decision.slate {
        if !decision.candidates.iter().any(|candidate| candidate.item == shown.item) {
            return Err(bad(decision, format!("item `{}` was shown but is not among the candidates", shown.item)));
        }
    }
    Ok(())
}
