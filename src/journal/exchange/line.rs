//! Events as JSON objects: the columns of their kind, with features as plain objects and times in RFC 3339.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use slated_contract::event::{Alternative, Candidate, Decision, Event, Feedback, Mode, RouteChange, Shown};
use slated_contract::feature::Features;

/// An event that is written as a JSON object and read from one.
pub trait Line: Event {
    /// Writes the object.
    ///
    /// # Errors
    /// Those of the serializer.
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;

    /// Reads the object.
    ///
    /// # Errors
    /// A key that is missing, unknown, or holds what it may not.
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

/// An event, to be serialized as [`Line::write`] does.
#[derive(Debug)]
pub struct Written<'a, E>(pub &'a E);

impl<E: Line> Serialize for Written<'_, E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.write(serializer)
    }
}

impl Line for Decision {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        DecisionLine::serialize(self, serializer)
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        DecisionLine::deserialize(deserializer)
    }
}

impl Line for Feedback {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        FeedbackLine::serialize(self, serializer)
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        FeedbackLine::deserialize(deserializer)
    }
}

impl Line for RouteChange {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ChangeLine::serialize(self, serializer)
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ChangeLine::deserialize(deserializer)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Decision", deny_unknown_fields)]
struct DecisionLine {
    decision_id: String,
    #[serde(with = "micros")]
    time: DateTime<Utc>,
    source: String,
    policy: String,
    policy_version: i64,
    #[serde(default)]
    model_sha256: Option<String>,
    #[serde(default)]
    exploration: Option<String>,
    #[serde(default)]
    seed: Option<i64>,
    #[serde(default)]
    user_id: Option<String>,
    #[serde(default)]
    session_id: Option<String>,
    #[serde(default)]
    user: Features,
    #[serde(default)]
    context: Features,
    #[serde(default)]
    session: Features,
    #[serde(with = "candidates")]
    candidates: Vec<Candidate>,
    slate: Vec<Shown>,
    propensity: f64,
    #[serde(default)]
    propensity_draws: Option<i32>,
    #[serde(default)]
    marginal_draws: Option<i32>,
    #[serde(default)]
    mode: Mode,
    #[serde(default)]
    not_evaluable: Option<String>,
    #[serde(default)]
    page_id: Option<String>,
    #[serde(default)]
    slot: Option<String>,
    #[serde(default)]
    rules: Option<String>,
    #[serde(default)]
    baseline: Vec<String>,
    #[serde(default)]
    catalogue_version: Option<i64>,
    #[serde(default)]
    alternatives: Vec<Alternative>,
    #[serde(default)]
    omitted_features: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Candidate", deny_unknown_fields)]
struct CandidateLine {
    item: String,
    #[serde(default)]
    features: Features,
    #[serde(default)]
    score: Option<f32>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Feedback", deny_unknown_fields)]
struct FeedbackLine {
    feedback_id: String,
    decision_id: String,
    #[serde(with = "micros")]
    time: DateTime<Utc>,
    #[serde(with = "micros")]
    occurred: DateTime<Utc>,
    source: String,
    event: String,
    value: f64,
    #[serde(default)]
    item: Option<String>,
    #[serde(default)]
    position: Option<i32>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "RouteChange", deny_unknown_fields)]
struct ChangeLine {
    change_id: String,
    #[serde(with = "micros")]
    time: DateTime<Utc>,
    source: String,
    policy: String,
    action: String,
    before: String,
    after: String,
    by: String,
    why: String,
}

/// Lists of candidates.
mod candidates {
    use super::{Candidate, CandidateLine, Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize)]
    struct Written<'a>(#[serde(with = "CandidateLine")] &'a Candidate);

    #[derive(Deserialize)]
    struct Read(#[serde(with = "CandidateLine")] Candidate);

    #[expect(clippy::ptr_arg, reason = "serde gives the field as it is")]
    pub fn serialize<S: Serializer>(candidates: &Vec<Candidate>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(candidates.iter().map(Written))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Candidate>, D::Error> {
        Ok(Vec::<Read>::deserialize(deserializer)?.into_iter().map(|Read(candidate)| candidate).collect())
    }
}

/// Times in RFC 3339, to the microsecond.
mod micros {
    use super::{DateTime, Deserialize, Deserializer, Serializer, Utc};
    use chrono::SecondsFormat;

    pub fn serialize<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&time.to_rfc3339_opts(SecondsFormat::Micros, true))
    }

    /// What is finer than the journal's microseconds is cut off.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DateTime<Utc>, D::Error> {
        let time = DateTime::<Utc>::deserialize(deserializer)?;
        DateTime::from_timestamp_micros(time.timestamp_micros()).ok_or_else(super::out_of_range)
    }
}

fn out_of_range<E: serde::de::Error>() -> E {
    E::custom("the time is out of range")
}
