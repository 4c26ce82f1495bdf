//! Linear Thompson sampling with parameters shared by all items.

use serde::{Deserialize, Serialize};
use serde_json::json;
use slated_contract::slate::Exploration;
use slated_contract::tensor::{NOISE, SCORES, Signature};

use super::learner::{not_negative, positive};
use super::linear_learner::LinearLearner;
use super::{
    BanditError, BanditLearner, BanditModel, BanditSettings, FeatureMap, Interaction, LinearPosterior, Widths,
};
use crate::onnx::{GraphBuilder, OnnxError, Value};

/// Settings of [`LinearThompson`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinearThompsonSettings {
    /// Scale of the posterior draws.
    pub scale: f64,
    /// Prior precision of the weights.
    pub lambda: f64,
    /// How state and item interact.
    pub interaction: Interaction,
}

impl Default for LinearThompsonSettings {
    fn default() -> Self {
        Self { scale: 1.0, lambda: 1.0, interaction: Interaction::default() }
    }
}

impl BanditSettings for LinearThompsonSettings {
    fn problem(&self) -> Option<String> {
        not_negative("scale", self.scale).or_else(|| positive("lambda", self.lambda))
    }

    fn exploration(&self) -> Exploration {
        Exploration::PosteriorSampling { draws: 100 }
    }

    fn kept(&self) -> serde_json::Value {
        json!({"state": "linear", "interaction": self.interaction})
    }

    fn learner(&self, widths: Widths, _: u64) -> Result<Box<dyn BanditLearner>, BanditError> {
        let scale = self.scale;
        let model = move |map, posterior| Box::new(LinearThompson { map, posterior, scale }) as Box<dyn BanditModel>;
        Ok(Box::new(LinearLearner::new(self.interaction, self.lambda, widths, model)?))
    }
}

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

impl BanditModel for LinearThompson {
    fn scores(&self, state: &[f32], items: &[Vec<f32>], noise: &[f32]) -> Vec<f64> {
        let z: Vec<f64> = noise.iter().map(|&z| f64::from(z)).collect();
        let weights = self.posterior.draw(self.scale, &z);
        items.iter().map(|item| self.map.dot(state, item, &weights)).collect()
    }

    fn signature(&self) -> Signature {
        let FeatureMap { state_width, item_width, .. } = self.map;
        Signature { state_width, item_width, noise: Some(self.map.width()), ..Signature::default() }
    }

    fn onnx(&self) -> Result<Vec<u8>, OnnxError> {
        let mut graph = GraphBuilder::new("linear_thompson", self.signature());
        let phi = self.map.graph(&mut graph)?;
        let scores = drawn_scores(&mut graph, &phi, &self.posterior, self.scale)?;
        graph.output(SCORES, &scores)?;
        graph.finish()
    }
}

/// Adds `phi (theta + scale W z)` to a graph, z its noise: from \[batch, candidates, d\] to \[batch, candidates\].
pub(super) fn drawn_scores(
    graph: &mut GraphBuilder,
    phi: &Value,
    posterior: &LinearPosterior,
    scale: f64,
) -> Result<Value, OnnxError> {
    let width = posterior.width();
    let noise = graph.input(NOISE)?;
    let theta = graph.constant("theta", &[width], &posterior.theta_f32())?;
    // z' W' is W z for a row of noise.
    let root = posterior.root_f32(scale);
    let transposed: Vec<f32> = (0..width * width).map(|at| root[at % width * width + at / width]).collect();
    let root = graph.constant("root_transposed", &[width, width], &transposed)?;
    let column_axis = graph.integers("squeeze_axis", &[2]);
    let shift = graph.node("MatMul", &[&noise, &root]);
    let weights = graph.node("Add", &[&shift, &theta]);
    let weights = graph.node("Unsqueeze", &[&weights, &column_axis]);
    let scores = graph.node("MatMul", &[phi, &weights]);
    Ok(graph.node("Squeeze", &[&scores, &column_axis]))
}
