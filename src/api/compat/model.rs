//! `/model`.

use std::time::SystemTime;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::{Extension, Json};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::configuration::asking;
use super::error::{ErrorResponse, Refusal};
use crate::access::Caller;
use crate::api::{App, Problem};
use crate::compat::model_of;
use crate::schema;

/// How the model is to be had.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ModelQuery {
    /// Whether a signed archive is wanted; not offered here.
    #[serde(default)]
    #[param(example = false)]
    signed: bool,
}

/// When the model was made.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelProperties {
    /// When the live version was written.
    #[schema(example = "2026-01-31T12:00:00Z")]
    pub creation_time: DateTime<Utc>,
    /// The same: a version never changes.
    #[schema(example = "2026-01-31T12:00:00Z")]
    pub last_modified_time: DateTime<Utc>,
}

/// Export the model
///
/// The live version's `model.onnx`. What reads its tensors stands in `policy.json` beside it in the folder of models.
#[utoipa::path(
    get,
    path = "/model",
    operation_id = "personalizer_model",
    tag = "compat",
    params(ModelQuery),
    responses(
        (status = 200, description = "The model, ONNX", body = schema::Binary, content_type = "application/octet-stream"),
        (status = 400, description = "A signed archive is asked for: `OperationNotAllowed`", body = ErrorResponse),
        (status = 404, description = "No such version, or the policy is not live: `ResourceNotFound`", body = ErrorResponse),
        (status = 500, description = "The bundle does not read: `ModelPublishFailed`", body = ErrorResponse),
    )
)]
pub async fn model(
    State(app): State<App>,
    query: Result<Query<ModelQuery>, QueryRejection>,
) -> Result<impl IntoResponse, Refusal> {
    let malformed = |rejection: QueryRejection| Refusal::of("BadRequest", "signed", rejection.body_text());
    let Query(ModelQuery { signed }) = query.map_err(malformed)?;
    if signed {
        let message =
            "a signed archive is not offered; a bundle is a folder, whose policy.json holds the model's SHA-256";
        return Err(Refusal::not_allowed(message));
    }
    let (version, models) = (app.compat.live()?.manifest.version, app.registry.models().to_owned());
    let policy = app.compat.policy.clone();
    let model = tokio::task::spawn_blocking(move || model_of(&models, &policy, version)).await;
    let model = model.map_err(|error| Refusal::from_problem(Problem::internal(error), "BadRequest"))??;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], model))
}

/// Replace the model
///
/// Not offered: a bundle is put into the folder of models, where it is checked and goes live by itself.
#[utoipa::path(
    put,
    path = "/model",
    operation_id = "personalizer_put_model",
    tag = "compat",
    request_body(content = schema::Binary, content_type = "application/octet-stream", description = "A signed model archive"),
    responses(
        (status = 400, description = "`OperationNotAllowed`", body = ErrorResponse),
        (status = 404, description = "No such version: `ResourceNotFound`", body = ErrorResponse),
    )
)]
pub async fn put_model() -> Refusal {
    Refusal::not_allowed(
        "a model is not replaced by this route; put its bundle into the folder of models as the policy's next version, where \
         it is checked and goes live by itself",
    )
}

/// Forget what was learned
///
/// A version that has learned nothing goes live, of the same features and exploration. The journal keeps everything, and so
/// does the version before, to which `slated policy rollback` goes back.
#[utoipa::path(
    delete,
    path = "/model",
    operation_id = "personalizer_reset_model",
    tag = "compat",
    responses(
        (status = 204, description = "The new version answers"),
        (status = 400, description = "Versions share the requests: `OperationNotAllowed`", body = ErrorResponse),
        (status = 404, description = "No such version, or the policy is not live: `ResourceNotFound`", body = ErrorResponse),
        (status = 500, description = "The version cannot be made: `ModelPublishFailed`", body = ErrorResponse),
        (status = 503, description = "The journal cannot keep the change now", body = ErrorResponse),
    )
)]
pub async fn reset_model(State(app): State<App>, caller: Option<Extension<Caller>>) -> Result<StatusCode, Refusal> {
    app.compat.reset(&asking(caller)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Say when the model was made
///
/// The version that answers, or the one with the greatest share.
#[utoipa::path(
    get,
    path = "/model/properties",
    operation_id = "personalizer_model_properties",
    tag = "compat",
    responses(
        (status = 200, description = "When the live version was written", body = ModelProperties),
        (status = 404, description = "No such version, or the policy is not live: `ResourceNotFound`", body = ErrorResponse),
    )
)]
pub async fn properties(State(app): State<App>) -> Result<Json<ModelProperties>, Refusal> {
    let version = app.compat.live()?.manifest.version;
    let bundle = app.registry.models().join(&app.compat.policy).join(version.to_string());
    let written = tokio::fs::metadata(bundle.join("policy.json")).await.and_then(|metadata| metadata.modified());
    let gone = |error| {
        Refusal::not_found(format!("the bundle of version {version} is not in the folder of models any more: {error}"))
    };
    let written: DateTime<Utc> = written.map(SystemTime::into).map_err(gone)?;
    Ok(Json(ModelProperties { creation_time: written, last_modified_time: written }))
}
