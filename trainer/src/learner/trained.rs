//! A network in training, with its target copy.

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::checkpoint::{Checkpoint, CheckpointError};
use super::{Diverged, LearnerError};
use crate::nn::{Adam, AdamSettings, Batch, CandidateNetwork, NetworkSettings, NetworkShape, Trace, clip_to_norm};

/// How gradients become steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Optimisation {
    /// Transitions in a mini-batch.
    pub batch: usize,
    /// The greatest length of a gradient; longer ones are scaled down. Without end where 0.
    pub clip: f64,
    /// Adam.
    pub adam: AdamSettings,
    /// The step size falls linearly to this share of itself over the run; 1 keeps it.
    pub final_rate: f64,
    /// Threads of one update; what is learned does not depend on them.
    pub threads: usize,
}

impl Default for Optimisation {
    fn default() -> Self {
        Self { batch: 256, clip: 10.0, adam: AdamSettings::default(), final_rate: 1.0, threads: 1 }
    }
}

impl Optimisation {
    const MAX_THREADS: usize = 256;

    /// The first setting outside its range, with what is allowed.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        if !(1..=1_000_000).contains(&self.batch) {
            return Some(format!("`optimisation.batch` is {}, allowed are 1 to 1000000", self.batch));
        }
        if !(self.clip.is_finite() && self.clip >= 0.0) {
            return Some(format!("`optimisation.clip` is {}, it must be finite and at least 0", self.clip));
        }
        if !(0.0..=1.0).contains(&self.final_rate) {
            return Some(format!("`optimisation.final_rate` is {}, allowed are 0 to 1", self.final_rate));
        }
        if !(1..=Self::MAX_THREADS).contains(&self.threads) {
            return Some(format!("`optimisation.threads` is {}, allowed are 1 to {}", self.threads, Self::MAX_THREADS));
        }
        self.adam.problem()
    }

    /// The factor of the step size when training has come `progress` of its way.
    #[must_use]
    pub fn rate_at(&self, progress: f64) -> f64 {
        1.0 + (self.final_rate - 1.0) * progress.clamp(0.0, 1.0)
    }
}

/// How the target network follows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum TargetUpdate {
    /// A copy every so many updates (Mnih et al. 2015, doi:10.1038/nature14236).
    #[serde(rename = "hard")]
    Hard(u64),
    /// After each update, `target += tau (online - target)` (Lillicrap et al. 2016, arXiv:1509.02971).
    #[serde(rename = "soft")]
    Soft(f64),
}

impl Default for TargetUpdate {
    fn default() -> Self {
        Self::Soft(0.005)
    }
}

impl TargetUpdate {
    /// What is wrong with it, and what is allowed.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        match *self {
            Self::Hard(0) => Some("`target.hard` is 0, it must be at least 1".to_owned()),
            Self::Soft(tau) if !(tau > 0.0 && tau <= 1.0) => {
                Some(format!("`target.soft` is {tau}, allowed are above 0 to 1"))
            }
            _ => None,
        }
    }

    /// Lets the target follow after the update of this number, from 1.
    pub fn apply(&self, target: &mut [f32], online: &[f32], update: u64) {
        match *self {
            Self::Hard(every) if update.is_multiple_of(every) => target.copy_from_slice(online),
            Self::Hard(_) => {}
            Self::Soft(tau) => {
                let tau = tau as f32;
                target.iter_mut().zip(online).for_each(|(target, online)| *target += tau * (online - *target));
            }
        }
    }
}

/// A network with its parameters, gradient and optimiser.
#[derive(Debug, Clone)]
pub(super) struct Trained {
    pub network: CandidateNetwork,
    pub parameters: Vec<f32>,
    adam: Adam,
    gradient: Vec<f32>,
    pub batch: Batch,
    pub trace: Trace,
}

impl Trained {
    pub fn new(
        settings: &NetworkSettings,
        shape: NetworkShape,
        how: &Optimisation,
        generator: &mut ChaCha8Rng,
    ) -> Result<Self, LearnerError> {
        let network = CandidateNetwork::new(settings, shape)?.with_threads(how.threads);
        let parameters = network.initialise(generator);
        let length = parameters.len();
        Ok(Self {
            network,
            parameters,
            adam: Adam::new(how.adam, length),
            gradient: vec![0.0; length],
            batch: Batch::default(),
            trace: Trace::default(),
        })
    }

    /// Runs the network on its batch.
    pub fn forward(&mut self) {
        self.network.forward(&self.parameters, &self.batch, &mut self.trace);
    }

    /// Takes one step down the gradient whose part at the output is `upstream`; returns its length before clipping.
    pub fn descend(&mut self, upstream: &[f32], how: &Optimisation, rate: f64, update: u64) -> Result<f64, Diverged> {
        self.gradient.fill(0.0);
        self.network.backward(&self.parameters, &self.batch, &mut self.trace, upstream, &mut self.gradient);
        let norm = clip_to_norm(&mut self.gradient, (how.clip > 0.0).then_some(how.clip));
        if !norm.is_finite() {
            return Err(Diverged { update, what: "gradient", value: norm });
        }
        self.adam.step(&mut self.parameters, &self.gradient, rate);
        Ok(norm)
    }

    pub fn save(&self, name: &str, checkpoint: &mut Checkpoint) {
        checkpoint.floats(format!("{name}.parameters"), &self.parameters);
        checkpoint.floats(format!("{name}.first_moment"), &self.adam.first);
        checkpoint.floats(format!("{name}.second_moment"), &self.adam.second);
        checkpoint.count(format!("{name}.steps"), self.adam.steps);
    }

    pub fn restore(&mut self, name: &str, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        checkpoint.read_floats(&format!("{name}.parameters"), &mut self.parameters)?;
        checkpoint.read_floats(&format!("{name}.first_moment"), &mut self.adam.first)?;
        checkpoint.read_floats(&format!("{name}.second_moment"), &mut self.adam.second)?;
        self.adam.steps = checkpoint.read_count(&format!("{name}.steps"))?;
        Ok(())
    }
}
