//! `DELETE /users/{id}/events`.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::url::{PathOf, QueryOf};
use super::{App, Problem};
use crate::journal::upkeep::{Forgetting, ForgotEvents, ForgotSegment};

/// Who asks to forget, and why.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ForgetQuery {
    /// Who asks for it; kept in the journal.
    #[param(example = "anna")]
    pub by: String,
    /// Why; kept in the journal.
    #[param(example = "asked on 3 March")]
    pub why: String,
}

/// What was removed.
#[derive(Debug, Serialize, ToSchema)]
pub struct ForgottenEvents {
    /// Decisions for the person.
    #[schema(example = 12)]
    pub decisions: u64,
    /// Feedback about them.
    #[schema(example = 3)]
    pub feedback: u64,
    /// The segments that were written without them.
    pub segments: Vec<RewrittenSegment>,
}

/// A segment that was written without some of its events.
#[derive(Debug, Serialize, ToSchema)]
pub struct RewrittenSegment {
    /// Its file, relative to the journal's folder.
    #[schema(example = "decisions/date=2026-01-31/0197f3a2-5b7c-7c3e-9d52-3b1f0e6a9c11.parquet")]
    pub file: String,
    /// How many events were removed.
    #[schema(example = 3)]
    pub removed: u64,
    /// How many are left.
    #[schema(example = 997)]
    pub left: u64,
}

/// Forget a person's events
///
/// Removes the person's decisions, and the feedback about them, from the journal, and records that it was done without
/// naming the person. What the catalogue knows of the person is removed by `DELETE /users/{id}`.
#[utoipa::path(
    delete,
    path = "/users/{id}/events",
    tag = "journal",
    params(ForgetQuery, ("id" = String, Path, description = "The user's id, as requests name it", example = "user-42")),
    responses(
        (status = 200, description = "They are removed; none where there were none", body = ForgottenEvents),
        (status = 503, description = "The journal cannot be read or written now; ask again", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn forget(
    State(app): State<App>,
    PathOf(id): PathOf<String>,
    QueryOf(ForgetQuery { by, why }): QueryOf<ForgetQuery>,
) -> Result<Json<ForgottenEvents>, Problem> {
    let ForgotEvents { decisions, feedback, segments } = app.journal.forget(&id, Forgetting { by, why }).await?;
    let segment = |ForgotSegment { path: file, removed, left, .. }| RewrittenSegment { file, removed, left };
    Ok(Json(ForgottenEvents { decisions, feedback, segments: segments.into_iter().map(segment).collect() }))
}
