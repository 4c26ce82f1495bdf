//! Deep Q-learning over candidates.

use std::ops::Range;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use slated_contract::tensor::{SCORES, Signature};

use super::checkpoint::{Checkpoint, CheckpointError};
use super::loss::{huber, quantile_huber};
use super::trained::{Optimisation, TargetUpdate, Trained};
use super::{Diverged, Exported, Learner, LearnerError, Problem, Snapshot, Update};
use crate::nn::{Batch, NetworkSettings, NetworkShape, Trace};
use crate::onnx::{GraphBuilder, OnnxError};
use crate::replay::{Replay, Sample, Transition};
use crate::rollout::{Observation, Scored, Scorer};
use slated_contract::session::SessionSettings;

/// Settings of [`Dqn`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DqnSettings {
    /// Gamma, the discount per step; 0 makes it a bandit.
    pub discount: f64,
    /// n, over how many steps rewards are summed before the target network is asked.
    pub steps: usize,
    /// Whether the online network chooses the next action and the target network values it (van Hasselt et al. 2016,
    /// arXiv:1509.06461).
    pub double: bool,
    /// N, how many quantiles of the return are learned (QR-DQN, Dabney et al. 2018, arXiv:1710.10044); 1 learns its mean.
    pub quantiles: usize,
    /// Rewards are multiplied by it while learning, so that returns are of the order of 1; scores are in units of the
    /// reward.
    pub reward_scale: f64,
    /// The network.
    pub network: NetworkSettings,
    /// How the target network follows.
    pub target: TargetUpdate,
    /// How gradients become steps.
    pub optimisation: Optimisation,
}

impl Default for DqnSettings {
    fn default() -> Self {
        Self {
            discount: 0.99,
            steps: 1,
            double: true,
            quantiles: 1,
            reward_scale: 1.0,
            network: NetworkSettings::default(),
            target: TargetUpdate::default(),
            optimisation: Optimisation::default(),
        }
    }
}

/// What value-based learners check alike.
pub(super) fn value_problem(discount: f64, steps: usize, reward_scale: f64) -> Option<String> {
    if !(0.0..=1.0).contains(&discount) {
        return Some(format!("`discount` is {discount}, allowed are 0 to 1"));
    }
    if !(1..=1000).contains(&steps) {
        return Some(format!("`steps` is {steps}, allowed are 1 to 1000"));
    }
    (!(reward_scale.is_finite() && reward_scale > 0.0))
        .then(|| format!("`reward_scale` is {reward_scale}, it must be finite and above 0"))
}

impl DqnSettings {
    /// The first setting outside its range, with what is allowed.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let quantiles = (!(1..=512).contains(&self.quantiles))
            .then(|| format!("`quantiles` is {}, allowed are 1 to 512", self.quantiles));
        value_problem(self.discount, self.steps, self.reward_scale)
            .or(quantiles)
            .or_else(|| self.target.problem())
            .or_else(|| self.optimisation.problem())
    }
}

/// Q-learning with a network over (state, item): the loss of `q(s, a)` against
/// `r_t + ... + g^(n-1) r_{t+n-1} + g^n q'(s', argmax_a' q(s', a'))`, q' the target network, a' among the candidates that
/// s' offers and no others (Mnih et al. 2015, doi:10.1038/nature14236).
#[derive(Debug, Clone)]
pub struct Dqn {
    settings: DqnSettings,
    problem: Problem,
    online: Trained,
    target: Vec<f32>,
    target_trace: Trace,
    next: Batch,
    next_trace: Trace,
    /// The next states with the one candidate that was chosen.
    chosen: Batch,
    updates: u64,
}

impl Dqn {
    /// A learner with initial networks drawn from `seed`.
    ///
    /// # Errors
    /// A setting outside its range, or a problem with slates of several items.
    pub fn new(settings: &DqnSettings, problem: Problem, seed: u64) -> Result<Self, LearnerError> {
        LearnerError::check(settings.problem())?;
        problem.require_single("dqn")?;
        let shape = problem.shape(settings.quantiles);
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let online = Trained::new(&settings.network, shape, &settings.optimisation, &mut generator)?;
        Ok(Self {
            settings: settings.clone(),
            problem,
            target: online.parameters.clone(),
            online,
            target_trace: Trace::default(),
            next: Batch::default(),
            next_trace: Trace::default(),
            chosen: Batch::default(),
            updates: 0,
        })
    }

    /// The target of each transition, `[transitions, N]`, in scaled units.
    fn targets(&mut self, transitions: &[&Transition]) -> Vec<f32> {
        let outputs = self.settings.quantiles;
        let scale = self.settings.reward_scale as f32;
        let mut targets: Vec<f32> =
            transitions.iter().flat_map(|transition| vec![transition.reward * scale; outputs]).collect();
        // Where nothing follows, nothing is computed: with a discount of 0 that is everywhere.
        let followed: Vec<usize> = (0..transitions.len()).filter(|&at| transitions[at].discount > 0.0).collect();
        if followed.is_empty() {
            return targets;
        }
        let network = &self.online.network;
        let (window, width) = self.problem.window(network.window());
        self.next.fill(followed.iter().map(|&at| &*transitions[at].next), window, width);
        let chooser = if self.settings.double { &self.online.parameters } else { &self.target };
        network.forward(chooser, &self.next, &mut self.next_trace);
        let choosing = self.next_trace.outputs();
        let best: Vec<usize> = self.next.spans().map(|span| greatest(choosing, span, outputs)).collect();
        // Only what was chosen is asked of the target network, unless it takes the mean over all candidates.
        let (values, rows) = if !self.settings.double {
            (choosing, best)
        } else if self.settings.network.dueling {
            network.forward(&self.target, &self.next, &mut self.target_trace);
            (self.target_trace.outputs(), best)
        } else {
            let chosen: Vec<[usize; 1]> =
                self.next.starts.iter().zip(&best).map(|(start, row)| [row - start]).collect();
            let observations = followed.iter().map(|&at| &*transitions[at].next);
            self.chosen.fill_chosen(observations.zip(chosen.iter().map(|chosen| &chosen[..])), window, width);
            network.forward(&self.target, &self.chosen, &mut self.target_trace);
            (self.target_trace.outputs(), (0..followed.len()).collect())
        };
        for (&at, row) in followed.iter().zip(rows) {
            let own = &mut targets[at * outputs..][..outputs];
            let discount = transitions[at].discount;
            own.iter_mut().zip(&values[row * outputs..]).for_each(|(target, value)| *target += discount * value);
        }
        targets
    }
}

/// The row of the greatest mean output in a span.
fn greatest(outputs: &[f32], span: Range<usize>, width: usize) -> usize {
    let sum = |row: usize| outputs[row * width..][..width].iter().sum::<f32>();
    let first = span.start;
    span.skip(1).fold((first, sum(first)), |best, row| if sum(row) > best.1 { (row, sum(row)) } else { best }).0
}

impl Problem {
    /// The shape of a network over (state, item).
    pub(super) fn shape(&self, outputs: usize) -> NetworkShape {
        let history = (self.window, SessionSettings::history_width(self.item_width));
        NetworkShape { state_width: self.state_width, item_width: self.item_width, history, outputs }
    }

    /// H and F for filling a batch, both 0 where the network reads no history.
    pub(super) fn window(&self, window: usize) -> (usize, usize) {
        if window == 0 { (0, 0) } else { (window, SessionSettings::history_width(self.item_width)) }
    }

    /// The tensors of a model of this problem.
    pub(super) fn signature(&self, window: usize) -> Signature {
        Signature {
            state_width: self.state_width,
            item_width: self.item_width,
            history: (window > 0).then_some(window),
            ..Signature::default()
        }
    }
}

impl Learner for Dqn {
    fn update(&mut self, replay: &Replay, sample: &Sample) -> Result<Update, Diverged> {
        let update = self.updates + 1;
        let transitions: Vec<&Transition> = sample.indices.iter().map(|&index| replay.get(index)).collect();
        let targets = self.targets(&transitions);
        let outputs = self.settings.quantiles;
        let (window, width) = self.problem.window(self.online.network.window());
        // A dueling network takes the mean over all candidates; any other computes only what was taken.
        let whole = self.settings.network.dueling;
        if whole {
            self.online.batch.fill(transitions.iter().map(|transition| &*transition.observation), window, width);
        } else {
            let chosen = transitions.iter().map(|transition| (&*transition.observation, &transition.slate[..1]));
            self.online.batch.fill_chosen(chosen, window, width);
        }
        self.online.forward();
        let predictions = self.online.trace.outputs();
        let mut upstream = vec![0.0; predictions.len()];
        let mut loss = 0.0;
        let mut errors = Vec::with_capacity(transitions.len());
        let share = 1.0 / transitions.len() as f32;
        for (at, span) in self.online.batch.spans().enumerate() {
            let row = span.start + if whole { transitions[at].slate[0] } else { 0 };
            let own = row * outputs..(row + 1) * outputs;
            let (prediction, gradient) = (&predictions[own.clone()], &mut upstream[own]);
            let target = &targets[at * outputs..][..outputs];
            let weight = sample.weights[at] * share;
            let part = if outputs == 1 {
                let (part, slope) = huber(prediction[0] - target[0]);
                gradient[0] = slope;
                part
            } else {
                quantile_huber(prediction, target, gradient)
            };
            gradient.iter_mut().for_each(|slope| *slope *= weight);
            loss += f64::from(part * weight);
            let mean = |values: &[f32]| values.iter().sum::<f32>() / outputs as f32;
            errors.push(mean(prediction) - mean(target));
        }
        if !loss.is_finite() {
            return Err(Diverged { update, what: "loss", value: loss });
        }
        let rate = self.settings.optimisation.rate_at(sample.progress);
        let gradient_norm = self.online.descend(&upstream, &self.settings.optimisation, rate, update)?;
        self.updates = update;
        self.settings.target.apply(&mut self.target, &self.online.parameters, update);
        Ok(Update { loss, gradient_norm, errors })
    }

    fn score(&mut self, observations: &[&Observation]) -> Vec<Scored> {
        let (window, width) = self.problem.window(self.online.network.window());
        self.next.fill(observations.iter().copied(), window, width);
        self.online.network.forward(&self.online.parameters, &self.next, &mut self.next_trace);
        let outputs = self.settings.quantiles;
        let unit = 1.0 / (self.settings.reward_scale as f32 * outputs as f32);
        let rows = self.next_trace.outputs();
        let score = |row: usize| unit * rows[row * outputs..][..outputs].iter().sum::<f32>();
        self.next.spans().map(|span| Scored { scores: span.map(score).collect(), appeal: Vec::new() }).collect()
    }

    fn scorer(&self) -> Box<dyn Scorer> {
        Box::new(Snapshot(self.clone()))
    }

    fn copy(&self) -> Box<dyn Learner> {
        Box::new(self.clone())
    }

    fn export(&self) -> Result<Exported, OnnxError> {
        let network = &self.online.network;
        let signature = Signature { mask: self.settings.network.dueling, ..self.problem.signature(network.window()) };
        let mut graph = GraphBuilder::new("dqn", signature);
        let rows = network.graph(&mut graph, "q", &self.online.parameters)?;
        let mean = graph.reduce("ReduceMean", &rows, &[2]);
        let unit = graph.constant("unit", &[1], &[1.0 / self.settings.reward_scale as f32])?;
        let scores = graph.node("Mul", &[&mean, &unit]);
        graph.output(SCORES, &scores)?;
        Ok(Exported { model: graph.finish()?, signature })
    }

    fn save(&self, checkpoint: &mut Checkpoint) {
        self.online.save("q", checkpoint);
        checkpoint.floats("q.target", &self.target);
        checkpoint.count("updates", self.updates);
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        self.online.restore("q", checkpoint)?;
        checkpoint.read_floats("q.target", &mut self.target)?;
        self.updates = checkpoint.read_count("updates")?;
        Ok(())
    }
}
