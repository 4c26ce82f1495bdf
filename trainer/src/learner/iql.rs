//! Implicit Q-learning.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::checkpoint::{Checkpoint, CheckpointError};
use super::critic::{Critic, MiniBatch, Regression, StateValue, followed};
use super::dqn::value_problem;
use super::loss::expectile;
use super::softmax::{Imitation, SoftmaxPolicy, exponential_problem};
use super::trained::{Optimisation, TargetUpdate};
use super::{Diverged, Exported, Learner, LearnerError, Problem, Snapshot, Update};
use crate::nn::NetworkSettings;
use crate::onnx::OnnxError;
use crate::replay::{Replay, Sample, Transition};
use crate::rollout::{Observation, Scored, Scorer};

/// Settings of [`Iql`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IqlSettings {
    /// Gamma, the discount per step.
    pub discount: f64,
    /// n, over how many steps rewards are summed before the next state's value is asked.
    pub steps: usize,
    /// Tau, which expectile of the actions' values is a state's value: 0.5 is their mean, towards 1 their greatest.
    pub expectile: f64,
    /// 1 / beta, in units of the scaled reward: how little advantages count when the policy is extracted.
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

impl Default for IqlSettings {
    fn default() -> Self {
        Self {
            discount: 0.99,
            steps: 1,
            expectile: 0.7,
            temperature: 0.1,
            most: 100.0,
            reward_scale: 1.0,
            network: NetworkSettings::default(),
            target: TargetUpdate::default(),
            optimisation: Optimisation::default(),
        }
    }
}

impl IqlSettings {
    /// The first setting outside its range, with what is allowed.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let expectile = (!(self.expectile > 0.0 && self.expectile < 1.0))
            .then(|| format!("`expectile` is {}, allowed are above 0 to below 1", self.expectile));
        value_problem(self.discount, self.steps, self.reward_scale)
            .or(expectile)
            .or_else(|| exponential_problem(["temperature", "most"], self.temperature, self.most))
            .or_else(|| self.target.problem())
            .or_else(|| self.optimisation.problem())
    }
}

/// Implicit Q-learning (Kostrikov et al. 2021, arXiv:2110.06169), which asks for the value of no action that was not logged:
/// `v(s)` is learned towards the tau-expectile of `q'(s, a)` over the logged actions, `min E L(q'(s, a) - v(s))` with
/// `L(u) = |tau - 1{u < 0}| u^2`; `q(s, a)` towards `r + g v(s')`; and the policy imitates each logged action with the weight
/// `exp(beta (q'(s, a) - v(s)))`.
///
/// One critic, where the paper takes the lesser of two.
#[derive(Debug, Clone)]
pub struct Iql {
    settings: IqlSettings,
    problem: Problem,
    policy: SoftmaxPolicy,
    critic: Critic,
    value: StateValue,
    updates: u64,
}

impl Iql {
    /// A learner with initial networks drawn from `seed`.
    ///
    /// # Errors
    /// A setting outside its range, or a problem with slates of several items.
    pub fn new(settings: &IqlSettings, problem: Problem, seed: u64) -> Result<Self, LearnerError> {
        LearnerError::check(settings.problem())?;
        problem.require_single("iql")?;
        let IqlSettings { network, optimisation, target, reward_scale, .. } = settings;
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let policy = SoftmaxPolicy::new(network, &problem, optimisation, &mut generator)?;
        let critic = Critic::new(network, &problem, optimisation, *target, *reward_scale, &mut generator)?;
        let value = StateValue::new(network, &problem, optimisation, &mut generator)?;
        Ok(Self { settings: settings.clone(), problem, policy, critic, value, updates: 0 })
    }
}

impl Learner for Iql {
    fn update(&mut self, replay: &Replay, sample: &Sample) -> Result<Update, Diverged> {
        let update = self.updates + 1;
        let transitions: Vec<&Transition> = sample.indices.iter().map(|&index| replay.get(index)).collect();
        let how = &self.settings.optimisation;
        let mini_batch = MiniBatch { transitions: &transitions, sample, problem: &self.problem, how, update };
        let rate = how.rate_at(sample.progress);
        let share = 1.0 / transitions.len() as f32;
        let taken = self.critic.look_taken(&transitions, &self.problem);
        let values = self.value.look(&transitions, &self.problem);
        let advantages: Vec<f32> = taken.iter().zip(&values).map(|(q, v)| q - v).collect();
        let mut loss = 0.0;
        let slope = |(advantage, weight): (&f32, &f32)| {
            let (part, slope) = expectile(*advantage, self.settings.expectile as f32);
            loss += f64::from(share * weight * part);
            -share * weight * slope
        };
        let upstream: Vec<f32> = advantages.iter().zip(&sample.weights).map(slope).collect();
        if !loss.is_finite() {
            return Err(Diverged { update, what: "state value's loss", value: loss });
        }
        let mut norm = self.value.descend(&upstream, how, rate, update)?;

        let (temperature, most) = (self.settings.temperature as f32, self.settings.most as f32);
        let weights: Vec<f32> = advantages.iter().map(|advantage| (advantage / temperature).exp().min(most)).collect();
        self.policy.look(mini_batch.observations(), &self.problem);
        let imitation = self.policy.imitate(&mini_batch, &weights)?;

        let ahead = self.value.ahead(&transitions, &followed(&transitions), &self.problem);
        let targets = self.critic.targets_of_values(&transitions, ahead);
        let regression = self.critic.regress(&mini_batch, &targets, None)?;
        self.updates = update;
        let Imitation { loss: of_policy, gradient_norm, .. } = imitation;
        norm = norm.hypot(gradient_norm).hypot(regression.gradient_norm);
        let Regression { loss: of_critic, errors, .. } = regression;
        Ok(Update { loss: loss + of_policy + of_critic, gradient_norm: norm, errors })
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
        self.value.save(checkpoint);
        checkpoint.count("updates", self.updates);
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        self.policy.restore(checkpoint)?;
        self.critic.restore(checkpoint)?;
        self.value.restore(checkpoint)?;
        self.updates = checkpoint.read_count("updates")?;
        Ok(())
    }
}
