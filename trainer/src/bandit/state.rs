//! `learner.safetensors`: the statistics from which training goes on.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use slated_contract::feature::FeatureSchema;
use thiserror::Error;

use super::{Interaction, LinearStatistics};

const GRAM: &str = "gram";
const MOMENT: &str = "moment";
/// The one metadata key: with several, their order in the file would not be determined.
const NOTES: &str = "slated";

/// A linear learner between two runs.
#[derive(Debug, Clone)]
pub struct LearnerState {
    /// The statistics.
    pub statistics: LinearStatistics,
    /// Everything else.
    pub notes: LearnerNotes,
}

/// What the statistics were made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LearnerNotes {
    /// How state and item interact.
    pub interaction: Interaction,
    /// The features.
    pub features: FeatureSchema,
    /// Examples in the statistics.
    pub examples: u64,
    /// Decisions in the statistics.
    pub decisions: u64,
    /// Sum of their rewards.
    pub reward: f64,
    /// Feedback events that counted.
    pub feedback: u64,
    /// The last decision in the statistics; what follows it, in the order of (time, id), is not.
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
    /// It is no such file.
    #[error("the learner's state does not read: {0}")]
    Format(#[from] SafeTensorError),
    /// It lacks its notes.
    #[error("the learner's state has no usable notes: {0}")]
    Notes(String),
    /// Its tensors do not fit.
    #[error("the learner's state is inconsistent: {0}")]
    Shape(String),
}

impl LearnerState {
    /// The file's bytes; the same state gives the same bytes.
    ///
    /// # Errors
    /// None in practice.
    pub fn encode(&mut self) -> Result<Vec<u8>, StateError> {
        let width = self.statistics.width();
        let (gram, moment) = self.statistics.parts();
        let bytes = |values: &[f64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let (gram, moment) = (bytes(&gram), bytes(moment));
        let tensors = [
            (GRAM, TensorView::new(Dtype::F64, vec![width, width], &gram)?),
            (MOMENT, TensorView::new(Dtype::F64, vec![width], &moment)?),
        ];
        let notes = serde_json::to_string(&self.notes).map_err(|error| StateError::Notes(error.to_string()))?;
        Ok(safetensors::serialize(tensors, Some(HashMap::from([(NOTES.to_owned(), notes)])))?)
    }

    /// Reads what [`LearnerState::encode`] wrote.
    ///
    /// # Errors
    /// Bytes that are no such file, or tensors that do not fit together.
    pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        let (_, metadata) = SafeTensors::read_metadata(bytes)?;
        let notes = metadata.metadata().as_ref().and_then(|metadata| metadata.get(NOTES));
        let notes = notes.ok_or_else(|| StateError::Notes(format!("metadata `{NOTES}` is absent")))?;
        let notes: LearnerNotes = serde_json::from_str(notes).map_err(|error| StateError::Notes(error.to_string()))?;
        let tensors = SafeTensors::deserialize(bytes)?;
        let read = |name: &str| -> Result<Vec<f64>, StateError> {
            let view = tensors.tensor(name)?;
            if view.dtype() != Dtype::F64 {
                return Err(StateError::Shape(format!("`{name}` is {:?}, expected F64", view.dtype())));
            }
            let number = |bytes: &[u8]| bytes.try_into().map_or(f64::NAN, f64::from_le_bytes);
            Ok(view.data().chunks_exact(8).map(number).collect())
        };
        let (gram, moment) = (read(GRAM)?, read(MOMENT)?);
        if gram.len() != moment.len() * moment.len() {
            return Err(StateError::Shape(format!("`gram` has {} numbers for {} moments", gram.len(), moment.len())));
        }
        if gram.iter().chain(&moment).any(|number| !number.is_finite()) {
            return Err(StateError::Shape("it holds a number that is not finite".to_owned()));
        }
        Ok(Self { statistics: LinearStatistics::from_parts(&gram, moment, notes.examples), notes })
    }
}
