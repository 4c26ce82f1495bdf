//! What an operator asks of a running service.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::{App, Problem};

/// The segments that were closed.
#[derive(Debug, Serialize, ToSchema)]
pub struct SealedSegments {
    /// Their files, relative to the journal's folder.
    #[schema(example = json!(["decisions/date=2026-01-31/0197f3a2-5b7c-7c3e-9d52-3b1f0e6a9c11.parquet"]))]
    pub files: Vec<String>,
    /// How many events they hold.
    #[schema(example = 1200)]
    pub events: u64,
}

/// Close what was journalled so far into Parquet
///
/// Training reads closed segments; the service closes them by count and age by itself.
#[utoipa::path(
    post,
    path = "/journal/seal",
    tag = "journal",
    responses(
        (status = 200, description = "Everything journalled before this request is in closed segments", body = SealedSegments),
        (status = 503, description = "The journal cannot be written now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn seal(State(app): State<App>) -> Result<Json<SealedSegments>, Problem> {
    let segments = app.journal.seal().await?;
    Ok(Json(SealedSegments {
        events: segments.iter().map(|segment| segment.events).sum(),
        files: segments.into_iter().map(|segment| segment.path).collect(),
    }))
}
