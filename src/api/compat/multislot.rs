//! `POST /multislot/rank`, and what came of it.

use std::collections::HashSet;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use slated_contract::event::{Feedback, check_identifier};
use utoipa::ToSchema;

use super::error::{ErrorResponse, Refusal};
use super::events::{
    At, EventPath, INVALID as INVALID_REWARD, INVALID_ACTIVATION, check_value, keep, known, reward_of, unknown,
};
use super::rank::{INVALID, RankableAction, candidates, check_actions, deferred, distribution_of, event_id, marker};
use crate::api::body::JsonBody;
use crate::api::deadline::Deadline;
use crate::api::recommend::{decide, record, recorded};
use crate::api::{App, Problem};
use crate::compat::{Mapping, UnknownEvents, later_slots_allow};
use crate::journal::Appended;
use crate::serving::Ask;

/// The most slots of one request, as published.
const MAX_SLOTS: usize = 50;

/// Actions to be put into slots.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MultiSlotRankRequest {
    /// Features of the context: a list of objects, nested as you like.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Object>>, example = json!([{"user": {"segment": "new"}}]))]
    pub context_features: Option<Vec<Value>>,
    /// What may be shown; each action in one slot at most.
    #[schema(min_items = 1, max_items = 50, example = json!([{"id": "news", "features": [{"topic": "politics"}]}, {"id": "sport", "features": [{"topic": "football"}]}]))]
    pub actions: Vec<RankableAction>,
    /// The slots, in the order in which they are decided.
    #[schema(min_items = 1, max_items = 50, example = json!([{"id": "hero", "baselineAction": "news"}]))]
    pub slots: Vec<PersonalizerSlot>,
    /// Your id for the event, as for `rank`.
    #[serde(default)]
    #[schema(example = "75269ad0-bfee-4598-8196-c57383d38e11", max_length = 256)]
    pub event_id: Option<String>,
    /// Whether the user may not see the result, as for `rank`.
    #[serde(default)]
    #[schema(example = false)]
    pub defer_activation: Option<bool>,
}

/// A slot.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PersonalizerSlot {
    /// Its id, unlike the others'.
    #[schema(example = "hero", max_length = 256)]
    pub id: String,
    /// Its features: a list of objects, nested as you like.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Object>>, example = json!([{"size": "large", "position": "top"}]))]
    pub features: Option<Vec<Value>>,
    /// Ids of actions that this slot must not show.
    #[serde(default)]
    #[schema(example = json!(["sport"]))]
    pub excluded_actions: Option<Vec<String>>,
    /// The action that you would show here otherwise; of each slot another one.
    #[schema(example = "news")]
    pub baseline_action: String,
}

/// What to show in each slot.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MultiSlotRankResponse {
    /// The slots, in the order of the request.
    #[schema(example = json!([{"id": "hero", "rewardActionId": "news", "probability": 0.9}]))]
    pub slots: Vec<SlotChoice>,
    /// The event's id, for the rewards.
    #[schema(example = "75269ad0-bfee-4598-8196-c57383d38e11")]
    pub event_id: String,
}

/// What to show in a slot.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SlotChoice {
    /// The slot's id.
    #[schema(example = "hero")]
    pub id: String,
    /// The action to show there.
    #[schema(example = "news")]
    pub reward_action_id: String,
    /// The probability with which this action was to be chosen for this slot, given what the slots before it show. The
    /// Personalizer does not answer it.
    #[schema(example = 0.9, minimum = 0, maximum = 1)]
    pub probability: f64,
}

/// Put actions into slots
///
/// Slots are decided one after the other, each action is shown once, and none is shown that would leave a later slot without
/// any. Each slot is a decision of its own in the journal; the probability of the page is the product of those answered.
#[utoipa::path(
    post,
    path = "/multislot/rank",
    operation_id = "personalizer_multislot_rank",
    tag = "compat",
    request_body = MultiSlotRankRequest,
    responses(
        (status = 201, description = "Which action to show in each slot", body = MultiSlotRankResponse),
        (status = 400, description = "The request is not valid: `InvalidRankRequest`", body = ErrorResponse),
        (status = 404, description = "No such version, or the policy is not live: `ResourceNotFound`", body = ErrorResponse),
        (status = 413, description = "The body is too large: `PayloadSizeExceeded`", body = ErrorResponse),
        (status = 415, description = "The body is not declared as JSON", body = ErrorResponse),
        (status = 503, description = "The journal or the model cannot answer now, or not in time", body = ErrorResponse),
    )
)]
pub async fn rank(
    State(app): State<App>,
    Extension(deadline): Extension<Deadline>,
    body: Result<JsonBody<MultiSlotRankRequest>, Problem>,
) -> Result<(StatusCode, Json<MultiSlotRankResponse>), Refusal> {
    let JsonBody(request) = body.map_err(|problem| Refusal::from_problem(problem, INVALID))?;
    let refused = |problem| Refusal::from_problem(problem, INVALID);
    let mapping = Mapping(&app.compat.settings);
    check_actions(&request.actions, app.compat.settings.max_actions)?;
    let allowed = check_slots(&request.actions, &request.slots)?;
    let event_id = event_id(request.event_id)?;
    let mapped = mapping.context(request.context_features.unwrap_or_default(), "contextFeatures")?;
    let candidates = candidates(&mapping, request.actions)?;
    let mut free = vec![true; candidates.len()];
    let mut picks = Vec::with_capacity(request.slots.len());
    for (index, slot) in request.slots.iter().enumerate() {
        let field = format!("slots[{index}].features");
        let mut own = mapping.features(slot.features.clone().unwrap_or_default(), &field, "slot")?;
        own.insert("slot.id", slot.id.as_str());
        let leaves = later_slots_allow(&free, &allowed[index + 1..]);
        let left_out = |action: &usize| !(allowed[index][*action] && leaves[*action]);
        let exclude = (0..candidates.len()).filter(left_out).map(|action| candidates[action].0.clone()).collect();
        let ask = Ask {
            decision_id: slot_id(&app, &event_id, &slot.id),
            policy: Some(app.compat.policy.clone()),
            slot: Some((event_id.clone(), slot.id.clone())),
            user_id: mapped.user_id.clone(),
            session_id: mapped.session_id.clone(),
            user: mapped.user.clone(),
            context: mapped.context.overlaid_with(&own),
            candidates: candidates.clone(),
            exclude,
            baseline: vec![slot.baseline_action.clone()],
            size: 1,
            distribution: true,
            deadline: Some(deadline.model),
            ..Ask::default()
        };
        check_identifier(&ask.decision_id).map_err(|error| {
            Refusal::of(INVALID, format!("slots[{index}].id"), format!("behind the event's id {error}"))
        })?;
        let pick = decide(&app, ask).await.map_err(refused)?;
        for shown in &pick.decision.slate {
            if let Some(action) = candidates.iter().position(|(id, _)| *id == shown.item) {
                free[action] = false;
            }
        }
        picks.push(pick);
    }
    let deferred = deferred(&picks, request.defer_activation);
    let (picks, outcomes) = record(&app, picks, deferred, deadline.arrived).await.map_err(refused)?;
    let mut slots = Vec::with_capacity(picks.len());
    for (index, (pick, slot)) in picks.into_iter().zip(request.slots).enumerate() {
        let is_known = outcomes.as_ref().is_some_and(|outcomes| outcomes[index] == Appended::Duplicate);
        let (decision, distribution) = match is_known {
            true => {
                let recorded = recorded(&app, &pick.decision).await.map_err(refused)?;
                let distribution = distribution_of(&recorded, &pick)?;
                (recorded, distribution)
            }
            false => (pick.decision, pick.distribution),
        };
        let chosen = decision.slate.first().map(|shown| shown.item.clone()).unwrap_or_default();
        let place = decision.candidates.iter().position(|candidate| candidate.item == chosen);
        let probability = place.and_then(|place| distribution.get(place).copied()).unwrap_or_default();
        slots.push(SlotChoice { id: slot.id, reward_action_id: chosen, probability });
    }
    Ok((StatusCode::CREATED, Json(MultiSlotRankResponse { slots, event_id })))
}

/// Which action each slot may show, by slot and action.
fn check_slots(actions: &[RankableAction], slots: &[PersonalizerSlot]) -> Result<Vec<Vec<bool>>, Refusal> {
    if slots.is_empty() || slots.len() > MAX_SLOTS {
        let problem = format!("has {} entries, allowed are 1 to {MAX_SLOTS}", slots.len());
        return Err(Refusal::of(INVALID, "slots", problem));
    }
    let (mut ids, mut baselines) = (HashSet::new(), HashSet::new());
    let mut allowed = Vec::with_capacity(slots.len());
    for (index, slot) in slots.iter().enumerate() {
        let refuse = |name: &str, problem: String| Refusal::of(INVALID, format!("slots[{index}].{name}"), problem);
        check_identifier(&slot.id).map_err(|error| refuse("id", error.to_string()))?;
        if !ids.insert(&slot.id) {
            return Err(refuse("id", format!("is `{}`, which stands twice", slot.id)));
        }
        let excluded = slot.excluded_actions.as_deref().unwrap_or_default();
        let baseline = &slot.baseline_action;
        if !actions.iter().any(|action| action.id == *baseline) {
            return Err(refuse("baselineAction", format!("is `{baseline}`, which is none of the actions")));
        }
        if excluded.contains(baseline) {
            return Err(refuse("baselineAction", format!("is `{baseline}`, which the slot excludes")));
        }
        if !baselines.insert(baseline) {
            return Err(refuse("baselineAction", format!("is `{baseline}`, which another slot has")));
        }
        allowed.push(actions.iter().map(|action| !excluded.contains(&action.id)).collect());
    }
    Ok(allowed)
}

/// The decision's id of a slot.
fn slot_id(app: &App, event_id: &str, slot: &str) -> String {
    app.ids.sign(format!("{event_id}/{slot}"))
}

/// Rewards of a page.
#[derive(Debug, Deserialize, ToSchema)]
pub struct MultiSlotRewardRequest {
    /// Of each slot that has one.
    #[schema(min_items = 1, example = json!([{"slotId": "hero", "value": 1.0}]))]
    pub reward: Vec<SlotReward>,
}

/// The reward of a slot.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SlotReward {
    /// The slot.
    #[schema(example = "hero")]
    pub slot_id: String,
    /// Its reward, from -1 to 1.
    #[schema(example = 1.0, minimum = -1, maximum = 1)]
    pub value: f64,
}

/// Report the rewards of slots
///
/// Of the actions that were to be shown there; all are kept or none. As for a single event otherwise.
#[utoipa::path(
    post,
    path = "/multislot/events/{eventId}/reward",
    operation_id = "personalizer_multislot_reward",
    tag = "compat",
    params(EventPath),
    request_body = MultiSlotRewardRequest,
    responses(
        (status = 204, description = "The rewards are in the journal"),
        (status = 400, description = "The request is not valid: `InvalidRewardRequest`", body = ErrorResponse),
        (status = 404, description = "No such event is known: `ResourceNotFound`", body = ErrorResponse),
        (status = 413, description = "The body is too large: `PayloadSizeExceeded`", body = ErrorResponse),
        (status = 415, description = "The body is not declared as JSON", body = ErrorResponse),
        (status = 503, description = "The journal cannot keep rewards now", body = ErrorResponse),
    )
)]
pub async fn reward(
    State(app): State<App>,
    at: At,
    headers: HeaderMap,
    body: Result<JsonBody<MultiSlotRewardRequest>, Problem>,
) -> Result<StatusCode, Refusal> {
    let JsonBody(request) = body.map_err(|problem| Refusal::from_problem(problem, INVALID_REWARD))?;
    let event_id = at.event_id(INVALID_REWARD)?;
    if request.reward.is_empty() || request.reward.len() > MAX_SLOTS {
        let problem = format!("has {} entries, allowed are 1 to {MAX_SLOTS}", request.reward.len());
        return Err(Refusal::of(INVALID_REWARD, "reward", problem));
    }
    let mut rewards = Vec::with_capacity(request.reward.len());
    for (index, SlotReward { slot_id: slot, value }) in request.reward.iter().enumerate() {
        let field = |name: &str| format!("reward[{index}].{name}");
        check_value(*value, field("value"))?;
        let decision_id = slot_id(&app, &event_id, slot);
        check_identifier(&decision_id)
            .map_err(|error| Refusal::of(INVALID_REWARD, field("slotId"), error.to_string()))?;
        if !known(&app, &decision_id).await? {
            let unknown = match slots_of(&app, &event_id).await?.is_empty() {
                true => unknown(&event_id),
                false => {
                    Refusal::of(INVALID_REWARD, field("slotId"), format!("is `{slot}`, which the event does not have"))
                }
            };
            return Err(unknown);
        }
        rewards.push(reward_of(&decision_id, *value, &headers));
    }
    keep(&app, rewards).await
}

/// Say that a page was shown
///
/// Of an event that was ranked with `deferActivation`.
#[utoipa::path(
    post,
    path = "/multislot/events/{eventId}/activate",
    operation_id = "personalizer_multislot_activate",
    tag = "compat",
    params(EventPath),
    responses(
        (status = 204, description = "The event counts from now on"),
        (status = 400, description = "The event's id is none: `InvalidEventIdToActivate`", body = ErrorResponse),
        (status = 404, description = "No such event is known: `ResourceNotFound`", body = ErrorResponse),
        (status = 503, description = "The journal cannot keep activations now", body = ErrorResponse),
    )
)]
pub async fn activate(State(app): State<App>, at: At) -> Result<StatusCode, Refusal> {
    let event_id = at.event_id(INVALID_ACTIVATION)?;
    let slots = slots_of(&app, &event_id).await?;
    if slots.is_empty() {
        if app.compat.settings.unknown_events == UnknownEvents::Accept {
            tracing::warn!(event_id, "a page is activated that this replica does not know; its slots cannot be told");
        }
        return Err(unknown(&event_id));
    }
    let now = super::events::now();
    keep(&app, slots.iter().map(|id| marker(id, Feedback::ACTIVATED, now)).collect()).await
}

/// The decisions of a page that this replica knows.
async fn slots_of(app: &App, event_id: &str) -> Result<Vec<String>, Refusal> {
    let (journal, event_id) = (app.journal.clone(), event_id.to_owned());
    let found = tokio::task::spawn_blocking(move || {
        let mut slots = Vec::new();
        for id in journal.decision_ids_with(&format!("{event_id}/"))? {
            // `a/b` may be slot b of page a, or page a/b.
            if journal.decision(&id)?.is_some_and(|decision| decision.page_id.as_ref() == Some(&event_id)) {
                slots.push(id);
            }
        }
        Ok::<_, crate::journal::JournalError>(slots)
    });
    let found = found.await.map_err(|error| Refusal::from_problem(Problem::internal(error), INVALID_REWARD))?;
    found.map_err(|error| Refusal::from_problem(error.into(), INVALID_REWARD))
}
