//! Monotonic advantage re-weighted imitation learning.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::checkpoint::{Checkpoint, CheckpointError};
use super::critic::{MiniBatch, StateValue, followed};
use super::dqn::value_problem;
use super::softmax::{Imitation, SoftmaxPolicy};
use super::trained::Optimisation;
use super::{Diverged, Exported, Learner, LearnerError, Problem, Snapshot, Update};
use crate::nn::NetworkSettings;
use crate::onnx::OnnxError;
use crate::replay::{Replay, Sample, Transition};
use crate::rollout::{Observation, Scored, Scorer};

/// The most steps of a transition: to the end of most sessions.
const MOST_STEPS: usize = 1000;

/// Settings of [`Marwil`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MarwilSettings {
    /// Gamma, the discount per step.
    pub discount: f64,
    /// n, over how many steps rewards are summed before the state's value is asked.
    pub steps: usize,
    /// How much advantages count; 0 is behaviour cloning.
    pub beta: f64,
    /// The greatest weight of a slate.
    pub most: f64,
    /// How fast the square of the advantages' norm c follows those of a mini-batch.
    pub norm_rate: f64,
    /// Rewards are multiplied by it while learning, so that returns are of the order of 1.
    pub reward_scale: f64,
    /// The networks.
    pub network: NetworkSettings,
    /// How gradients become steps.
    pub optimisation: Optimisation,
}

impl Default for MarwilSettings {
    fn default() -> Self {
        Self {
            discount: 0.99,
            steps: MOST_STEPS,
            beta: 1.0,
            most: 100.0,
            norm_rate: 0.01,
            reward_scale: 1.0,
            network: NetworkSettings::default(),
            optimisation: Optimisation::default(),
        }
    }
}

impl MarwilSettings {
    /// The first setting outside its range, with what is allowed.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let beta = (!(self.beta.is_finite() && self.beta >= 0.0))
            .then(|| format!("`beta` is {}, it must be finite and at least 0", self.beta));
        let most = (!(self.most.is_finite() && self.most > 0.0))
            .then(|| format!("`most` is {}, it must be finite and above 0", self.most));
        let rate = (!(self.norm_rate > 0.0 && self.norm_rate <= 1.0))
            .then(|| format!("`norm_rate` is {}, allowed are above 0 to 1", self.norm_rate));
        value_problem(self.discount, self.steps, self.reward_scale)
            .or(beta)
            .or(most)
            .or(rate)
            .or_else(|| self.optimisation.problem())
    }
}

/// Monotonic advantage re-weighted imitation learning (Wang et al. 2018, "Exponentially Weighted Imitation Learning for Batched
/// Historical Data", NeurIPS 31): the policy imitates what was shown with the weight `exp(beta A / c)`, where `A = R - v(s)` is
/// the discounted return to go R of the session less its estimate, `v(s)` is learned towards R by least squares, and `c^2` is
/// the running mean of `A^2`.
///
/// R is the return over [`MarwilSettings::steps`] steps, with `v` after them where the session goes on. Nothing is asked of an
/// action that was not logged, so slates of several items are imitated like single ones.
#[derive(Debug, Clone)]
pub struct Marwil {
    settings: MarwilSettings,
    problem: Problem,
    policy: SoftmaxPolicy,
    value: StateValue,
    /// c^2; negative before the first update.
    square_norm: f32,
    updates: u64,
}

impl Marwil {
    /// A learner with initial networks drawn from `seed`.
    ///
    /// # Errors
    /// A setting outside its range.
    pub fn new(settings: &MarwilSettings, problem: Problem, seed: u64) -> Result<Self, LearnerError> {
        LearnerError::check(settings.problem())?;
        let MarwilSettings { network, optimisation, .. } = settings;
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let policy = SoftmaxPolicy::new(network, &problem, optimisation, &mut generator)?;
        let value = StateValue::new(network, &problem, optimisation, &mut generator)?;
        Ok(Self { settings: settings.clone(), problem, policy, value, square_norm: -1.0, updates: 0 })
    }
}

impl Learner for Marwil {
    fn update(&mut self, replay: &Replay, sample: &Sample) -> Result<Update, Diverged> {
        let update = self.updates + 1;
        let transitions: Vec<&Transition> = sample.indices.iter().map(|&index| replay.get(index)).collect();
        let how = &self.settings.optimisation;
        let mini_batch = MiniBatch { transitions: &transitions, sample, problem: &self.problem, how, update };
        let scale = self.settings.reward_scale as f32;
        let mut returns: Vec<f32> = transitions.iter().map(|transition| transition.reward * scale).collect();
        let followed = followed(&transitions);
        for (&at, value) in followed.iter().zip(self.value.ahead(&transitions, &followed, &self.problem)) {
            returns[at] += transitions[at].discount * value;
        }
        let values = self.value.look(&transitions, &self.problem);
        let advantages: Vec<f32> = returns.iter().zip(&values).map(|(to_go, v)| to_go - v).collect();
        let share = 1.0 / transitions.len() as f32;
        let square = share * advantages.iter().map(|advantage| advantage * advantage).sum::<f32>();
        if !square.is_finite() {
            return Err(Diverged { update, what: "state value's loss", value: f64::from(square) });
        }
        let norm_rate = if self.square_norm < 0.0 { 1.0 } else { self.settings.norm_rate as f32 };
        let square_norm = self.square_norm + norm_rate * (square - self.square_norm);
        let (unit, most) = (self.settings.beta as f32 / square_norm.sqrt().max(1e-8), self.settings.most as f32);
        let weights: Vec<f32> = advantages.iter().map(|advantage| (unit * advantage).exp().min(most)).collect();
        self.policy.look(mini_batch.observations(), &self.problem);
        let Imitation { loss, gradient_norm, .. } = self.policy.imitate(&mini_batch, &weights)?;

        let upstream: Vec<f32> =
            advantages.iter().zip(&sample.weights).map(|(advantage, weight)| -share * weight * advantage).collect();
        let norm = self.value.descend(&upstream, how, how.rate_at(sample.progress), update)?;
        self.square_norm = square_norm;
        self.updates = update;
        let loss = loss + f64::from(0.5 * square);
        Ok(Update { loss, gradient_norm: gradient_norm.hypot(norm), errors: advantages })
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
        self.value.save(checkpoint);
        checkpoint.floats("square_norm", &[self.square_norm]);
        checkpoint.count("updates", self.updates);
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        self.policy.restore(checkpoint)?;
        self.value.restore(checkpoint)?;
        checkpoint.read_floats("square_norm", std::slice::from_mut(&mut self.square_norm))?;
        self.updates = checkpoint.read_count("updates")?;
        Ok(())
    }
}
