//! Conservative Q-learning.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::checkpoint::{Checkpoint, CheckpointError};
use super::critic::{Critic, MiniBatch, Regression, greatest};
use super::dqn::value_problem;
use super::softmax::log_sum_exp;
use super::trained::{Optimisation, TargetUpdate};
use super::{Diverged, Exported, Learner, LearnerError, Problem, Snapshot, Update};
use crate::nn::NetworkSettings;
use crate::onnx::OnnxError;
use crate::replay::{Replay, Sample, Transition};
use crate::rollout::{Observation, Scored, Scorer};

/// Settings of [`Cql`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CqlSettings {
    /// Gamma, the discount per step.
    pub discount: f64,
    /// n, over how many steps rewards are summed before the target network is asked.
    pub steps: usize,
    /// Alpha, how much the penalty counts; 0 is Q-learning.
    pub alpha: f64,
    /// Rewards are multiplied by it while learning, so that returns are of the order of 1.
    pub reward_scale: f64,
    /// The networks.
    pub network: NetworkSettings,
    /// How the target network follows.
    pub target: TargetUpdate,
    /// How gradients become steps.
    pub optimisation: Optimisation,
}

impl Default for CqlSettings {
    fn default() -> Self {
        Self {
            discount: 0.99,
            steps: 1,
            alpha: 1.0,
            reward_scale: 1.0,
            network: NetworkSettings::default(),
            target: TargetUpdate::default(),
            optimisation: Optimisation::default(),
        }
    }
}

impl CqlSettings {
    /// The first setting outside its range, with what is allowed.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        alpha_problem(self.alpha)
            .or_else(|| value_problem(self.discount, self.steps, self.reward_scale))
            .or_else(|| self.target.problem())
            .or_else(|| self.optimisation.problem())
    }
}

pub(super) fn alpha_problem(alpha: f64) -> Option<String> {
    (!(alpha.is_finite() && alpha >= 0.0)).then(|| format!("`alpha` is {alpha}, it must be finite and at least 0"))
}

/// `alpha (log sum_a exp q(s, a) - mean_{a in shown} q(s, a))`, with its derivative by each value added to `gradient`.
pub(super) fn penalty(values: &[f32], shown: &[usize], alpha: f32, gradient: &mut [f32]) -> f32 {
    let total = log_sum_exp(values.iter().copied());
    values.iter().zip(&mut *gradient).for_each(|(value, slope)| *slope += alpha * (value - total).exp());
    let share = 1.0 / shown.len() as f32;
    let mut mean = 0.0;
    for &item in shown {
        mean += share * values[item];
        gradient[item] -= alpha * share;
    }
    alpha * (total - mean)
}

/// Conservative Q-learning, CQL(H) (Kumar et al. 2020, arXiv:2006.04779): double Q-learning whose loss has
/// `alpha E (log sum_a exp q(s, a) - q(s, a_logged))` beside it, which holds down the values of what was not shown. The values
/// are in scaled units there, so what alpha means depends on [`CqlSettings::reward_scale`].
///
/// For slates of several items, see `alpha` of [`super::SlateQSettings`].
#[derive(Debug, Clone)]
pub struct Cql {
    settings: CqlSettings,
    problem: Problem,
    critic: Critic,
    updates: u64,
}

impl Cql {
    /// A learner with an initial network drawn from `seed`.
    ///
    /// # Errors
    /// A setting outside its range, or a problem with slates of several items.
    pub fn new(settings: &CqlSettings, problem: Problem, seed: u64) -> Result<Self, LearnerError> {
        LearnerError::check(settings.problem())?;
        problem.require_single("cql")?;
        let CqlSettings { network, optimisation, target, reward_scale, .. } = settings;
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let critic = Critic::new(network, &problem, optimisation, *target, *reward_scale, &mut generator)?;
        Ok(Self { settings: settings.clone(), problem, critic, updates: 0 })
    }
}

impl Learner for Cql {
    fn update(&mut self, replay: &Replay, sample: &Sample) -> Result<Update, Diverged> {
        let update = self.updates + 1;
        let transitions: Vec<&Transition> = sample.indices.iter().map(|&index| replay.get(index)).collect();
        let how = &self.settings.optimisation;
        let mini_batch = MiniBatch { transitions: &transitions, sample, problem: &self.problem, how, update };
        let targets = self.critic.targets_of_chosen(&transitions, &self.problem, |_, values| greatest(values));
        let alpha = self.settings.alpha as f32;
        let mut conservative =
            |values: &[f32], taken: usize, gradient: &mut [f32]| penalty(values, &[taken], alpha, gradient);
        let Regression { loss, gradient_norm, errors } =
            self.critic.regress(&mini_batch, &targets, Some(&mut conservative))?;
        self.updates = update;
        Ok(Update { loss, gradient_norm, errors })
    }

    fn score(&mut self, observations: &[&Observation]) -> Vec<Scored> {
        self.critic.score(observations, &self.problem)
    }

    fn scorer(&self) -> Box<dyn Scorer> {
        Box::new(Snapshot(self.clone()))
    }

    fn copy(&self) -> Box<dyn Learner> {
        Box::new(self.clone())
    }

    fn export(&self) -> Result<Exported, OnnxError> {
        self.critic.export("cql", &self.problem)
    }

    fn save(&self, checkpoint: &mut Checkpoint) {
        self.critic.save(checkpoint);
        checkpoint.count("updates", self.updates);
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        self.critic.restore(checkpoint)?;
        self.updates = checkpoint.read_count("updates")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_penaltys_derivatives_equal_differences() {
        let values = [0.3_f32, -1.2, 2.0, 0.7];
        for shown in [&[1][..], &[3, 0]] {
            let mut gradient = [0.0; 4];
            penalty(&values, shown, 1.5, &mut gradient);
            for at in 0..4 {
                let moved = |by: f32| {
                    let mut values = values;
                    values[at] += by;
                    f64::from(penalty(&values, shown, 1.5, &mut [0.0; 4]))
                };
                let difference = (moved(1e-2) - moved(-1e-2)) / 2e-2;
                let slope = f64::from(gradient[at]);
                assert!((slope - difference).abs() < 1e-3, "{at}: {slope} is not {difference}");
            }
            // Moving all values together changes nothing.
            assert!(gradient.iter().sum::<f32>().abs() < 1e-6);
        }
    }
}
