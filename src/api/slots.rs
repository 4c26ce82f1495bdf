//! `POST /recommend/slots`: several slates for one page.

use axum::extract::State;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use slated_contract::event::check_identifier;
use slated_contract::feature::Features;
use utoipa::ToSchema;

use super::body::{self, JsonBody};
use super::deadline::Deadline;
use super::recommend::{
    CandidateRequest, RecommendRequest, RecommendResponse, check, decide, id_from, not_journalled, record, repeated,
};
use super::{App, Problem};
use crate::catalogue::Filter;
use crate::journal::Appended;
use crate::schema;
use crate::serving::{Pin, Rule};

/// The most slots in one request.
const MAX_SLOTS: usize = 32;

/// A page with several slots.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "user_id": "user-42",
    "context": {"device": "phone"},
    "slots": [
        {"slot": "hero", "candidates": ["shirt-1", "shirt-2"], "slate_size": 1},
        {"slot": "shelf", "candidates": ["shirt-1", "shirt-2", "shirt-3"], "slate_size": 2},
    ],
}))]
pub struct SlotsRequest {
    /// The caller's id for the page; a slot's decision has the id `<event_id>/<slot>`.
    #[schema(example = "page-view-81723", min_length = 1, max_length = 256, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
    #[serde(default)]
    pub event_id: Option<String>,
    /// The user.
    #[schema(example = "user-42", min_length = 1, max_length = 256, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
    #[serde(default)]
    pub user_id: Option<String>,
    /// The session; where absent, the user's.
    #[schema(example = "session-7", min_length = 1, max_length = 256, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
    #[serde(default)]
    pub session_id: Option<String>,
    /// User features by name.
    #[schema(value_type = schema::Features)]
    #[serde(default)]
    pub user: Features,
    /// Context features of the page by name.
    #[schema(value_type = schema::Features)]
    #[serde(default)]
    pub context: Features,
    /// Session features by name, from a caller that keeps its own state.
    #[schema(value_type = Option<schema::Features>)]
    #[serde(default)]
    pub session: Option<Features>,
    /// Whether an item that a slot shows is kept out of the slots after it.
    #[schema(example = true, default = true)]
    #[serde(default = "yes")]
    pub distinct: bool,
    /// The slots, in the order in which they are decided.
    #[schema(min_items = 1, max_items = 32)]
    pub slots: Vec<SlotRequest>,
}

/// One slot: what it has of its own.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SlotRequest {
    /// Its name, unlike those of the others.
    #[schema(example = "hero", min_length = 1, max_length = 256, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
    pub slot: String,
    /// The policy to ask; the service's default where absent.
    #[schema(example = "open-bandit")]
    #[serde(default)]
    pub policy: Option<String>,
    /// The version that must answer, for tests.
    #[schema(example = 1)]
    #[serde(default)]
    pub policy_version: Option<u64>,
    /// Context features of the slot; they go over those of the page.
    #[schema(value_type = schema::Features)]
    #[serde(default)]
    pub context: Features,
    /// What the slate is chosen from; this or `filter`.
    #[serde(default)]
    pub candidates: Vec<CandidateRequest>,
    /// What the slate is chosen from, by what the items of the catalogue are.
    #[serde(default)]
    pub filter: Option<Filter>,
    /// How many items to show.
    #[schema(minimum = 1, example = 3)]
    pub slate_size: usize,
    /// Ids of items that must not be shown.
    #[schema(example = json!(["shirt-3"]))]
    #[serde(default)]
    pub exclude: Vec<String>,
    /// The caller's own order of the candidates.
    #[schema(example = json!(["shirt-2", "shirt-1"]))]
    #[serde(default)]
    pub baseline: Vec<String>,
    /// Items that stand at given positions.
    #[serde(default)]
    pub pinned: Vec<Pin>,
    /// Business constraints.
    #[serde(default, deserialize_with = "body::rules")]
    pub rules: Vec<Rule>,
}

const fn yes() -> bool {
    true
}

/// The slates of a page.
#[derive(Debug, Serialize, ToSchema)]
pub struct SlotsResponse {
    /// The page's id.
    #[schema(example = "page-view-81723")]
    pub page_id: String,
    /// The slots' slates, in the order of the request.
    pub slots: Vec<RecommendResponse>,
}

/// Decide the slates of several slots
///
/// Slots are decided one after the other. With `distinct`, what one shows is excluded from those after it, so the
/// propensities of a slot are conditional on the slots before it. All decisions are in the journal, together, before
/// they are answered.
#[utoipa::path(
    post,
    path = "/recommend/slots",
    tag = "recommend",
    operation_id = "recommend_slots",
    request_body = SlotsRequest,
    responses(
        (status = 200, description = "The slates", body = SlotsResponse),
        (status = 404, description = "No such policy is live", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The event id was used for another request", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The journal or the model cannot answer now, or not in time", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn recommend(
    State(app): State<App>,
    Extension(deadline): Extension<Deadline>,
    JsonBody(request): JsonBody<SlotsRequest>,
) -> Result<Json<SlotsResponse>, Problem> {
    let SlotsRequest { event_id, user_id, session_id, user, context, session, distinct, slots } = request;
    if slots.is_empty() || slots.len() > MAX_SLOTS {
        return Err(Problem::invalid("slots", format!("has {} entries, allowed are 1 to {MAX_SLOTS}", slots.len())));
    }
    let id_from = id_from(event_id.as_ref());
    let page_id = app.ids.choose(event_id).map_err(|error| Problem::invalid("event_id", error.to_string()))?;
    let mut picks = Vec::with_capacity(slots.len());
    let mut names = Vec::with_capacity(slots.len());
    let mut shown: Vec<String> = Vec::new();
    for (index, slot) in slots.into_iter().enumerate() {
        let field = |name: &str| format!("slots[{index}].{name}");
        check_identifier(&slot.slot).map_err(|error| Problem::identifier(field("slot"), &error))?;
        if names.contains(&slot.slot) {
            return Err(Problem::invalid(field("slot"), "stands twice"));
        }
        let decision = RecommendRequest {
            policy: slot.policy,
            policy_version: slot.policy_version,
            event_id: None,
            user_id: user_id.clone(),
            session_id: session_id.clone(),
            user: user.clone(),
            context: context.overlaid_with(&slot.context),
            session: session.clone(),
            candidates: slot.candidates,
            filter: slot.filter,
            slate_size: slot.slate_size,
            exclude: slot.exclude.into_iter().chain(shown.iter().cloned()).collect(),
            baseline: slot.baseline,
            pinned: slot.pinned,
            rules: slot.rules,
        };
        let in_slot = |problem: Problem| problem.within(&format!("slots[{index}]"));
        let mut ask = check(decision, &app, deadline).map_err(in_slot)?;
        ask.decision_id = app.ids.sign(format!("{page_id}/{}", slot.slot));
        check_identifier(&ask.decision_id).map_err(|error| Problem::identifier(field("slot"), &error))?;
        ask.id_from = id_from;
        ask.slot = Some((page_id.clone(), slot.slot.clone()));
        let pick = decide(&app, ask).await.map_err(in_slot)?;
        if distinct {
            shown.extend(pick.decision.slate.iter().map(|shown| shown.item.clone()));
        }
        names.push(slot.slot);
        picks.push(pick);
    }
    let (picks, outcomes) = record(&app, picks, Vec::new(), deadline.arrived).await?;
    let Some(outcomes) = outcomes else {
        return Ok(Json(SlotsResponse { page_id, slots: picks.iter().map(not_journalled).collect() }));
    };
    let mut slates = Vec::with_capacity(picks.len());
    for (pick, outcome) in picks.into_iter().zip(outcomes) {
        if outcome == Appended::Duplicate {
            slates.push(repeated(&app, pick.decision).await?.0);
        } else {
            slates.push(RecommendResponse::from(&pick.decision));
        }
    }
    Ok(Json(SlotsResponse { page_id, slots: slates }))
}
