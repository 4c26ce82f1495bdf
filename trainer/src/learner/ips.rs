//! Policy learning by inverse propensity scores.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::checkpoint::{Checkpoint, CheckpointError};
use super::critic::MiniBatch;
use super::softmax::{Imitation, SoftmaxPolicy, above_zero};
use super::trained::Optimisation;
use super::{Diverged, Exported, Learner, LearnerError, Problem, Snapshot, Update};
use crate::nn::NetworkSettings;
use crate::onnx::OnnxError;
use crate::replay::{Replay, Sample, Transition};
use crate::rollout::{Observation, Scored, Scorer};

/// Settings of [`Ips`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IpsSettings {
    /// M, the greatest weight of a decision.
    pub most: f64,
    /// Whether the estimated reward is divided by the mean weight.
    pub self_normalised: bool,
    /// How many standard errors of the estimated reward are taken off it.
    pub penalty: f64,
    /// The policy's network.
    pub network: NetworkSettings,
    /// How gradients become steps.
    pub optimisation: Optimisation,
}

impl Default for IpsSettings {
    fn default() -> Self {
        Self {
            most: 100.0,
            self_normalised: true,
            penalty: 0.0,
            network: NetworkSettings::default(),
            optimisation: Optimisation::default(),
        }
    }
}

impl IpsSettings {
    /// The first setting outside its range, with what is allowed.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let penalty = (!(self.penalty.is_finite() && self.penalty >= 0.0))
            .then(|| format!("`penalty` is {}, it must be finite and at least 0", self.penalty));
        above_zero("most", self.most).or(penalty).or_else(|| self.optimisation.problem())
    }
}

/// Counterfactual risk minimisation with inverse propensity scores (Swaminathan & Joachims 2015, "Batch Learning from Logged
/// Bandit Feedback through Counterfactual Risk Minimization", JMLR 16): the policy of the greatest estimated reward less its
/// standard errors,
/// `max mean_i w_i r_i - penalty sqrt(var_i(w_i r_i) / n)` with `w_i = min(pi(slate_i | s_i) / p_i, M)`, `p_i` the logged
/// propensity of the slate.
///
/// Self-normalised (Swaminathan & Joachims 2015, "The Self-Normalized Estimator for Counterfactual Learning", NeurIPS 28), the
/// estimate is `sum w r / sum w`, which a policy cannot raise by avoiding or by seeking what was logged, whatever zero means in
/// rewards. Both are taken over the mini-batch, n being all decisions; a weight that is cut has no slope.
#[derive(Debug, Clone)]
pub struct Ips {
    settings: IpsSettings,
    problem: Problem,
    policy: SoftmaxPolicy,
    updates: u64,
}

impl Ips {
    /// A learner with an initial network drawn from `seed`.
    ///
    /// # Errors
    /// A setting outside its range.
    pub fn new(settings: &IpsSettings, problem: Problem, seed: u64) -> Result<Self, LearnerError> {
        LearnerError::check(settings.problem())?;
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let policy = SoftmaxPolicy::new(&settings.network, &problem, &settings.optimisation, &mut generator)?;
        Ok(Self { settings: settings.clone(), problem, policy, updates: 0 })
    }
}

/// A mini-batch's loss, with its derivative by each `-log pi` times the size of the mini-batch.
struct Risk {
    loss: f32,
    slopes: Vec<f32>,
}

/// The loss of decisions with these `log pi / p` and rewards, in a log of `all` decisions.
fn risk(log_ratios: &[f32], rewards: &[f32], all: usize, settings: &IpsSettings) -> Risk {
    let most = settings.most as f32;
    let share = 1.0 / log_ratios.len() as f32;
    let weights: Vec<f32> = log_ratios.iter().map(|ratio| ratio.exp().min(most)).collect();
    let mean = |numbers: &mut dyn Iterator<Item = f32>| share * numbers.sum::<f32>();
    let weighted = mean(&mut weights.iter().zip(rewards).map(|(weight, reward)| weight * reward));
    let scale = if settings.self_normalised { mean(&mut weights.iter().copied()).max(f32::MIN_POSITIVE) } else { 1.0 };
    let value = weighted / scale;
    // Of a ratio, the parts whose mean has its variance.
    let base = if settings.self_normalised { value } else { 0.0 };
    let parts: Vec<f32> =
        weights.iter().zip(rewards).map(|(weight, reward)| weight * (reward - base) / scale).collect();
    let centre = mean(&mut parts.iter().copied());
    let deviation = mean(&mut parts.iter().map(|part| (part - centre).powi(2))).sqrt();
    let penalty = settings.penalty as f32 / (all as f32).sqrt();
    let slope = |(at, part): (usize, &f32)| {
        if weights[at] >= most {
            return 0.0;
        }
        let relative = if deviation > 0.0 { (part - centre) / deviation } else { 0.0 };
        part * (1.0 - penalty * relative)
    };
    Risk { loss: penalty * deviation - value, slopes: parts.iter().enumerate().map(slope).collect() }
}

impl Learner for Ips {
    fn update(&mut self, replay: &Replay, sample: &Sample) -> Result<Update, Diverged> {
        let update = self.updates + 1;
        let transitions: Vec<&Transition> = sample.indices.iter().map(|&index| replay.get(index)).collect();
        let how = &self.settings.optimisation;
        let mini_batch = MiniBatch { transitions: &transitions, sample, problem: &self.problem, how, update };
        self.policy.look(mini_batch.observations(), &self.problem);
        let likelihoods = self.policy.log_likelihoods(&transitions);
        let ratio = |(likelihood, transition): (&f32, &&Transition)| {
            // What has no propensity weighs nothing.
            transition.propensity().map_or(f32::NEG_INFINITY, |known| likelihood - known.slate.ln())
        };
        let ratios: Vec<f32> = likelihoods.iter().zip(&transitions).map(ratio).collect();
        let rewards: Vec<f32> = transitions.iter().map(|transition| transition.reward).collect();
        let Risk { loss, slopes } = risk(&ratios, &rewards, replay.len(), &self.settings);
        let Imitation { gradient_norm, errors, .. } = self.policy.imitate(&mini_batch, &slopes)?;
        self.updates = update;
        Ok(Update { loss: f64::from(loss), gradient_norm, errors })
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

#[cfg(test)]
mod tests {
    use super::*;

    const LIKELIHOODS: [f32; 5] = [-1.2, -0.4, -2.0, -0.7, 3.0];
    const PROPENSITIES: [f32; 5] = [0.5, 0.9, 0.1, 0.25, 0.5];
    const REWARDS: [f32; 5] = [1.0, -0.5, 2.0, 0.0, 3.0];

    fn of(settings: &IpsSettings, likelihoods: [f32; 5]) -> Risk {
        let ratios: Vec<f32> = likelihoods.iter().zip(PROPENSITIES).map(|(own, p)| own - p.ln()).collect();
        risk(&ratios, &REWARDS, 9, settings)
    }

    #[test]
    fn the_slopes_are_those_of_the_loss() {
        for (self_normalised, penalty) in [(false, 0.0), (true, 0.0), (false, 2.0)] {
            let settings = IpsSettings { self_normalised, penalty, most: 20.0, ..IpsSettings::default() };
            let found = of(&settings, LIKELIHOODS);
            for at in 0..5 {
                let moved = |by: f32| {
                    let mut likelihoods = LIKELIHOODS;
                    likelihoods[at] += by;
                    of(&settings, likelihoods).loss
                };
                // By -log pi, and of the whole mini-batch.
                let difference = -5.0 * (moved(1e-2) - moved(-1e-2)) / 2e-2;
                assert!(
                    (found.slopes[at] - difference).abs() < 5e-3 * (1.0 + difference.abs()),
                    "{settings:?} {at}: {} is not {difference}",
                    found.slopes[at]
                );
            }
            assert!(found.slopes[4] == 0.0, "its weight is cut");
        }
    }

    #[test]
    fn the_loss_is_the_estimate_of_the_paper() {
        let settings = IpsSettings { self_normalised: false, most: 20.0, ..IpsSettings::default() };
        let weights: Vec<f32> =
            LIKELIHOODS.iter().zip(PROPENSITIES).map(|(own, p)| (own.exp() / p).min(20.0)).collect();
        let sum: f32 = weights.iter().zip(REWARDS).map(|(weight, reward)| weight * reward).sum();
        assert!((of(&settings, LIKELIHOODS).loss + sum / 5.0).abs() < 1e-4);
        let normalised = IpsSettings { self_normalised: true, ..settings };
        let total: f32 = weights.iter().sum();
        assert!((of(&normalised, LIKELIHOODS).loss + sum / total).abs() < 1e-4);
        // What every reward is raised by, the self-normalised estimate is raised by, and no slope changes.
        let ratios: Vec<f32> = LIKELIHOODS.iter().zip(PROPENSITIES).map(|(own, p)| own - p.ln()).collect();
        let raised = risk(&ratios, &REWARDS.map(|reward| reward + 7.0), 9, &normalised);
        let plain = risk(&ratios, &REWARDS, 9, &normalised);
        assert!((raised.loss - plain.loss + 7.0).abs() < 1e-4);
        assert!(raised.slopes.iter().zip(&plain.slopes).all(|(a, b)| (a - b).abs() < 1e-4));
    }
}
