//! What a bandit's learner and its model are to training.

use serde_json::Value;
use slated_contract::feature::FeatureSchema;
use slated_contract::slate::Exploration;
use slated_contract::tensor::Signature;
use thiserror::Error;

use super::LinearError;
use crate::learner::{Checkpoint, CheckpointError};
use crate::nn::NetworkError;
use crate::onnx::OnnxError;

/// The settings of one bandit: what it is called, what it keeps, and its learner.
pub trait BanditSettings {
    /// The first parameter outside its range, with its key and what is allowed.
    fn problem(&self) -> Option<String>;

    /// What the policy explores with where the run says nothing else.
    fn exploration(&self) -> Exploration;

    /// Whether it reads the features of state and item; else it knows items by their id alone.
    fn reads_features(&self) -> bool {
        true
    }

    /// What the learner's state depends on: `state`, its kind, and the settings that may not change when training goes
    /// on from it. Learners of the same kept values read each other's state.
    fn kept(&self) -> Value;

    /// A learner that has seen nothing. Everything random in it derives from `seed`.
    ///
    /// # Errors
    /// Widths that the algorithm cannot hold in memory.
    fn learner(&self, widths: Widths, seed: u64) -> Result<Box<dyn BanditLearner>, BanditError>;
}

/// The widths of the encoded features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Widths {
    /// S.
    pub state: usize,
    /// D.
    pub item: usize,
}

/// One shown item and what came of it. A slate of several positions is an example for each: what an item earned is put
/// down to the item, whatever stood beside it and wherever it stood.
#[derive(Debug, Clone, Copy)]
pub struct Example<'a> {
    /// The decision's id.
    pub decision_id: &'a str,
    /// Where the item stood, from 0.
    pub position: i32,
    /// The item's id.
    pub item_id: &'a str,
    /// The encoded state, S numbers; empty where no features are read.
    pub state: &'a [f32],
    /// The encoded item, D numbers; empty where no features are read.
    pub item: &'a [f32],
    /// Its reward.
    pub reward: f64,
}

/// A learner of one pass over examples in the order of the log.
///
/// Whatever was saved at a decision's end and restored goes on as if it had not been: to the same bits.
pub trait BanditLearner {
    /// Learns an example.
    ///
    /// # Errors
    /// A reward that the algorithm does not take, or numbers that have grown out of range.
    fn add(&mut self, example: &Example) -> Result<(), BanditError>;

    /// Ends a decision.
    ///
    /// # Errors
    /// Numbers that have grown out of range.
    fn settle(&mut self) -> Result<(), BanditError> {
        Ok(())
    }

    /// Writes its state.
    fn save(&self, checkpoint: &mut Checkpoint);

    /// Takes over a state.
    ///
    /// # Errors
    /// A state of other widths, or a damaged one.
    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError>;

    /// The features of the model, where the learner decides them.
    fn features(&self) -> Option<FeatureSchema> {
        None
    }

    /// The model of what was learned. The learner is done after it.
    ///
    /// # Errors
    /// Statistics without a solution, or more items than the algorithm takes.
    fn finish(&mut self) -> Result<Box<dyn BanditModel>, BanditError>;
}

/// A learned model: the graph that is served, and the trainer's own computation of its scores.
pub trait BanditModel {
    /// The tensors of the model.
    fn signature(&self) -> Signature;

    /// The model as ONNX.
    ///
    /// # Errors
    /// None in practice: the shapes fit by construction.
    fn onnx(&self) -> Result<Vec<u8>, OnnxError>;

    /// The scores of items (D numbers each) in a state (S numbers) under one row of noise (Z numbers; empty where the
    /// model takes none).
    fn scores(&self, state: &[f32], items: &[Vec<f32>], noise: &[f32]) -> Vec<f64>;
}

/// A bandit that cannot be learned.
#[derive(Debug, Error)]
pub enum BanditError {
    /// Too many features for statistics of their square.
    #[error(
        "{state} state and {item} item columns make {width} features, at most {most} are allowed{of}; use \
         `algorithm.interaction` = \"additive\", or declare fewer `features`"
    )]
    Width {
        /// S.
        state: usize,
        /// D.
        item: usize,
        /// d.
        width: usize,
        /// The most.
        most: usize,
        /// With what.
        of: String,
    },
    /// Too many items for a table.
    #[error(
        "the journal shows {items} items, `{algorithm}` keeps at most {most}; use an algorithm that reads the items' \
         features, such as `linear_thompson`"
    )]
    Items {
        /// The algorithm.
        algorithm: &'static str,
        /// How many items there are.
        items: usize,
        /// The most.
        most: usize,
    },
    /// A reward outside 0 to 1.
    #[error(
        "decision `{decision_id}`: the reward of item `{item}` is {reward}, `bernoulli_thompson` takes 0 to 1; set \
         `data.reward.weights` and `data.reward.aggregation` so that it is"
    )]
    Reward {
        /// The decision.
        decision_id: String,
        /// The item.
        item: String,
        /// Its reward.
        reward: f64,
    },
    /// A state to continue from that holds rewards outside 0 to 1.
    #[error(
        "the state to continue from holds rewards of item `{0}` outside 0 to 1, which `bernoulli_thompson` does not take"
    )]
    Rewards(String),
    /// The network's numbers are no longer finite.
    #[error(
        "learning diverged: the network's loss is not finite; lower `algorithm.learning_rate`, or normalise features and reward"
    )]
    Diverged,
    /// The linear statistics.
    #[error(transparent)]
    Linear(#[from] LinearError),
    /// The network.
    #[error(transparent)]
    Network(#[from] NetworkError),
}

/// `key` is `value`, which must be finite and above 0.
pub(super) fn positive(key: &str, value: f64) -> Option<String> {
    (!(value.is_finite() && value > 0.0))
        .then(|| format!("`algorithm.{key}` is {value}, it must be finite and above 0"))
}

/// `key` is `value`, which must be finite and at least 0.
pub(super) fn not_negative(key: &str, value: f64) -> Option<String> {
    (!(value.is_finite() && value >= 0.0))
        .then(|| format!("`algorithm.{key}` is {value}, it must be finite and at least 0"))
}

/// `key` is `value`, which must be within `least` and `most`.
pub(super) fn within(key: &str, value: usize, least: usize, most: usize) -> Option<String> {
    (!(least..=most).contains(&value)).then(|| format!("`algorithm.{key}` is {value}, allowed are {least} to {most}"))
}
