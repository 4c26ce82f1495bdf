//! LinUCB with parameters shared by all items.

use slated_contract::tensor::{SCORES, Signature};

use super::{FeatureMap, LinearPosterior};
use crate::onnx::{GraphBuilder, OnnxError};

/// `score(s, a) = phi' theta + alpha sqrt(phi' A^-1 phi)`: the upper confidence bound of the reward (Li, Chu, Langford
/// & Schapire 2010, arXiv:1003.0146).
#[derive(Debug, Clone)]
pub struct LinUcb {
    /// The features.
    pub map: FeatureMap,
    /// The posterior of the weights.
    pub posterior: LinearPosterior,
    /// Width of the bound, in standard deviations.
    pub alpha: f64,
}

impl LinUcb {
    /// The score of one item (D numbers) in a state (S numbers).
    #[must_use]
    pub fn score(&self, state: &[f32], item: &[f32]) -> f64 {
        let mut phi = Vec::with_capacity(self.map.width());
        self.map.extend(state, item, &mut phi);
        self.posterior.mean(&phi) + self.alpha * self.posterior.variance(&phi).sqrt()
    }

    /// The tensors of the model.
    #[must_use]
    pub fn signature(&self) -> Signature {
        Signature { state_width: self.map.state_width, item_width: self.map.item_width, ..Signature::default() }
    }

    /// The model as ONNX.
    ///
    /// # Errors
    /// None in practice: the shapes fit by construction.
    pub fn onnx(&self) -> Result<Vec<u8>, OnnxError> {
        let width = self.map.width();
        let mut graph = GraphBuilder::new("linucb", self.signature());
        let phi = self.map.graph(&mut graph)?;
        let theta = graph.constant("theta", &[width, 1], &self.posterior.theta_f32())?;
        let root = graph.constant("root", &[width, width], &self.posterior.root_f32(1.0))?;
        let alpha = graph.constant("alpha", &[1], &[self.alpha as f32])?;
        let squeeze_axis = graph.integers("squeeze_axis", &[2]);
        let mean = graph.node("MatMul", &[&phi, &theta]);
        let mean = graph.node("Squeeze", &[&mean, &squeeze_axis]);
        let projected = graph.node("MatMul", &[&phi, &root]);
        let variance = graph.reduce("ReduceSumSquare", &projected, &[2]);
        let deviation = graph.node("Sqrt", &[&variance]);
        let width = graph.node("Mul", &[&deviation, &alpha]);
        let scores = graph.node("Add", &[&mean, &width]);
        graph.output(SCORES, &scores)?;
        graph.finish()
    }
}
