//! Top-K off-policy corrected REINFORCE.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::checkpoint::{Checkpoint, CheckpointError};
use super::critic::MiniBatch;
use super::softmax::{SoftmaxPolicy, above_zero, softmax};
use super::trained::Optimisation;
use super::{Diverged, Exported, Learner, LearnerError, Problem, Snapshot, Update};
use crate::nn::NetworkSettings;
use crate::onnx::OnnxError;
use crate::replay::{Replay, Sample, Transition};
use crate::rollout::{Observation, Scored, Scorer};

/// Settings of [`TopK`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TopKSettings {
    /// Gamma, the discount per step of what the session earns after the decision; 0 counts the decision alone.
    pub discount: f64,
    /// Over how many steps rewards are summed.
    pub steps: usize,
    /// K, how many items the policy will show; the size of the log's slates where absent.
    pub k: Option<usize>,
    /// c, the greatest weight of an item.
    pub most: f64,
    /// The policy's network.
    pub network: NetworkSettings,
    /// How gradients become steps.
    pub optimisation: Optimisation,
}

impl Default for TopKSettings {
    fn default() -> Self {
        Self {
            discount: 0.0,
            steps: 1,
            k: None,
            // The paper's, e^3.
            most: 20.0,
            network: NetworkSettings::default(),
            optimisation: Optimisation::default(),
        }
    }
}

impl TopKSettings {
    /// The first setting outside its range, with what is allowed.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let steps =
            (!(1..=1000).contains(&self.steps)).then(|| format!("`steps` is {}, allowed are 1 to 1000", self.steps));
        let discount = (!(0.0..=1.0).contains(&self.discount))
            .then(|| format!("`discount` is {}, allowed are 0 to 1", self.discount));
        let k = self.k.filter(|k| !(1..=1000).contains(k)).map(|k| format!("`k` is {k}, allowed are 1 to 1000"));
        discount.or(steps).or(k).or_else(|| above_zero("most", self.most)).or_else(|| self.optimisation.problem())
    }
}

/// REINFORCE with the top-K off-policy correction (Chen et al. 2019, arXiv:1812.02353): for each item shown, a step up
/// `lambda_K(a | s) min(pi(a | s) / p(a | s), c) R log pi(a | s)` with `pi = softmax` over the candidates and
/// `lambda_K = d alpha / d pi = K (1 - pi(a | s))^(K - 1)`, the slope of the probability `alpha = 1 - (1 - pi)^K` that the item is
/// among K drawn ones. So an item that is in the slate already is pushed no further, and there is room for others.
///
/// `p` is the logged probability of the item at its position, where the paper estimates the behaviour policy; R is the item's
/// own reward and the discounted rewards of the decisions that followed. K = 1 is REINFORCE with importance weights.
#[derive(Debug, Clone)]
pub struct TopK {
    settings: TopKSettings,
    problem: Problem,
    policy: SoftmaxPolicy,
    updates: u64,
}

impl TopK {
    /// A learner with an initial network drawn from `seed`.
    ///
    /// # Errors
    /// A setting outside its range.
    pub fn new(settings: &TopKSettings, problem: Problem, seed: u64) -> Result<Self, LearnerError> {
        LearnerError::check(settings.problem())?;
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let policy = SoftmaxPolicy::new(&settings.network, &problem, &settings.optimisation, &mut generator)?;
        Ok(Self { settings: settings.clone(), problem, policy, updates: 0 })
    }
}

/// How strongly an item of probability `pi` is pushed by its reward: `lambda_K(pi) min(pi / p, c)`.
fn push(pi: f32, propensity: f32, k: usize, most: f32) -> f32 {
    let multiplier = k as f32 * (1.0 - pi).powi(k as i32 - 1);
    multiplier * (pi / propensity).min(most)
}

/// Adds the derivative by each logit of the step that a transition asks for; returns minus the importance-weighted reward.
fn reinforce(transition: &Transition, logits: &[f32], k: usize, most: f32, gradient: &mut [f32]) -> f32 {
    let Some(known) = transition.propensity() else { return 0.0 };
    let policy = softmax(logits);
    let of_slate: f32 = (0..transition.slate.len()).map(|position| transition.earned(position)).sum();
    let later = transition.reward - of_slate;
    let mut loss = 0.0;
    for (position, &item) in transition.slate.iter().enumerate() {
        let (pi, propensity) = (policy[item], known.marginal[position]);
        let earned = transition.earned(position) + later;
        loss -= (pi / propensity).min(most) * earned;
        let pushed = push(pi, propensity, k, most) * earned;
        gradient.iter_mut().zip(&policy).for_each(|(slope, pi)| *slope += pushed * pi);
        gradient[item] -= pushed;
    }
    loss
}

impl Learner for TopK {
    fn update(&mut self, replay: &Replay, sample: &Sample) -> Result<Update, Diverged> {
        let update = self.updates + 1;
        let transitions: Vec<&Transition> = sample.indices.iter().map(|&index| replay.get(index)).collect();
        let how = &self.settings.optimisation;
        let mini_batch = MiniBatch { transitions: &transitions, sample, problem: &self.problem, how, update };
        self.policy.look(mini_batch.observations(), &self.problem);
        let (k, most) = (self.settings.k.unwrap_or(self.problem.slate_size), self.settings.most as f32);
        let mut errors = Vec::with_capacity(transitions.len());
        let (loss, gradient_norm) = self.policy.descend(&mini_batch, |at, logits, gradient| {
            let own = reinforce(transitions[at], logits, k, most, gradient);
            errors.push(own);
            own
        })?;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::replay::{Logged, Propensity};

    fn shown(slate: Vec<usize>, marginal: Vec<f32>, rewards: Vec<f32>, later: f32) -> Transition {
        let seen = Arc::new(Observation::default());
        Transition {
            observation: Arc::clone(&seen),
            consumed: None,
            reward: rewards.iter().sum::<f32>() + later,
            discount: 0.0,
            next: seen,
            next_slate: Vec::new(),
            logged: Some(Arc::new(Logged { rewards, propensity: Some(Propensity { slate: 0.1, marginal }), half: 0 })),
            slate,
        }
    }

    /// On average over what the behaviour policy draws, the step is the gradient of the expected reward of K draws, each of
    /// which earns an item's reward once, however often it is drawn.
    #[test]
    fn the_mean_step_is_the_gradient_of_what_k_draws_earn() {
        let logits = [0.3_f32, -0.8, 1.1, 0.0];
        let behaviour = [0.1_f32, 0.4, 0.2, 0.3];
        let earns = [1.0_f32, 3.0, 0.5, -1.0];
        for k in [1, 2, 5] {
            let value = |logits: &[f32]| -> f64 {
                let of =
                    |(pi, reward): (&f32, &f32)| (1.0 - (1.0 - f64::from(*pi)).powi(k as i32)) * f64::from(*reward);
                softmax(logits).iter().zip(&earns).map(of).sum()
            };
            let mut mean = [0.0_f32; 4];
            for item in 0..4 {
                let mut gradient = [0.0; 4];
                let transition = shown(vec![item], vec![behaviour[item]], vec![earns[item]], 0.0);
                let loss = reinforce(&transition, &logits, k, 1e9, &mut gradient);
                assert!((loss + softmax(&logits)[item] / behaviour[item] * earns[item]).abs() < 1e-5);
                (0..4).for_each(|at| mean[at] += behaviour[item] * gradient[at]);
            }
            for at in 0..4 {
                let moved = |by: f32| {
                    let mut logits = logits;
                    logits[at] += by;
                    value(&logits)
                };
                let difference = -(moved(1e-3) - moved(-1e-3)) / 2e-3;
                assert!((f64::from(mean[at]) - difference).abs() < 1e-3, "k {k}, {at}: {} {difference}", mean[at]);
            }
        }
    }

    #[test]
    fn weights_are_cut_and_items_share_what_the_session_earns_later() {
        assert_eq!(push(0.5, 0.1, 1, 20.0), 5.0);
        assert_eq!(push(0.5, 0.1, 1, 3.0), 3.0);
        assert_eq!(push(0.5, 0.25, 3, 20.0), 3.0 * 0.25 * 2.0);
        let logits = [0.0_f32; 4];
        let [mut whole, mut parts] = [[0.0; 4]; 2];
        reinforce(&shown(vec![2, 1], vec![0.25, 0.5], vec![1.0, 0.0], 2.0), &logits, 2, 20.0, &mut whole);
        reinforce(&shown(vec![2], vec![0.25], vec![3.0], 0.0), &logits, 2, 20.0, &mut parts);
        reinforce(&shown(vec![1], vec![0.5], vec![2.0], 0.0), &logits, 2, 20.0, &mut parts);
        assert!(whole.iter().zip(&parts).all(|(a, b)| (a - b).abs() < 1e-6), "{whole:?} {parts:?}");
    }
}
