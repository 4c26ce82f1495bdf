//! Bundles of models that other frameworks trained.

mod proof;
mod samples;
mod settings;

pub use proof::{Proof, prove};
pub use samples::Sample;
pub use settings::{InputSetting, WrapSettings, exploration};

use std::path::PathBuf;

use slated_contract::feature::SchemaError;
use slated_contract::policy::{BundleError, ManifestError};
use slated_trainer::onnx::foreign::{ForeignError, PlanError};
use thiserror::Error;

use crate::serving::{LoadError, ModelError};

/// A model that was not wrapped. Nothing was written.
#[derive(Debug, Error)]
pub enum WrapError {
    /// A file that cannot be read.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The model.
    #[error(transparent)]
    Model(#[from] ForeignError),
    /// What the model takes or gives is not what can be adapted.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The feature schema.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// A sample.
    #[error("{path} line {line}: {reason}")]
    Sample {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The manifest that would be written.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The model does not run as the service runs it.
    #[error(
        "the model does not run on {lists} lists of up to {candidates} candidates: {source}; an axis that is declared dynamic may be fixed inside the graph"
    )]
    Run {
        /// How many lists.
        lists: usize,
        /// Of how many candidates.
        candidates: usize,
        /// What is wrong.
        source: ModelError,
    },
    /// The model does not do what it must.
    #[error("{0}")]
    Disproved(String),
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The bundle that would be written cannot be served.
    #[error(transparent)]
    Load(#[from] LoadError),
}
