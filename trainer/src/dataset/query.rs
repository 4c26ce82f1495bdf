//! The journal as tables that SQL reads.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result as Planned};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{SQLOptions, SessionContext};
use futures::StreamExt;
use slated_contract::event::{DateSegments, Decision, Event, Feedback, RouteChange, SegmentError};
use thiserror::Error;

use super::join::session;
use super::mirror::{MirrorError, local};
use super::scan::table;
use super::sound::sound_segments;

/// The tables, and the views made of them.
pub const TABLES: [&str; 5] = [Decision::KIND, Feedback::KIND, RouteChange::KIND, "joined", "slates"];

/// Columns of a decision that each item of its slate is shown with.
const OF_SLATE: &str = "decision_id, \"time\", source, policy, policy_version, user_id, session_id, mode, not_evaluable, \
                        propensity";

/// A query that cannot be answered.
#[derive(Debug, Error)]
pub enum QueryError {
    /// There is nothing to query.
    #[error("{0} holds no closed segments; a running service closes them on POST /journal/seal")]
    Empty(PathBuf),
    /// The query itself.
    #[error("{0}")]
    Query(String),
    /// The answering of it.
    #[error("the query failed: {0}")]
    Failed(DataFusionError),
    /// An object store.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// A segment.
    #[error(transparent)]
    Segment(#[from] SegmentError),
}

impl QueryError {
    /// Whether whoever asked can put it right by asking otherwise.
    #[must_use]
    pub const fn is_input(&self) -> bool {
        matches!(self, Self::Empty(_) | Self::Query(_) | Self::Mirror(MirrorError::Url { .. }))
    }
}

/// The closed segments of a journal as tables, to be read and not to be changed.
///
/// `decisions`, `feedback` and `changes` hold every event with all columns, those given twice included. In the views
/// each event stands once: `joined` has a row for each decision and feedback event about it (one row with no feedback
/// where there is none), `slates` a row for each item shown, with what came of it.
pub struct JournalQuery {
    context: SessionContext,
}

/// The answer to a query, in batches.
pub struct Rows {
    stream: SendableRecordBatchStream,
}

impl JournalQuery {
    /// Opens a journal, a folder or an address in an object store, whose copy is kept in `cache`. Queries spill to disk
    /// beyond `memory_limit_mib`. Damaged segments are named in the log and passed over.
    ///
    /// # Errors
    /// A journal that does not read or has no segments.
    pub async fn open(journal: &Path, cache: Option<&Path>, memory_limit_mib: usize) -> Result<Self, QueryError> {
        let folder = local(journal, cache).await?;
        let (decisions, _) = sound_segments::<Decision>(&folder, None)?;
        let (feedback, _) = sound_segments::<Feedback>(&folder, None)?;
        let (changes, _) = sound_segments::<RouteChange>(&folder, None)?;
        if decisions.is_empty() && feedback.is_empty() && changes.is_empty() {
            return Err(QueryError::Empty(journal.to_owned()));
        }
        let context = session(memory_limit_mib).map_err(QueryError::Failed)?;
        let query = Self { context };
        query.register::<Decision>(decisions)?;
        query.register::<Feedback>(feedback)?;
        query.register::<RouteChange>(changes)?;
        for view in [joined(), slates()] {
            query.context.sql(&view).await.map_err(QueryError::Failed)?;
        }
        Ok(query)
    }

    fn register<E: Event + std::fmt::Debug>(&self, dates: Vec<DateSegments>) -> Result<(), QueryError> {
        let table = EventTable::<E>::new(dates);
        self.context.register_table(E::KIND, Arc::new(table)).map_err(QueryError::Failed)?;
        Ok(())
    }

    /// Begins to answer a query.
    ///
    /// # Errors
    /// SQL that does not parse, names a table or column that is not there, or would change something.
    pub async fn sql(&self, query: &str) -> Result<Rows, QueryError> {
        let reading = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        let frame = self.context.sql_with_options(query, reading).await.map_err(|error| refused(&error))?;
        Ok(Rows { stream: frame.execute_stream().await.map_err(QueryError::Failed)? })
    }
}

impl Rows {
    /// The columns.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        self.stream.schema()
    }

    /// The next rows; `None` at the end.
    ///
    /// # Errors
    /// A segment that does not read, or an expression that fails on a value.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, QueryError> {
        self.stream.next().await.transpose().map_err(QueryError::Failed)
    }
}

fn refused(error: &DataFusionError) -> QueryError {
    let problem = error.strip_backtrace();
    let help = match &problem {
        text if text.contains("not supported: ") || text.contains("DDL") || text.contains("DML") => {
            "; a journal is only read: ask with SELECT".to_owned()
        }
        text if text.contains("No field named") => String::new(),
        _ => format!("; the tables are {}, and `DESCRIBE decisions` lists the columns of one", TABLES.join(", ")),
    };
    QueryError::Query(format!("{problem}{help}"))
}

/// The names of a kind's columns, each with a prefix.
fn columns<E: Event>(prefix: &str) -> String {
    let names = E::columns().fields().iter().map(|field| format!("{prefix}\"{}\"", field.name()));
    names.collect::<Vec<_>>().join(", ")
}

/// The events of a kind, each once: the first of those that have its id.
fn once<E: Event>(id: &str) -> String {
    let (kind, columns) = (E::KIND, columns::<E>(""));
    format!(
        "(SELECT {columns} FROM (SELECT *, row_number() OVER (PARTITION BY {id} ORDER BY \"time\") AS copy FROM {kind})
          WHERE copy = 1)"
    )
}

fn joined() -> String {
    let (decisions, feedback) = (once::<Decision>("decision_id"), once::<Feedback>("feedback_id"));
    let shown = columns::<Decision>("d.");
    format!(
        "CREATE VIEW joined AS
         SELECT {shown}, f.feedback_id, f.\"time\" AS feedback_time, f.occurred, f.event, f.value, f.item AS feedback_item,
                f.\"position\" AS feedback_position
         FROM {decisions} d LEFT JOIN {feedback} f ON f.decision_id = d.decision_id"
    )
}

fn slates() -> String {
    let (decisions, feedback) = (once::<Decision>("decision_id"), once::<Feedback>("feedback_id"));
    let of_slate = OF_SLATE.split(", ").map(|name| format!("s.{name}")).collect::<Vec<_>>().join(", ");
    let of_item = "s.\"position\", s.item, s.cascade_propensity, s.marginal_propensity";
    format!(
        "CREATE VIEW slates AS
         SELECT {of_slate}, {of_item}, count(f.feedback_id) AS feedback,
                count(f.feedback_id) FILTER (WHERE f.event = 'click') AS clicks
         FROM (SELECT {OF_SLATE}, shown['position'] AS \"position\", shown['item'] AS item,
                      shown['cascade_propensity'] AS cascade_propensity,
                      shown['marginal_propensity'] AS marginal_propensity
               FROM (SELECT {OF_SLATE}, unnest(slate) AS shown FROM {decisions})) s
         LEFT JOIN {feedback} f
         ON f.decision_id = s.decision_id
            AND (f.item = s.item OR (f.item IS NULL AND f.\"position\" = s.\"position\"))
         GROUP BY {of_slate}, {of_item}"
    )
}

/// The events of a kind with all columns, of which only those that a query needs are read.
#[derive(Debug)]
struct EventTable<E> {
    dates: Vec<DateSegments>,
    kind: std::marker::PhantomData<E>,
}

impl<E: Event> EventTable<E> {
    const fn new(dates: Vec<DateSegments>) -> Self {
        Self { dates, kind: std::marker::PhantomData }
    }
}

#[async_trait]
impl<E: Event + std::fmt::Debug> TableProvider for EventTable<E> {
    fn schema(&self) -> SchemaRef {
        Arc::clone(E::columns())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Planned<Arc<dyn ExecutionPlan>> {
        let fields = E::columns().fields();
        let needed: Vec<&str> = match projection {
            Some(projection) => projection.iter().map(|&index| fields[index].name().as_str()).collect(),
            None => fields.iter().map(|field| field.name().as_str()).collect(),
        };
        // A batch without columns has no rows either; the id is narrow.
        let nothing = needed.is_empty();
        let read = if nothing { vec![fields[0].name().as_str()] } else { needed };
        let table = table::<E>(&self.dates, &read)?;
        table.scan(state, nothing.then(Vec::new).as_ref(), filters, limit).await
    }
}
