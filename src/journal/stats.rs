//! What a journal holds, counted.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use slated_contract::event::{Decision, Event, Feedback, RouteChange, SegmentError, segment_version, segments};
use slated_trainer::dataset::{JournalQuery, QueryError, local};
use thiserror::Error;

use super::upkeep::{ForgottenRecord, forgotten};

/// A journal that cannot be counted.
#[derive(Debug, Error)]
pub enum StatsError {
    /// The journal.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A segment.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// A count that has another form than it was asked in, which would be a defect.
    #[error("the counts do not read: {0}")]
    Counts(#[from] serde_arrow::Error),
}

impl StatsError {
    /// Whether whoever asked can put it right by asking otherwise.
    #[must_use]
    pub const fn is_input(&self) -> bool {
        matches!(self, Self::Query(error) if error.is_input())
    }
}

/// What is in the closed segments of a journal.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JournalStats {
    /// By kind of event.
    pub kinds: Vec<KindStats>,
    /// By kind and UTC date.
    pub dates: Vec<DateStats>,
    /// By kind and what wrote the events.
    pub sources: Vec<SourceStats>,
    /// By policy and version.
    pub policies: Vec<PolicyStats>,
    /// By type of feedback event.
    pub feedback: Vec<FeedbackStats>,
    /// How many decisions no evaluation may weigh by their propensities, by why.
    pub not_evaluable: Vec<NotEvaluable>,
    /// Feedback events about a decision that is here, a decision; each counted once.
    pub feedback_per_decision: f64,
    /// The waiting time beyond which feedback counts as late, in seconds.
    pub late_after_seconds: f64,
    /// What was removed on behalf of persons.
    pub forgotten: Vec<ForgottenRecord>,
}

/// The events of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KindStats {
    /// The kind.
    pub kind: &'static str,
    /// Events, those given twice included.
    pub events: u64,
    /// Of these, those whose id another event has already.
    pub duplicates: u64,
    /// Segment files.
    pub segments: u64,
    /// Their size.
    pub bytes: u64,
    /// Files by the version of the schema that they were written with; `unknown` where another writer did not say, `damaged`
    /// where the file does not.
    pub schema_versions: BTreeMap<String, u64>,
    /// The time of the first event.
    pub earliest: Option<DateTime<Utc>>,
    /// The time of the last.
    pub latest: Option<DateTime<Utc>>,
}

/// The events of one kind and date.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DateStats {
    /// The date, `YYYY-MM-DD`.
    pub date: String,
    /// The kind.
    pub kind: &'static str,
    /// How many.
    pub events: u64,
}

/// The events of one kind from one writer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceStats {
    /// The kind.
    pub kind: &'static str,
    /// What wrote them.
    pub source: String,
    /// How many.
    pub events: u64,
}

/// The decisions of a policy's version, those given twice included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyStats {
    /// The policy.
    pub policy: String,
    /// Its version.
    pub policy_version: i64,
    /// Its decisions.
    pub decisions: u64,
    /// Of these, those that no evaluation may weigh.
    pub not_evaluable: u64,
    /// The mean propensity of the whole slate, over those that may be weighed.
    pub mean_propensity: Option<f64>,
    /// The effective sample size of weighing by the inverse propensities w = 1/p, as a share of the decisions:
    /// (sum w)^2 / (n sum w^2). 1 where all propensities are alike; a small share says that few decisions would carry an
    /// evaluation of a policy that spreads its slates more evenly.
    pub effective_share: Option<f64>,
}

/// The feedback events of one type, each counted once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeedbackStats {
    /// The type.
    pub event: String,
    /// How many.
    pub events: u64,
    /// Their mean value.
    pub mean_value: f64,
    /// Of these, those about no decision that is here.
    pub orphans: u64,
    /// Those that happened later after the decision than the waiting time.
    pub late: u64,
    /// The median time from decision to event, in seconds; approximate.
    pub median_delay_seconds: Option<f64>,
    /// The 99th percentile of that time; approximate.
    pub p99_delay_seconds: Option<f64>,
}

/// Decisions that no evaluation may weigh, for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotEvaluable {
    /// Why.
    pub reason: String,
    /// How many.
    pub decisions: u64,
}

/// Counts the closed segments of a journal, a folder or an address in an object store. Feedback is late beyond
/// `late_after_seconds`; counting spills to disk beyond `memory_limit_mib`.
///
/// # Errors
/// A journal that does not read or has no segments.
pub async fn stats(
    journal: &Path,
    late_after_seconds: f64,
    memory_limit_mib: usize,
) -> Result<JournalStats, StatsError> {
    let folder = local(journal, None).await.map_err(QueryError::from)?;
    let counting = Counting { query: JournalQuery::open(&folder, None, memory_limit_mib).await? };
    let kinds = vec![
        counting.kind::<Decision>(&folder, "decision_id").await?,
        counting.kind::<Feedback>(&folder, "feedback_id").await?,
        counting.kind::<RouteChange>(&folder, "change_id").await?,
    ];
    let feedback: Vec<FeedbackStats> = counting.rows(&feedback_query(late_after_seconds)).await?;
    let about: u64 = feedback.iter().map(|feedback| feedback.events - feedback.orphans).sum();
    let decisions = kinds[0].events - kinds[0].duplicates;
    Ok(JournalStats {
        dates: counting.dates().await?,
        sources: counting.sources().await?,
        policies: counting.rows(POLICIES).await?,
        not_evaluable: counting.rows(NOT_EVALUABLE).await?,
        feedback_per_decision: if decisions == 0 { 0.0 } else { about as f64 / decisions as f64 },
        kinds,
        feedback,
        late_after_seconds,
        forgotten: forgotten(&folder)?,
    })
}

const POLICIES: &str = "
    SELECT policy, policy_version, count(*) AS decisions, count(not_evaluable) AS not_evaluable,
           avg(p) AS mean_propensity, sum(1 / p) * sum(1 / p) / (count(p) * sum(1 / p / p)) AS effective_share
    FROM (SELECT policy, policy_version, not_evaluable,
                 CASE WHEN not_evaluable IS NULL AND propensity > 0 THEN propensity END AS p FROM decisions)
    GROUP BY policy, policy_version ORDER BY policy, policy_version";

const NOT_EVALUABLE: &str = "
    SELECT not_evaluable AS reason, count(*) AS decisions FROM decisions
    WHERE not_evaluable IS NOT NULL GROUP BY not_evaluable ORDER BY decisions DESC, reason";

fn feedback_query(late_after_seconds: f64) -> String {
    format!(
        "SELECT event, count(*) AS events, avg(value) AS mean_value, count(*) FILTER (WHERE orphan) AS orphans,
                count(*) FILTER (WHERE delay > {late_after_seconds:?}) AS late,
                approx_percentile_cont(delay, 0.5) AS median_delay_seconds,
                approx_percentile_cont(delay, 0.99) AS p99_delay_seconds
         FROM (SELECT f.event, f.value, d.decision_id IS NULL AS orphan,
                      (CAST(f.occurred AS BIGINT) - CAST(d.\"time\" AS BIGINT)) / 1e6 AS delay
               FROM (SELECT feedback_id, min(decision_id) AS decision_id, min(event) AS event, min(value) AS value,
                            min(occurred) AS occurred
                     FROM feedback GROUP BY feedback_id) f
               LEFT JOIN (SELECT decision_id, min(\"time\") AS \"time\" FROM decisions GROUP BY decision_id) d
               ON d.decision_id = f.decision_id)
         GROUP BY event ORDER BY event"
    )
}

struct Counting {
    query: JournalQuery,
}

#[derive(Deserialize)]
struct Extent {
    events: u64,
    earliest: Option<i64>,
    latest: Option<i64>,
}

#[derive(Deserialize)]
struct Count {
    name: String,
    events: u64,
}

impl Counting {
    async fn rows<T: DeserializeOwned>(&self, query: &str) -> Result<Vec<T>, StatsError> {
        let mut answer = self.query.sql(query).await?;
        let mut rows = Vec::new();
        while let Some(batch) = answer.next().await? {
            rows.extend(serde_arrow::from_record_batch::<Vec<T>>(&batch)?);
        }
        Ok(rows)
    }

    async fn kind<E: Event>(&self, folder: &Path, id: &'static str) -> Result<KindStats, StatsError> {
        let kind = E::KIND;
        let extent = format!(
            "SELECT count(*) AS events, CAST(min(\"time\") AS BIGINT) AS earliest,
                    CAST(max(\"time\") AS BIGINT) AS latest FROM {kind}"
        );
        // Unlike `count(DISTINCT id)`, this spills.
        let distinct = format!("SELECT '' AS name, count(*) AS events FROM (SELECT {id} FROM {kind} GROUP BY {id})");
        let extent = self.rows::<Extent>(&extent).await?.pop();
        let Extent { events, earliest, latest } = extent.unwrap_or(Extent { events: 0, earliest: None, latest: None });
        let distinct = self.rows::<Count>(&distinct).await?.pop().map_or(0, |count| count.events);
        let (mut files, mut bytes, mut schema_versions) = (0, 0, BTreeMap::new());
        for path in segments::<E>(folder)?.iter().flat_map(|date| &date.files) {
            files += 1;
            bytes += path.metadata().map_err(|error| SegmentError::at(path)(error.to_string()))?.len();
            let version = match segment_version(path) {
                Ok(Some(version)) => version.to_string(),
                Ok(None) => "unknown".to_owned(),
                // The events of such a file are passed over, and it is named in the log.
                Err(_) => "damaged".to_owned(),
            };
            *schema_versions.entry(version).or_default() += 1;
        }
        Ok(KindStats {
            kind,
            events,
            duplicates: events - distinct,
            segments: files,
            bytes,
            schema_versions,
            earliest: earliest.and_then(DateTime::from_timestamp_micros),
            latest: latest.and_then(DateTime::from_timestamp_micros),
        })
    }

    async fn dates(&self) -> Result<Vec<DateStats>, StatsError> {
        let counts = self.counts("CAST(CAST(\"time\" AS DATE) AS VARCHAR)").await?;
        let date = |(kind, Count { name: date, events })| DateStats { date, kind, events };
        Ok(counts.into_iter().map(date).collect())
    }

    async fn sources(&self) -> Result<Vec<SourceStats>, StatsError> {
        let counts = self.counts("source").await?;
        let source = |(kind, Count { name: source, events })| SourceStats { kind, source, events };
        Ok(counts.into_iter().map(source).collect())
    }

    async fn counts(&self, by: &str) -> Result<Vec<(&'static str, Count)>, StatsError> {
        let mut counts = Vec::new();
        for kind in [Decision::KIND, Feedback::KIND, RouteChange::KIND] {
            let query = format!("SELECT {by} AS name, count(*) AS events FROM {kind} GROUP BY 1 ORDER BY 1");
            counts.extend(self.rows::<Count>(&query).await?.into_iter().map(|count| (kind, count)));
        }
        Ok(counts)
    }
}

impl fmt::Display for JournalStats {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let time = |time: Option<DateTime<Utc>>| {
            time.map_or_else(|| "-".to_owned(), |time| time.format("%Y-%m-%d %H:%M:%S").to_string())
        };
        let number = |number: Option<f64>| number.map_or_else(|| "-".to_owned(), |number| format!("{number:.4}"));
        writeln!(
            formatter,
            "{:10} {:>10} {:>10} {:>8} {:>14}  {:19}  {:19}  schema",
            "kind", "events", "duplicates", "segments", "bytes", "earliest", "latest"
        )?;
        for KindStats { kind, events, duplicates, segments, bytes, schema_versions, earliest, latest } in &self.kinds {
            let versions: Vec<String> =
                schema_versions.iter().map(|(version, files)| format!("{version} ({files})")).collect();
            writeln!(
                formatter,
                "{kind:10} {events:>10} {duplicates:>10} {segments:>8} {bytes:>14}  {:19}  {:19}  {}",
                time(*earliest),
                time(*latest),
                versions.join(", ")
            )?;
        }
        writeln!(formatter, "\n{:10} {:24} {:>10}", "kind", "source", "events")?;
        for SourceStats { kind, source, events } in &self.sources {
            writeln!(formatter, "{kind:10} {source:24} {events:>10}")?;
        }
        writeln!(formatter, "\n{:10} {:24} {:>10}", "kind", "date", "events")?;
        for DateStats { date, kind, events } in &self.dates {
            writeln!(formatter, "{kind:10} {date:24} {events:>10}")?;
        }
        writeln!(
            formatter,
            "\n{:35} {:>10} {:>13} {:>10} {:>10}",
            "policy and version", "decisions", "not evaluable", "propensity", "effective"
        )?;
        for policy in &self.policies {
            writeln!(
                formatter,
                "{:35} {:>10} {:>13} {:>10} {:>10}",
                format!("{} {}", policy.policy, policy.policy_version),
                policy.decisions,
                policy.not_evaluable,
                number(policy.mean_propensity),
                number(policy.effective_share),
            )?;
        }
        writeln!(
            formatter,
            "\n{:24} {:>10} {:>12} {:>10} {:>10} {:>12} {:>12}",
            "feedback", "events", "mean value", "orphans", "late", "median delay", "99% delay"
        )?;
        for feedback in &self.feedback {
            writeln!(
                formatter,
                "{:24} {:>10} {:>12.4} {:>10} {:>10} {:>12} {:>12}",
                feedback.event,
                feedback.events,
                feedback.mean_value,
                feedback.orphans,
                feedback.late,
                number(feedback.median_delay_seconds),
                number(feedback.p99_delay_seconds),
            )?;
        }
        write!(
            formatter,
            "{:.4} feedback events a decision; late after {} s",
            self.feedback_per_decision, self.late_after_seconds
        )?;
        for NotEvaluable { reason, decisions } in &self.not_evaluable {
            write!(formatter, "\nnot evaluable {decisions:>10}  {reason}")?;
        }
        for ForgottenRecord { time, by, why, decisions, feedback, .. } in &self.forgotten {
            let time = time.format("%Y-%m-%d %H:%M:%S");
            write!(formatter, "\nforgotten {time} by {by}: {decisions} decisions, {feedback} feedback events ({why})")?;
        }
        Ok(())
    }
}
