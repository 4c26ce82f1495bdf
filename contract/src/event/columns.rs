//! The journal's columns: events to and from Arrow record batches, and so Parquet.

use std::sync::{Arc, LazyLock};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::{Decision, Feedback, RouteChange, build, rows};

/// A kind of event that the journal keeps.
pub trait Event: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// The name of its folder in the journal: `decisions`, `feedback` or `changes`.
    const KIND: &'static str;

    /// Its columns.
    fn columns() -> &'static SchemaRef;

    /// Its unique id.
    fn id(&self) -> &str;

    /// When it was received; decides the date folder it goes to.
    fn time(&self) -> DateTime<Utc>;

    /// Events as a record batch with the columns of their kind.
    ///
    /// # Errors
    /// Events that do not fit, such as texts of over 2 GiB together.
    fn encode(events: &[Self]) -> Result<RecordBatch, ColumnsError> {
        let columns = Self::columns();
        let batch = serde_arrow::to_record_batch(columns.fields(), &events).map_err(ColumnsError::of::<Self>)?;
        batch.with_schema(Arc::clone(columns)).map_err(ColumnsError::of::<Self>)
    }

    /// The events of a record batch.
    ///
    /// # Errors
    /// A batch that lacks a column, or holds values that are no event's.
    fn decode(batch: &RecordBatch) -> Result<Vec<Self>, ColumnsError> {
        serde_arrow::from_record_batch(batch).map_err(ColumnsError::of::<Self>)
    }

    /// What events are ordered by, within a segment and over the journal.
    fn order(&self) -> (DateTime<Utc>, &str) {
        (self.time(), self.id())
    }
}

/// Events that do not fit their columns, or columns that do not hold events.
#[derive(Debug, Error)]
#[error("{kind}: {source}")]
pub struct ColumnsError {
    kind: &'static str,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl ColumnsError {
    fn of<E: Event>(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { kind: E::KIND, source: source.into() }
    }
}

impl Event for Decision {
    const KIND: &'static str = "decisions";

    fn columns() -> &'static SchemaRef {
        &DECISION
    }

    fn id(&self) -> &str {
        &self.decision_id
    }

    fn time(&self) -> DateTime<Utc> {
        self.time
    }

    fn encode(events: &[Self]) -> Result<RecordBatch, ColumnsError> {
        build::batch(events).map_err(ColumnsError::of::<Self>)
    }

    fn decode(batch: &RecordBatch) -> Result<Vec<Self>, ColumnsError> {
        rows::decisions(batch).map_err(ColumnsError::of::<Self>)
    }
}

impl Event for Feedback {
    const KIND: &'static str = "feedback";

    fn columns() -> &'static SchemaRef {
        &FEEDBACK
    }

    fn id(&self) -> &str {
        &self.feedback_id
    }

    fn time(&self) -> DateTime<Utc> {
        self.time
    }
}

impl Event for RouteChange {
    const KIND: &'static str = "changes";

    fn columns() -> &'static SchemaRef {
        &CHANGE
    }

    fn id(&self) -> &str {
        &self.change_id
    }

    fn time(&self) -> DateTime<Utc> {
        self.time
    }
}

/// The columns of a kind of event.
#[must_use]
pub fn schema<E: Event>() -> SchemaRef {
    Arc::clone(E::columns())
}

static DECISION: LazyLock<SchemaRef> = LazyLock::new(|| {
    let candidate = [text("item"), features("features"), optional(field("score", DataType::Float32))];
    let shown = [
        text("item"),
        field("position", DataType::Int32),
        field("cascade_propensity", DataType::Float64),
        field("marginal_propensity", DataType::Float64),
    ];
    let alternative = [
        text("policy"),
        field("policy_version", DataType::Int64),
        text("model_sha256"),
        list("slate", text("element")),
        field("propensity", DataType::Float64),
        optional(field("shown_propensity", DataType::Float64)),
        field("agreement", DataType::Float64),
    ];
    Arc::new(Schema::new(vec![
        text("decision_id"),
        time("time"),
        text("source"),
        text("policy"),
        field("policy_version", DataType::Int64),
        optional(text("model_sha256")),
        optional(text("exploration")),
        optional(field("seed", DataType::Int64)),
        optional(text("user_id")),
        optional(text("session_id")),
        features("user"),
        features("context"),
        features("session"),
        list("candidates", field("element", DataType::Struct(Fields::from(candidate.to_vec())))),
        list("slate", field("element", DataType::Struct(Fields::from(shown.to_vec())))),
        field("propensity", DataType::Float64),
        optional(field("propensity_draws", DataType::Int32)),
        optional(field("marginal_draws", DataType::Int32)),
        text("mode"),
        optional(text("not_evaluable")),
        optional(text("page_id")),
        optional(text("slot")),
        optional(text("rules")),
        list("baseline", text("element")),
        optional(field("catalogue_version", DataType::Int64)),
        list("alternatives", field("element", DataType::Struct(Fields::from(alternative.to_vec())))),
        list("omitted_features", text("element")),
    ]))
});

static FEEDBACK: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        text("feedback_id"),
        text("decision_id"),
        time("time"),
        time("occurred"),
        text("source"),
        text("event"),
        field("value", DataType::Float64),
        optional(text("item")),
        optional(field("position", DataType::Int32)),
    ]))
});

static CHANGE: LazyLock<SchemaRef> = LazyLock::new(|| {
    let texts = ["source", "policy", "action", "before", "after", "by", "why"].map(text);
    Arc::new(Schema::new([text("change_id"), time("time")].into_iter().chain(texts).collect::<Vec<_>>()))
});

fn field(name: &str, kind: DataType) -> FieldRef {
    Arc::new(Field::new(name, kind, false))
}

fn optional(field: FieldRef) -> FieldRef {
    Arc::new(field.as_ref().clone().with_nullable(true))
}

fn text(name: &str) -> FieldRef {
    field(name, DataType::Utf8)
}

fn time(name: &str) -> FieldRef {
    field(name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))
}

fn list(name: &str, element: FieldRef) -> FieldRef {
    field(name, DataType::List(element))
}

/// A map from feature name to its cell, of which exactly one field is set.
fn features(name: &str) -> FieldRef {
    let cell = vec![
        optional(field("number", DataType::Float64)),
        optional(text("text")),
        optional(list("vector", field("element", DataType::Float32))),
    ];
    let entry = Fields::from(vec![text("key"), field("value", DataType::Struct(Fields::from(cell)))]);
    field(name, DataType::Map(field("entries", DataType::Struct(entry)), false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Alternative, Candidate, Mode, Shown};
    use crate::feature::{FeatureValue, Features};

    fn decision() -> Decision {
        let mixed: Features =
            [("age", FeatureValue::Number(41.0)), ("city", "Oslo".into()), ("taste", vec![0.5, -1.0].into())]
                .into_iter()
                .collect();
        Decision {
            decision_id: "d-1".to_owned(),
            time: DateTime::from_timestamp_micros(1_600_000_000_123_456).unwrap(),
            source: "service".to_owned(),
            policy: "p".to_owned(),
            policy_version: 3,
            model_sha256: Some("ab".to_owned()),
            exploration: None,
            seed: Some(9_007_199_254_740_991),
            user_id: Some("u".to_owned()),
            session_id: None,
            user: mixed.clone(),
            context: Features::new(),
            session: Features::new(),
            candidates: vec![
                Candidate { item: "a".to_owned(), features: mixed, score: Some(0.25) },
                Candidate { item: "b".to_owned(), features: Features::new(), score: None },
            ],
            slate: vec![Shown {
                item: "b".to_owned(),
                position: 2,
                cascade_propensity: 0.5,
                marginal_propensity: 0.25,
            }],
            propensity: 0.5,
            propensity_draws: Some(100),
            marginal_draws: Some(50),
            mode: Mode::Apprentice,
            not_evaluable: Some("why".to_owned()),
            page_id: Some("page".to_owned()),
            slot: Some("top".to_owned()),
            rules: Some("{}".to_owned()),
            baseline: vec!["b".to_owned(), "a".to_owned()],
            catalogue_version: Some(7),
            alternatives: vec![Alternative {
                policy: "q".to_owned(),
                policy_version: 2,
                model_sha256: "cd".to_owned(),
                slate: vec!["a".to_owned()],
                propensity: 0.125,
                shown_propensity: None,
                agreement: 0.5,
            }],
            omitted_features: vec!["user.name".to_owned()],
        }
    }

    #[test]
    fn decisions_survive_the_columns() {
        let mut other = decision();
        other.candidates.clear();
        other.seed = None;
        let events = vec![decision(), other];
        let batch = Decision::encode(&events).unwrap();
        assert_eq!(&batch.schema(), Decision::columns());
        assert_eq!(Decision::decode(&batch).unwrap(), events);
    }

    #[test]
    fn columns_that_came_later_read_as_empty_from_older_segments() {
        let batch = Decision::encode(&[decision()]).unwrap();
        let version_1 = (0..17).collect::<Vec<_>>();
        assert_eq!(batch.schema().field(16).name(), "propensity_draws");
        let read = Decision::decode(&batch.project(&version_1).unwrap()).unwrap();
        let expected = Decision {
            marginal_draws: None,
            mode: Mode::Policy,
            not_evaluable: None,
            page_id: None,
            slot: None,
            rules: None,
            baseline: Vec::new(),
            catalogue_version: None,
            alternatives: Vec::new(),
            omitted_features: Vec::new(),
            ..decision()
        };
        assert_eq!(read, [expected]);
    }

    #[test]
    fn feedback_survives_the_columns() {
        let feedback = Feedback {
            feedback_id: "f".to_owned(),
            decision_id: "d".to_owned(),
            time: DateTime::from_timestamp_micros(1_600_000_000_000_001).unwrap(),
            occurred: DateTime::from_timestamp_micros(1_500_000_000_000_001).unwrap(),
            source: "service".to_owned(),
            event: "click".to_owned(),
            value: 1.0,
            item: None,
            position: Some(2),
        };
        let batch = Feedback::encode(std::slice::from_ref(&feedback)).unwrap();
        assert_eq!(Feedback::decode(&batch).unwrap(), [feedback]);
    }

    #[test]
    fn a_batch_of_another_kind_is_refused_by_name() {
        let batch = Decision::encode(&[decision()]).unwrap();
        let error = Feedback::decode(&batch).unwrap_err().to_string();
        assert!(error.starts_with("feedback: "), "{error}");
    }
}
