//! `GET /healthz` and `GET /readyz`.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::{App, Problem};

/// The service is there.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// Always `ok`.
    #[schema(example = "ok")]
    pub status: &'static str,
    /// The version of slated.
    #[schema(example = "0.1.0")]
    pub version: &'static str,
}

const OK: Health = Health { status: "ok", version: env!("CARGO_PKG_VERSION") };

/// Is the process alive?
///
/// It answers as long as the process takes requests, whatever else fails.
#[utoipa::path(get, path = "/healthz", tag = "operations", responses((status = 200, description = "It is", body = Health)))]
pub async fn healthz() -> Json<Health> {
    Json(OK)
}

/// Can it answer requests?
///
/// It can when its default policy is live, its journal can be written and, where the settings refuse to go on without,
/// the store of its sessions answers.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operations",
    responses(
        (status = 200, description = "It can", body = Health),
        (status = 503, description = "It cannot, and why", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn readyz(State(app): State<App>) -> Result<Json<Health>, Problem> {
    check(&app).map_err(Problem::unavailable)?;
    Ok(Json(OK))
}

/// Why the service cannot answer, where it cannot.
pub fn check(app: &App) -> Result<(), String> {
    app.registry.live(None).map_err(|error| error.to_string())?;
    app.journal.health().map_err(|error| error.to_string())?;
    app.sessions.health().map_err(|error| error.to_string())
}
