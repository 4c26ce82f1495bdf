//! A bundle as the scorer of a simulation: its model in ONNX Runtime, on the simulation's own thread.

use slated_contract::policy::Bundle;
use slated_contract::tensor::Signature;
use slated_trainer::rollout::{Observation, Scored, Scorer, ScorerError};

use super::device::DeviceKind;
use super::engine::{Query, assemble, cut};
use super::model::{Model, ModelError};

/// Scores what a rollout observes, all of it in one run of the model.
#[derive(Debug)]
pub struct BundleScorer {
    model: Model,
    signature: Signature,
}

impl BundleScorer {
    /// Loads the bundle's model and proves it by the manifest's sample.
    ///
    /// # Errors
    /// A model that does not load, has another signature, or does not reproduce its sample scores.
    pub fn load(bundle: &Bundle) -> Result<Self, ModelError> {
        let signature = bundle.manifest.signature;
        let mut model = Model::load(&bundle.model, signature, 1, DeviceKind::Cpu)?;
        if let Some(parity) = &bundle.manifest.parity {
            model.check_parity(parity)?;
        }
        Ok(Self { model, signature })
    }
}

impl Scorer for BundleScorer {
    fn score(&mut self, observations: &[&Observation], noise: &[f32]) -> Result<Vec<Scored>, ScorerError> {
        let own = noise.len() / observations.len().max(1);
        let rows = self.signature.noise.and_then(|draws| own.checked_div(draws)).unwrap_or(1);
        let query = |(index, observation): (usize, &&Observation)| Query {
            state: observation.state.clone(),
            items: observation.items.clone(),
            candidates: observation.candidates,
            history: observation.history.clone(),
            noise: noise[index * own..(index + 1) * own].to_vec(),
            rows,
        };
        let queries: Vec<Query> = observations.iter().enumerate().map(query).collect();
        let batch = assemble(&queries, &self.signature);
        let width = batch.candidates;
        let output = self.model.run(batch).map_err(|error| ScorerError(error.to_string()))?;
        let scored = queries.iter().enumerate().map(|(index, query)| Scored {
            scores: cut(&output.scores, index * rows, width, query),
            appeal: cut(&output.appeal, index * rows, width, query),
        });
        Ok(scored.collect())
    }
}
