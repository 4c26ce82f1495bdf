//! Requests with the scores that the framework gave them.

use std::path::Path;

use serde::Deserialize;
use slated_contract::feature::{Encoder, Features};
use slated_contract::session::SessionSettings;
use slated_contract::tensor::Signature;

use super::WrapError;
use crate::api::CandidateRequest;
use crate::serving::Query;

/// A request, encoded, with what the framework says of it.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Its line in the file, from 1.
    pub line: usize,
    /// What the model is asked.
    pub query: Query,
    /// The framework's score of each candidate.
    pub scores: Vec<f32>,
    /// Its appeal; empty where the model gives none.
    pub appeal: Vec<f32>,
}

/// A line of the file: the features of a `POST /recommend`, and the scores.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(default)]
    user: Features,
    #[serde(default)]
    context: Features,
    #[serde(default)]
    session: Features,
    candidates: Vec<CandidateRequest>,
    scores: Vec<f32>,
    #[serde(default)]
    appeal: Vec<f32>,
    /// The rows of `history`, encoded, oldest first.
    #[serde(default)]
    history: Vec<Vec<f32>>,
    #[serde(default)]
    noise: Vec<f32>,
}

impl Sample {
    /// Reads a file of JSON lines.
    ///
    /// # Errors
    /// A line that does not read, a feature that the schema refuses, numbers that do not fit the candidates; with the line.
    pub fn read(path: &Path, encoder: &Encoder, signature: &Signature) -> Result<Vec<Self>, WrapError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| WrapError::File { path: path.to_owned(), reason: error.to_string() })?;
        let mut samples = Vec::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let failed = |reason: String| WrapError::Sample { path: path.to_owned(), line: index + 1, reason };
            samples.push(Self::encode(index + 1, line, encoder, signature).map_err(failed)?);
        }
        if samples.is_empty() {
            return Err(WrapError::File { path: path.to_owned(), reason: "it holds no sample".to_owned() });
        }
        Ok(samples)
    }

    fn encode(line: usize, text: &str, encoder: &Encoder, signature: &Signature) -> Result<Self, String> {
        let mut reader = serde_json::Deserializer::from_str(text);
        let own: Line = serde_path_to_error::deserialize(&mut reader).map_err(|error| error.to_string())?;
        reader.end().map_err(|error| error.to_string())?;
        let candidates = own.candidates.len();
        if candidates == 0 {
            return Err("`candidates` is empty".to_owned());
        }
        let mut state = Vec::new();
        encoder
            .encode_state(&own.user, &own.context, &own.session, &mut state)
            .map_err(|error| format!("`{}.{}` {}", error.group, error.feature, error.kind))?;
        let mut items = Vec::new();
        for (index, candidate) in own.candidates.into_iter().enumerate() {
            let (id, features) = match candidate {
                CandidateRequest::Id(id) => (id, Features::default()),
                CandidateRequest::Item { id, features } => (id, features.unwrap_or_default()),
            };
            encoder
                .encode_item(&id, &features, &mut items)
                .map_err(|error| format!("`candidates[{index}].features.{}` {}", error.feature, error.kind))?;
        }
        for (name, values, needed) in [("scores", &own.scores, true), ("appeal", &own.appeal, signature.appeal)] {
            let expected = if needed { candidates } else { 0 };
            if values.len() != expected {
                return Err(format!("`{name}` has {} numbers, expected {expected}", values.len()));
            }
        }
        let width = SessionSettings::history_width(signature.item_width);
        let most = signature.history.unwrap_or(0);
        if own.history.len() > most || own.history.iter().any(|row| row.len() != width) {
            return Err(format!("`history` must have at most {most} rows of {width} numbers"));
        }
        let draws = signature.noise.unwrap_or(0);
        if own.noise.len() != draws {
            return Err(format!("`noise` has {} numbers, expected {draws}", own.noise.len()));
        }
        let query = Query { state, items, candidates, history: own.history.concat(), noise: own.noise, rows: 1 };
        Ok(Self { line, query, scores: own.scores, appeal: own.appeal })
    }
}
