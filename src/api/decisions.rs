//! `GET /decisions/{id}`.

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use slated_contract::event::Decision;
use slated_contract::feature::Features;
use utoipa::ToSchema;

use super::recommend::{AnswerQuery, RecommendResponse};
use super::url::{PathOf, QueryOf};
use super::{App, Problem};
use crate::schema;
use crate::serving::{Rules, explain};

/// A decision as it was recorded.
#[derive(Debug, Serialize, ToSchema)]
pub struct DecisionView {
    /// What was answered.
    #[serde(flatten)]
    pub response: RecommendResponse,
    /// When it was decided.
    #[schema(example = "2026-01-31T12:00:00Z")]
    pub time: DateTime<Utc>,
    /// What wrote it.
    #[schema(example = "service")]
    pub source: String,
    /// SHA-256 of the model, in hex.
    #[schema(example = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    pub model_sha256: Option<String>,
    /// The exploration settings in force.
    #[schema(value_type = Option<schema::Exploration>)]
    pub exploration: Option<serde_json::Value>,
    /// Seeds everything random in the decision.
    #[schema(example = 7_021_862_394_514_i64)]
    pub seed: Option<i64>,
    /// The user.
    #[schema(example = "user-42")]
    pub user_id: Option<String>,
    /// The session.
    #[schema(example = "session-7")]
    pub session_id: Option<String>,
    /// Raw user features.
    #[schema(value_type = schema::Features)]
    pub user: Features,
    /// Raw context features.
    #[schema(value_type = schema::Features)]
    pub context: Features,
    /// Session features as the policy saw them.
    #[schema(value_type = schema::Features)]
    pub session: Features,
    /// What the slate was chosen from.
    pub candidates: Vec<CandidateView>,
    /// The request of several slots that this was one of.
    #[schema(example = "page-view-81723")]
    pub page_id: Option<String>,
    /// The pinned items and business constraints that it was drawn under.
    #[schema(value_type = Option<Rules>)]
    pub rules: Option<serde_json::Value>,
    /// The caller's own order; empty where it is that of the candidates.
    #[schema(example = json!(["shirt-2", "shirt-1"]))]
    pub baseline: Vec<String>,
    /// The version of the catalogue that lent features.
    #[schema(example = 7)]
    pub catalogue_version: Option<i64>,
    /// Slates that were computed and not shown.
    pub alternatives: Vec<AlternativeView>,
    /// Features that the policy saw and that are not journalled.
    #[schema(example = json!(["user.age"]))]
    pub omitted_features: Vec<String>,
}

/// A slate that was computed and not shown.
#[derive(Debug, Serialize, ToSchema)]
pub struct AlternativeView {
    /// The policy.
    #[schema(example = "open-bandit")]
    pub policy: String,
    /// Its version.
    #[schema(example = 2)]
    pub policy_version: i64,
    /// The slate, by item id.
    #[schema(example = json!(["shirt-1", "shirt-2"]))]
    pub slate: Vec<String>,
    /// Its probability under this policy.
    #[schema(example = 0.4)]
    pub propensity: f64,
    /// The probability under this policy of what was shown; absent where it cannot be computed.
    #[schema(example = 0.1)]
    pub shown_propensity: Option<f64>,
    /// The share of positions at which the two slates hold the same item.
    #[schema(example = 0.5)]
    pub agreement: f64,
}

/// A candidate as it was recorded.
#[derive(Debug, Serialize, ToSchema)]
pub struct CandidateView {
    /// The item's id.
    #[schema(example = "shirt-2")]
    pub id: String,
    /// Its raw features.
    #[schema(value_type = schema::Features)]
    pub features: Features,
    /// The policy's score.
    #[schema(example = 0.37)]
    pub score: Option<f32>,
}

/// Read back a decision
///
/// With what it was made from. With `explain`, the model runs again to say why.
#[utoipa::path(
    get,
    path = "/decisions/{id}",
    tag = "journal",
    params(AnswerQuery, ("id" = String, Path, description = "The decision's id", example = "page-view-81723")),
    responses(
        (status = 200, description = "The decision as it was recorded", body = DecisionView),
        (status = 404, description = "The journal has no such decision", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It cannot be explained, and why", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The journal cannot be read now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn decision(
    State(app): State<App>,
    PathOf(id): PathOf<String>,
    QueryOf(answer): QueryOf<AnswerQuery>,
) -> Result<Json<DecisionView>, Problem> {
    let journal = app.journal.clone();
    let wanted = id.clone();
    let decision =
        tokio::task::spawn_blocking(move || journal.decision(&wanted)).await.map_err(Problem::internal)??;
    let decision =
        decision.ok_or_else(|| Problem::not_found(format!("the journal of this service has no decision `{id}`")))?;
    let explanation = if answer.explain {
        let (name, version) = (decision.policy.as_str(), decision.policy_version.cast_unsigned());
        let chosen = app.registry.choose(Some(name), Some(version), "")?;
        Some(explain(&chosen.policy, &decision, Vec::new()).await?)
    } else {
        None
    };
    let mut view = DecisionView::from(decision);
    view.response.explanation = explanation;
    Ok(Json(view))
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
            page_id: decision.page_id,
            rules: decision.rules.and_then(|text| serde_json::from_str(&text).ok()),
            baseline: decision.baseline,
            catalogue_version: decision.catalogue_version,
            omitted_features: decision.omitted_features,
            alternatives: decision
                .alternatives
                .into_iter()
                .map(|alternative| AlternativeView {
                    policy: alternative.policy,
                    policy_version: alternative.policy_version,
                    slate: alternative.slate,
                    propensity: alternative.propensity,
                    shown_propensity: alternative.shown_propensity,
                    agreement: alternative.agreement,
                })
                .collect(),
        }
    }
}
