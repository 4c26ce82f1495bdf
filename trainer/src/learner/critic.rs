//! What offline learners share: a value of state and item with its target copy, and a value of the state alone.

use std::ops::Range;

use rand_chacha::ChaCha8Rng;
use slated_contract::tensor::SCORES;

use super::checkpoint::{Checkpoint, CheckpointError};
use super::loss::huber;
use super::trained::{Optimisation, TargetUpdate, Trained};
use super::{Diverged, Exported, LearnerError, Problem};
use crate::nn::{Batch, NetworkSettings, NetworkShape, Trace};
use crate::onnx::{GraphBuilder, OnnxError, Value};
use crate::replay::{Sample, Transition};
use crate::rollout::{Observation, Scored};
use slated_contract::tensor::Signature;

/// A network over (state, item) whose outputs are learned as long-term values.
#[derive(Debug, Clone)]
pub(super) struct Critic {
    online: Trained,
    target: Vec<f32>,
    follow: TargetUpdate,
    /// Values are learned in units of `1 / scale`.
    scale: f32,
    ahead: Batch,
    ahead_trace: Trace,
}

/// What one update is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct MiniBatch<'a> {
    pub transitions: &'a [&'a Transition],
    pub sample: &'a Sample,
    pub problem: &'a Problem,
    pub how: &'a Optimisation,
    /// Its number, from 1.
    pub update: u64,
}

impl<'a> MiniBatch<'a> {
    /// What was seen where each transition began.
    pub fn observations(&self) -> impl Iterator<Item = &'a Observation> + use<'a> {
        self.transitions.iter().map(|transition| &*transition.observation)
    }
}

/// What one step of regression found.
#[derive(Debug, Clone, Default)]
pub(super) struct Regression {
    pub loss: f64,
    pub gradient_norm: f64,
    /// Prediction less target, by transition.
    pub errors: Vec<f32>,
}

/// What [`Critic::regress`] adds to the loss of one transition: of the values of all candidates and the row that was taken,
/// its part of the loss, with its derivative by each value added to the last.
pub(super) type Beside<'a> = dyn FnMut(&[f32], usize, &mut [f32]) -> f32 + 'a;

impl Critic {
    pub fn new(
        network: &NetworkSettings,
        problem: &Problem,
        how: &Optimisation,
        follow: TargetUpdate,
        scale: f64,
        generator: &mut ChaCha8Rng,
    ) -> Result<Self, LearnerError> {
        let online = Trained::new(network, problem.shape(1), how, generator)?;
        Ok(Self {
            target: online.parameters.clone(),
            online,
            follow,
            scale: scale as f32,
            ahead: Batch::default(),
            ahead_trace: Trace::default(),
        })
    }

    /// The target of each transition, `r_t + ... + g^(n-1) r_{t+n-1} + g^n q'(s', a')`, in scaled units: the online network's
    /// values of the candidates of s' go to `choose`, which names a', and the target network q' values it (van Hasselt et al.
    /// 2016, arXiv:1509.06461). `choose` is told which of the transitions that something follows it is.
    pub fn targets_of_chosen(
        &mut self,
        transitions: &[&Transition],
        problem: &Problem,
        mut choose: impl FnMut(usize, &[f32]) -> usize,
    ) -> Vec<f32> {
        let mut targets = self.rewards(transitions);
        let followed = followed(transitions);
        let network = &self.online.network;
        let (window, width) = problem.window(network.window());
        let next = || followed.iter().map(|&at| &*transitions[at].next);
        self.ahead.fill(next(), window, width);
        network.forward(&self.online.parameters, &self.ahead, &mut self.ahead_trace);
        let online = self.ahead_trace.outputs();
        let chosen: Vec<[usize; 1]> =
            self.ahead.spans().enumerate().map(|(index, span)| [choose(index, &online[span])]).collect();
        let starts = self.ahead.starts.clone();
        // A dueling network takes the mean over all candidates.
        let whole = network.is_dueling();
        if !whole {
            self.ahead.fill_chosen(next().zip(chosen.iter().map(|chosen| &chosen[..])), window, width);
        }
        network.forward(&self.target, &self.ahead, &mut self.ahead_trace);
        let values = self.ahead_trace.outputs();
        for (index, (&at, [row])) in followed.iter().zip(&chosen).enumerate() {
            targets[at] += transitions[at].discount * values[if whole { starts[index] + row } else { index }];
        }
        targets
    }

    /// The same with `sum_a pi(a | s') q'(s', a)` to follow; `policy` has the probabilities of the candidates of each s' that
    /// follows.
    pub fn targets_expected(
        &mut self,
        transitions: &[&Transition],
        problem: &Problem,
        policy: &[Vec<f32>],
    ) -> Vec<f32> {
        let mut targets = self.rewards(transitions);
        let followed = followed(transitions);
        let (window, width) = problem.window(self.online.network.window());
        self.ahead.fill(followed.iter().map(|&at| &*transitions[at].next), window, width);
        self.online.network.forward(&self.target, &self.ahead, &mut self.ahead_trace);
        let values = self.ahead_trace.outputs();
        for ((&at, span), policy) in followed.iter().zip(self.ahead.spans()).zip(policy) {
            targets[at] += transitions[at].discount * expectation(policy, &values[span]);
        }
        targets
    }

    /// The target of each transition where `values` are those of what follows.
    pub fn targets_of_values(&self, transitions: &[&Transition], values: &[f32]) -> Vec<f32> {
        let mut targets = self.rewards(transitions);
        for (&at, value) in followed(transitions).iter().zip(values) {
            targets[at] += transitions[at].discount * value;
        }
        targets
    }

    fn rewards(&self, transitions: &[&Transition]) -> Vec<f32> {
        transitions.iter().map(|transition| transition.reward * self.scale).collect()
    }

    /// The target network's values of all candidates where each transition began.
    pub fn look(&mut self, transitions: &[&Transition], problem: &Problem) -> Vec<Vec<f32>> {
        let (window, width) = problem.window(self.online.network.window());
        self.ahead.fill(transitions.iter().map(|transition| &*transition.observation), window, width);
        self.online.network.forward(&self.target, &self.ahead, &mut self.ahead_trace);
        let values = self.ahead_trace.outputs();
        self.ahead.spans().map(|span| values[span].to_vec()).collect()
    }

    /// The target network's value of what each transition took.
    pub fn look_taken(&mut self, transitions: &[&Transition], problem: &Problem) -> Vec<f32> {
        if self.online.network.is_dueling() {
            let values = self.look(transitions, problem);
            return values.iter().zip(transitions).map(|(values, transition)| values[transition.slate[0]]).collect();
        }
        let (window, width) = problem.window(self.online.network.window());
        let taken = transitions.iter().map(|transition| (&*transition.observation, &transition.slate[..1]));
        self.ahead.fill_chosen(taken, window, width);
        self.online.network.forward(&self.target, &self.ahead, &mut self.ahead_trace);
        self.ahead_trace.outputs().to_vec()
    }

    /// One step of the values of what was shown towards their targets, under Huber's loss together with whatever is `beside`
    /// it; all of it is weighed by the sample.
    pub fn regress(
        &mut self,
        mini_batch: &MiniBatch<'_>,
        targets: &[f32],
        mut beside: Option<&mut Beside<'_>>,
    ) -> Result<Regression, Diverged> {
        let MiniBatch { transitions, sample, problem, how, update } = *mini_batch;
        let (window, width) = problem.window(self.online.network.window());
        // A dueling network takes the mean over all candidates; any other computes only what was taken.
        let whole = beside.is_some() || self.online.network.is_dueling();
        if whole {
            self.online.batch.fill(transitions.iter().map(|transition| &*transition.observation), window, width);
        } else {
            let taken = transitions.iter().map(|transition| (&*transition.observation, &transition.slate[..1]));
            self.online.batch.fill_chosen(taken, window, width);
        }
        self.online.forward();
        let values = self.online.trace.outputs();
        let mut upstream = vec![0.0; values.len()];
        let mut loss = 0.0;
        let mut errors = Vec::with_capacity(transitions.len());
        let share = 1.0 / transitions.len() as f32;
        for (at, span) in self.online.batch.spans().enumerate() {
            let (own, gradient) = (&values[span.clone()], &mut upstream[span]);
            let taken = if whole { transitions[at].slate[0] } else { 0 };
            let error = own[taken] - targets[at];
            let (mut part, slope) = huber(error);
            if let Some(beside) = &mut beside {
                part += beside(own, taken, gradient);
            }
            gradient[taken] += slope;
            let weight = sample.weights[at] * share;
            gradient.iter_mut().for_each(|slope| *slope *= weight);
            loss += f64::from(part * weight);
            errors.push(error);
        }
        if !loss.is_finite() {
            return Err(Diverged { update, what: "loss", value: loss });
        }
        let gradient_norm = self.online.descend(&upstream, how, how.rate_at(sample.progress), update)?;
        self.follow.apply(&mut self.target, &self.online.parameters, update);
        Ok(Regression { loss, gradient_norm, errors })
    }

    /// One step of the values of every item shown towards its own reward, under Huber's loss; the errors are those of each
    /// transition's first item.
    pub fn regress_shown(&mut self, mini_batch: &MiniBatch<'_>) -> Result<Regression, Diverged> {
        let MiniBatch { transitions, sample, problem, how, update } = *mini_batch;
        let (window, width) = problem.window(self.online.network.window());
        let whole = self.online.network.is_dueling();
        if whole {
            self.online.batch.fill(mini_batch.observations(), window, width);
        } else {
            let shown = transitions.iter().map(|transition| (&*transition.observation, &transition.slate[..]));
            self.online.batch.fill_chosen(shown, window, width);
        }
        self.online.forward();
        let values = self.online.trace.outputs();
        let mut upstream = vec![0.0; values.len()];
        let mut loss = 0.0;
        let mut errors = Vec::with_capacity(transitions.len());
        let shown: usize = transitions.iter().map(|transition| transition.slate.len()).sum();
        let share = 1.0 / shown.max(1) as f32;
        for (at, span) in self.online.batch.spans().enumerate() {
            let weight = sample.weights[at] * share;
            for (position, &item) in transitions[at].slate.iter().enumerate() {
                let row = span.start + if whole { item } else { position };
                let error = values[row] - self.scale * transitions[at].earned(position);
                let (part, slope) = huber(error);
                upstream[row] += weight * slope;
                loss += f64::from(weight * part);
                if position == 0 {
                    errors.push(error);
                }
            }
        }
        if !loss.is_finite() {
            return Err(Diverged { update, what: "loss", value: loss });
        }
        let gradient_norm = self.online.descend(&upstream, how, how.rate_at(sample.progress), update)?;
        self.follow.apply(&mut self.target, &self.online.parameters, update);
        Ok(Regression { loss, gradient_norm, errors })
    }

    /// The values of all candidates, in units of the reward.
    pub fn score(&mut self, observations: &[&Observation], problem: &Problem) -> Vec<Scored> {
        let (window, width) = problem.window(self.online.network.window());
        self.ahead.fill(observations.iter().copied(), window, width);
        self.online.network.forward(&self.online.parameters, &self.ahead, &mut self.ahead_trace);
        let unit = 1.0 / self.scale;
        let values = self.ahead_trace.outputs();
        let scored = |span: Range<usize>| Scored {
            scores: values[span].iter().map(|value| unit * value).collect(),
            appeal: Vec::new(),
        };
        self.ahead.spans().map(scored).collect()
    }

    /// The signature of a model that computes the values.
    pub fn signature(&self, problem: &Problem) -> Signature {
        Signature { mask: self.online.network.is_dueling(), ..problem.signature(self.online.network.window()) }
    }

    /// Adds the values to a graph: \[batch, candidates\], in units of the reward.
    pub fn graph(&self, graph: &mut GraphBuilder) -> Result<Value, OnnxError> {
        let rows = self.online.network.graph(graph, "q", &self.online.parameters)?;
        let axis = graph.integers("q.output_axis", &[2]);
        let values = graph.node("Squeeze", &[&rows, &axis]);
        let unit = graph.constant("q.unit", &[1], &[1.0 / self.scale])?;
        Ok(graph.node("Mul", &[&values, &unit]))
    }

    /// The model whose scores are the values.
    pub fn export(&self, name: &str, problem: &Problem) -> Result<Exported, OnnxError> {
        let signature = self.signature(problem);
        let mut graph = GraphBuilder::new(name, signature);
        let scores = self.graph(&mut graph)?;
        graph.output(SCORES, &scores)?;
        Ok(Exported { model: graph.finish()?, signature })
    }

    pub fn save(&self, checkpoint: &mut Checkpoint) {
        self.save_as("q", checkpoint);
    }

    pub fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        self.restore_as("q", checkpoint)
    }

    /// Saves one of several.
    pub fn save_as(&self, name: &str, checkpoint: &mut Checkpoint) {
        self.online.save(name, checkpoint);
        checkpoint.floats(format!("{name}.target"), &self.target);
    }

    pub fn restore_as(&mut self, name: &str, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        self.online.restore(name, checkpoint)?;
        checkpoint.read_floats(&format!("{name}.target"), &mut self.target)
    }
}

/// `sum_a p(a) v(a)`.
pub(super) fn expectation(probabilities: &[f32], values: &[f32]) -> f32 {
    probabilities.iter().zip(values).map(|(probability, value)| probability * value).sum()
}

/// The row of the greatest value.
pub(super) fn greatest(values: &[f32]) -> usize {
    (1..values.len()).fold(0, |best, row| if values[row] > values[best] { row } else { best })
}

/// The transitions that something follows. With a discount of 0 there is none.
pub(super) fn followed(transitions: &[&Transition]) -> Vec<usize> {
    (0..transitions.len()).filter(|&at| transitions[at].discount > 0.0).collect()
}

/// A network over the state alone, `v(s)`.
#[derive(Debug, Clone)]
pub(super) struct StateValue {
    trained: Trained,
    ahead: Batch,
    ahead_trace: Trace,
}

impl StateValue {
    pub fn new(
        network: &NetworkSettings,
        problem: &Problem,
        how: &Optimisation,
        generator: &mut ChaCha8Rng,
    ) -> Result<Self, LearnerError> {
        let network = NetworkSettings { dueling: false, ..network.clone() };
        let shape = NetworkShape { item_width: 0, ..problem.shape(1) };
        let trained = Trained::new(&network, shape, how, generator)?;
        Ok(Self { trained, ahead: Batch::default(), ahead_trace: Trace::default() })
    }

    /// The value of what follows each of the transitions `followed`.
    pub fn ahead(&mut self, transitions: &[&Transition], followed: &[usize], problem: &Problem) -> &[f32] {
        let (window, width) = problem.window(self.trained.network.window());
        self.ahead.fill_states(followed.iter().map(|&at| &*transitions[at].next), window, width);
        self.trained.network.forward(&self.trained.parameters, &self.ahead, &mut self.ahead_trace);
        self.ahead_trace.outputs()
    }

    /// Computes the value where each transition began.
    pub fn look(&mut self, transitions: &[&Transition], problem: &Problem) -> Vec<f32> {
        let (window, width) = problem.window(self.trained.network.window());
        let seen = transitions.iter().map(|transition| &*transition.observation);
        self.trained.batch.fill_states(seen, window, width);
        self.trained.forward();
        self.trained.trace.outputs().to_vec()
    }

    /// One step down a loss whose derivative by each of the values last looked at is `upstream`.
    pub fn descend(&mut self, upstream: &[f32], how: &Optimisation, rate: f64, update: u64) -> Result<f64, Diverged> {
        self.trained.descend(upstream, how, rate, update)
    }

    pub fn save(&self, checkpoint: &mut Checkpoint) {
        self.trained.save("v", checkpoint);
    }

    pub fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        self.trained.restore("v", checkpoint)
    }
}
