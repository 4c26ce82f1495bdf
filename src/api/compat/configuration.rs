//! `/configurations/service` and `/configurations/policy`.

use axum::extract::State;
use axum::{Extension, Json};

use super::error::{ErrorResponse, Refusal};
use crate::access::Caller;
use crate::api::body::JsonBody;
use crate::api::{App, Problem};
use crate::compat::{LearningSettings, ServiceConfiguration};

/// Who asks, for the journal.
pub fn asking(caller: Option<Extension<Caller>>) -> String {
    match caller {
        Some(Extension(Caller(key))) => format!("personalizer (key {key})"),
        None => "personalizer".to_owned(),
    }
}

/// Read the service configuration
///
/// How rewards are read from the journal, how much is explored, and who decides.
#[utoipa::path(
    get,
    path = "/configurations/service",
    operation_id = "personalizer_service_configuration",
    tag = "compat",
    responses(
        (status = 200, description = "What is in force", body = ServiceConfiguration),
        (status = 404, description = "No such version, or the policy is not live: `ResourceNotFound`", body = ErrorResponse),
    )
)]
pub async fn service(State(app): State<App>) -> Result<Json<ServiceConfiguration>, Refusal> {
    Ok(Json(app.compat.configuration()?))
}

/// Change the service configuration
///
/// The reward's definition is what the next training reads the journal by; another exploration goes live as a version of its
/// own; the learning mode changes the policy's route. Each change is in the journal, with who asked for it.
#[utoipa::path(
    put,
    path = "/configurations/service",
    operation_id = "personalizer_put_service_configuration",
    tag = "compat",
    request_body = ServiceConfiguration,
    responses(
        (status = 200, description = "What is in force now", body = ServiceConfiguration),
        (status = 400, description = "A field is refused, and nothing has changed: `InvalidServiceConfiguration`, `InvalidRewardWaitTime`, `InvalidLogRetentionDays` or `InvalidLearningModeServiceConfiguration`", body = ErrorResponse),
        (status = 404, description = "No such version, or the policy is not live: `ResourceNotFound`", body = ErrorResponse),
        (status = 413, description = "The body is too large: `PayloadSizeExceeded`", body = ErrorResponse),
        (status = 415, description = "The body is not declared as JSON", body = ErrorResponse),
        (status = 500, description = "The change cannot be kept: `UpdateConfigurationFailed` or `ModelPublishFailed`", body = ErrorResponse),
        (status = 503, description = "The journal cannot keep the change now", body = ErrorResponse),
    )
)]
pub async fn put_service(
    State(app): State<App>,
    caller: Option<Extension<Caller>>,
    body: Result<JsonBody<ServiceConfiguration>, Problem>,
) -> Result<Json<ServiceConfiguration>, Refusal> {
    let JsonBody(asked) = body.map_err(|problem| Refusal::from_problem(problem, "InvalidServiceConfiguration"))?;
    Ok(Json(app.compat.configure(asked, &asking(caller)).await?))
}

/// Read the learning settings
///
/// Those that the next training learns by.
#[utoipa::path(
    get,
    path = "/configurations/policy",
    operation_id = "personalizer_learning_settings",
    tag = "compat",
    responses(
        (status = 200, description = "What `slated train --personalizer` learns by", body = LearningSettings),
        (status = 404, description = "No such version: `ResourceNotFound`", body = ErrorResponse),
    )
)]
pub async fn policy(State(app): State<App>) -> Json<LearningSettings> {
    Json(app.compat.kept().learning())
}

/// Change the learning settings
///
/// They hold from the next training on.
#[utoipa::path(
    put,
    path = "/configurations/policy",
    operation_id = "personalizer_put_learning_settings",
    tag = "compat",
    request_body = LearningSettings,
    responses(
        (status = 200, description = "What is in force now", body = LearningSettings),
        (status = 400, description = "An argument is not known, and nothing has changed: `InvalidPolicyConfiguration` or `InvalidPolicyContract`", body = ErrorResponse),
        (status = 404, description = "No such version: `ResourceNotFound`", body = ErrorResponse),
        (status = 413, description = "The body is too large: `PayloadSizeExceeded`", body = ErrorResponse),
        (status = 415, description = "The body is not declared as JSON", body = ErrorResponse),
        (status = 500, description = "The change cannot be kept: `UpdateConfigurationFailed`", body = ErrorResponse),
        (status = 503, description = "The journal cannot keep the change now", body = ErrorResponse),
    )
)]
pub async fn put_policy(
    State(app): State<App>,
    caller: Option<Extension<Caller>>,
    body: Result<JsonBody<LearningSettings>, Problem>,
) -> Result<Json<LearningSettings>, Refusal> {
    let invalid = "InvalidPolicyContract";
    let JsonBody(asked) = body.map_err(|problem| Refusal::from_problem(problem, invalid))?;
    for (field, text, most) in [("name", &asked.name, 256), ("arguments", &asked.arguments, 1024)] {
        if text.is_empty() || text.len() > most {
            return Err(Refusal::of(invalid, field, format!("is {} bytes long, allowed are 1 to {most}", text.len())));
        }
    }
    Ok(Json(app.compat.learn_by(Some(asked), &asking(caller)).await?))
}

/// Go back to the default learning settings
///
/// They hold from the next training on.
#[utoipa::path(
    delete,
    path = "/configurations/policy",
    operation_id = "personalizer_reset_learning_settings",
    tag = "compat",
    responses(
        (status = 200, description = "The default settings, which are in force now", body = LearningSettings),
        (status = 404, description = "No such version: `ResourceNotFound`", body = ErrorResponse),
        (status = 500, description = "The change cannot be kept: `UpdateConfigurationFailed`", body = ErrorResponse),
        (status = 503, description = "The journal cannot keep the change now", body = ErrorResponse),
    )
)]
pub async fn reset_policy(
    State(app): State<App>,
    caller: Option<Extension<Caller>>,
) -> Result<Json<LearningSettings>, Refusal> {
    Ok(Json(app.compat.learn_by(None, &asking(caller)).await?))
}
