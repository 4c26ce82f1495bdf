//! LinUCB with parameters shared by all items.

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

/// Settings of [`LinUcb`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinUcbSettings {
    /// Width of the bound, in standard deviations.
    pub alpha: f64,
    /// Prior precision of the weights.
    pub lambda: f64,
    /// How state and item interact.
    pub interaction: Interaction,
}

impl Default for LinUcbSettings {
    fn default() -> Self {
        Self { alpha: 1.0, lambda: 1.0, interaction: Interaction::default() }
    }
}

impl BanditSettings for LinUcbSettings {
    fn problem(&self) -> Option<String> {
        not_negative("alpha", self.alpha).or_else(|| positive("lambda", self.lambda))
    }

    /// A bound alone would make every decision certain, and a log of certain decisions says nothing of any other
    /// policy, so it explores a little besides.
    fn exploration(&self) -> Exploration {
        Exploration::EpsilonGreedy { epsilon: 0.05 }
    }

    fn kept(&self) -> Value {
        json!({"state": "linear", "interaction": self.interaction})
    }

    fn learner(&self, widths: Widths, _: u64) -> Result<Box<dyn BanditLearner>, BanditError> {
        let alpha = self.alpha;
        let model = move |map, posterior| Box::new(LinUcb { map, posterior, alpha }) as Box<dyn BanditModel>;
        Ok(Box::new(LinearLearner::new(self.interaction, self.lambda, widths, model)?))
    }
}

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
}

impl BanditModel for LinUcb {
    fn scores(&self, state: &[f32], items: &[Vec<f32>], _: &[f32]) -> Vec<f64> {
        items.iter().map(|item| self.score(state, item)).collect()
    }

    fn signature(&self) -> Signature {
        Signature { state_width: self.map.state_width, item_width: self.map.item_width, ..Signature::default() }
    }

    fn onnx(&self) -> Result<Vec<u8>, OnnxError> {
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
