//! A model as the scorer of a simulation or a trial: in ONNX Runtime, on the caller's own thread.

use slated_contract::policy::Bundle;
use slated_contract::tensor::Signature;
use slated_trainer::rollout::{Observation, Scored, Scorer, ScorerError};

use super::device::DeviceKind;
use super::engine::{Query, assemble, cut_apart};
use super::model::{Model, ModelError, Output};

/// Scores queries, all of them in one run of the model, as the service would.
#[derive(Debug)]
pub struct ModelScorer {
    model: Model,
    signature: Signature,
}

impl ModelScorer {
    /// Loads a model on the processor.
    ///
    /// # Errors
    /// A model that does not load, or has another signature.
    pub fn load(model: &[u8], signature: Signature) -> Result<Self, ModelError> {
        Ok(Self { model: Model::load(model, signature, 1, DeviceKind::Cpu)?, signature })
    }

    /// The model's output for each query, `[rows, candidates]`.
    ///
    /// # Errors
    /// ONNX Runtime refuses the batch, or an output has another shape than it must have.
    pub fn score(&mut self, queries: &[Query]) -> Result<Vec<Output>, ModelError> {
        let batch = assemble(queries, &self.signature);
        let width = batch.candidates;
        let output = self.model.run(batch)?;
        Ok(cut_apart(&output, width, queries))
    }
}

/// Scores what a rollout observes with a bundle's model.
#[derive(Debug)]
pub struct BundleScorer(ModelScorer);

impl BundleScorer {
    /// Loads the bundle's model and proves it by the manifest's sample.
    ///
    /// # Errors
    /// A model that does not load, has another signature, or does not reproduce its sample scores.
    pub fn load(bundle: &Bundle) -> Result<Self, ModelError> {
        let mut scorer = ModelScorer::load(&bundle.model, bundle.manifest.signature)?;
        if let Some(parity) = &bundle.manifest.parity {
            scorer.model.check_parity(parity)?;
        }
        Ok(Self(scorer))
    }
}

impl Scorer for BundleScorer {
    fn score(&mut self, observations: &[&Observation], noise: &[f32]) -> Result<Vec<Scored>, ScorerError> {
        let own = noise.len() / observations.len().max(1);
        let rows = self.0.signature.noise.and_then(|draws| own.checked_div(draws)).unwrap_or(1);
        let query = |(index, observation): (usize, &&Observation)| Query {
            state: observation.state.clone(),
            items: observation.items.clone(),
            candidates: observation.candidates,
            history: observation.history.clone(),
            noise: noise[index * own..(index + 1) * own].to_vec(),
            rows,
        };
        let queries: Vec<Query> = observations.iter().enumerate().map(query).collect();
        let outputs = self.0.score(&queries).map_err(|error| ScorerError(error.to_string()))?;
        Ok(outputs.into_iter().map(|Output { scores, appeal }| Scored { scores, appeal }).collect())
    }
}
