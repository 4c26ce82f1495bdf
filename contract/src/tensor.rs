//! The one tensor signature by which every model is called.
//!
//! | tensor | shape | type | what |
//! |---|---|---|---|
//! | in `state` | \[batch, S\] | float32 | encoded user, context and session |
//! | in `items` | \[batch, candidates, D\] | float32 | encoded candidates |
//! | in `mask` | \[batch, candidates\] | bool | false on padding; only where the graph looks across candidates |
//! | in `history` | \[batch, H, F\] | float32 | last interactions, oldest first, zeros after the last; optional |
//! | in `history_length` | \[batch\] | int64 | how many rows of `history` hold an interaction; with `history` |
//! | in `noise` | \[batch, Z\] | float32 | standard normal draws, for posterior sampling; optional |
//! | out `scores` | \[batch, candidates\] | float32 | what the slate is ranked or drawn by |
//! | out `appeal` | \[batch, candidates\] | float32 | the choice model's weight of each item, for SlateQ; optional |

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Name of the encoded state.
pub const STATE: &str = "state";
/// Name of the encoded candidates.
pub const ITEMS: &str = "items";
/// Name of the padding mask.
pub const MASK: &str = "mask";
/// Name of the window of interactions.
pub const HISTORY: &str = "history";
/// Name of the number of interactions in the window.
pub const HISTORY_LENGTH: &str = "history_length";
/// Name of the standard normal draws.
pub const NOISE: &str = "noise";
/// Name of the scores.
pub const SCORES: &str = "scores";
/// Name of the choice model's weights.
pub const APPEAL: &str = "appeal";

/// Which of the optional tensors a model has, and the fixed widths of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// S.
    pub state_width: usize,
    /// D.
    pub item_width: usize,
    /// Whether the model takes `mask`.
    #[serde(default)]
    pub mask: bool,
    /// H, where the model takes `history`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<usize>,
    /// Z, where the model takes `noise`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<usize>,
    /// Whether the model gives `appeal`.
    #[serde(default)]
    pub appeal: bool,
}

/// Element types that the signature uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElementType {
    /// 32-bit float.
    Float32,
    /// 64-bit signed integer.
    Int64,
    /// One byte, 0 or 1.
    Bool,
}

/// One axis of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// Any length, under this name.
    Dynamic(&'static str),
    /// This length.
    Fixed(usize),
}

impl fmt::Display for Axis {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Dynamic(name) => formatter.write_str(name),
            Self::Fixed(length) => write!(formatter, "{length}"),
        }
    }
}

/// One tensor of the signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name in the graph.
    pub name: &'static str,
    /// Its element type.
    pub element: ElementType,
    /// Its axes.
    pub axes: Vec<Axis>,
}

/// A model whose inputs or outputs are not those its manifest declares.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SignatureError {
    /// A declared tensor is not in the graph.
    #[error("the model lacks the {0} that its manifest declares")]
    Absent(String),
    /// The graph has a tensor that is not declared.
    #[error("the model has the {0}, which its manifest does not declare")]
    Undeclared(String),
    /// A tensor has another type or shape.
    #[error("the model's tensor `{name}` is {found}, expected {expected}")]
    Mismatch {
        /// Its name.
        name: String,
        /// Type and shape in the graph.
        found: String,
        /// Type and shape by the manifest.
        expected: String,
    },
}

impl Signature {
    const BATCH: Axis = Axis::Dynamic("batch");
    const CANDIDATES: Axis = Axis::Dynamic("candidates");

    /// The tensors the model takes, in the order of the table above.
    #[must_use]
    pub fn inputs(&self) -> Vec<TensorSpec> {
        use ElementType::{Bool, Float32, Int64};
        let spec = |name, element, axes: &[Axis]| TensorSpec { name, element, axes: axes.to_vec() };
        let history_width = crate::session::SessionSettings::history_width(self.item_width);
        let mut inputs = vec![
            spec(STATE, Float32, &[Self::BATCH, Axis::Fixed(self.state_width)]),
            spec(ITEMS, Float32, &[Self::BATCH, Self::CANDIDATES, Axis::Fixed(self.item_width)]),
        ];
        if self.mask {
            inputs.push(spec(MASK, Bool, &[Self::BATCH, Self::CANDIDATES]));
        }
        if let Some(window) = self.history {
            inputs.push(spec(HISTORY, Float32, &[Self::BATCH, Axis::Fixed(window), Axis::Fixed(history_width)]));
            inputs.push(spec(HISTORY_LENGTH, Int64, &[Self::BATCH]));
        }
        if let Some(draws) = self.noise {
            inputs.push(spec(NOISE, Float32, &[Self::BATCH, Axis::Fixed(draws)]));
        }
        inputs
    }

    /// The tensors the model gives.
    #[must_use]
    pub fn outputs(&self) -> Vec<TensorSpec> {
        let spec = |name| TensorSpec { name, element: ElementType::Float32, axes: vec![Self::BATCH, Self::CANDIDATES] };
        let mut outputs = vec![spec(SCORES)];
        if self.appeal {
            outputs.push(spec(APPEAL));
        }
        outputs
    }
}

impl fmt::Display for TensorSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let axes: Vec<String> = self.axes.iter().map(ToString::to_string).collect();
        write!(formatter, "{:?}[{}]", self.element, axes.join(", "))
    }
}
