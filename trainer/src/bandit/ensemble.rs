//! A bootstrapped ensemble of ridge regressions: Thompson sampling by picking a member.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use slated_contract::slate::{DecisionSeed, Exploration, standard_normal};
use slated_contract::tensor::{NOISE, SCORES, Signature};
use statrs::distribution::{ContinuousCDF, Normal};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::learner::{not_negative, positive, within};
use super::linear_learner::{MAX_WIDTH, map_of};
use super::{
    BanditError, BanditLearner, BanditModel, BanditSettings, Example, FeatureMap, Interaction, LinearStatistics, Widths,
};
use crate::learner::{Checkpoint, CheckpointError};
use crate::onnx::{GraphBuilder, OnnxError};

/// Settings of [`BootstrapEnsemble`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BootstrapEnsembleSettings {
    /// M, how many members.
    pub members: usize,
    /// Deviation of the members' prior weights, in units of `lambda^-1/2`: 1 is the prior of the ridge regression, 0
    /// leaves the bootstrap alone to tell the members apart.
    pub scale: f64,
    /// Prior precision of the weights.
    pub lambda: f64,
    /// How state and item interact.
    pub interaction: Interaction,
}

impl Default for BootstrapEnsembleSettings {
    fn default() -> Self {
        Self { members: 10, scale: 1.0, lambda: 1.0, interaction: Interaction::default() }
    }
}

impl BanditSettings for BootstrapEnsembleSettings {
    fn problem(&self) -> Option<String> {
        within("members", self.members, 2, 256)
            .or_else(|| not_negative("scale", self.scale))
            .or_else(|| positive("lambda", self.lambda))
    }

    fn exploration(&self) -> Exploration {
        Exploration::PosteriorSampling { draws: 100 }
    }

    fn kept(&self) -> Value {
        json!({"state": "ensemble", "members": self.members, "interaction": self.interaction})
    }

    fn learner(&self, widths: Widths, seed: u64) -> Result<Box<dyn BanditLearner>, BanditError> {
        // As much memory as one regression at its widest.
        let most = MAX_WIDTH / (self.members as f64).sqrt().ceil() as usize;
        let map = map_of(self.interaction, widths, most, format!(" with {} members", self.members))?;
        let members = vec![LinearStatistics::new(map.width()); self.members];
        Ok(Box::new(EnsembleLearner { settings: self.clone(), map, seed, members }))
    }
}

struct EnsembleLearner {
    settings: BootstrapEnsembleSettings,
    map: FeatureMap,
    seed: u64,
    members: Vec<LinearStatistics>,
}

/// A draw of the Poisson distribution of mean 1 by inversion, from what names the example: it does not matter what was
/// learned before, nor in how many runs.
fn weight(seed: u64, example: &Example, member: usize) -> u32 {
    let mut name = example.decision_id.as_bytes().to_vec();
    name.extend(example.position.to_le_bytes());
    name.extend((member as u64).to_le_bytes());
    let mut point = (xxh3_64_with_seed(&name, seed) >> 11) as f64 / (1_u64 << 53) as f64;
    let mut probability = (-1.0_f64).exp();
    let mut count = 0;
    while point >= probability && count < 20 {
        point -= probability;
        count += 1;
        probability /= f64::from(count);
    }
    count
}

impl BanditLearner for EnsembleLearner {
    fn add(&mut self, example: &Example) -> Result<(), BanditError> {
        let mut phi = Vec::with_capacity(self.map.width());
        self.map.extend(example.state, example.item, &mut phi);
        for (index, member) in self.members.iter_mut().enumerate() {
            let root = f64::from(weight(self.seed, example, index)).sqrt();
            if root > 0.0 {
                member.add(root * example.reward, |block| block.extend(phi.iter().map(|value| root * value)));
            }
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), BanditError> {
        self.members.iter_mut().for_each(|member| {
            member.flush_full();
        });
        Ok(())
    }

    fn save(&self, checkpoint: &mut Checkpoint) {
        for (index, member) in self.members.iter().enumerate() {
            let mut own = Checkpoint::default();
            member.save(&mut own);
            checkpoint.nest(&format!("member.{index}"), &own);
        }
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        for (index, member) in self.members.iter_mut().enumerate() {
            *member = LinearStatistics::restored(&checkpoint.nested(&format!("member.{index}")), self.map.width())?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Box<dyn BanditModel>, BanditError> {
        let (lambda, width) = (self.settings.lambda, self.map.width());
        let deviation = self.settings.scale / lambda.sqrt();
        let mut generator = DecisionSeed::from_value(self.seed).noise_generator();
        let mut members = Vec::with_capacity(self.members.len());
        for member in &mut self.members {
            let prior = standard_normal(&mut generator, width);
            let prior: Vec<f64> = prior.iter().map(|&z| deviation * f64::from(z)).collect();
            members.push(member.solve(lambda, &prior)?);
        }
        Ok(Box::new(BootstrapEnsemble { map: self.map, members }))
    }
}

/// `score(s, a) = phi' theta_m`, with m drawn uniformly from the M members, one for the whole slate (Osband & Van Roy
/// 2015, arXiv:1507.00300; Lu & Van Roy 2017, arXiv:1705.07347).
///
/// Member m is the ridge regression of the examples weighted by draws of a Poisson distribution of mean 1, the bootstrap
/// of a stream (Oza & Russell 2001, "Online bagging and boosting"), towards its own draw of the prior:
/// `theta_m = (lambda I + sum w phi phi')^-1 (sum w r phi + lambda theta_m0)`. The model's one number of `noise` picks the
/// member: how many of the quantiles of the standard normal distribution at 1/M, 2/M, ... lie below it.
#[derive(Debug, Clone, PartialEq)]
pub struct BootstrapEnsemble {
    /// The features.
    pub map: FeatureMap,
    /// theta of each member, d numbers.
    pub members: Vec<Vec<f64>>,
}

impl BootstrapEnsemble {
    /// The quantiles of the standard normal distribution at 1/M to (M - 1)/M.
    fn thresholds(&self) -> Vec<f32> {
        let count = self.members.len();
        let quantile = |member| Normal::standard().inverse_cdf(member as f64 / count as f64) as f32;
        (1..count).map(quantile).collect()
    }

    /// The member that a standard normal number picks.
    #[must_use]
    pub fn member(&self, z: f32) -> usize {
        self.thresholds().iter().filter(|&&threshold| z > threshold).count()
    }
}

impl BanditModel for BootstrapEnsemble {
    fn signature(&self) -> Signature {
        let FeatureMap { state_width, item_width, .. } = self.map;
        Signature { state_width, item_width, noise: Some(1), ..Signature::default() }
    }

    fn onnx(&self) -> Result<Vec<u8>, OnnxError> {
        let mut graph = GraphBuilder::new("bootstrap_ensemble", self.signature());
        let phi = self.map.graph(&mut graph)?;
        let noise = graph.input(NOISE)?;
        let thresholds = self.thresholds();
        let thresholds = graph.constant("thresholds", &[thresholds.len()], &thresholds)?;
        let theta: Vec<f32> = self.members.iter().flatten().map(|&weight| weight as f32).collect();
        let theta = graph.constant("theta", &[self.members.len(), self.map.width()], &theta)?;
        let last_axis = graph.integers("noise_axis", &[1]);
        let above = graph.node("Greater", &[&noise, &thresholds]);
        let above = graph.node_with("Cast", &[&above], "to", 7);
        let member = graph.node_with("ReduceSum", &[&above, &last_axis], "keepdims", 0);
        let weights = graph.node_with("Gather", &[&theta, &member], "axis", 0);
        let column_axis = graph.integers("squeeze_axis", &[2]);
        let weights = graph.node("Unsqueeze", &[&weights, &column_axis]);
        let scores = graph.node("MatMul", &[&phi, &weights]);
        let scores = graph.node("Squeeze", &[&scores, &column_axis]);
        graph.output(SCORES, &scores)?;
        graph.finish()
    }

    fn scores(&self, state: &[f32], items: &[Vec<f32>], noise: &[f32]) -> Vec<f64> {
        let theta = &self.members[self.member(noise[0])];
        items.iter().map(|item| self.map.dot(state, item, theta)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_poisson_and_depend_on_the_example_alone() {
        let mut counts = [0_u32; 4];
        let (mut product, mut sum) = (0.0, 0.0);
        for decision in 0..20_000 {
            let id = format!("decision-{decision}");
            let of =
                |position| Example { decision_id: &id, position, item_id: "a", state: &[], item: &[], reward: 0.0 };
            let (first, second) = (weight(7, &of(0), 3), weight(7, &of(1), 3));
            assert_eq!(first, weight(7, &of(0), 3));
            counts[first.min(3) as usize] += 1;
            product += f64::from(first) * f64::from(second);
            sum += f64::from(first);
        }
        let e = (-1.0_f64).exp();
        for (count, expected) in counts.iter().zip([e, e, e / 2.0, 1.0 - 2.5 * e]) {
            assert!((f64::from(*count) / 20_000.0 - expected).abs() < 0.015, "{counts:?}");
        }
        assert!((sum / 20_000.0 - 1.0).abs() < 0.03 && (product / 20_000.0 - 1.0).abs() < 0.06, "{sum} {product}");
    }

    #[test]
    fn members_are_picked_alike() {
        let map = FeatureMap { interaction: Interaction::Additive, state_width: 0, item_width: 0 };
        let ensemble = BootstrapEnsemble { map, members: vec![vec![0.0]; 7] };
        let mut counts = [0_u32; 7];
        let mut generator = DecisionSeed::from_value(1).noise_generator();
        standard_normal(&mut generator, 70_000).into_iter().for_each(|z| counts[ensemble.member(z)] += 1);
        assert!(counts.iter().all(|&count| (9_600..10_400).contains(&count)), "{counts:?}");
    }
}
