//! Learners from transitions: each an algorithm's target and loss over a mini-batch, on networks that score candidates.
//!
//! A learner knows neither where its transitions come from (a simulator or a journal) nor when it is asked to learn;
//! [`crate::online`] drives it in an environment.

mod checkpoint;
mod choice;
mod dqn;
mod loss;
mod slate_q;
mod trained;

pub use checkpoint::{Checkpoint, CheckpointError};
pub use choice::ChoiceSettings;
pub use dqn::{Dqn, DqnSettings};
pub use slate_q::{SlateQ, SlateQSettings, SlateTarget};
pub use trained::{Optimisation, TargetUpdate};

use slated_contract::slate::SlateObjective;
use slated_contract::tensor::Signature;
use thiserror::Error;

use crate::nn::NetworkError;
use crate::onnx::OnnxError;
use crate::replay::{Replay, Sample};
use crate::rollout::{Observation, Scored, Scorer, ScorerError};

/// What a policy is learned for: the widths of its tensors and the problem's size.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// S.
    pub state_width: usize,
    /// D.
    pub item_width: usize,
    /// H, the length of the history window; 0 where there is none.
    pub window: usize,
    /// What each number of a `state` row means, as [`slated_contract::feature::Encoder::state_columns`] says.
    pub state_columns: Vec<String>,
    /// What each number of an `items` row means.
    pub item_columns: Vec<String>,
    /// How many items a slate shows.
    pub slate_size: usize,
}

/// Learns from transitions.
pub trait Learner: Send + Sync {
    /// One gradient step on a sample of the replay.
    ///
    /// # Errors
    /// A loss or gradient that is not a number; nothing was changed then.
    fn update(&mut self, replay: &Replay, sample: &Sample) -> Result<Update, Diverged>;

    /// Scores the candidates of each observation as the exported model will.
    fn score(&mut self, observations: &[&Observation]) -> Vec<Scored>;

    /// The policy as it stands, to be run elsewhere while learning goes on.
    fn scorer(&self) -> Box<dyn Scorer>;

    /// How scores and appeal make a slate; `None` where the scores alone rank.
    fn objective(&self) -> Option<SlateObjective>;

    /// The policy as it stands.
    ///
    /// # Errors
    /// A graph that cannot be written.
    fn export(&self) -> Result<Exported, OnnxError>;

    /// Writes everything that learning goes on from.
    fn save(&self, checkpoint: &mut Checkpoint);

    /// Reads what [`Learner::save`] wrote.
    ///
    /// # Errors
    /// A tensor that is absent or of another length.
    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError>;
}

/// A learner's copy that only scores.
struct Snapshot<L>(L);

impl<L: Learner> Scorer for Snapshot<L> {
    fn score(&mut self, observations: &[&Observation], _: &[f32]) -> Result<Vec<Scored>, ScorerError> {
        Ok(self.0.score(observations))
    }
}

/// What one gradient step found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Update {
    /// The mean loss of the mini-batch.
    pub loss: f64,
    /// The length of the gradient before it was clipped.
    pub gradient_norm: f64,
    /// How far off the learner was on each transition, for priorities.
    pub errors: Vec<f32>,
}

/// A policy's model with what the manifest says of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Exported {
    /// ONNX.
    pub model: Vec<u8>,
    /// Its tensors.
    pub signature: Signature,
}

/// Learning that broke down.
#[derive(Debug, Clone, PartialEq, Error)]
#[error(
    "learning diverged at update {update}: the {what} is {value}; lower `optimisation.adam.learning_rate`, clip the gradient, or scale \
     the reward down"
)]
pub struct Diverged {
    /// Which update.
    pub update: u64,
    /// What is not a number.
    pub what: &'static str,
    /// Its value.
    pub value: f64,
}

/// Settings that make no learner.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum LearnerError {
    /// A setting outside its range.
    #[error("{0}")]
    Setting(String),
    /// The network.
    #[error(transparent)]
    Network(#[from] NetworkError),
}
