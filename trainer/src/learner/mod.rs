//! Learners from transitions: each an algorithm's target and loss over a mini-batch, on networks that score candidates.
//!
//! A learner knows neither where its transitions come from (a simulator or a journal) nor when it is asked to learn;
//! [`crate::online`] drives it in an environment and [`crate::offline`] over a log.
//!
//! [`Dqn`] and [`SlateQ`] learn from either. The others are for logs: [`Bc`] and [`Marwil`] imitate, [`Bcq`] and [`Cql`] learn
//! values that keep to what was logged, and [`Iql`], [`Awac`] and [`Crr`] learn values and imitate what they prefer.
//!
//! For decisions that lead to nothing further, where the log is a bandit's: [`Ips`], [`DoublyRobust`] and [`TopK`] weigh what
//! was shown by its propensity, and [`Direct`] learns rewards.

mod awac;
mod bc;
mod bcq;
mod checkpoint;
mod choice;
mod cql;
mod critic;
mod crr;
mod direct;
mod doubly_robust;
mod dqn;
mod ips;
mod iql;
mod loss;
mod marwil;
mod slate_q;
mod softmax;
mod top_k;
mod trained;

pub use awac::{Awac, AwacSettings};
pub use bc::{Bc, BcSettings};
pub use bcq::{Bcq, BcqSettings};
pub use checkpoint::{Checkpoint, CheckpointError};
pub use choice::ChoiceSettings;
pub use cql::{Cql, CqlSettings};
pub use crr::{Crr, CrrFilter, CrrSettings};
pub use direct::{Direct, DirectSettings};
pub use doubly_robust::{DoublyRobust, DoublyRobustSettings};
pub use dqn::{Dqn, DqnSettings};
pub use ips::{Ips, IpsSettings};
pub use iql::{Iql, IqlSettings};
pub use marwil::{Marwil, MarwilSettings};
pub use slate_q::{SlateQ, SlateQSettings, SlateTarget};
pub use top_k::{TopK, TopKSettings};
pub use trained::{Optimisation, TargetUpdate};

use slated_contract::feature::Encoder;
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

    /// The learner as it stands.
    fn copy(&self) -> Box<dyn Learner>;

    /// How scores and appeal make a slate; `None` where the scores alone rank.
    fn objective(&self) -> Option<SlateObjective> {
        None
    }

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

impl LearnerError {
    /// Refuses settings that have a problem.
    pub(crate) fn check(problem: Option<String>) -> Result<(), Self> {
        problem.map_or(Ok(()), |problem| Err(Self::Setting(format!("algorithm: {problem}"))))
    }
}

impl Problem {
    /// The problem of a policy that reads by `encoder`.
    #[must_use]
    pub fn new(encoder: &Encoder, window: usize, slate_size: usize) -> Self {
        Self {
            state_width: encoder.state_width(),
            item_width: encoder.item_width(),
            window,
            state_columns: encoder.state_columns(),
            item_columns: encoder.item_columns(),
            slate_size,
        }
    }

    /// Refuses slates of several items for an algorithm that values one item at a time.
    fn require_single(&self, algorithm: &str) -> Result<(), LearnerError> {
        if self.slate_size == 1 {
            return Ok(());
        }
        let message = format!(
            "algorithm `{algorithm}` values one item at a time, and `slate_size` is {}; use `slate_q`, or from a log also \
             `marwil`, `bc`, `ips`, `top_k` or `direct`",
            self.slate_size
        );
        Err(LearnerError::Setting(message))
    }
}
