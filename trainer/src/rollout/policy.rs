//! What a rollout asks of a policy's model.

use thiserror::Error;

use super::Observation;

/// What a model says of the candidates of one observation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scored {
    /// One score a candidate; several rows of them under posterior sampling.
    pub scores: Vec<f32>,
    /// The choice model's weight of each candidate; empty where the model has none.
    pub appeal: Vec<f32>,
}

/// A model that scores candidates: a network in training, or a bundle in ONNX Runtime.
pub trait Scorer: Send {
    /// Scores each observation. `noise` holds a row of standard normal draws for each row of scores wanted, where the
    /// model takes noise, one observation after the other; empty otherwise.
    ///
    /// # Errors
    /// A model that fails.
    fn score(&mut self, observations: &[&Observation], noise: &[f32]) -> Result<Vec<Scored>, ScorerError>;
}

/// A model that failed.
#[derive(Debug, Error)]
#[error("the model failed: {0}")]
pub struct ScorerError(pub String);
