//! `GET /openapi.yaml`.

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::App;

/// This description
///
/// The text of `openapi.yaml`; where the service needs keys, it says so of each operation.
#[utoipa::path(
    get,
    path = "/openapi.yaml",
    tag = "operations",
    operation_id = "openapi",
    responses((status = 200, description = "OpenAPI 3.1, as YAML", body = String, content_type = "application/yaml"))
)]
pub async fn description(State(app): State<App>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/yaml")], app.description.to_string())
}
