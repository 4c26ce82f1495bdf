//! `learner.safetensors`: a bandit's learner between two runs.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use slated_contract::feature::FeatureSchema;
use thiserror::Error;

use crate::learner::{Checkpoint, CheckpointError};

/// The name under which the notes stand among the learner's own arrays.
const NOTES: &str = "notes";

/// A learner's state with what it was learned from.
#[derive(Debug, Clone, PartialEq)]
pub struct LearnerState {
    /// The learner's own state.
    pub learner: Checkpoint,
    /// Everything else.
    pub notes: LearnerNotes,
}

/// What the state was learned from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LearnerNotes {
    /// What the state depends on: [`super::BanditSettings::kept`].
    pub kept: Value,
    /// The features that were read.
    pub features: FeatureSchema,
    /// Examples learned.
    pub examples: u64,
    /// Decisions learned.
    pub decisions: u64,
    /// Sum of their rewards.
    pub reward: f64,
    /// Feedback events that counted.
    pub feedback: u64,
    /// The last decision learned; what follows it, in the order of (time, id), is not.
    pub until: Option<(DateTime<Utc>, String)>,
    /// The digest of the rounds of this run.
    pub digest: String,
    /// The digest of the settings of this run.
    pub settings: String,
    /// The greatest slate and the most candidates seen.
    pub largest: (usize, usize),
}

/// A learner's file that cannot be used.
#[derive(Debug, Error)]
pub enum StateError {
    /// It does not read.
    #[error("the learner's state cannot be used: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// It lacks its notes.
    #[error("the learner's state has no usable notes: {0}")]
    Notes(#[from] serde_json::Error),
}

impl LearnerState {
    /// The file's bytes; the same state gives the same bytes.
    ///
    /// # Errors
    /// None in practice.
    pub fn encode(self) -> Result<Vec<u8>, StateError> {
        let mut file = self.learner;
        file.text(NOTES, serde_json::to_string(&self.notes)?);
        Ok(file.encode()?)
    }

    /// Reads what [`LearnerState::encode`] wrote.
    ///
    /// # Errors
    /// Bytes that are no such file.
    pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        let learner = Checkpoint::decode(bytes)?;
        let notes = serde_json::from_str(learner.get_text(NOTES)?)?;
        Ok(Self { learner, notes })
    }
}
