//! Behaviour cloning.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::checkpoint::{Checkpoint, CheckpointError};
use super::critic::MiniBatch;
use super::softmax::{Imitation, SoftmaxPolicy};
use super::trained::Optimisation;
use super::{Diverged, Exported, Learner, LearnerError, Problem, Snapshot, Update};
use crate::nn::NetworkSettings;
use crate::onnx::OnnxError;
use crate::replay::{Replay, Sample, Transition};
use crate::rollout::{Observation, Scored, Scorer};

/// Settings of [`Bc`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BcSettings {
    /// The policy's network.
    pub network: NetworkSettings,
    /// How gradients become steps.
    pub optimisation: Optimisation,
}

impl BcSettings {
    /// The first setting outside its range, with what is allowed.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.optimisation.problem()
    }
}

/// Behaviour cloning: the policy under which the log is most likely, `min -E log pi(slate | s)` with
/// `pi(a | s) = softmax_a f(s, a)` over the candidates that were offered (Pomerleau 1991, doi:10.1162/neco.1991.3.1.88).
///
/// It reads no rewards, and is as good as what it imitates: the reference for all others.
#[derive(Debug, Clone)]
pub struct Bc {
    settings: BcSettings,
    problem: Problem,
    policy: SoftmaxPolicy,
    updates: u64,
}

impl Bc {
    /// A learner with an initial network drawn from `seed`.
    ///
    /// # Errors
    /// A setting outside its range.
    pub fn new(settings: &BcSettings, problem: Problem, seed: u64) -> Result<Self, LearnerError> {
        LearnerError::check(settings.problem())?;
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let policy = SoftmaxPolicy::new(&settings.network, &problem, &settings.optimisation, &mut generator)?;
        Ok(Self { settings: settings.clone(), problem, policy, updates: 0 })
    }
}

impl Learner for Bc {
    fn update(&mut self, replay: &Replay, sample: &Sample) -> Result<Update, Diverged> {
        let update = self.updates + 1;
        let transitions: Vec<&Transition> = sample.indices.iter().map(|&index| replay.get(index)).collect();
        let how = &self.settings.optimisation;
        let mini_batch = MiniBatch { transitions: &transitions, sample, problem: &self.problem, how, update };
        self.policy.look(mini_batch.observations(), &self.problem);
        let Imitation { loss, gradient_norm, errors } =
            self.policy.imitate(&mini_batch, &vec![1.0; transitions.len()])?;
        self.updates = update;
        Ok(Update { loss, gradient_norm, errors })
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
        checkpoint.count("updates", self.updates);
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        self.policy.restore(checkpoint)?;
        self.updates = checkpoint.read_count("updates")?;
        Ok(())
    }
}
