//! `POST /events/{eventId}/reward` and `/activate`.

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use chrono::{DateTime, SubsecRound, Utc};
use serde::Deserialize;
use slated_contract::event::{Feedback, check_identifier, deterministic_id};
use utoipa::{IntoParams, ToSchema};

use super::error::{ErrorResponse, Refusal};
use super::rank::marker;
use crate::api::body::JsonBody;
use crate::api::{App, Problem, feedback};
use crate::compat::{REWARD, UnknownEvents};
use crate::unique;

/// The code of a request that is not valid.
pub const INVALID: &str = "InvalidRewardRequest";
/// The same, of an activation.
pub const INVALID_ACTIVATION: &str = "InvalidEventIdToActivate";
/// The header by which clients name a request, the same when they send it again.
const REQUEST_ID: &str = "x-ms-client-request-id";

/// The event in the path.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct EventPath {
    /// The event's id, as its rank call was answered.
    #[serde(rename = "eventId")]
    #[param(rename = "eventId", example = "75269ad0-bfee-4598-8196-c57383d38e10", max_length = 256)]
    event_id: String,
}

/// Which event is meant.
pub struct At(Result<Path<EventPath>, PathRejection>);

impl<S: Send + Sync> FromRequestParts<S> for At {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(Path::from_request_parts(parts, state).await))
    }
}

impl At {
    /// The event's id; `code` is that of a request that is not valid.
    ///
    /// # Errors
    /// One that cannot be an id.
    pub fn event_id(self, code: &'static str) -> Result<String, Refusal> {
        let refuse = |problem: String| Refusal::of(code, "eventId", problem);
        let Path(EventPath { event_id }) = self.0.map_err(|rejection| refuse(format!("does not read: {rejection}")))?;
        check_identifier(&event_id).map_err(|error| refuse(error.to_string()))?;
        Ok(event_id)
    }
}

/// The reward of an event.
#[derive(Debug, Deserialize, ToSchema)]
pub struct RewardRequest {
    /// The reward, from -1 to 1.
    #[schema(example = 1.0, minimum = -1, maximum = 1)]
    pub value: f64,
}

/// Report the reward of an event
///
/// Of the action that was to be shown. Kept whenever it comes; it counts if it comes within the reward wait time of the rank
/// call, and several count as the reward aggregation says. Sent again with the same `x-ms-client-request-id`, it is one reward.
#[utoipa::path(
    post,
    path = "/events/{eventId}/reward",
    operation_id = "personalizer_reward",
    tag = "compat",
    params(EventPath),
    request_body = RewardRequest,
    responses(
        (status = 204, description = "The reward is in the journal"),
        (status = 400, description = "The request is not valid: `InvalidRewardRequest`", body = ErrorResponse),
        (status = 404, description = "No such event is known: `ResourceNotFound`", body = ErrorResponse),
        (status = 413, description = "The body is too large: `PayloadSizeExceeded`", body = ErrorResponse),
        (status = 415, description = "The body is not declared as JSON", body = ErrorResponse),
        (status = 503, description = "The journal cannot keep rewards now", body = ErrorResponse),
    )
)]
pub async fn reward(
    State(app): State<App>,
    at: At,
    headers: HeaderMap,
    body: Result<JsonBody<RewardRequest>, Problem>,
) -> Result<StatusCode, Refusal> {
    let JsonBody(RewardRequest { value }) = body.map_err(|problem| Refusal::from_problem(problem, INVALID))?;
    let event_id = at.event_id(INVALID)?;
    check_value(value, "value".to_owned())?;
    let decision_id = app.ids.sign(event_id.clone());
    if !known(&app, &decision_id).await? {
        return Err(unknown(&event_id));
    }
    keep(&app, vec![reward_of(&decision_id, value, &headers)]).await
}

/// Say that an event was shown
///
/// Of an event that was ranked with `deferActivation`: from now on it counts, with its reward or the default one.
#[utoipa::path(
    post,
    path = "/events/{eventId}/activate",
    operation_id = "personalizer_activate",
    tag = "compat",
    params(EventPath),
    responses(
        (status = 204, description = "The event counts from now on"),
        (status = 400, description = "The event's id is none: `InvalidEventIdToActivate`", body = ErrorResponse),
        (status = 404, description = "No such event is known: `ResourceNotFound`", body = ErrorResponse),
        (status = 503, description = "The journal cannot keep activations now", body = ErrorResponse),
    )
)]
pub async fn activate(State(app): State<App>, at: At) -> Result<StatusCode, Refusal> {
    let event_id = at.event_id(INVALID_ACTIVATION)?;
    let decision_id = app.ids.sign(event_id.clone());
    if !known(&app, &decision_id).await? {
        return Err(unknown(&event_id));
    }
    keep(&app, vec![marker(&decision_id, Feedback::ACTIVATED, now())]).await
}

/// Now, as the journal keeps it.
pub fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}

/// Checks a reward's value.
pub fn check_value(value: f64, field: String) -> Result<(), Refusal> {
    if (-1.0..=1.0).contains(&value) {
        return Ok(());
    }
    Err(Refusal::of(INVALID, field, format!("is {value}, allowed are -1 to 1")))
}

/// A reward as the journal keeps it: feedback about the item that stands first.
pub fn reward_of(decision_id: &str, value: f64, headers: &HeaderMap) -> Feedback {
    let time = now();
    let request = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).filter(|id| !id.is_empty());
    let feedback_id = match request {
        Some(request) => deterministic_id(DateTime::UNIX_EPOCH, &[REWARD, decision_id, request, &value.to_string()]),
        None => unique::by_time(),
    };
    Feedback {
        feedback_id: feedback_id.to_string(),
        decision_id: decision_id.to_owned(),
        time,
        occurred: time,
        source: "service".to_owned(),
        event: REWARD.to_owned(),
        value,
        item: None,
        position: Some(0),
    }
}

/// Whether an event may be told of: this replica knows it, or takes those that it does not.
pub async fn known(app: &App, decision_id: &str) -> Result<bool, Refusal> {
    if app.compat.settings.unknown_events == UnknownEvents::Accept {
        return Ok(true);
    }
    let (journal, id) = (app.journal.clone(), decision_id.to_owned());
    let known = tokio::task::spawn_blocking(move || journal.knows_decision(&id)).await;
    let known = known.map_err(|error| Refusal::from_problem(Problem::internal(error), INVALID))?;
    known.map_err(|error| Refusal::from_problem(error.into(), INVALID))
}

/// Nothing is known of an event.
pub fn unknown(event_id: &str) -> Refusal {
    Refusal::not_found(format!(
        "no event `{event_id}` was ranked here; with several replicas, set `compat.unknown_events` to \"accept\""
    ))
}

/// Journals feedback, and tells the sessions and the figures of the version.
pub async fn keep(app: &App, events: Vec<Feedback>) -> Result<StatusCode, Refusal> {
    let kept = feedback::record(app, events).await;
    kept.map(|_| StatusCode::NO_CONTENT).map_err(|problem| Refusal::from_problem(problem, INVALID))
}
