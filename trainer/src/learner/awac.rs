//! Advantage-weighted actor-critic.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::checkpoint::{Checkpoint, CheckpointError};
use super::critic::{Critic, MiniBatch, Regression, expectation, followed};
use super::dqn::value_problem;
use super::softmax::{Imitation, SoftmaxPolicy, exponential_problem, softmax};
use super::trained::{Optimisation, TargetUpdate};
use super::{Diverged, Exported, Learner, LearnerError, Problem, Snapshot, Update};
use crate::nn::NetworkSettings;
use crate::onnx::OnnxError;
use crate::replay::{Replay, Sample, Transition};
use crate::rollout::{Observation, Scored, Scorer};

/// Settings of [`Awac`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AwacSettings {
    /// Gamma, the discount per step.
    pub discount: f64,
    /// n, over how many steps rewards are summed before the target network is asked.
    pub steps: usize,
    /// Lambda, in units of the scaled reward: how little advantages count.
    pub temperature: f64,
    /// The greatest weight of an action.
    pub most: f64,
    /// Rewards are multiplied by it while learning, so that returns are of the order of 1.
    pub reward_scale: f64,
    /// The networks.
    pub network: NetworkSettings,
    /// How the target network follows.
    pub target: TargetUpdate,
    /// How gradients become steps.
    pub optimisation: Optimisation,
}

impl Default for AwacSettings {
    fn default() -> Self {
        Self {
            discount: 0.99,
            steps: 1,
            temperature: 0.1,
            most: 100.0,
            reward_scale: 1.0,
            network: NetworkSettings::default(),
            target: TargetUpdate::default(),
            optimisation: Optimisation::default(),
        }
    }
}

impl AwacSettings {
    /// The first setting outside its range, with what is allowed.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        value_problem(self.discount, self.steps, self.reward_scale)
            .or_else(|| exponential_problem(["temperature", "most"], self.temperature, self.most))
            .or_else(|| self.target.problem())
            .or_else(|| self.optimisation.problem())
    }
}

/// Advantage-weighted actor-critic (Nair et al. 2020, arXiv:2006.09359): the policy imitates each logged action with the weight
/// `exp(A(s, a) / lambda)`, `A(s, a) = q(s, a) - sum_a' pi(a' | s) q(s, a')`; the critic values the policy as it stands,
/// `y = r + g sum_a' pi(a' | s') q'(s', a')`.
///
/// The weight's normaliser is left out, as in the paper, and the weight bounded instead. One critic, where the paper takes
/// the lesser of two: expectations under the policy have no greatest of many estimates to be wrong about.
#[derive(Debug, Clone)]
pub struct Awac {
    settings: AwacSettings,
    problem: Problem,
    policy: SoftmaxPolicy,
    critic: Critic,
    updates: u64,
}

impl Awac {
    /// A learner with initial networks drawn from `seed`.
    ///
    /// # Errors
    /// A setting outside its range, or a problem with slates of several items.
    pub fn new(settings: &AwacSettings, problem: Problem, seed: u64) -> Result<Self, LearnerError> {
        LearnerError::check(settings.problem())?;
        problem.require_single("awac")?;
        let AwacSettings { network, optimisation, target, reward_scale, .. } = settings;
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let policy = SoftmaxPolicy::new(network, &problem, optimisation, &mut generator)?;
        let critic = Critic::new(network, &problem, optimisation, *target, *reward_scale, &mut generator)?;
        Ok(Self { settings: settings.clone(), problem, policy, critic, updates: 0 })
    }
}

impl Learner for Awac {
    fn update(&mut self, replay: &Replay, sample: &Sample) -> Result<Update, Diverged> {
        let update = self.updates + 1;
        let transitions: Vec<&Transition> = sample.indices.iter().map(|&index| replay.get(index)).collect();
        let how = &self.settings.optimisation;
        let mini_batch = MiniBatch { transitions: &transitions, sample, problem: &self.problem, how, update };
        let next = followed(&transitions).into_iter().map(|at| &*transitions[at].next);
        self.policy.look(next, &self.problem);
        let targets = self.critic.targets_expected(&transitions, &self.problem, &self.policy.probabilities());

        let values = self.critic.look(&transitions, &self.problem);
        self.policy.look(mini_batch.observations(), &self.problem);
        let (temperature, most) = (self.settings.temperature as f32, self.settings.most as f32);
        let (logits, spans) = self.policy.logits();
        let weight = |((values, span), transition): ((&Vec<f32>, std::ops::Range<usize>), &&Transition)| {
            let advantage = values[transition.slate[0]] - expectation(&softmax(&logits[span]), values);
            (advantage / temperature).exp().min(most)
        };
        let weights: Vec<f32> = values.iter().zip(spans).zip(&transitions).map(weight).collect();
        let imitation = self.policy.imitate(&mini_batch, &weights)?;
        let Regression { loss, gradient_norm, errors } = self.critic.regress(&mini_batch, &targets, None)?;
        self.updates = update;
        let Imitation { loss: own, gradient_norm: norm, .. } = imitation;
        Ok(Update { loss: loss + own, gradient_norm: gradient_norm.hypot(norm), errors })
    }

    fn score(&mut self, observations: &[&Observation]) -> Vec<Scored> {
        self.policy.score(observations, &self.problem)
    }

    fn scorer(&self) -> Box<dyn Scorer> {
        Box::new(Snapshot(self.clone()))
    }

    fn copy(&self) -> Box<dyn Learner> {
        Box::new(self.clone())
    }

    fn export(&self) -> Result<Exported, OnnxError> {
        self.policy.export(&self.problem)
    }

    fn save(&self, checkpoint: &mut Checkpoint) {
        self.policy.save(checkpoint);
        self.critic.save(checkpoint);
        checkpoint.count("updates", self.updates);
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        self.policy.restore(checkpoint)?;
        self.critic.restore(checkpoint)?;
        self.updates = checkpoint.read_count("updates")?;
        Ok(())
    }
}
