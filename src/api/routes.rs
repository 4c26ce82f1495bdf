//! `POST /policies/{name}/route`.

use axum::extract::State;
use axum::{Extension, Json};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use slated_contract::event::check_identifier;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::body::{self, JsonBody};
use super::url::PathOf;
use super::{App, Problem};
use crate::access::Caller;
use crate::serving::traffic::{Action, Reason, Route};

/// A change of a policy's route.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct RouteRequest {
    /// What to change.
    #[serde(flatten, deserialize_with = "by_name")]
    pub change: Action,
    /// Who asks for it; kept in the journal.
    pub by: String,
    /// Why; kept in the journal.
    pub why: String,
    /// The change's id in the journal; one is made where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change_id: Option<String>,
}

fn by_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Action, D::Error> {
    body::named("action", Value::deserialize(deserializer)?)
}

/// What is described of every change.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described, never made")]
struct AnyChange {
    /// Who asks for it; kept in the journal.
    #[schema(example = "anna", min_length = 1, max_length = 256, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
    by: String,
    /// Why; kept in the journal.
    #[schema(
        example = "version 2 won the offline evaluation",
        min_length = 1,
        max_length = 256,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]+$"
    )]
    why: String,
    /// The change's id in the journal; one is made where absent. A change that is asked for again with its id is journalled
    /// once.
    #[schema(example = "autopilot-12", min_length = 1, max_length = 256, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
    change_id: Option<String>,
}

impl PartialSchema for RouteRequest {
    /// By hand, because a description of the action beside the rest could not say that there is nothing else.
    fn schema() -> RefOr<Schema> {
        let RefOr::T(Schema::OneOf(mut actions)) = Action::schema() else { return Action::schema() };
        let RefOr::T(Schema::Object(any)) = AnyChange::schema() else { return AnyChange::schema() };
        for action in &mut actions.items {
            let RefOr::T(Schema::Object(action)) = action else { continue };
            action.required.extend(any.required.iter().cloned());
            action.properties.extend(any.properties.clone());
        }
        actions.description = Some("A change of a policy's route.".to_owned());
        RefOr::T(Schema::OneOf(actions))
    }
}

impl ToSchema for RouteRequest {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        // What the actions refer to.
        Action::schemas(schemas);
    }
}

/// The route in force.
#[derive(Debug, Serialize, ToSchema)]
pub struct RouteResponse {
    /// The policy.
    #[schema(example = "open-bandit")]
    pub policy: String,
    /// Its route.
    pub route: Route,
}

/// Change which versions answer
///
/// Promote, roll back, split, start a canary, shadow or apprentice. Every version that the new route needs is loaded
/// and proven first; where one is refused, nothing changes.
#[utoipa::path(
    post,
    path = "/policies/{name}/route",
    tag = "policies",
    params(("name" = String, Path, description = "The policy's name", example = "open-bandit")),
    request_body = RouteRequest,
    responses(
        (status = 200, description = "The route is in force, in the journal, and kept over restarts", body = RouteResponse),
        (status = 404, description = "No such policy is live", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The change is none, or a version was refused; the route is what it was", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The journal cannot keep the change now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn change(
    State(app): State<App>,
    caller: Option<Extension<Caller>>,
    PathOf(name): PathOf<String>,
    JsonBody(request): JsonBody<RouteRequest>,
) -> Result<Json<RouteResponse>, Problem> {
    let texts = [("by", Some(&request.by)), ("why", Some(&request.why)), ("change_id", request.change_id.as_ref())];
    for (field, text) in texts.into_iter().filter_map(|(field, text)| Some((field, text?))) {
        check_identifier(text).map_err(|error| Problem::identifier(field, &error))?;
    }
    // Whoever the request says it is, the key is whose it is.
    let by = match caller {
        Some(Extension(Caller(key))) => format!("{} (key {key})", request.by),
        None => request.by,
    };
    let reason = Reason { by, why: request.why, id: request.change_id };
    let route = app.traffic.change(&name, request.change, reason).await?;
    Ok(Json(RouteResponse { policy: name, route }))
}
