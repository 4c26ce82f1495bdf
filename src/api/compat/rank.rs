//! `POST /rank`.

use std::collections::HashSet;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use slated_contract::event::{Decision, Feedback, Mode, check_identifier, deterministic_id};
use slated_contract::feature::Features;
use slated_contract::slate::{Constraints, next_choice};
use utoipa::ToSchema;

use super::error::{ErrorResponse, Refusal};
use crate::api::body::JsonBody;
use crate::api::deadline::Deadline;
use crate::api::recommend::{decide, record, recorded};
use crate::api::{App, Problem};
use crate::compat::Mapping;
use crate::journal::Appended;
use crate::serving::{Ask, Pick, Rescored, Rules};
use crate::unique;

/// The code of a request that is not valid.
pub const INVALID: &str = "InvalidRankRequest";

/// Actions to be ranked for a context.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RankRequest {
    /// Features of the context: a list of objects, nested as you like.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Object>>, example = json!([{"user": {"segment": "new"}}, {"timeOfDay": "morning"}]))]
    pub context_features: Option<Vec<Value>>,
    /// What is ranked, in the order in which you would show it; at most `compat.max_actions`.
    #[schema(min_items = 1, max_items = 50, example = json!([{"id": "news", "features": [{"topic": "politics"}]}, {"id": "sport", "features": [{"topic": "football"}]}]))]
    pub actions: Vec<RankableAction>,
    /// Ids of actions that must not be chosen; they keep their places in the ranking.
    #[serde(default)]
    #[schema(example = json!(["sport"]))]
    pub excluded_actions: Option<Vec<String>>,
    /// Your id for the event, at most 256 characters; one is made where absent. The same id with the same request again is
    /// answered with what was recorded.
    #[serde(default)]
    #[schema(example = "75269ad0-bfee-4598-8196-c57383d38e10", max_length = 256)]
    pub event_id: Option<String>,
    /// Whether the user may not see the result: then nothing is learned from the event unless it is activated.
    #[serde(default)]
    #[schema(example = false)]
    pub defer_activation: Option<bool>,
}

/// Something that may be shown.
#[derive(Debug, Deserialize, ToSchema)]
pub struct RankableAction {
    /// Its id, unlike the others'.
    #[schema(example = "news", max_length = 256)]
    pub id: String,
    /// Its features: a list of objects, nested as you like.
    #[schema(value_type = Vec<Object>, example = json!([{"topic": "politics", "length": 1200}]))]
    pub features: Vec<Value>,
}

/// The ranking.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RankResponse {
    /// Every action. Those that were not excluded stand in the order of the ranking, the chosen one first; those that were
    /// have the places that they had in the request.
    #[schema(example = json!([{"id": "news", "probability": 0.9}, {"id": "sport", "probability": 0.1}]))]
    pub ranking: Vec<RankedAction>,
    /// The event's id, for the reward.
    #[schema(example = "75269ad0-bfee-4598-8196-c57383d38e10")]
    pub event_id: String,
    /// The action to show.
    #[schema(example = "news")]
    pub reward_action_id: String,
}

/// An action in the ranking.
#[derive(Debug, Serialize, ToSchema)]
pub struct RankedAction {
    /// Its id.
    #[schema(example = "news")]
    pub id: String,
    /// The probability with which it was to be chosen; these sum to 1.
    #[schema(example = 0.9, minimum = 0, maximum = 1)]
    pub probability: f64,
}

/// Rank actions
///
/// Chooses one of the actions for the context. The decision is in the journal, with the probability of the choice, before it
/// is answered.
#[utoipa::path(
    post,
    path = "/rank",
    operation_id = "personalizer_rank",
    tag = "compat",
    request_body = RankRequest,
    responses(
        (status = 201, description = "The ranking, and which action to show", body = RankResponse),
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
    body: Result<JsonBody<RankRequest>, Problem>,
) -> Result<(StatusCode, Json<RankResponse>), Refusal> {
    let JsonBody(request) = body.map_err(|problem| Refusal::from_problem(problem, INVALID))?;
    let refused = |problem| Refusal::from_problem(problem, INVALID);
    let mapping = Mapping(&app.compat.settings);
    check_actions(&request.actions, app.compat.settings.max_actions)?;
    let event_id = event_id(request.event_id)?;
    let ids: Vec<String> = request.actions.iter().map(|action| action.id.clone()).collect();
    let excluded: HashSet<String> = request.excluded_actions.unwrap_or_default().into_iter().collect();
    if ids.iter().all(|id| excluded.contains(id)) {
        return Err(Refusal::of(INVALID, "excludedActions", "exclude every action; one at least must be left"));
    }
    let mapped = mapping.context(request.context_features.unwrap_or_default(), "contextFeatures")?;
    let ask = Ask {
        decision_id: app.ids.sign(event_id.clone()),
        policy: Some(app.compat.policy.clone()),
        user_id: mapped.user_id,
        session_id: mapped.session_id,
        user: mapped.user,
        context: mapped.context,
        candidates: candidates(&mapping, request.actions)?,
        exclude: excluded.iter().cloned().collect(),
        rules: Rules::default(),
        size: 1,
        distribution: true,
        deadline: Some(deadline.model),
        ..Ask::default()
    };
    let pick = decide(&app, ask).await.map_err(refused)?;
    let deferred = deferred(std::slice::from_ref(&pick), request.defer_activation);
    let (mut picks, outcomes) = record(&app, vec![pick], deferred, deadline.arrived).await.map_err(refused)?;
    let pick = picks.pop().ok_or_else(|| refused(Problem::internal("a decision was journalled and is gone")))?;
    let answer = match outcomes.as_deref() {
        Some([Appended::Duplicate, ..]) => {
            let recorded = recorded(&app, &pick.decision).await.map_err(refused)?;
            let distribution = distribution_of(&recorded, &pick)?;
            ranking(&ids, &excluded, &recorded, &distribution, event_id)
        }
        _ => ranking(&ids, &excluded, &pick.decision, &pick.distribution, event_id),
    };
    Ok((StatusCode::CREATED, Json(answer)))
}

/// Checks what actions must be: at least one, not too many, each with an id of its own.
pub fn check_actions(actions: &[RankableAction], most: usize) -> Result<(), Refusal> {
    if actions.is_empty() || actions.len() > most {
        let problem = format!("has {} entries, allowed are 1 to {most} (`compat.max_actions`)", actions.len());
        return Err(Refusal::of(INVALID, "actions", problem));
    }
    let mut seen = HashSet::new();
    for (index, action) in actions.iter().enumerate() {
        let field = || format!("actions[{index}].id");
        check_identifier(&action.id).map_err(|error| Refusal::of(INVALID, field(), error.to_string()))?;
        if !seen.insert(&action.id) {
            return Err(Refusal::of(INVALID, field(), format!("is `{}`, which stands twice", action.id)));
        }
    }
    Ok(())
}

/// The actions with their features, named as the policy's schema may name them.
pub fn candidates(
    mapping: &Mapping<'_>,
    actions: Vec<RankableAction>,
) -> Result<Vec<(String, Option<Features>)>, Refusal> {
    let of = |(index, action): (usize, RankableAction)| {
        let features = mapping.features(action.features, &format!("actions[{index}].features"), "")?;
        Ok((action.id, Some(features)))
    };
    actions.into_iter().enumerate().map(of).collect()
}

/// The caller's id for the event, or a new one.
pub fn event_id(chosen: Option<String>) -> Result<String, Refusal> {
    match chosen.filter(|id| !id.is_empty()) {
        Some(id) => match check_identifier(&id) {
            Ok(()) => Ok(id),
            Err(error) => Err(Refusal::of(INVALID, "eventId", error.to_string())),
        },
        None => Ok(unique::by_time().to_string()),
    }
}

/// What says of decisions that they may not have been shown, where they are deferred.
pub fn deferred(picks: &[Pick], defer: Option<bool>) -> Vec<Feedback> {
    let decisions = picks.iter().map(|pick| &pick.decision).filter(|_| defer == Some(true));
    decisions.map(|decision| marker(&decision.decision_id, Feedback::DEFERRED, decision.time)).collect()
}

/// A feedback event that says something of a decision once, however often it is said.
pub fn marker(decision_id: &str, event: &str, time: DateTime<Utc>) -> Feedback {
    Feedback {
        feedback_id: deterministic_id(DateTime::UNIX_EPOCH, &[event, decision_id]).to_string(),
        decision_id: decision_id.to_owned(),
        time,
        occurred: time,
        source: "service".to_owned(),
        event: event.to_owned(),
        value: 1.0,
        item: None,
        position: None,
    }
}

/// The probability of each candidate of a recorded decision to stand first: that of the same choice made again, or what its
/// own scores say.
pub fn distribution_of(recorded: &Decision, again: &Pick) -> Result<Vec<f64>, Refusal> {
    let by = |decision: &Decision| {
        let Decision { model_sha256, exploration, mode, seed, slate, .. } = decision;
        (model_sha256.clone(), exploration.clone(), *mode, *seed, slate.clone())
    };
    if by(recorded) == by(&again.decision) {
        return Ok(again.distribution.clone());
    }
    let journalled = Rescored::from_journal(recorded).and_then(|rescored| {
        let scores = rescored.scores(recorded.candidates.len()).ok()?;
        next_choice(&rescored.exploration, &scores, &[], &Constraints::default())
    });
    if recorded.mode != Mode::Policy {
        let first = recorded.slate.first().map(|shown| &shown.item);
        let certain = |item: &String| f64::from(u8::from(Some(item) == first));
        return Ok(recorded.candidates.iter().map(|candidate| certain(&candidate.item)).collect());
    }
    journalled.ok_or_else(|| {
        let message = format!(
            "`eventId` was ranked before by version {} of the policy, which drew from its posterior and no longer answers: the \
             probabilities of the other actions are not known any more",
            recorded.policy_version
        );
        Refusal::of("ModelRankingError", "eventId", message)
    })
}

/// The answer: the chosen action first, then by probability, score and the caller's order; excluded ones where they stood.
fn ranking(
    ids: &[String],
    excluded: &HashSet<String>,
    decision: &Decision,
    distribution: &[f64],
    event_id: String,
) -> RankResponse {
    let chosen = decision.slate.first().map(|shown| shown.item.clone()).unwrap_or_default();
    let candidates = &decision.candidates;
    let probability = |index: usize| distribution.get(index).copied().unwrap_or_default();
    let score = |index: usize| candidates[index].score.unwrap_or(f32::NEG_INFINITY);
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by(|&a, &b| {
        let is_chosen = |index: usize| candidates[index].item == chosen;
        is_chosen(b)
            .cmp(&is_chosen(a))
            .then(probability(b).total_cmp(&probability(a)))
            .then(score(b).total_cmp(&score(a)))
            .then(a.cmp(&b))
    });
    // Of an apprentice the caller's own order is the ranking.
    if decision.mode != Mode::Policy {
        order.sort_unstable();
    }
    let mut ranked = order
        .into_iter()
        .map(|index| RankedAction { id: candidates[index].item.clone(), probability: probability(index) });
    let place = |id: &String| match excluded.contains(id) {
        true => Some(RankedAction { id: id.clone(), probability: 0.0 }),
        false => ranked.next(),
    };
    RankResponse { ranking: ids.iter().filter_map(place).collect(), event_id, reward_action_id: chosen }
}
