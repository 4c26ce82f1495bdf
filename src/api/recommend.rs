//! `POST /recommend`.

use std::fmt;

use axum::extract::State;
use axum::{Extension, Json};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use slated_contract::event::{Candidate, Decision, Feedback, Mode, check_identifier};
use slated_contract::feature::Features;
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use super::body::{self, JsonBody};
use super::deadline::{Deadline, missed};
use super::finish::finish;
use super::measure::count;
use super::url::QueryOf;
use super::{App, Problem};
use crate::catalogue::Filter;
use crate::journal::{Appended, IdFrom, JournalError, OnFailure};
use crate::schema;
use crate::serving::{Ask, Explanation, Pick, Pin, RecommendError, Rule, Rules, explain};

/// What to recommend, to whom, out of what.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "user_id": "user-42",
    "user": {"age": 41, "country": "NO"},
    "context": {"device": "phone"},
    "candidates": ["shirt-1", {"id": "shirt-2", "features": {"price": 19.9, "category": "shoes"}}],
    "slate_size": 1,
}))]
pub struct RecommendRequest {
    /// The policy to ask; the service's default where absent.
    #[schema(example = "open-bandit")]
    #[serde(default)]
    pub policy: Option<String>,
    /// The caller's id for this decision, at most 256 characters; the service makes a UUIDv7 where absent. The same id
    /// again is answered with the recorded decision, so a request may be repeated safely.
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
    /// User features by name: numbers, strings, booleans or arrays of numbers.
    #[schema(value_type = schema::Features)]
    #[serde(default)]
    pub user: Features,
    /// Context features by name.
    #[schema(value_type = schema::Features)]
    #[serde(default)]
    pub context: Features,
    /// Session features by name, from a caller that keeps its own state; they go over those that the service keeps.
    #[schema(value_type = Option<schema::Features>)]
    #[serde(default)]
    pub session: Option<Features>,
    /// The version that must answer, whatever the policy's route says: for tests. It must be loaded.
    #[schema(example = 1)]
    #[serde(default)]
    pub policy_version: Option<u64>,
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
    /// The caller's own order of the candidates, best first, by id; the order of `candidates` where absent. What it
    /// leaves out comes last. It is shown where the policy does not answer in time, if the service is set so.
    #[schema(example = json!(["shirt-2", "shirt-1"]))]
    #[serde(default)]
    pub baseline: Vec<String>,
    /// Items that stand at given positions whatever the policy says.
    #[serde(default)]
    pub pinned: Vec<Pin>,
    /// Business constraints, kept as the slate is drawn, so that its propensities are those of what is shown.
    #[serde(default, deserialize_with = "body::rules")]
    pub rules: Vec<Rule>,
}

/// How to answer.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AnswerQuery {
    /// Whether to say why: encoded state, what moved the scores, what exploration changed.
    #[param(default = false, example = true)]
    #[serde(default)]
    pub explain: bool,
}

/// A candidate: an id that the service's catalogue knows, or an id with features.
#[derive(Debug, Clone, ToSchema)]
#[schema(examples("shirt-1", json!({"id": "shirt-2", "features": {"price": 19.9}})))]
#[serde(untagged)]
pub enum CandidateRequest {
    /// An id alone.
    #[schema(value_type = schema::Identifier)]
    Id(String),
    /// An id with features; they go over those of the catalogue.
    #[schema(title = "CandidateItem")]
    Item {
        /// The item's id.
        #[schema(example = "shirt-2", min_length = 1, max_length = 256, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
        id: String,
        /// Item features by name.
        #[schema(value_type = Option<schema::Features>)]
        features: Option<Features>,
    },
}

impl<'de> Deserialize<'de> for CandidateRequest {
    /// By hand, because serde's `untagged` would lose the path of a field at fault.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Item {
            id: String,
            #[serde(default)]
            features: Option<Features>,
        }

        struct CandidateVisitor;

        impl<'de> Visitor<'de> for CandidateVisitor {
            type Value = CandidateRequest;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("an item's id, or an object with `id` and `features`")
            }

            fn visit_str<E>(self, id: &str) -> Result<CandidateRequest, E> {
                Ok(CandidateRequest::Id(id.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<CandidateRequest, A::Error> {
                let Item { id, features } = Item::deserialize(MapAccessDeserializer::new(map))?;
                Ok(CandidateRequest::Item { id, features })
            }
        }

        deserializer.deserialize_any(CandidateVisitor)
    }
}

/// The slate, with the probabilities of showing it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RecommendResponse {
    /// Names this decision in feedback.
    #[schema(example = "0197f3a2-5b7c-7c3e-9d52-3b1f0e6a9c11")]
    pub decision_id: String,
    /// The policy that decided.
    #[schema(example = "open-bandit")]
    pub policy: String,
    /// Its version.
    #[schema(example = 1)]
    pub policy_version: i64,
    /// The slate, by position.
    pub slate: Vec<SlateItem>,
    /// The probability of the whole slate.
    #[schema(example = 0.0123)]
    pub propensity: f64,
    /// How many posterior draws the propensities are estimated from; absent where they are exact.
    #[schema(example = 256)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propensity_draws: Option<i32>,
    /// How the slate came about: `policy`; `apprentice` or `fallback`, the caller's own order, because the
    /// policy is an apprentice or was late.
    #[schema(value_type = schema::Mode)]
    pub mode: Mode,
    /// Why no evaluation may weigh by these propensities; absent where it may.
    #[schema(example = "the policy did not answer in time")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_evaluable: Option<String>,
    /// How many simulated prefixes the marginal propensities are estimated from; absent where they are as exact as the
    /// others.
    #[schema(example = 1024)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marginal_draws: Option<i32>,
    /// False where the journal could not be written and the service is set to answer all the same, or is set to journal
    /// nothing: nothing can be learned from this decision. Absent otherwise.
    #[schema(example = false)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journalled: Option<bool>,
    /// The slot, in a request of several.
    #[schema(example = "hero")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// Why, where the request asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Explanation>,
}

/// One item of the slate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SlateItem {
    /// The item's id.
    #[schema(example = "shirt-2")]
    pub item: String,
    /// Where it stands, from 0.
    #[schema(example = 0)]
    pub position: i32,
    /// The policy's score, by which it was ranked or drawn.
    #[schema(example = 0.37)]
    pub score: Option<f32>,
    /// The probability of the slate's items up to and including this one.
    #[schema(example = 0.21)]
    pub cascade_propensity: f64,
    /// The probability that this item stands at this position, whatever stands elsewhere.
    #[schema(example = 0.21)]
    pub marginal_propensity: f64,
}

/// Decide a slate
///
/// The decision is in the journal before it is answered; while the journal cannot be written, the setting
/// `journal.on_failure` says whether the answer is 503 or a slate with `"journalled": false`.
#[utoipa::path(
    post,
    path = "/recommend",
    tag = "recommend",
    params(AnswerQuery),
    request_body = RecommendRequest,
    responses(
        (status = 200, description = "The slate", body = RecommendResponse),
        (status = 404, description = "No such policy is live", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The event id was used for another request", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The journal or the model cannot answer now, or not in time", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn recommend(
    State(app): State<App>,
    Extension(deadline): Extension<Deadline>,
    QueryOf(answer): QueryOf<AnswerQuery>,
    JsonBody(request): JsonBody<RecommendRequest>,
) -> Result<Json<RecommendResponse>, Problem> {
    let ask = check(request, &app, deadline)?;
    let pick = decide(&app, ask).await?;
    let (mut picks, outcomes) = record(&app, vec![pick], Vec::new(), deadline.arrived).await?;
    let Some(pick) = picks.pop() else { return Err(Problem::internal("a decision was journalled and is gone")) };
    let mut response = match outcomes.as_deref() {
        Some([Appended::Duplicate, ..]) => return repeated(&app, pick.decision).await,
        Some(_) => RecommendResponse::from(&pick.decision),
        None => not_journalled(&pick),
    };
    if answer.explain {
        response.explanation = Some(explain(&pick.policy, &pick.decision, pick.history).await?);
    }
    Ok(Json(response))
}

/// Decides; a model that was late is counted.
pub async fn decide(app: &App, ask: Ask) -> Result<Pick, Problem> {
    let decided = app.recommender.recommend(ask).await;
    if matches!(decided, Err(RecommendError::Late)) {
        missed("refused");
    }
    Ok(decided?)
}

/// Journals decisions with feedback about them, and tells the sessions of those that are new, even where the caller is gone by then. No outcomes
/// where they cannot be journalled now and are to be answered all the same.
pub async fn record(
    app: &App,
    picks: Vec<Pick>,
    with: Vec<Feedback>,
    arrived: Instant,
) -> Result<(Vec<Pick>, Option<Vec<Appended>>), Problem> {
    let told = app.clone();
    let recorded = finish(async move {
        let decisions = picks.iter().map(|pick| (&pick.decision, pick.id_from));
        let outcomes = match told.journal.append_decisions(decisions, &with).await {
            Ok(outcomes) => Some(outcomes),
            Err(JournalError::Off) => None,
            Err(JournalError::Write(_)) if told.on_failure == OnFailure::Serve => None,
            Err(error) => return Err(error),
        };
        for pick in new(&picks, outcomes.as_deref()) {
            told.recommender.shown(pick).await;
        }
        Ok((picks, outcomes))
    });
    let (picks, outcomes) = recorded.await?;
    new(&picks, outcomes.as_deref()).for_each(|pick| count(pick, arrived));
    Ok((picks, outcomes))
}

fn new<'a>(picks: &'a [Pick], outcomes: Option<&'a [Appended]>) -> impl Iterator<Item = &'a Pick> {
    let outcomes = outcomes.unwrap_or_default();
    picks.iter().zip(outcomes).filter(|(_, outcome)| **outcome == Appended::New).map(|(pick, _)| pick)
}

/// The answer for a decision that is not in the journal. The sessions are not told of it, because they never know more
/// than the journal.
pub fn not_journalled(pick: &Pick) -> RecommendResponse {
    metrics::counter!("slated_decisions_not_journalled_total", "policy" => pick.decision.policy.clone()).increment(1);
    RecommendResponse { journalled: Some(false), ..RecommendResponse::from(&pick.decision) }
}

/// Answers a repeated event id with what was recorded for it, if it was the same request.
pub async fn repeated(app: &App, again: Decision) -> Result<Json<RecommendResponse>, Problem> {
    Ok(Json(RecommendResponse::from(&recorded(app, &again).await?)))
}

/// What was recorded for a repeated event id, if it was the same request.
pub async fn recorded(app: &App, again: &Decision) -> Result<Decision, Problem> {
    let journal = app.journal.clone();
    let id = again.decision_id.clone();
    let recorded = tokio::task::spawn_blocking(move || journal.decision(&id)).await.map_err(Problem::internal)??;
    let recorded = recorded.ok_or_else(|| {
        let id = &again.decision_id;
        Problem::conflict(format!("`event_id` {id} was used before, for a decision that the journal no longer keeps"))
    })?;
    let again = app.journal.as_journalled(again);
    // A catalogue that changed meanwhile lends other features to the same request.
    let lent_alike = recorded.catalogue_version == again.catalogue_version;
    let items = |decision: &Decision| {
        let item = |c: &Candidate| (c.item.clone(), lent_alike.then(|| c.features.clone()));
        decision.candidates.iter().map(item).collect::<Vec<_>>()
    };
    let same = (&recorded.user_id, &recorded.session_id, &recorded.context, &recorded.rules)
        == (&again.user_id, &again.session_id, &again.context, &again.rules)
        && (recorded.user == again.user || !lent_alike)
        && recorded.slate.len() == again.slate.len()
        && items(&recorded) == items(&again);
    if same {
        Ok(recorded)
    } else {
        Err(Problem::conflict(format!("`event_id` {} was used before for another request", again.decision_id)))
    }
}

/// Where the id of a decision is from.
pub const fn id_from(chosen: Option<&String>) -> IdFrom {
    if chosen.is_some() { IdFrom::Sender } else { IdFrom::Us }
}

pub fn check(request: RecommendRequest, app: &App, deadline: Deadline) -> Result<Ask, Problem> {
    let limits = &app.settings;
    match (&request.filter, request.candidates.is_empty()) {
        (None, true) => return Err(Problem::invalid("candidates", "must not be empty, or give a `filter`")),
        (Some(_), false) => return Err(Problem::invalid("filter", "cannot go with `candidates`; give one of them")),
        _ => {}
    }
    if request.candidates.len() > limits.max_candidates {
        let detail = format!("has {} entries, at most {} are allowed", request.candidates.len(), limits.max_candidates);
        return Err(Problem::invalid("candidates", detail));
    }
    if request.slate_size == 0 || request.slate_size > limits.max_slate_size {
        let detail = format!("is {}, allowed are 1 to {}", request.slate_size, limits.max_slate_size);
        return Err(Problem::invalid("slate_size", detail));
    }
    for (field, id) in
        [("event_id", &request.event_id), ("user_id", &request.user_id), ("session_id", &request.session_id)]
    {
        if let Some(id) = id {
            check_identifier(id).map_err(|error| Problem::identifier(field, &error))?;
        }
    }
    let mut candidates = Vec::with_capacity(request.candidates.len());
    for (index, candidate) in request.candidates.into_iter().enumerate() {
        let (id, features) = match candidate {
            CandidateRequest::Id(id) => (id, None),
            CandidateRequest::Item { id, features } => (id, features),
        };
        check_identifier(&id).map_err(|error| Problem::identifier(format!("candidates[{index}].id"), &error))?;
        candidates.push((id, features));
    }
    let id_from = id_from(request.event_id.as_ref());
    let chosen = app.ids.choose(request.event_id).map_err(|error| Problem::invalid("event_id", error.to_string()))?;
    let decision_id = app.ids.sign(chosen);
    check_identifier(&decision_id).map_err(|error| Problem::identifier("event_id", &error))?;
    Ok(Ask {
        decision_id,
        id_from,
        policy: request.policy,
        policy_version: request.policy_version,
        slot: None,
        user_id: request.user_id,
        session_id: request.session_id,
        user: request.user,
        context: request.context,
        session: request.session,
        candidates,
        filter: request.filter,
        exclude: request.exclude,
        baseline: request.baseline,
        rules: Rules { pinned: request.pinned, rules: request.rules },
        size: request.slate_size,
        distribution: false,
        deadline: Some(deadline.model),
    })
}

impl From<&Decision> for RecommendResponse {
    fn from(decision: &Decision) -> Self {
        let score = |item: &str| decision.candidates.iter().find(|candidate| candidate.item == item)?.score;
        Self {
            decision_id: decision.decision_id.clone(),
            policy: decision.policy.clone(),
            policy_version: decision.policy_version,
            slate: decision
                .slate
                .iter()
                .map(|shown| SlateItem {
                    item: shown.item.clone(),
                    position: shown.position,
                    score: score(&shown.item),
                    cascade_propensity: shown.cascade_propensity,
                    marginal_propensity: shown.marginal_propensity,
                })
                .collect(),
            propensity: decision.propensity,
            propensity_draws: decision.propensity_draws,
            mode: decision.mode,
            not_evaluable: decision.not_evaluable.clone(),
            marginal_draws: decision.marginal_draws,
            journalled: None,
            slot: decision.slot.clone(),
            explanation: None,
        }
    }
}
