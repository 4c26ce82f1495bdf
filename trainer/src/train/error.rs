//! Why a training run fails.

use slated_contract::feature::{EncodeError, SchemaError};
use slated_contract::policy::ManifestError;
use thiserror::Error;

use crate::bandit::{BanditError, StateError};
use crate::dataset::{DatasetError, InferError};
use crate::learner::CheckpointError;
use crate::onnx::OnnxError;

/// A run that failed.
#[derive(Debug, Error)]
pub enum TrainError {
    /// A setting.
    #[error("{0}")]
    Setting(String),
    /// The journal.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// There is nothing after the version to continue from.
    #[error("the journal holds no decision after the last one that version {0} learned from")]
    NothingNew(u64),
    /// A feature that no schema can be found for.
    #[error(transparent)]
    Infer(#[from] InferError),
    /// The feature schema.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// A decision's features.
    #[error("decision `{decision_id}`: {source}")]
    Encode {
        /// Its id.
        decision_id: String,
        /// What is wrong.
        source: EncodeError,
    },
    /// The learner.
    #[error(transparent)]
    Bandit(#[from] BanditError),
    /// A learner's state or a checkpoint.
    #[error(transparent)]
    State(#[from] StateError),
    /// The arrays of a learner's state.
    #[error("the learner's state cannot be used: {0}")]
    Arrays(#[from] CheckpointError),
    /// A checkpoint of another run.
    #[error("the checkpoint is of other settings or another journal; remove it to start again ({0})")]
    Checkpoint(&'static str),
    /// A model whose scores are not finite.
    #[error("the model's scores are not finite; a feature or a reward is far outside any sensible scale: normalise it")]
    NotFinite,
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
