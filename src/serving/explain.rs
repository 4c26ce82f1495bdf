//! Why a slate: what the policy saw, what moved the scores, and what exploration changed.

use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use slated_contract::event::Decision;
use slated_contract::feature::{EncodeError, Feature, FeatureSchema};
use slated_contract::slate::{DecisionSeed, Exploration};
use thiserror::Error;
use utoipa::ToSchema;

use super::engine::{EngineError, Query};
use super::policy::LoadedPolicy;
use super::replay::{self, ReplayErrorKind};

/// Left-out features in the model's queue at once.
const AT_ONCE: usize = 16;

/// Why a decision is what it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// What the model saw of user, context and session.
    pub state: Vec<EncodedNumber>,
    /// Whether the model gave the scores that were recorded, bit for bit.
    #[schema(example = true)]
    pub reproduced: bool,
    /// The items that the scores alone would have shown, best first.
    #[schema(example = json!(["shirt-2", "shirt-1"]))]
    pub greedy: Vec<String>,
    /// The positions at which exploration, or a constraint, put another item there.
    #[schema(example = json!([1]))]
    pub explored: Vec<i32>,
    /// The shown items, by position.
    pub items: Vec<ExplainedItem>,
}

/// One number of the model's input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EncodedNumber {
    /// What it means, such as `user.age` or `context.device=phone`.
    #[schema(example = "context.device=phone")]
    pub name: String,
    /// Its value.
    #[schema(example = 1.0)]
    pub value: f32,
}

/// One item that was shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExplainedItem {
    /// Its id.
    #[schema(example = "shirt-2")]
    pub item: String,
    /// The model's score.
    #[schema(example = 0.37)]
    pub score: f32,
    /// What the model saw of it.
    pub encoded: Vec<EncodedNumber>,
    /// Features by how far the score moves when each alone is left out (its numbers set to zero), farthest first.
    pub moved_by: Vec<Influence>,
}

/// What one feature does to a score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Influence {
    /// The feature, such as `user.age`.
    #[schema(example = "item.price")]
    pub feature: String,
    /// The score less the score without it.
    #[schema(example = 0.12)]
    pub change: f32,
}

/// A decision that cannot be explained.
#[derive(Debug, Error)]
pub enum ExplainError {
    /// Another model decided.
    #[error("the decision was made by a model with SHA-256 {recorded}, and the one that is loaded has {loaded}")]
    OtherModel {
        /// The decision's.
        recorded: String,
        /// The loaded one.
        loaded: String,
    },
    /// The input is not whole.
    #[error(
        "the policy reads the session's history, which the journal does not keep; ask `POST /recommend?explain=true`"
    )]
    History,
    /// A feature that the policy no longer accepts.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The decision's record cannot be encoded.
    #[error("the decision cannot be encoded again: {0}")]
    Record(String),
    /// The model.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// A feature's numbers: in `state` or in each row of `items`.
struct Part {
    name: String,
    of_item: bool,
    from: usize,
    width: usize,
}

/// Explains a decision by running its model again. `history` is what the model saw of it, empty for a policy that reads
/// none.
///
/// # Errors
/// Another model, a history that is not known, or a model that is busy.
pub async fn explain(
    policy: &LoadedPolicy,
    decision: &Decision,
    history: Vec<f32>,
) -> Result<Explanation, ExplainError> {
    let manifest = &policy.manifest;
    if decision.model_sha256.as_deref() != Some(&*manifest.model_sha256) {
        return Err(ExplainError::OtherModel {
            recorded: decision.model_sha256.clone().unwrap_or_default(),
            loaded: manifest.model_sha256.clone(),
        });
    }
    let query = query(policy, decision, history)?;
    let full = policy.engine.run(query.clone()).await?.scores;
    let candidate = |item: &str| decision.candidates.iter().position(|candidate| candidate.item == item);
    let shown: Vec<usize> = decision.slate.iter().filter_map(|shown| candidate(&shown.item)).collect();
    let mut order: Vec<usize> = (0..full.len()).collect();
    order.sort_by(|&a, &b| full[b].total_cmp(&full[a]).then(a.cmp(&b)));
    let greedy = order.iter().take(shown.len()).map(|&index| decision.candidates[index].item.clone()).collect();
    let explored = shown.iter().zip(&order).zip(0..).filter(|((shown, best), _)| shown != best);
    let explored = explored.map(|(_, position)| position).collect();

    let parts = parts(policy);
    let left_out: Vec<Query> = parts.iter().map(|part| leave_out(&query, part, policy)).collect();
    let without = stream::iter(left_out.into_iter().map(|query| policy.engine.run(query)));
    let without: Vec<Vec<f32>> = without.buffered(AT_ONCE).map_ok(|output| output.scores).try_collect().await?;
    let width = policy.encoder.item_width();
    let named = |names: Vec<String>, values: &[f32]| {
        names.into_iter().zip(values).map(|(name, &value)| EncodedNumber { name, value }).collect::<Vec<_>>()
    };
    let items = shown
        .iter()
        .map(|&index| {
            let influence = |(part, scores): (&Part, &Vec<f32>)| Influence {
                feature: part.name.clone(),
                change: full[index] - scores[index],
            };
            let mut moved_by: Vec<Influence> = parts.iter().zip(&without).map(influence).collect();
            moved_by.sort_by(|a, b| b.change.abs().total_cmp(&a.change.abs()));
            ExplainedItem {
                item: decision.candidates[index].item.clone(),
                score: full[index],
                encoded: named(policy.encoder.item_columns(), &query.items[index * width..][..width]),
                moved_by,
            }
        })
        .collect();
    let recorded = decision.candidates.iter().map(|candidate| candidate.score);
    Ok(Explanation {
        state: named(policy.encoder.state_columns(), &query.state),
        reproduced: recorded.eq(full.iter().copied().map(Some)),
        greedy,
        explored,
        items,
    })
}

/// The query of a decision; of posterior draws only the one that was acted upon.
fn query(policy: &LoadedPolicy, decision: &Decision, history: Vec<f32>) -> Result<Query, ExplainError> {
    let signature = policy.manifest.signature;
    if signature.history.is_some() && history.is_empty() && !decision.session.is_empty() {
        return Err(ExplainError::History);
    }
    let seed = DecisionSeed::from_value(decision.seed.unwrap_or(0).cast_unsigned());
    let mut query = replay::query(policy, decision, history, seed).map_err(|error| match error {
        ReplayErrorKind::State(error) | ReplayErrorKind::Candidate { source: error, .. } => error.into(),
        error => ExplainError::Record(error.to_string()),
    })?;
    if matches!(policy.manifest.exploration, Exploration::PosteriorSampling { .. }) {
        query.rows = 1;
        query.noise.truncate(signature.noise.unwrap_or(0));
    }
    Ok(query)
}

fn parts(policy: &LoadedPolicy) -> Vec<Part> {
    let schema = &policy.manifest.features;
    let mut parts = Vec::new();
    let mut add = |group: &str, features: &[Feature], of_item: bool, from: &mut usize| {
        for feature in features {
            let width = feature.kind.width();
            parts.push(Part { name: format!("{group}.{}", feature.name), of_item, from: *from, width });
            *from += width;
        }
    };
    let mut from = 0;
    add("user", &schema.user, false, &mut from);
    add("context", &schema.context, false, &mut from);
    add("session", &schema.session, false, &mut from);
    let mut from = 0;
    add("item", &schema.item, true, &mut from);
    parts.extend(schema.item_id.iter().map(|id| Part {
        name: format!("item.{}", FeatureSchema::ITEM_ID),
        of_item: true,
        from,
        width: id.width(),
    }));
    parts
}

fn leave_out(query: &Query, part: &Part, policy: &LoadedPolicy) -> Query {
    let mut without = query.clone();
    if part.of_item {
        let rows = without.items.chunks_exact_mut(policy.encoder.item_width());
        rows.for_each(|row| row[part.from..][..part.width].fill(0.0));
    } else {
        without.state[part.from..][..part.width].fill(0.0);
    }
    without
}
