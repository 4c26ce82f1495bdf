//! A policy over candidates, `pi(a | s) = softmax_a f(s, a)`, and how it imitates what was shown.

use std::ops::Range;

use rand_chacha::ChaCha8Rng;
use slated_contract::tensor::SCORES;

use super::checkpoint::{Checkpoint, CheckpointError};
use super::critic::MiniBatch;
use super::trained::{Optimisation, Trained};
use super::{Diverged, Exported, LearnerError, Problem};
use crate::nn::NetworkSettings;
use crate::onnx::{GraphBuilder, OnnxError, Value};
use crate::replay::Transition;
use crate::rollout::{Observation, Scored};

/// The policy. A slate of several items is drawn without replacement: its probability is Plackett and Luce's
/// `prod_k exp f(a_k) / sum_{j not in a_1..a_{k-1}} exp f(j)` (Plackett 1975, doi:10.2307/2346567).
#[derive(Debug, Clone)]
pub(super) struct SoftmaxPolicy {
    trained: Trained,
}

/// What one step of imitation found.
#[derive(Debug, Clone, Default)]
pub(super) struct Imitation {
    /// The weighted mean of the negative log-likelihoods.
    pub loss: f64,
    pub gradient_norm: f64,
    /// The negative log-likelihood of each transition's slate.
    pub errors: Vec<f32>,
}

/// `log sum exp` of some logits.
pub(super) fn log_sum_exp(logits: impl Iterator<Item = f32> + Clone) -> f32 {
    let greatest = logits.clone().fold(f32::NEG_INFINITY, f32::max);
    greatest + logits.map(|logit| (logit - greatest).exp()).sum::<f32>().ln()
}

/// The probabilities of some logits.
pub(super) fn softmax(logits: &[f32]) -> Vec<f32> {
    let total = log_sum_exp(logits.iter().copied());
    logits.iter().map(|logit| (logit - total).exp()).collect()
}

/// What is wrong with a number that must be above 0.
pub(super) fn above_zero(key: &str, value: f64) -> Option<String> {
    (!(value.is_finite() && value > 0.0)).then(|| format!("`{key}` is {value}, it must be finite and above 0"))
}

/// What is wrong with a weight `min(exp(A / temperature), most)` of these keys, and what is allowed.
pub(super) fn exponential_problem(keys: [&str; 2], temperature: f64, most: f64) -> Option<String> {
    keys.into_iter().zip([temperature, most]).find_map(|(key, value)| above_zero(key, value))
}

/// `-log pi(slate)` with its derivative by each logit times `weight`, added to `gradient`.
fn negative_log_likelihood(logits: &[f32], slate: &[usize], weight: f32, gradient: &mut [f32]) -> f32 {
    let mut loss = 0.0;
    for (position, &item) in slate.iter().enumerate() {
        let left = |&row: &usize| !slate[..position].contains(&row);
        let total = log_sum_exp((0..logits.len()).filter(left).map(|row| logits[row]));
        loss += total - logits[item];
        for row in (0..logits.len()).filter(left) {
            gradient[row] += weight * (logits[row] - total).exp();
        }
        gradient[item] -= weight;
    }
    loss
}

impl SoftmaxPolicy {
    pub fn new(
        settings: &NetworkSettings,
        problem: &Problem,
        how: &Optimisation,
        generator: &mut ChaCha8Rng,
    ) -> Result<Self, LearnerError> {
        if settings.dueling {
            let message = "algorithm: `network.dueling` must be false: a policy's logits have no value to split off";
            return Err(LearnerError::Setting(message.to_owned()));
        }
        Ok(Self { trained: Trained::new(settings, problem.shape(1), how, generator)? })
    }

    /// A copy of the parameters, for a target policy.
    pub fn parameters(&self) -> &[f32] {
        &self.trained.parameters
    }

    /// Computes the logits of every candidate of some observations.
    pub fn look<'a>(&mut self, observations: impl IntoIterator<Item = &'a Observation>, problem: &Problem) {
        let (window, width) = problem.window(self.trained.network.window());
        self.trained.batch.fill(observations, window, width);
        self.trained.forward();
    }

    /// The same by other parameters than its own. No step can follow it.
    pub fn look_with<'a>(
        &mut self,
        parameters: &[f32],
        observations: impl IntoIterator<Item = &'a Observation>,
        problem: &Problem,
    ) {
        let (window, width) = problem.window(self.trained.network.window());
        let Trained { network, batch, trace, .. } = &mut self.trained;
        batch.fill(observations, window, width);
        network.forward(parameters, batch, trace);
    }

    /// The logits that were last computed, and the rows of each observation.
    pub fn logits(&self) -> (&[f32], impl Iterator<Item = Range<usize>> + '_) {
        (self.trained.trace.outputs(), self.trained.batch.spans())
    }

    /// The probabilities that the logits last computed give.
    pub fn probabilities(&self) -> Vec<Vec<f32>> {
        let (logits, spans) = self.logits();
        spans.map(|span| softmax(&logits[span])).collect()
    }

    /// `log pi(slate | s)` of each transition, at the observations that were last looked at.
    pub fn log_likelihoods(&self, transitions: &[&Transition]) -> Vec<f32> {
        let (logits, spans) = self.logits();
        let one = |(span, transition): (Range<usize>, &&Transition)| {
            let mut unused = vec![0.0; span.len()];
            -negative_log_likelihood(&logits[span], &transition.slate, 0.0, &mut unused)
        };
        spans.zip(transitions).map(one).collect()
    }

    /// One step down `mean_b w_b (-log pi(slate_b | s_b))`, at the observations that were last looked at. The sample's weights
    /// are not in `weights` and go on top.
    pub fn imitate(&mut self, mini_batch: &MiniBatch<'_>, weights: &[f32]) -> Result<Imitation, Diverged> {
        let mut errors = Vec::with_capacity(weights.len());
        let (loss, gradient_norm) = self.descend(mini_batch, |at, logits, gradient| {
            let own = negative_log_likelihood(logits, &mini_batch.transitions[at].slate, weights[at], gradient);
            errors.push(own);
            weights[at] * own
        })?;
        Ok(Imitation { loss, gradient_norm, errors })
    }

    /// One step down the mean of `loss`, at the observations that were last looked at: it is told which transition and its
    /// logits, returns the loss and adds its derivative by each logit to the last. Returns the loss and the gradient's length.
    pub fn descend(
        &mut self,
        mini_batch: &MiniBatch<'_>,
        mut loss: impl FnMut(usize, &[f32], &mut [f32]) -> f32,
    ) -> Result<(f64, f64), Diverged> {
        let MiniBatch { transitions, sample, how, update, .. } = *mini_batch;
        let logits = self.trained.trace.outputs();
        let mut upstream = vec![0.0; logits.len()];
        let mut total = 0.0;
        let share = 1.0 / transitions.len() as f32;
        for (at, span) in self.trained.batch.spans().enumerate() {
            let gradient = &mut upstream[span.clone()];
            let weight = sample.weights[at] * share;
            total += f64::from(weight * loss(at, &logits[span], gradient));
            gradient.iter_mut().for_each(|slope| *slope *= weight);
        }
        if !total.is_finite() {
            return Err(Diverged { update, what: "policy's loss", value: total });
        }
        let gradient_norm = self.trained.descend(&upstream, how, how.rate_at(sample.progress), update)?;
        Ok((total, gradient_norm))
    }

    /// The logits as scores.
    pub fn score(&mut self, observations: &[&Observation], problem: &Problem) -> Vec<Scored> {
        self.look(observations.iter().copied(), problem);
        let (logits, spans) = self.logits();
        spans.map(|span| Scored { scores: logits[span].to_vec(), appeal: Vec::new() }).collect()
    }

    /// Adds the logits to a graph: \[batch, candidates\].
    pub fn graph(&self, graph: &mut GraphBuilder) -> Result<Value, OnnxError> {
        let rows = self.trained.network.graph(graph, "policy", &self.trained.parameters)?;
        let axis = graph.integers("policy.output_axis", &[2]);
        Ok(graph.node("Squeeze", &[&rows, &axis]))
    }

    /// The model whose scores are the logits.
    pub fn export(&self, problem: &Problem) -> Result<Exported, OnnxError> {
        let signature = problem.signature(self.trained.network.window());
        let mut graph = GraphBuilder::new("policy", signature);
        let scores = self.graph(&mut graph)?;
        graph.output(SCORES, &scores)?;
        Ok(Exported { model: graph.finish()?, signature })
    }

    pub fn save(&self, checkpoint: &mut Checkpoint) {
        self.trained.save("policy", checkpoint);
    }

    pub fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        self.trained.restore("policy", checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likelihood_of_a_slate_is_that_of_drawing_without_replacement() {
        let logits = [0.5_f32, -1.0, 2.0, 0.1];
        let weights: Vec<f64> = logits.iter().map(|logit| f64::from(*logit).exp()).collect();
        let total: f64 = weights.iter().sum();
        // Item 2 first, then item 0 of what is left.
        let expected = weights[2] / total * weights[0] / (total - weights[2]);
        let mut gradient = [0.0; 4];
        let loss = negative_log_likelihood(&logits, &[2, 0], 3.0, &mut gradient);
        assert!((f64::from(loss) + expected.ln()).abs() < 1e-5, "{loss}");
        for at in 0..4 {
            let moved = |by: f32| {
                let mut logits = logits;
                logits[at] += by;
                negative_log_likelihood(&logits, &[2, 0], 1.0, &mut [0.0; 4])
            };
            let difference = 3.0 * (moved(1e-2) - moved(-1e-2)) / 2e-2;
            assert!((gradient[at] - difference).abs() < 2e-3, "{at}: {} is not {difference}", gradient[at]);
        }
    }
}
