//! Doubly robust policy learning.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::checkpoint::{Checkpoint, CheckpointError};
use super::critic::{Critic, MiniBatch, expectation};
use super::direct::NO_TARGET;
use super::softmax::{SoftmaxPolicy, above_zero, softmax};
use super::trained::Optimisation;
use super::{Diverged, Exported, Learner, LearnerError, Problem, Snapshot, Update};
use crate::nn::NetworkSettings;
use crate::onnx::OnnxError;
use crate::replay::{Replay, Sample, Transition};
use crate::rollout::{Observation, Scored, Scorer};

/// Settings of [`DoublyRobust`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DoublyRobustSettings {
    /// M, the greatest weight of a decision.
    pub most: f64,
    /// Rewards are multiplied by it while learning, so that they are of the order of 1.
    pub reward_scale: f64,
    /// The networks.
    pub network: NetworkSettings,
    /// How gradients become steps.
    pub optimisation: Optimisation,
}

impl Default for DoublyRobustSettings {
    fn default() -> Self {
        Self {
            most: 100.0,
            reward_scale: 1.0,
            network: NetworkSettings::default(),
            optimisation: Optimisation::default(),
        }
    }
}

impl DoublyRobustSettings {
    /// The first setting outside its range, with what is allowed.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        above_zero("most", self.most)
            .or_else(|| above_zero("reward_scale", self.reward_scale))
            .or_else(|| self.optimisation.problem())
    }
}

/// Doubly robust policy learning (Dudik, Langford & Li 2011, arXiv:1103.4601): the policy of the greatest
/// `mean_i [ sum_a pi(a | s_i) q(s_i, a) + w_i (r_i - q(s_i, a_i)) ]` with `w_i = min(pi(a_i | s_i) / p_i, M)`: a model of the
/// rewards, corrected where the log knows better.
///
/// Cross-fitted (Athey & Wager 2021, arXiv:1702.02896): two models q, each learned from one half of the users while the policy
/// learns, predict for the other half, so that none corrects itself by what it has learned by heart. A weight that is cut has
/// no slope.
#[derive(Debug, Clone)]
pub struct DoublyRobust {
    settings: DoublyRobustSettings,
    problem: Problem,
    policy: SoftmaxPolicy,
    /// By the half of the users that it learns from.
    models: [Critic; 2],
    updates: u64,
}

impl DoublyRobust {
    /// A learner with initial networks drawn from `seed`.
    ///
    /// # Errors
    /// A setting outside its range, or a problem with slates of several items.
    pub fn new(settings: &DoublyRobustSettings, problem: Problem, seed: u64) -> Result<Self, LearnerError> {
        LearnerError::check(settings.problem())?;
        problem.require_single("doubly_robust")?;
        let DoublyRobustSettings { network, optimisation, reward_scale, .. } = settings;
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let policy = SoftmaxPolicy::new(network, &problem, optimisation, &mut generator)?;
        let mut model = || Critic::new(network, &problem, optimisation, NO_TARGET, *reward_scale, &mut generator);
        let models = [model()?, model()?];
        Ok(Self { settings: settings.clone(), problem, policy, models, updates: 0 })
    }

    /// The values of all candidates of each transition, by the model that has not learned from its user.
    fn predict(&mut self, transitions: &[&Transition]) -> Vec<Vec<f32>> {
        let [first, second] = self.models.each_mut().map(|model| model.look(transitions, &self.problem));
        let pairs = first.into_iter().zip(second).zip(transitions);
        pairs.map(|((first, second), transition)| if half(transition) == 0 { second } else { first }).collect()
    }

    /// One step of each model on the users that it learns from; returns the loss.
    fn regress(&mut self, mini_batch: &MiniBatch<'_>) -> Result<f64, Diverged> {
        let MiniBatch { transitions, sample, problem, how, update } = *mini_batch;
        let mut loss = 0.0;
        for (own, model) in self.models.iter_mut().enumerate() {
            let at: Vec<usize> = (0..transitions.len()).filter(|&at| half(transitions[at]) == own).collect();
            if at.is_empty() {
                continue;
            }
            let transitions: Vec<&Transition> = at.iter().map(|&at| transitions[at]).collect();
            let sample = Sample {
                indices: at.iter().map(|&at| sample.indices[at]).collect(),
                weights: at.iter().map(|&at| sample.weights[at]).collect(),
                progress: sample.progress,
            };
            let mini_batch = MiniBatch { transitions: &transitions, sample: &sample, problem, how, update };
            loss += 0.5 * model.regress_shown(&mini_batch)?.loss;
        }
        Ok(loss)
    }
}

fn half(transition: &Transition) -> usize {
    transition.logged.as_ref().map_or(0, |logged| usize::from(logged.half))
}

/// Minus a decision's part of the estimate, its derivative by each logit added to `gradient`. `values` are those of all
/// candidates.
fn corrected(
    logits: &[f32],
    values: &[f32],
    taken: usize,
    reward: f32,
    propensity: f32,
    most: f32,
    gradient: &mut [f32],
) -> f32 {
    let policy = softmax(logits);
    let expected = expectation(&policy, values);
    let (weight, off) = (policy[taken] / propensity, reward - values[taken]);
    for (slope, (pi, value)) in gradient.iter_mut().zip(policy.iter().zip(values)) {
        *slope -= pi * (value - expected);
    }
    if weight < most {
        gradient.iter_mut().zip(&policy).for_each(|(slope, pi)| *slope += weight * off * pi);
        gradient[taken] -= weight * off;
    }
    -(expected + weight.min(most) * off)
}

impl Learner for DoublyRobust {
    fn update(&mut self, replay: &Replay, sample: &Sample) -> Result<Update, Diverged> {
        let update = self.updates + 1;
        let transitions: Vec<&Transition> = sample.indices.iter().map(|&index| replay.get(index)).collect();
        let how = self.settings.optimisation;
        let problem = self.problem.clone();
        let mini_batch = MiniBatch { transitions: &transitions, sample, problem: &problem, how: &how, update };
        let values = self.predict(&transitions);
        let scale = self.settings.reward_scale as f32;
        let most = self.settings.most as f32;
        self.policy.look(mini_batch.observations(), &self.problem);
        let mut errors = Vec::with_capacity(transitions.len());
        let (loss, norm) = self.policy.descend(&mini_batch, |at, logits, gradient| {
            let Transition { slate, reward, .. } = transitions[at];
            let propensity = transitions[at].propensity().map_or(f32::INFINITY, |known| known.slate);
            let own = corrected(logits, &values[at], slate[0], scale * reward, propensity, most, gradient);
            errors.push(own);
            own
        })?;
        self.regress(&mini_batch)?;
        self.updates = update;
        Ok(Update { loss: loss / f64::from(scale), gradient_norm: norm, errors })
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
        self.models.iter().zip(["first", "second"]).for_each(|(model, name)| model.save_as(name, checkpoint));
        checkpoint.count("updates", self.updates);
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        self.policy.restore(checkpoint)?;
        for (model, name) in self.models.iter_mut().zip(["first", "second"]) {
            model.restore_as(name, checkpoint)?;
        }
        self.updates = checkpoint.read_count("updates")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slopes_are_those_of_the_estimate_and_a_perfect_model_is_not_corrected() {
        let (logits, values) = ([0.4_f32, -0.3, 1.2], [1.0_f32, 0.5, 2.0]);
        for (reward, most) in [(3.0, 100.0), (3.0, 0.5), (2.0, 100.0)] {
            let loss =
                |logits: &[f32], gradient: &mut [f32]| corrected(logits, &values, 2, reward, 0.2, most, gradient);
            let mut gradient = [0.0; 3];
            let found = loss(&logits, &mut gradient);
            for at in 0..3 {
                let moved = |by: f32| {
                    let mut logits = logits;
                    logits[at] += by;
                    loss(&logits, &mut [0.0; 3])
                };
                let difference = (moved(1e-2) - moved(-1e-2)) / 2e-2;
                assert!(
                    (gradient[at] - difference).abs() < 2e-3,
                    "{reward} {most} {at}: {} {difference}",
                    gradient[at]
                );
            }
            if reward == values[2] {
                assert!((found + expectation(&softmax(&logits), &values)).abs() < 1e-6);
            }
        }
    }
}
