//! Linear Thompson sampling with parameters shared by all items.

use slated_contract::tensor::{NOISE, SCORES, Signature};

use super::{FeatureMap, LinearPosterior};
use crate::onnx::{GraphBuilder, OnnxError};

/// `score(s, a) = phi' (theta + v W z)` with z standard normal and `W W' = A^-1`: the reward under one draw of the
/// posterior (Agrawal & Goyal 2013, arXiv:1209.3352). z is the model's `noise`, drawn and seeded by the service.
#[derive(Debug, Clone)]
pub struct LinearThompson {
    /// The features.
    pub map: FeatureMap,
    /// The posterior of the weights.
    pub posterior: LinearPosterior,
    /// v, the scale of the draw: 1 is the posterior under unit noise.
    pub scale: f64,
}

impl LinearThompson {
    /// The scores of items (D numbers each) in a state (S numbers) under one draw z (d numbers).
    #[must_use]
    pub fn scores(&self, state: &[f32], items: &[Vec<f32>], z: &[f32]) -> Vec<f64> {
        let z: Vec<f64> = z.iter().map(|&z| f64::from(z)).collect();
        let weights = self.posterior.draw(self.scale, &z);
        let score = |item: &Vec<f32>| {
            let mut phi = Vec::with_capacity(self.map.width());
            self.map.extend(state, item, &mut phi);
            phi.iter().zip(&weights).map(|(phi, weight)| phi * weight).sum()
        };
        items.iter().map(score).collect()
    }

    /// The tensors of the model.
    #[must_use]
    pub fn signature(&self) -> Signature {
        let FeatureMap { state_width, item_width, .. } = self.map;
        Signature { state_width, item_width, noise: Some(self.map.width()), ..Signature::default() }
    }

    /// The model as ONNX.
    ///
    /// # Errors
    /// None in practice: the shapes fit by construction.
    pub fn onnx(&self) -> Result<Vec<u8>, OnnxError> {
        let width = self.map.width();
        let mut graph = GraphBuilder::new("linear_thompson", self.signature());
        let phi = self.map.graph(&mut graph)?;
        let noise = graph.input(NOISE)?;
        let theta = graph.constant("theta", &[width], &self.posterior.theta_f32())?;
        // z' W' is W z for a row of noise.
        let root = self.posterior.root_f32(self.scale);
        let transposed: Vec<f32> = (0..width * width).map(|at| root[at % width * width + at / width]).collect();
        let root = graph.constant("root_transposed", &[width, width], &transposed)?;
        let column_axis = graph.integers("squeeze_axis", &[2]);
        let shift = graph.node("MatMul", &[&noise, &root]);
        let weights = graph.node("Add", &[&shift, &theta]);
        let weights = graph.node("Unsqueeze", &[&weights, &column_axis]);
        let scores = graph.node("MatMul", &[&phi, &weights]);
        let scores = graph.node("Squeeze", &[&scores, &column_axis]);
        graph.output(SCORES, &scores)?;
        graph.finish()
    }
}
