//! `POST /feedback`.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, SubsecRound, Utc};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use slated_contract::event::{Feedback, check_event_type, check_identifier};
use std::fmt;
use utoipa::ToSchema;

use super::body::JsonBody;
use super::finish::finish;
use super::{App, Problem};
use crate::access::DecisionIds;
use crate::journal::{Appended, JournalError};
use crate::unique;

/// One event, or an array of them.
#[derive(Debug, ToSchema)]
#[serde(untagged)]
pub enum FeedbackRequest {
    /// One event.
    One(FeedbackEvent),
    /// Several; all are kept or none.
    Many(Vec<FeedbackEvent>),
}

impl<'de> Deserialize<'de> for FeedbackRequest {
    /// By hand, because serde's `untagged` would lose the path of a field at fault.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RequestVisitor;

        impl<'de> Visitor<'de> for RequestVisitor {
            type Value = FeedbackRequest;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("a feedback event, or an array of them")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<FeedbackRequest, A::Error> {
                FeedbackEvent::deserialize(MapAccessDeserializer::new(map)).map(FeedbackRequest::One)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, sequence: A) -> Result<FeedbackRequest, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(sequence)).map(FeedbackRequest::Many)
            }
        }

        deserializer.deserialize_any(RequestVisitor)
    }
}

/// What came of a decision.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FeedbackEvent {
    /// The caller's id of this event, at most 256 characters: the same id again is the same event and counts once. The
    /// service makes a UUIDv7 where absent.
    #[schema(example = "click-81723-1", min_length = 1, max_length = 256, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
    #[serde(default)]
    pub feedback_id: Option<String>,
    /// The decision it is about. It need not be known to this replica, or yet.
    #[schema(example = "page-view-81723", min_length = 1, max_length = 256, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
    pub decision_id: String,
    /// What happened: a lower-case name such as `click`, `dwell` or `purchase`.
    #[schema(example = "click", min_length = 1, max_length = 64, pattern = r"^[a-z][a-z0-9_.-]*$")]
    pub event: String,
    /// How much: 1 for a click, seconds for a dwell, an amount for a purchase.
    #[schema(example = 1.0, default = 1.0)]
    #[serde(default = "one")]
    pub value: f64,
    /// The item it is about. The whole slate where neither item nor position is given.
    #[schema(example = "shirt-2", min_length = 1, max_length = 256, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
    #[serde(default)]
    pub item: Option<String>,
    /// The position it is about, from 0.
    #[schema(example = 0, minimum = 0, maximum = 2147483647)]
    #[serde(default, deserialize_with = "whole")]
    pub position: Option<i32>,
    /// When it happened, RFC 3339; now where absent.
    #[schema(example = "2026-01-31T12:00:00Z")]
    #[serde(default)]
    pub time: Option<DateTime<Utc>>,
}

const fn one() -> f64 {
    1.0
}

/// Reads a whole number, also where it is written as `3.0`, which JSON Schema counts among the integers.
fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i32>, D::Error> {
    let Some(number) = Option::<f64>::deserialize(deserializer)? else { return Ok(None) };
    if number.fract() == 0.0 && (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&number) {
        Ok(Some(number as i32))
    } else {
        Err(D::Error::custom(format_args!("is {number}, which is no position")))
    }
}

/// What became of the events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FeedbackResponse {
    /// How many were new, and are now kept.
    #[schema(example = 1)]
    pub accepted: usize,
    /// How many were known already.
    #[schema(example = 0)]
    pub duplicates: usize,
    /// The ids of all, in the order in which they came.
    #[schema(example = json!(["click-81723-1"]))]
    pub feedback_ids: Vec<String>,
}

/// Report what came of a decision
///
/// Answered once the events are in the journal. They may come late, twice, or before their decision, and to any
/// replica.
#[utoipa::path(
    post,
    path = "/feedback",
    tag = "recommend",
    request_body = FeedbackRequest,
    responses(
        (status = 200, description = "The events are kept", body = FeedbackResponse),
        (status = 503, description = "The journal cannot keep events now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn feedback(
    State(app): State<App>,
    JsonBody(request): JsonBody<FeedbackRequest>,
) -> Result<Json<FeedbackResponse>, Problem> {
    let now = Utc::now().trunc_subsecs(6);
    let events = match request {
        FeedbackRequest::One(event) => vec![check(event, "", now, &app.ids)?],
        FeedbackRequest::Many(events) => {
            let most = app.settings.max_feedback_batch;
            if events.len() > most {
                return Err(Problem::invalid(
                    "(array)",
                    format!("has {} events, at most {most} are allowed", events.len()),
                ));
            }
            let check = |(index, event)| check(event, &format!("[{index}]."), now, &app.ids);
            events.into_iter().enumerate().map(check).collect::<Result<Vec<_>, _>>()?
        }
    };
    let (events, outcomes) = record(&app, events).await?;
    let accepted = outcomes.iter().filter(|outcome| **outcome == Appended::New).count();
    Ok(Json(FeedbackResponse {
        accepted,
        duplicates: outcomes.len() - accepted,
        feedback_ids: events.into_iter().map(|event| event.feedback_id).collect(),
    }))
}

/// Journals events, and tells the sessions of those that are new, even where the caller is gone by then.
pub(super) async fn record(app: &App, events: Vec<Feedback>) -> Result<(Vec<Feedback>, Vec<Appended>), Problem> {
    let app = app.clone();
    let recorded = finish(async move {
        let outcomes = app.journal.append_feedback(&events).await?;
        for (event, _) in events.iter().zip(&outcomes).filter(|(_, outcome)| **outcome == Appended::New) {
            app.recommender.responded(event).await;
        }
        Ok::<_, JournalError>((events, outcomes))
    });
    let (events, outcomes) = recorded.await?;
    for outcome in &outcomes {
        let label = if *outcome == Appended::New { "new" } else { "duplicate" };
        metrics::counter!("slated_feedback_total", "outcome" => label).increment(1);
    }
    Ok((events, outcomes))
}

fn check(event: FeedbackEvent, prefix: &str, now: DateTime<Utc>, ids: &DecisionIds) -> Result<Feedback, Problem> {
    let field = |name: &str| format!("{prefix}{name}");
    for (name, id) in
        [("feedback_id", &event.feedback_id), ("decision_id", &Some(event.decision_id.clone())), ("item", &event.item)]
    {
        if let Some(id) = id {
            check_identifier(id).map_err(|error| Problem::identifier(field(name), &error))?;
        }
    }
    ids.check(&event.decision_id).map_err(|error| Problem::invalid(field("decision_id"), error.to_string()))?;
    check_event_type(&event.event).map_err(|error| Problem::identifier(field("event"), &error))?;
    if !event.value.is_finite() {
        return Err(Problem::invalid(field("value"), "must be finite"));
    }
    if event.position.is_some_and(|position| position < 0) {
        return Err(Problem::invalid(field("position"), "counts from 0"));
    }
    Ok(Feedback {
        feedback_id: event.feedback_id.unwrap_or_else(|| unique::by_time().to_string()),
        decision_id: event.decision_id,
        time: now,
        occurred: event.time.map_or(now, |time| time.trunc_subsecs(6)),
        source: "service".to_owned(),
        event: event.event,
        value: event.value,
        item: event.item,
        position: event.position,
    })
}
