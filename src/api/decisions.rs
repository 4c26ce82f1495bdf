//! `GET /decisions/{id}`.

use axum::Json;
use axum::extract::{Path, State};
use chrono::{DateTime, Utc};
use serde::Serialize;
use slated_contract::event::Decision;
use slated_contract::feature::Features;
use utoipa::ToSchema;

use super::recommend::RecommendResponse;
use super::{App, Problem};

/// A decision as it was recorded.
#[derive(Debug, Serialize, ToSchema)]
pub struct DecisionView {
    /// What was answered.
    #[serde(flatten)]
    pub response: RecommendResponse,
    /// When it was decided.
    pub time: DateTime<Utc>,
    /// What wrote it.
    #[schema(example = "service")]
    pub source: String,
    /// SHA-256 of the model, in hex.
    pub model_sha256: Option<String>,
    /// The exploration settings in force.
    #[schema(value_type = Option<Object>)]
    pub exploration: Option<serde_json::Value>,
    /// Seeds everything random in the decision.
    pub seed: Option<i64>,
    /// The user.
    pub user_id: Option<String>,
    /// The session.
    pub session_id: Option<String>,
    /// Raw user features.
    #[schema(value_type = Object)]
    pub user: Features,
    /// Raw context features.
    #[schema(value_type = Object)]
    pub context: Features,
    /// Session features as the policy saw them.
    #[schema(value_type = Object)]
    pub session: Features,
    /// What the slate was chosen from.
    pub candidates: Vec<CandidateView>,
}

/// A candidate as it was recorded.
#[derive(Debug, Serialize, ToSchema)]
pub struct CandidateView {
    /// The item's id.
    pub id: String,
    /// Its raw features.
    #[schema(value_type = Object)]
    pub features: Features,
    /// The policy's score.
    pub score: Option<f32>,
}

/// Read back a decision
#[utoipa::path(
    get,
    path = "/decisions/{id}",
    tag = "journal",
    params(("id" = String, Path, description = "The decision's id")),
    responses(
        (status = 200, description = "The decision as it was recorded", body = DecisionView),
        (status = 404, description = "The journal has no such decision", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The journal cannot be read now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn decision(State(app): State<App>, Path(id): Path<String>) -> Result<Json<DecisionView>, Problem> {
    let journal = app.journal.clone();
    let wanted = id.clone();
    let decision =
        tokio::task::spawn_blocking(move || journal.decision(&wanted)).await.map_err(Problem::internal)??;
    let decision =
        decision.ok_or_else(|| Problem::not_found(format!("the journal of this service has no decision `{id}`")))?;
    Ok(Json(DecisionView::from(decision)))
}

impl From<Decision> for DecisionView {
    fn from(decision: Decision) -> Self {
        Self {
            response: RecommendResponse::from(&decision),
            time: decision.time,
            source: decision.source,
            model_sha256: decision.model_sha256,
            exploration: decision.exploration.and_then(|text| serde_json::from_str(&text).ok()),
            seed: decision.seed,
            user_id: decision.user_id,
            session_id: decision.session_id,
            user: decision.user,
            context: decision.context,
            session: decision.session,
            candidates: decision
                .candidates
                .into_iter()
                .map(|candidate| CandidateView {
                    id: candidate.item,
                    features: candidate.features,
                    score: candidate.score,
                })
                .collect(),
        }
    }
}
