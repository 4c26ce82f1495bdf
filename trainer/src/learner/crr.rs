//! Critic-regularised regression.

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

/// Settings of [`Crr`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CrrSettings {
    /// Gamma, the discount per step.
    pub discount: f64,
    /// n, over how many steps rewards are summed before the target network is asked.
    pub steps: usize,
    /// What an action counts for, by its advantage.
    pub filter: CrrFilter,
    /// Rewards are multiplied by it while learning, so that returns are of the order of 1.
    pub reward_scale: f64,
    /// The networks.
    pub network: NetworkSettings,
    /// How the target networks of critic and policy follow.
    pub target: TargetUpdate,
    /// How gradients become steps.
    pub optimisation: Optimisation,
}

impl Default for CrrSettings {
    fn default() -> Self {
        Self {
            discount: 0.99,
            steps: 1,
            filter: CrrFilter::default(),
            reward_scale: 1.0,
            network: NetworkSettings::default(),
            target: TargetUpdate::default(),
            optimisation: Optimisation::default(),
        }
    }
}

impl CrrSettings {
    /// The first setting outside its range, with what is allowed.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let filter = match self.filter {
            CrrFilter::Exponential { temperature, most } => {
                exponential_problem(["filter.temperature", "filter.most"], temperature, most)
            }
            CrrFilter::Binary => None,
        };
        value_problem(self.discount, self.steps, self.reward_scale)
            .or(filter)
            .or_else(|| self.target.problem())
            .or_else(|| self.optimisation.problem())
    }
}

/// What an action counts for in imitation, by its advantage A in scaled units.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "form", rename_all = "snake_case", deny_unknown_fields)]
pub enum CrrFilter {
    /// `1{A > 0}`.
    #[default]
    Binary,
    /// `min(exp(A / temperature), most)`.
    Exponential {
        /// In scaled units, above 0.
        temperature: f64,
        /// The greatest weight, above 0; 20 in the paper.
        #[serde(default = "most")]
        most: f64,
    },
}

const fn most() -> f64 {
    20.0
}

impl CrrFilter {
    fn weight(self, advantage: f32) -> f32 {
        match self {
            Self::Binary => f32::from(u8::from(advantage > 0.0)),
            Self::Exponential { temperature, most } => (advantage / temperature as f32).exp().min(most as f32),
        }
    }
}

/// Critic-regularised regression (Wang et al. 2020, arXiv:2006.15134): the policy imitates the logged actions that the
/// critic prefers to its own, `max E f(A(s, a)) log pi(a | s)` with `A(s, a) = q(s, a) - sum_a' pi(a' | s) q(s, a')`; the
/// critic values the target policy, `y = r + g sum_a' pi'(a' | s') q'(s', a')`.
///
/// The sums are over all candidates, where the paper draws samples; the critic learns a mean, where the paper's is
/// distributional.
#[derive(Debug, Clone)]
pub struct Crr {
    settings: CrrSettings,
    problem: Problem,
    policy: SoftmaxPolicy,
    policy_target: Vec<f32>,
    critic: Critic,
    updates: u64,
}

impl Crr {
    /// A learner with initial networks drawn from `seed`.
    ///
    /// # Errors
    /// A setting outside its range, or a problem with slates of several items.
    pub fn new(settings: &CrrSettings, problem: Problem, seed: u64) -> Result<Self, LearnerError> {
        LearnerError::check(settings.problem())?;
        problem.require_single("crr")?;
        let CrrSettings { network, optimisation, target, reward_scale, .. } = settings;
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let policy = SoftmaxPolicy::new(network, &problem, optimisation, &mut generator)?;
        let critic = Critic::new(network, &problem, optimisation, *target, *reward_scale, &mut generator)?;
        let policy_target = policy.parameters().to_vec();
        Ok(Self { settings: settings.clone(), problem, policy, policy_target, critic, updates: 0 })
    }
}

impl Learner for Crr {
    fn update(&mut self, replay: &Replay, sample: &Sample) -> Result<Update, Diverged> {
        let update = self.updates + 1;
        let transitions: Vec<&Transition> = sample.indices.iter().map(|&index| replay.get(index)).collect();
        let how = &self.settings.optimisation;
        let mini_batch = MiniBatch { transitions: &transitions, sample, problem: &self.problem, how, update };
        let next = followed(&transitions).into_iter().map(|at| &*transitions[at].next);
        self.policy.look_with(&self.policy_target, next, &self.problem);
        let targets = self.critic.targets_expected(&transitions, &self.problem, &self.policy.probabilities());

        let values = self.critic.look(&transitions, &self.problem);
        self.policy.look(mini_batch.observations(), &self.problem);
        let (logits, spans) = self.policy.logits();
        let weight = |((values, span), transition): ((&Vec<f32>, std::ops::Range<usize>), &&Transition)| {
            let advantage = values[transition.slate[0]] - expectation(&softmax(&logits[span]), values);
            self.settings.filter.weight(advantage)
        };
        let weights: Vec<f32> = values.iter().zip(spans).zip(&transitions).map(weight).collect();
        let imitation = self.policy.imitate(&mini_batch, &weights)?;
        let Regression { loss, gradient_norm, errors } = self.critic.regress(&mini_batch, &targets, None)?;
        self.settings.target.apply(&mut self.policy_target, self.policy.parameters(), update);
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
        checkpoint.floats("policy.target", &self.policy_target);
        self.critic.save(checkpoint);
        checkpoint.count("updates", self.updates);
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        self.policy.restore(checkpoint)?;
        checkpoint.read_floats("policy.target", &mut self.policy_target)?;
        self.critic.restore(checkpoint)?;
        self.updates = checkpoint.read_count("updates")?;
        Ok(())
    }
}
