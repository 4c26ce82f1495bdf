//! What a caller asks of the recommender, and why it may be refused.

use slated_contract::feature::{EncodeError, Features};
use slated_contract::slate::DrawError;
use thiserror::Error;
use tokio::time::Instant;

use super::engine::EngineError;
use super::registry::RegistryError;
use super::rules::{RuleError, Rules};
use crate::catalogue::Filter;
use crate::journal::IdFrom;
use crate::session::SessionStoreError;

/// What a caller asks for.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// The decision's id.
    pub decision_id: String,
    /// Where that is from.
    pub id_from: IdFrom,
    /// The policy to ask; the default one where absent.
    pub policy: Option<String>,
    /// The version that must answer, whatever the route says.
    pub policy_version: Option<u64>,
    /// The request of several slots that this is one of, and the slot.
    pub slot: Option<(String, String)>,
    /// The user.
    pub user_id: Option<String>,
    /// The session.
    pub session_id: Option<String>,
    /// Raw user features.
    pub user: Features,
    /// Raw context features.
    pub context: Features,
    /// Session features, from a caller that keeps its own state.
    pub session: Option<Features>,
    /// The candidates: ids, with features that go over those of the catalogue.
    pub candidates: Vec<(String, Option<Features>)>,
    /// The candidates by what they are, in place of ids.
    pub filter: Option<Filter>,
    /// Ids that must not be shown.
    pub exclude: Vec<String>,
    /// The caller's own order, best first; the order of the candidates where empty. What it leaves out comes last.
    pub baseline: Vec<String>,
    /// Pinned items and business constraints.
    pub rules: Rules,
    /// How many items to show.
    pub size: usize,
    /// Whether the probability with which each candidate stands first is wanted as well.
    pub distribution: bool,
    /// By when the model must have answered; without end where absent.
    pub deadline: Option<Instant>,
}

/// A request that no slate can be decided for.
#[derive(Debug, Error)]
pub enum RecommendError {
    /// The policy is not there.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A user, context or session feature.
    #[error(transparent)]
    State(EncodeError),
    /// A candidate's feature.
    #[error("candidate `{id}`: {source}")]
    Candidate {
        /// Its index in the request.
        index: usize,
        /// Its id.
        id: String,
        /// What is wrong.
        source: EncodeError,
    },
    /// A candidate without features that the catalogue does not know.
    #[error("candidate `{id}` has no features in the request and is not in the catalogue")]
    UnknownItem {
        /// Its index in the request.
        index: usize,
        /// Its id.
        id: String,
    },
    /// A candidate given twice.
    #[error("candidate `{id}` is given twice")]
    Duplicate {
        /// Its index in the request.
        index: usize,
        /// Its id.
        id: String,
    },
    /// More candidates than the policy was made for.
    #[error("{given} candidates, the policy takes at most {most}")]
    TooManyCandidates {
        /// How many there are.
        given: usize,
        /// The policy's limit.
        most: usize,
    },
    /// A slate size that the policy or the candidates do not allow.
    #[error(
        "a slate of {size} is asked for; allowed are 1 to {most} (the policy's limit, and the candidates left after exclusions)"
    )]
    Size {
        /// The size asked for.
        size: usize,
        /// The greatest possible one.
        most: usize,
    },
    /// An id in the caller's own order that is no candidate, or stands there twice.
    #[error("`{id}` is not one of the candidates or stands twice")]
    Baseline {
        /// Its index in the order.
        index: usize,
        /// The id.
        id: String,
    },
    /// Pinned items or constraints that cannot be kept.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// The session cannot be read now.
    #[error(transparent)]
    Session(SessionStoreError),
    /// The look for candidates was cut short.
    #[error("the candidates could not be looked up: {0}")]
    Cut(String),
    /// The model did not answer in time, and there is no fallback.
    #[error("the model did not answer within the request's time limit")]
    Late,
    /// The model.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The model's scores cannot be ranked.
    #[error("the policy cannot rank these candidates: {0}")]
    Draw(#[from] DrawError),
}

impl RecommendError {
    /// Whether the policy, and not the request, is at fault.
    #[must_use]
    pub const fn is_the_policys(&self) -> bool {
        matches!(self, Self::Late | Self::Engine(_) | Self::Draw(_))
    }
}
