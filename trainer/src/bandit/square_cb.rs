//! SquareCB: ridge regression, explored by inverse gap weighting.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use slated_contract::slate::Exploration;
use slated_contract::tensor::{SCORES, Signature};

use super::learner::{not_negative, positive};
use super::linear_learner::LinearLearner;
use super::{
    BanditError, BanditLearner, BanditModel, BanditSettings, FeatureMap, Interaction, LinearPosterior, Widths,
};
use crate::onnx::{GraphBuilder, OnnxError};

/// Settings of SquareCB: the scores are those of [`LinearMean`], and the slate is drawn by
/// [`Exploration::InverseGapWeighting`] (Foster & Rakhlin 2020, arXiv:2002.04926).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SquareCbSettings {
    /// How strongly the better items are preferred: of m candidates, one whose expected reward is `m / gamma` below the
    /// best is shown half as often as one that is level with it.
    pub gamma: f64,
    /// Prior precision of the weights.
    pub lambda: f64,
    /// How state and item interact.
    pub interaction: Interaction,
}

impl Default for SquareCbSettings {
    fn default() -> Self {
        Self { gamma: 100.0, lambda: 1.0, interaction: Interaction::default() }
    }
}

impl BanditSettings for SquareCbSettings {
    fn problem(&self) -> Option<String> {
        not_negative("gamma", self.gamma).or_else(|| positive("lambda", self.lambda))
    }

    fn exploration(&self) -> Exploration {
        Exploration::InverseGapWeighting { gamma: self.gamma }
    }

    fn kept(&self) -> Value {
        json!({"state": "linear", "interaction": self.interaction})
    }

    fn learner(&self, widths: Widths, _: u64) -> Result<Box<dyn BanditLearner>, BanditError> {
        let model = |map, posterior: LinearPosterior| {
            Box::new(LinearMean { map, theta: posterior.theta }) as Box<dyn BanditModel>
        };
        Ok(Box::new(LinearLearner::new(self.interaction, self.lambda, widths, model)?))
    }
}

/// `score(s, a) = phi' theta`: the expected reward by ridge regression.
#[derive(Debug, Clone)]
pub struct LinearMean {
    /// The features.
    pub map: FeatureMap,
    /// The weights, d numbers.
    pub theta: Vec<f64>,
}

impl BanditModel for LinearMean {
    fn signature(&self) -> Signature {
        Signature { state_width: self.map.state_width, item_width: self.map.item_width, ..Signature::default() }
    }

    fn onnx(&self) -> Result<Vec<u8>, OnnxError> {
        let mut graph = GraphBuilder::new("linear_mean", self.signature());
        let phi = self.map.graph(&mut graph)?;
        let theta: Vec<f32> = self.theta.iter().map(|&weight| weight as f32).collect();
        let theta = graph.constant("theta", &[theta.len(), 1], &theta)?;
        let squeeze_axis = graph.integers("squeeze_axis", &[2]);
        let scores = graph.node("MatMul", &[&phi, &theta]);
        let scores = graph.node("Squeeze", &[&scores, &squeeze_axis]);
        graph.output(SCORES, &scores)?;
        graph.finish()
    }

    fn scores(&self, state: &[f32], items: &[Vec<f32>], _: &[f32]) -> Vec<f64> {
        let score = |item: &Vec<f32>| self.map.dot(state, item, &self.theta);
        items.iter().map(score).collect()
    }
}
