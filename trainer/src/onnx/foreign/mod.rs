//! Models that others wrote: read as far as it takes to call them, and made to keep to the contract's signature.
//!
//! A graph is never understood as a whole. Its fields are carried over as they are, its names get a prefix so that none
//! can meet one of the signature's, and nodes before and behind it turn `state` and `items` into what it takes and what
//! it gives into `scores`.

mod adapt;
mod carry;
mod model;
mod plan;
mod source;
mod wire;

pub use adapt::adapted;
pub use model::{Dimension, ForeignModel, ForeignTensor};
pub use plan::{Layout, Output, Plan, PlanError, Wishes};
pub use source::{Columns, Source};

use std::path::PathBuf;

use thiserror::Error;

/// A model that cannot be read or carried over.
#[derive(Debug, Error)]
pub enum ForeignError {
    /// Bytes that are no ONNX model.
    #[error("not an ONNX model: {0}")]
    Damaged(String),
    /// Weights in a file that is not there, or not as long as the model says.
    #[error("the weights of `{tensor}` are in {path}: {reason}")]
    Weights {
        /// Whose weights.
        tensor: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// More than one file of ONNX holds.
    #[error(
        "the model has {0} bytes with its weights; a bundle's `model.onnx` is one file, which ONNX limits to 2 GiB"
    )]
    Size(usize),
    /// Operators older than those that the adaptation needs.
    #[error("the model is of opset {found}; export it with opset {needed} or later")]
    Opset {
        /// The model's opset.
        found: i64,
        /// The least that would do.
        needed: i64,
    },
}
