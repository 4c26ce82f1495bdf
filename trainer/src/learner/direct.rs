//! The direct method: rewards learned by regression.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::checkpoint::{Checkpoint, CheckpointError};
use super::critic::{Critic, MiniBatch, Regression};
use super::softmax::above_zero;
use super::trained::{Optimisation, TargetUpdate};
use super::{Diverged, Exported, Learner, LearnerError, Problem, Snapshot, Update};
use crate::nn::NetworkSettings;
use crate::onnx::OnnxError;
use crate::replay::{Replay, Sample, Transition};
use crate::rollout::{Observation, Scored, Scorer};

/// The target network is the network itself: nothing is learned towards it.
pub(super) const NO_TARGET: TargetUpdate = TargetUpdate::Hard(1);

/// Settings of [`Direct`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DirectSettings {
    /// Rewards are multiplied by it while learning, so that they are of the order of 1.
    pub reward_scale: f64,
    /// The network.
    pub network: NetworkSettings,
    /// How gradients become steps.
    pub optimisation: Optimisation,
}

impl Default for DirectSettings {
    fn default() -> Self {
        Self { reward_scale: 1.0, network: NetworkSettings::default(), optimisation: Optimisation::default() }
    }
}

impl DirectSettings {
    /// The first setting outside its range, with what is allowed.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        above_zero("reward_scale", self.reward_scale).or_else(|| self.optimisation.problem())
    }
}

/// The direct method (Dudik, Langford & Li 2011, arXiv:1103.4601): the reward of each item shown is learned by regression,
/// `min E (r - q(s, a))^2` under Huber's loss, and the policy ranks by it.
///
/// It weighs by no propensity, and so learns from a log that has none; where the model is wrong, it is wrong most about what
/// the log rarely shows.
#[derive(Debug, Clone)]
pub struct Direct {
    settings: DirectSettings,
    problem: Problem,
    model: Critic,
    updates: u64,
}

impl Direct {
    /// A learner with an initial network drawn from `seed`.
    ///
    /// # Errors
    /// A setting outside its range.
    pub fn new(settings: &DirectSettings, problem: Problem, seed: u64) -> Result<Self, LearnerError> {
        LearnerError::check(settings.problem())?;
        let DirectSettings { network, optimisation, reward_scale } = settings;
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let model = Critic::new(network, &problem, optimisation, NO_TARGET, *reward_scale, &mut generator)?;
        Ok(Self { settings: settings.clone(), problem, model, updates: 0 })
    }
}

impl Learner for Direct {
    fn update(&mut self, replay: &Replay, sample: &Sample) -> Result<Update, Diverged> {
        let update = self.updates + 1;
        let transitions: Vec<&Transition> = sample.indices.iter().map(|&index| replay.get(index)).collect();
        let how = &self.settings.optimisation;
        let mini_batch = MiniBatch { transitions: &transitions, sample, problem: &self.problem, how, update };
        let Regression { loss, gradient_norm, errors } = self.model.regress_shown(&mini_batch)?;
        self.updates = update;
        Ok(Update { loss, gradient_norm, errors })
    }

    fn score(&mut self, observations: &[&Observation]) -> Vec<Scored> {
        self.model.score(observations, &self.problem)
    }

    fn scorer(&self) -> Box<dyn Scorer> {
        Box::new(Snapshot(self.clone()))
    }

    fn copy(&self) -> Box<dyn Learner> {
        Box::new(self.clone())
    }

    fn export(&self) -> Result<Exported, OnnxError> {
        self.model.export("rewards", &self.problem)
    }

    fn save(&self, checkpoint: &mut Checkpoint) {
        self.model.save(checkpoint);
        checkpoint.count("updates", self.updates);
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        self.model.restore(checkpoint)?;
        self.updates = checkpoint.read_count("updates")?;
        Ok(())
    }
}
