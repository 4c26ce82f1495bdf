//! What keeps a policy from being learned from a log.

use slated_contract::feature::{EncodeError, SchemaError};
use slated_contract::policy::ManifestError;
use slated_contract::session::SessionError;
use thiserror::Error;

use crate::dataset::{DatasetError, InferError};
use crate::env::EnvironmentError;
use crate::learner::{CheckpointError, Diverged, LearnerError};
use crate::onnx::OnnxError;
use crate::rollout::RolloutError;

/// A run that failed.
#[derive(Debug, Error)]
pub enum OfflineError {
    /// A setting.
    #[error("{0}")]
    Setting(String),
    /// The journal.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// A feature that no schema can be found for.
    #[error(transparent)]
    Infer(#[from] InferError),
    /// The feature schema.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The session settings.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A decision's features.
    #[error("decision `{decision_id}`: {source}")]
    Encode {
        /// Its id.
        decision_id: String,
        /// What is wrong.
        source: EncodeError,
    },
    /// A log that leaves nothing to learn from.
    #[error(
        "nothing is left to learn from: of {sessions} sessions, `episodes.validation` keeps {kept_out} out and `episodes.end` \
         takes the last decision of each"
    )]
    Nothing {
        /// How many there are.
        sessions: usize,
        /// How many of them are kept out.
        kept_out: usize,
    },
    /// A log without propensities for an algorithm that weighs by them.
    #[error(
        "algorithm `{0}` weighs by propensities, and no decision of the log has any that say what was shown; take one that does not, \
         such as `direct` or `bc`"
    )]
    Unweighable(&'static str),
    /// The environment.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// Episodes that are learned from or that measure the policy.
    #[error(transparent)]
    Rollout(#[from] RolloutError),
    /// The learner's settings.
    #[error(transparent)]
    Learner(#[from] LearnerError),
    /// Learning broke down. The state from before it did is kept.
    #[error("{source}; the state at update {update} is kept")]
    Diverged {
        /// What happened.
        source: Diverged,
        /// The update of the kept state.
        update: u64,
        /// The kept state.
        checkpoint: Vec<u8>,
    },
    /// A checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The model.
    #[error("the model cannot be written: {0}")]
    Onnx(#[from] OnnxError),
    /// The manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The async runtime that reads the journal.
    #[error("cannot start the reader: {0}")]
    Runtime(std::io::Error),
}

impl OfflineError {
    /// Whether the settings, the log or the checkpoint are at fault, rather than what came of them.
    #[must_use]
    pub const fn is_input(&self) -> bool {
        !matches!(self, Self::Rollout(_) | Self::Diverged { .. } | Self::Onnx(_) | Self::Manifest(_) | Self::Runtime(_))
    }
}
