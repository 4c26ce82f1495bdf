//! From a journal to the evidence that the gate judges.
//!
//! The journal is read twice. The first pass fits a [`RewardModel`] in parts, so that no round is told its own reward; the
//! second, [`gather`], scores each decision with both policies through ONNX Runtime and adds it to the log of the
//! evaluation. [`gather_sessions`] does the same for whole sessions, of which it keeps a sample in memory instead.

mod evidence;
mod record;
mod reward_model;
mod sessions;

pub use evidence::{EvidenceSettings, Gathered, gather};
pub use record::evaluations;
pub use reward_model::RewardModel;
pub use sessions::{GatheredSessions, SessionEvidenceSettings, gather_sessions};

use slated_contract::event::Decision;
use slated_contract::feature::{EncodeError, SchemaError};
use slated_trainer::dataset::DatasetError;
use slated_trainer::ope::OpeError;
use slated_trainer::ope::reward_model::RewardModelError;
use thiserror::Error;

use crate::journal::verify::VerifyError;
use crate::serving::ReplayError;

/// Evidence that cannot be gathered.
#[derive(Debug, Error)]
pub enum EvidenceError {
    /// The journal.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// A decision's features, for the reward model.
    #[error("decision `{decision_id}`: {source}")]
    Encode {
        /// The decision.
        decision_id: String,
        /// What is wrong.
        source: EncodeError,
    },
    /// A decision that a policy cannot score.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// The reward model.
    #[error(transparent)]
    RewardModel(#[from] RewardModelError),
    /// The features of the reward model.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// A row of the evaluation.
    #[error(transparent)]
    Ope(#[from] OpeError),
    /// A log without a single probability.
    #[error(
        "none of the decisions can be weighed by its propensities, as `not_evaluable` in the journal says of each: the \
         policy's own slates must be shown before a policy can be evaluated on them"
    )]
    NoneEvaluable,
    /// Sessions that cannot be evaluated.
    #[error("{0}")]
    Sessions(String),
    /// Replaying the log.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

/// Whose decision it is: decisions of one user, or of one session, are not independent.
fn user(decision: &Decision) -> Option<&str> {
    decision.user_id.as_deref().or(decision.session_id.as_deref())
}
