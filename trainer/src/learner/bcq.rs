//! Batch-constrained Q-learning.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use slated_contract::tensor::{MASK, SCORES, Signature};

use super::checkpoint::{Checkpoint, CheckpointError};
use super::critic::{Critic, MiniBatch, Regression, followed, greatest};
use super::dqn::value_problem;
use super::softmax::{Imitation, SoftmaxPolicy};
use super::trained::{Optimisation, TargetUpdate};
use super::{Diverged, Exported, Learner, LearnerError, Problem, Snapshot, Update};
use crate::nn::NetworkSettings;
use crate::onnx::{GraphBuilder, OnnxError};
use crate::replay::{Replay, Sample, Transition};
use crate::rollout::{Observation, Scored, Scorer};

/// Settings of [`Bcq`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BcqSettings {
    /// Gamma, the discount per step.
    pub discount: f64,
    /// n, over how many steps rewards are summed before the target network is asked.
    pub steps: usize,
    /// Tau: only actions are chosen that are at least so likely under the behaviour as the likeliest one, from 0 to 1. 0 is
    /// Q-learning, 1 behaviour cloning.
    pub threshold: f64,
    /// Rewards are multiplied by it while learning, so that returns are of the order of 1.
    pub reward_scale: f64,
    /// The networks.
    pub network: NetworkSettings,
    /// How the target network follows.
    pub target: TargetUpdate,
    /// How gradients become steps.
    pub optimisation: Optimisation,
}

impl Default for BcqSettings {
    fn default() -> Self {
        Self {
            discount: 0.99,
            steps: 1,
            threshold: 0.3,
            reward_scale: 1.0,
            network: NetworkSettings::default(),
            target: TargetUpdate::default(),
            optimisation: Optimisation::default(),
        }
    }
}

impl BcqSettings {
    /// The first setting outside its range, with what is allowed.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let threshold = (!(0.0..=1.0).contains(&self.threshold))
            .then(|| format!("`threshold` is {}, allowed are 0 to 1", self.threshold));
        value_problem(self.discount, self.steps, self.reward_scale)
            .or(threshold)
            .or_else(|| self.target.problem())
            .or_else(|| self.optimisation.problem())
    }
}

/// The score of an action that is not allowed: below every value.
const REFUSED: f32 = -1e9;
/// The logits of candidates that are padding, below every other.
const PADDING: f32 = -1e30;

/// Discrete batch-constrained deep Q-learning (Fujimoto et al. 2019, arXiv:1910.01708): double Q-learning in which both the target
/// and the policy choose among the actions that the behaviour would take,
/// `argmax_{a: G(a | s) / max_a' G(a' | s) >= tau} q(s, a)`, G the behaviour by cloning.
///
/// The behaviour has a network of its own, where the paper's shares layers with the values.
#[derive(Debug, Clone)]
pub struct Bcq {
    settings: BcqSettings,
    problem: Problem,
    behaviour: SoftmaxPolicy,
    critic: Critic,
    updates: u64,
}

impl Bcq {
    /// A learner with initial networks drawn from `seed`.
    ///
    /// # Errors
    /// A setting outside its range, or a problem with slates of several items.
    pub fn new(settings: &BcqSettings, problem: Problem, seed: u64) -> Result<Self, LearnerError> {
        LearnerError::check(settings.problem())?;
        problem.require_single("bcq")?;
        let BcqSettings { network, optimisation, target, reward_scale, .. } = settings;
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let cloned = NetworkSettings { dueling: false, ..network.clone() };
        let behaviour = SoftmaxPolicy::new(&cloned, &problem, optimisation, &mut generator)?;
        let critic = Critic::new(network, &problem, optimisation, *target, *reward_scale, &mut generator)?;
        Ok(Self { settings: settings.clone(), problem, behaviour, critic, updates: 0 })
    }

    /// log tau.
    fn least(&self) -> f32 {
        (self.settings.threshold as f32).ln()
    }
}

/// The values, with those refused whose log-probability is more than `-least` below the greatest.
fn constrained(values: &[f32], logits: &[f32], least: f32) -> Vec<f32> {
    let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let one = |(value, logit): (&f32, &f32)| if logit - greatest < least { REFUSED } else { *value };
    values.iter().zip(logits).map(one).collect()
}

impl Learner for Bcq {
    fn update(&mut self, replay: &Replay, sample: &Sample) -> Result<Update, Diverged> {
        let update = self.updates + 1;
        let transitions: Vec<&Transition> = sample.indices.iter().map(|&index| replay.get(index)).collect();
        let how = &self.settings.optimisation;
        let mini_batch = MiniBatch { transitions: &transitions, sample, problem: &self.problem, how, update };
        let next = followed(&transitions).into_iter().map(|at| &*transitions[at].next);
        self.behaviour.look(next, &self.problem);
        let least = self.least();
        let (logits, spans) = self.behaviour.logits();
        let spans: Vec<_> = spans.collect();
        let targets = self.critic.targets_of_chosen(&transitions, &self.problem, |index, values| {
            greatest(&constrained(values, &logits[spans[index].clone()], least))
        });
        self.behaviour.look(mini_batch.observations(), &self.problem);
        let Imitation { loss: own, gradient_norm: norm, .. } =
            self.behaviour.imitate(&mini_batch, &vec![1.0; transitions.len()])?;
        let Regression { loss, gradient_norm, errors } = self.critic.regress(&mini_batch, &targets, None)?;
        self.updates = update;
        Ok(Update { loss: loss + own, gradient_norm: gradient_norm.hypot(norm), errors })
    }

    fn score(&mut self, observations: &[&Observation]) -> Vec<Scored> {
        let least = self.least();
        let mut scored = self.critic.score(observations, &self.problem);
        self.behaviour.look(observations.iter().copied(), &self.problem);
        let (logits, spans) = self.behaviour.logits();
        for (scored, span) in scored.iter_mut().zip(spans) {
            scored.scores = constrained(&scored.scores, &logits[span], least);
        }
        scored
    }

    fn scorer(&self) -> Box<dyn Scorer> {
        Box::new(Snapshot(self.clone()))
    }

    fn copy(&self) -> Box<dyn Learner> {
        Box::new(self.clone())
    }

    fn export(&self) -> Result<Exported, OnnxError> {
        let signature = Signature { mask: true, ..self.critic.signature(&self.problem) };
        let mut graph = GraphBuilder::new("bcq", signature);
        let values = self.critic.graph(&mut graph)?;
        let logits = self.behaviour.graph(&mut graph)?;
        let mask = graph.input(MASK)?;
        let padding = graph.constant("padding", &[1], &[PADDING])?;
        let offered = graph.node("Where", &[&mask, &logits, &padding]);
        let greatest = graph.reduce("ReduceMax", &offered, &[1]);
        let axis = graph.integers("candidate_axis", &[1]);
        let greatest = graph.node("Unsqueeze", &[&greatest, &axis]);
        let below = graph.node("Sub", &[&logits, &greatest]);
        let least = graph.constant("least", &[1], &[self.least().max(PADDING)])?;
        let refused = graph.node("Less", &[&below, &least]);
        let floor = graph.constant("refused", &[1], &[REFUSED])?;
        let scores = graph.node("Where", &[&refused, &floor, &values]);
        graph.output(SCORES, &scores)?;
        Ok(Exported { model: graph.finish()?, signature })
    }

    fn save(&self, checkpoint: &mut Checkpoint) {
        self.behaviour.save(checkpoint);
        self.critic.save(checkpoint);
        checkpoint.count("updates", self.updates);
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        self.behaviour.restore(checkpoint)?;
        self.critic.restore(checkpoint)?;
        self.updates = checkpoint.read_count("updates")?;
        Ok(())
    }
}
