//! Neural-linear: a network learns the features, a Bayesian regression over them says how sure it is.

use rand::RngExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use slated_contract::slate::{DecisionSeed, Exploration};
use slated_contract::tensor::{SCORES, Signature};

use super::learner::{not_negative, positive, within};
use super::linear_thompson::drawn_scores;
use super::reservoir::{Kept, Reservoir};
use super::{
    BanditError, BanditLearner, BanditModel, BanditSettings, Example, LinearPosterior, LinearStatistics, Widths,
};
use crate::learner::{Checkpoint, CheckpointError};
use crate::nn::{Adam, AdamSettings, Batch, CandidateNetwork, NetworkSettings, NetworkShape, Trace};
use crate::onnx::{GraphBuilder, OnnxError};

/// Examples that go through the network at once when it is done learning.
const ROWS: usize = 256;

/// Settings of [`NeuralLinear`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NeuralLinearSettings {
    /// Widths of the hidden layers; the last one's outputs are the features of the regression.
    pub hidden: Vec<usize>,
    /// Examples of a mini-batch.
    pub batch: usize,
    /// Further mini-batches, drawn from the memory, for each one of new examples.
    pub replays: usize,
    /// Step size of Adam.
    pub learning_rate: f64,
    /// How many examples are kept, a uniform sample of all.
    pub memory: usize,
    /// Scale of the posterior draws.
    pub scale: f64,
    /// Prior precision of the weights.
    pub lambda: f64,
}

impl Default for NeuralLinearSettings {
    fn default() -> Self {
        Self {
            hidden: vec![64, 32],
            batch: 64,
            replays: 16,
            learning_rate: 1e-3,
            memory: 8192,
            scale: 1.0,
            lambda: 1.0,
        }
    }
}

impl BanditSettings for NeuralLinearSettings {
    fn problem(&self) -> Option<String> {
        let layers = (self.hidden.is_empty() || self.hidden.len() > 8)
            .then(|| format!("`algorithm.hidden` has {} layers, allowed are 1 to 8", self.hidden.len()));
        layers
            .or_else(|| self.hidden.iter().find_map(|&width| within("hidden", width, 1, 2048)))
            .or_else(|| within("batch", self.batch, 1, 65_536))
            .or_else(|| within("replays", self.replays, 0, 1000))
            .or_else(|| positive("learning_rate", self.learning_rate))
            .or_else(|| within("memory", self.memory, 1, 1 << 20))
            .or_else(|| not_negative("scale", self.scale))
            .or_else(|| positive("lambda", self.lambda))
    }

    fn exploration(&self) -> Exploration {
        Exploration::PosteriorSampling { draws: 100 }
    }

    fn kept(&self) -> Value {
        json!({"state": "neural_linear", "hidden": self.hidden, "memory": self.memory})
    }

    fn learner(&self, widths: Widths, seed: u64) -> Result<Box<dyn BanditLearner>, BanditError> {
        let shape = NetworkShape { state_width: widths.state, item_width: widths.item, history: (0, 0), outputs: 1 };
        let network = NetworkSettings { hidden: self.hidden.clone(), dueling: false, history_units: 0 };
        let network = CandidateNetwork::new(&network, shape)?;
        let parameters = network.initialise(&mut DecisionSeed::from_value(seed).slate_generator());
        let adam = AdamSettings { learning_rate: self.learning_rate, ..AdamSettings::default() };
        Ok(Box::new(NeuralLearner {
            settings: self.clone(),
            widths,
            seed,
            adam: Adam::new(adam, parameters.len()),
            gradient: vec![0.0; parameters.len()],
            network,
            parameters,
            pending: Vec::new(),
            reservoir: Reservoir::new(self.memory, seed),
            examples: 0,
            trace: Trace::default(),
        }))
    }
}

struct NeuralLearner {
    settings: NeuralLinearSettings,
    widths: Widths,
    seed: u64,
    network: CandidateNetwork,
    parameters: Vec<f32>,
    gradient: Vec<f32>,
    adam: Adam,
    /// Examples that do not fill a mini-batch yet.
    pending: Vec<Kept>,
    reservoir: Reservoir,
    examples: u64,
    trace: Trace,
}

/// Examples as a batch of one row a state.
fn batch_of<'a>(examples: impl ExactSizeIterator<Item = &'a Kept>) -> Batch {
    let mut batch = Batch { states: examples.len(), starts: (0..=examples.len()).collect(), ..Batch::default() };
    for example in examples {
        batch.state.extend_from_slice(&example.state);
        batch.items.extend_from_slice(&example.item);
    }
    batch
}

impl NeuralLearner {
    /// One step of Adam on half the mean squared error.
    fn update(&mut self, examples: &[Kept]) -> Result<(), BanditError> {
        let batch = batch_of(examples.iter());
        self.network.forward(&self.parameters, &batch, &mut self.trace);
        let share = 1.0 / examples.len() as f32;
        let errors: Vec<f32> = self.trace.outputs().iter().zip(examples).map(|(q, kept)| q - kept.reward).collect();
        if errors.iter().any(|error| !error.is_finite()) {
            return Err(BanditError::Diverged);
        }
        let upstream: Vec<f32> = errors.iter().map(|error| error * share).collect();
        self.gradient.fill(0.0);
        self.network.backward(&self.parameters, &batch, &mut self.trace, &upstream, &mut self.gradient);
        self.adam.step(&mut self.parameters, &self.gradient, 1.0);
        Ok(())
    }

    /// The new mini-batch, then those from the memory.
    fn learn(&mut self) -> Result<(), BanditError> {
        // Of the steps so far, so that the draws do not depend on where a run was stopped.
        let mut generator = DecisionSeed::derive(self.seed, &self.adam.steps.to_string()).slate_generator();
        let fresh = std::mem::take(&mut self.pending);
        self.update(&fresh)?;
        let replays: Vec<Vec<Kept>> = {
            let kept: Vec<&Kept> = self.reservoir.examples().collect();
            let mut draw = || kept[generator.random_range(0..kept.len())].clone();
            (0..self.settings.replays).map(|_| (0..fresh.len()).map(|_| draw()).collect()).collect()
        };
        replays.iter().try_for_each(|examples| self.update(examples))
    }

    /// The regression over the features as they are now. The memory stands for all examples: each counts for as many
    /// as it represents.
    fn posterior(&mut self) -> Result<LinearPosterior, BanditError> {
        let width = self.settings.hidden.last().copied().unwrap_or(0);
        let kept: Vec<&Kept> = self.reservoir.examples().collect();
        let root = (self.examples as f64 / kept.len().max(1) as f64).sqrt();
        let mut statistics = LinearStatistics::new(width + 1);
        for block in kept.chunks(ROWS) {
            self.network.forward(&self.parameters, &batch_of(block.iter().copied()), &mut self.trace);
            for (features, kept) in self.trace.features().chunks_exact(width).zip(block) {
                let phi = std::iter::once(root).chain(features.iter().map(|&value| root * f64::from(value)));
                statistics.add(root * f64::from(kept.reward), |into| into.extend(phi));
            }
            statistics.flush();
        }
        Ok(statistics.posterior(self.settings.lambda)?)
    }
}

impl BanditLearner for NeuralLearner {
    fn add(&mut self, example: &Example) -> Result<(), BanditError> {
        self.examples += 1;
        self.reservoir.add(example);
        self.pending.push(Kept::of(example));
        if self.pending.len() >= self.settings.batch { self.learn() } else { Ok(()) }
    }

    fn save(&self, checkpoint: &mut Checkpoint) {
        checkpoint.floats("parameters", &self.parameters);
        checkpoint.floats("adam.first", &self.adam.first);
        checkpoint.floats("adam.second", &self.adam.second);
        checkpoint.count("adam.steps", self.adam.steps);
        checkpoint.count("examples", self.examples);
        Kept::save(checkpoint, "pending", self.pending.iter());
        self.reservoir.save(checkpoint);
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        checkpoint.read_floats("parameters", &mut self.parameters)?;
        checkpoint.read_floats("adam.first", &mut self.adam.first)?;
        checkpoint.read_floats("adam.second", &mut self.adam.second)?;
        self.adam.steps = checkpoint.read_count("adam.steps")?;
        self.examples = checkpoint.read_count("examples")?;
        self.pending = Kept::restored(checkpoint, "pending", self.widths)?;
        self.reservoir.restore(checkpoint, self.widths)
    }

    fn finish(&mut self) -> Result<Box<dyn BanditModel>, BanditError> {
        if !self.pending.is_empty() {
            self.learn()?;
        }
        let posterior = self.posterior()?;
        Ok(Box::new(NeuralLinear {
            network: self.network.clone(),
            parameters: self.parameters.clone(),
            posterior,
            scale: self.settings.scale,
        }))
    }
}

/// `score(s, a) = phi' (theta + v W z)` with `phi = [1, h(s, a)]`, h the last hidden layer of a network that was trained on
/// the reward, and the posterior of [`super::LinearStatistics`] over it; z is the model's `noise` (Riquelme, Tucker & Snoek
/// 2018, arXiv:1802.09127).
///
/// One pass: every mini-batch of new examples, in the order of the log, is a step of Adam, followed by steps on mini-batches
/// from a memory. That memory is a uniform sample of all examples, by the hash of their names. Statistics of features that
/// have moved since would belong to no posterior, so they are not kept: the regression is solved anew over the memory with
/// the final features, each example counting for as many as it represents. What the memory holds, the network, the
/// optimiser and the unfinished mini-batch are the learner's state, so going on from it is the same single pass.
#[derive(Debug, Clone)]
pub struct NeuralLinear {
    network: CandidateNetwork,
    parameters: Vec<f32>,
    posterior: LinearPosterior,
    scale: f64,
}

impl BanditModel for NeuralLinear {
    fn signature(&self) -> Signature {
        let NetworkShape { state_width, item_width, .. } = self.network.shape();
        Signature { state_width, item_width, noise: Some(self.posterior.width()), ..Signature::default() }
    }

    fn onnx(&self) -> Result<Vec<u8>, OnnxError> {
        let mut graph = GraphBuilder::new("neural_linear", self.signature());
        let features = self.network.features_graph(&mut graph, "network", &self.parameters)?;
        // A column of ones before the features.
        let widen = graph.integers("widen", &[0, 0, 1, 0, 0, 0]);
        let one = graph.constant("one", &[], &[1.0])?;
        let phi = graph.node("Pad", &[&features, &widen, &one]);
        let scores = drawn_scores(&mut graph, &phi, &self.posterior, self.scale)?;
        graph.output(SCORES, &scores)?;
        graph.finish()
    }

    fn scores(&self, state: &[f32], items: &[Vec<f32>], noise: &[f32]) -> Vec<f64> {
        let z: Vec<f64> = noise.iter().map(|&z| f64::from(z)).collect();
        let weights = self.posterior.draw(self.scale, &z);
        let kept: Vec<Kept> =
            items.iter().map(|item| Kept { state: state.to_vec(), item: item.clone(), reward: 0.0 }).collect();
        let mut trace = Trace::default();
        self.network.forward(&self.parameters, &batch_of(kept.iter()), &mut trace);
        let score = |features: &[f32]| {
            weights[0] + features.iter().zip(&weights[1..]).map(|(&x, weight)| f64::from(x) * weight).sum::<f64>()
        };
        trace.features().chunks_exact(weights.len() - 1).map(score).collect()
    }
}
