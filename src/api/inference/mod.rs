//! `/v2`: a model's tensors, by the Open Inference Protocol (KServe's and Triton's version 2) with its binary tensors.
//!
//! What is asked here runs on the sessions, the queue and the limits of `/recommend`, but is no decision: nothing is
//! drawn, nothing is journalled, no session is told, and it does not count for a version on trial.

mod body;
mod errors;
mod message;
mod tensors;

pub use errors::speak;

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use axum::{Extension, Json};
use tokio::time::timeout_at;

use self::body::InferenceBody;
use self::message::{
    InferenceError, InferenceRequest, InferenceResponse, ModelMetadata, ModelReady, ServerLive, ServerMetadata,
    ServerReady,
};
use super::deadline::{Deadline, missed};
use super::url::PathOf;
use super::{App, Problem, health};
use crate::schema;
use crate::serving::{LoadedPolicy, RecommendError, RegistryError};

/// Where everything is.
pub const ROOT: &str = "/v2";

/// What the service is, by the Open Inference Protocol
///
/// Its name, its version and the extensions of the protocol that it has.
#[utoipa::path(get, path = "/v2", tag = "inference", responses((status = 200, description = "Name, version and extensions", body = ServerMetadata)))]
pub async fn server() -> Json<ServerMetadata> {
    Json(ServerMetadata { name: "slated", version: env!("CARGO_PKG_VERSION"), extensions: ["binary_tensor_data"] })
}

/// Is the process alive? By the Open Inference Protocol
///
/// As `/healthz`.
#[utoipa::path(get, path = "/v2/health/live", tag = "inference", responses((status = 200, description = "It is", body = ServerLive)))]
pub async fn live() -> Json<ServerLive> {
    Json(ServerLive { live: true })
}

/// Can it answer requests? By the Open Inference Protocol
///
/// As `/readyz`, but 400 is the protocol's answer of a server that cannot.
#[utoipa::path(
    get,
    path = "/v2/health/ready",
    tag = "inference",
    responses(
        (status = 200, description = "It can", body = ServerReady),
        (status = 400, description = "It cannot, and why", body = InferenceError),
    )
)]
pub async fn ready(State(app): State<App>) -> Result<Json<ServerReady>, Problem> {
    health::check(&app).map_err(Problem::malformed)?;
    Ok(Json(ServerReady { ready: true }))
}

/// Describe a policy's tensors
///
/// The version with the greatest share; `versions` lists those that the policy's route names.
#[utoipa::path(
    get,
    path = "/v2/models/{name}",
    tag = "inference",
    params(("name" = String, Path, description = "The policy's name", example = "open-bandit")),
    responses(
        (status = 200, description = "Its tensors", body = ModelMetadata),
        (status = 404, description = "No such policy is live", body = InferenceError),
    )
)]
pub async fn model(State(app): State<App>, PathOf(name): PathOf<String>) -> Result<Json<ModelMetadata>, Problem> {
    describe(&app, &name, None)
}

/// Describe a version's tensors
///
/// As `GET /v2/models/{name}`, of one version.
#[utoipa::path(
    get,
    path = "/v2/models/{name}/versions/{version}",
    tag = "inference",
    params(
        ("name" = String, Path, description = "The policy's name", example = "open-bandit"),
        ("version" = String, Path, description = "The version; the policy's route must name it", example = "2"),
    ),
    responses(
        (status = 200, description = "Its tensors", body = ModelMetadata),
        (status = 404, description = "No such policy is live, or its route does not name the version", body = InferenceError),
    )
)]
pub async fn version(
    State(app): State<App>,
    PathOf((name, version)): PathOf<(String, String)>,
) -> Result<Json<ModelMetadata>, Problem> {
    describe(&app, &name, Some(&version))
}

/// Does a policy answer?
///
/// It does once a version of it is live; 404 is the answer where none is.
#[utoipa::path(
    get,
    path = "/v2/models/{name}/ready",
    tag = "inference",
    params(("name" = String, Path, description = "The policy's name", example = "open-bandit")),
    responses(
        (status = 200, description = "It does", body = ModelReady),
        (status = 404, description = "No such policy is live", body = InferenceError),
    )
)]
pub async fn model_ready(State(app): State<App>, PathOf(name): PathOf<String>) -> Result<Json<ModelReady>, Problem> {
    find(&app, &name, None).map(|_| Json(ModelReady { name, ready: true }))
}

/// Does a version answer?
///
/// It does once the policy's route names it; 404 is the answer where that does not.
#[utoipa::path(
    get,
    path = "/v2/models/{name}/versions/{version}/ready",
    tag = "inference",
    params(
        ("name" = String, Path, description = "The policy's name", example = "open-bandit"),
        ("version" = String, Path, description = "The version; the policy's route must name it", example = "2"),
    ),
    responses(
        (status = 200, description = "It does", body = ModelReady),
        (status = 404, description = "No such policy is live, or its route does not name the version", body = InferenceError),
    )
)]
pub async fn version_ready(
    State(app): State<App>,
    PathOf((name, version)): PathOf<(String, String)>,
) -> Result<Json<ModelReady>, Problem> {
    find(&app, &name, Some(&version)).map(|_| Json(ModelReady { name, ready: true }))
}

/// Run a policy's model on tensors
///
/// Of the version with the greatest share. Tensors are JSON, or binary after the JSON, whose length
/// `Inference-Header-Content-Length` then tells; outputs come as they are asked for. Nothing is journalled.
#[utoipa::path(
    post,
    path = "/v2/models/{name}/infer",
    tag = "inference",
    params(
        ("name" = String, Path, description = "The policy's name", example = "open-bandit"),
        ("Inference-Header-Content-Length" = Option<usize>, Header, description = "Bytes of JSON before the binary tensors; the whole body where absent", example = 181),
    ),
    request_body(content = InferenceRequest, description = "The tensors that `GET /v2/models/{name}` lists"),
    responses(
        (
            status = 200,
            description = "The outputs; with binary tensors the body is `application/octet-stream`, and `Inference-Header-Content-Length` says where its JSON ends",
            content((InferenceResponse = "application/json"), (schema::Binary = "application/octet-stream")),
        ),
        (status = 400, description = "The request is not of the protocol, or a tensor is not the model's", body = InferenceError),
        (status = 404, description = "No such policy is live", body = InferenceError),
        (status = 413, description = "The body is too large", body = InferenceError),
        (status = 415, description = "The body is compressed", body = InferenceError),
        (status = 422, description = "`X-Request-Timeout-Ms` is no number of milliseconds", body = InferenceError),
        (status = 429, description = "Too many requests at once", body = InferenceError),
        (status = 500, description = "The model fails on this input, or its output has no JSON", body = InferenceError),
        (status = 503, description = "The model did not answer in time", body = InferenceError),
    )
)]
pub async fn infer(
    State(app): State<App>,
    Extension(deadline): Extension<Deadline>,
    PathOf(name): PathOf<String>,
    body: InferenceBody,
) -> Result<Response, Problem> {
    let policy = find(&app, &name, None)?;
    run(&app, &policy, body, deadline).await
}

/// Run a version's model on tensors
///
/// As `POST /v2/models/{name}/infer`, of one version.
#[utoipa::path(
    post,
    path = "/v2/models/{name}/versions/{version}/infer",
    tag = "inference",
    params(
        ("name" = String, Path, description = "The policy's name", example = "open-bandit"),
        ("version" = String, Path, description = "The version; the policy's route must name it", example = "2"),
        ("Inference-Header-Content-Length" = Option<usize>, Header, description = "Bytes of JSON before the binary tensors; the whole body where absent", example = 181),
    ),
    request_body(content = InferenceRequest, description = "The tensors that `GET /v2/models/{name}` lists"),
    responses(
        (
            status = 200,
            description = "The outputs; with binary tensors the body is `application/octet-stream`, and `Inference-Header-Content-Length` says where its JSON ends",
            content((InferenceResponse = "application/json"), (schema::Binary = "application/octet-stream")),
        ),
        (status = 400, description = "The request is not of the protocol, or a tensor is not the model's", body = InferenceError),
        (status = 404, description = "No such policy is live, or its route does not name the version", body = InferenceError),
        (status = 413, description = "The body is too large", body = InferenceError),
        (status = 415, description = "The body is compressed", body = InferenceError),
        (status = 422, description = "`X-Request-Timeout-Ms` is no number of milliseconds", body = InferenceError),
        (status = 429, description = "Too many requests at once", body = InferenceError),
        (status = 500, description = "The model fails on this input, or its output has no JSON", body = InferenceError),
        (status = 503, description = "The model did not answer in time", body = InferenceError),
    )
)]
pub async fn infer_version(
    State(app): State<App>,
    Extension(deadline): Extension<Deadline>,
    PathOf((name, version)): PathOf<(String, String)>,
    body: InferenceBody,
) -> Result<Response, Problem> {
    let policy = find(&app, &name, Some(&version))?;
    run(&app, &policy, body, deadline).await
}

/// The version of a policy that is asked for, or that with the greatest share.
fn find(app: &App, name: &str, version: Option<&str>) -> Result<Arc<LoadedPolicy>, Problem> {
    let (routed, main) = app.registry.routed(name)?;
    let Some(asked) = version else { return Ok(main) };
    let found = routed.iter().find(|policy| policy.manifest.version.to_string() == asked);
    found.cloned().ok_or_else(|| {
        let routed = routed.iter().map(|policy| policy.manifest.version.to_string()).collect::<Vec<_>>().join(", ");
        RegistryError::NotRouted { name: name.to_owned(), version: asked.to_owned(), routed }.into()
    })
}

fn describe(app: &App, name: &str, version: Option<&str>) -> Result<Json<ModelMetadata>, Problem> {
    let policy = find(app, name, version)?;
    let (routed, _) = app.registry.routed(name)?;
    let versions = routed.iter().map(|policy| policy.manifest.version.to_string()).collect();
    Ok(Json(ModelMetadata::new(&policy.manifest, versions)))
}

async fn run(app: &App, policy: &LoadedPolicy, body: InferenceBody, deadline: Deadline) -> Result<Response, Problem> {
    let InferenceBody { request, binary } = body;
    let manifest = &policy.manifest;
    let most = manifest.slate.max_candidates.min(app.settings.max_candidates);
    let batch = tensors::read(&request.inputs, &binary, &manifest.signature, most).map_err(Problem::malformed)?;
    let (rows, candidates) = (batch.rows, batch.candidates);
    let asked = tensors::Asked::new(&request, &manifest.signature).map_err(Problem::malformed)?;
    let output = timeout_at(deadline.model, policy.engine.run_tensors(batch)).await.map_err(|_| {
        missed("refused");
        Problem::from(RecommendError::Late)
    })?;
    let output = output.map_err(RecommendError::Engine)?;
    metrics::counter!("slated_inferences_total", "policy" => manifest.name.clone(), "version" => manifest.version.to_string())
        .increment(1);
    asked.answer(manifest, request.id, &[rows, candidates], &output)
}
