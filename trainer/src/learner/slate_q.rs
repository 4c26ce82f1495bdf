//! SlateQ: the long-term value of a slate, taken apart into those of its items.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use slated_contract::slate::{SlateMethod, SlateObjective};
use slated_contract::tensor::{APPEAL, SCORES, Signature};

use super::checkpoint::{Checkpoint, CheckpointError};
use super::choice::{Choice, ChoiceSettings};
use super::dqn::value_problem;
use super::loss::huber;
use super::trained::{Optimisation, TargetUpdate, Trained};
use super::{Diverged, Exported, Learner, LearnerError, Problem, Update};
use crate::nn::{Batch, NetworkSettings, NetworkShape, Trace};
use crate::onnx::{GraphBuilder, OnnxError};
use crate::replay::{Replay, Sample, Transition};
use crate::rollout::{Observation, Scored};

/// Settings of [`SlateQ`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SlateQSettings {
    /// Gamma, the discount per step; 0 makes it a bandit.
    pub discount: f64,
    /// n, over how many steps rewards are summed before the target networks are asked.
    pub steps: usize,
    /// What the next slate is taken to be.
    pub target_slate: SlateTarget,
    /// How the best slate is found, in targets and in service.
    pub method: SlateMethod,
    /// How users choose.
    pub choice: ChoiceSettings,
    /// Rewards are multiplied by it while learning; scores are in units of the reward.
    pub reward_scale: f64,
    /// The network of item values, and the hidden layers of that of taking nothing.
    pub network: NetworkSettings,
    /// How the target networks follow.
    pub target: TargetUpdate,
    /// How gradients become steps.
    pub optimisation: Optimisation,
}

/// What the next slate is taken to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlateTarget {
    /// The best one by the online network: Q-learning.
    #[default]
    QLearning,
    /// The one that was shown: SARSA.
    Sarsa,
}

impl Default for SlateQSettings {
    fn default() -> Self {
        Self {
            discount: 0.99,
            steps: 1,
            target_slate: SlateTarget::default(),
            method: SlateMethod::default(),
            choice: ChoiceSettings::default(),
            reward_scale: 1.0,
            network: NetworkSettings::default(),
            target: TargetUpdate::default(),
            optimisation: Optimisation::default(),
        }
    }
}

impl SlateQSettings {
    /// The first setting outside its range, with what is allowed.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        value_problem(self.discount, self.steps, self.reward_scale)
            .or_else(|| {
                let message =
                    "`network.dueling` must be false: slates hold a part of the candidates, and have no mean advantage";
                self.network.dueling.then(|| message.to_owned())
            })
            .or_else(|| self.target.problem())
            .or_else(|| self.optimisation.problem())
    }
}

/// SlateQ (Ie et al. 2019, arXiv:1905.12767): under a choice model with appeal v, the value of a slate is
/// `Q(s, A) = (v_0 q_0(s) + sum_{i in A} v_i q(s, i)) / (v_0 + sum_{i in A} v_i)`, and the value q(s, i) of taking item i is
/// learned towards `r + g Q'(s', A')`, A' the best next slate (or the next one shown, for SARSA) and Q' by target networks.
///
/// Taking nothing also leads somewhere, so its value `q_0(s)` is learned alike, where the paper gives it none. The model's
/// scores are `q(s, i) - q_0(s)`: the worth of a slate over taking nothing does not depend on `q_0`.
#[derive(Debug, Clone)]
pub struct SlateQ {
    settings: SlateQSettings,
    problem: Problem,
    item: Trained,
    item_target: Vec<f32>,
    nothing: Trained,
    nothing_target: Vec<f32>,
    choice: Choice,
    objective: SlateObjective,
    scratch: Scratch,
    updates: u64,
}

#[derive(Debug, Clone, Default)]
struct Scratch {
    candidates: Batch,
    states: Batch,
    item: Trace,
    item_target: Trace,
    nothing: Trace,
    nothing_target: Trace,
    choice: Trace,
}

impl SlateQ {
    /// A learner with initial networks drawn from `seed`.
    ///
    /// # Errors
    /// A setting outside its range, or a choice model of features that the policy has not.
    pub fn new(settings: &SlateQSettings, problem: Problem, seed: u64) -> Result<Self, LearnerError> {
        if let Some(problem) = settings.problem() {
            return Err(LearnerError::Setting(format!("algorithm: {problem}")));
        }
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let shape = problem.shape(1);
        let adam = settings.optimisation.adam;
        let item = Trained::new(&settings.network, shape, adam, &mut generator)?;
        let nothing = Trained::new(&settings.network, NetworkShape { item_width: 0, ..shape }, adam, &mut generator)?;
        let choice = settings.choice.build(&problem, &settings.optimisation, &mut generator)?;
        let objective = SlateObjective { method: settings.method, no_choice: choice.no_choice() };
        objective.check().map_err(|error| LearnerError::Setting(format!("algorithm: choice: {error}")))?;
        Ok(Self {
            settings: settings.clone(),
            problem,
            item_target: item.parameters.clone(),
            item,
            nothing_target: nothing.parameters.clone(),
            nothing,
            choice,
            objective,
            scratch: Scratch::default(),
            updates: 0,
        })
    }

    /// H where any of the networks reads the history.
    fn window(&self) -> usize {
        self.item.network.window().max(self.choice.window())
    }

    /// Fills the scratch batches with all candidates, and runs the online networks: values and appeal of each row.
    fn look(&mut self, observations: &[&Observation]) -> Vec<f32> {
        let (window, width) = self.problem.window(self.window());
        let scratch = &mut self.scratch;
        scratch.candidates.fill(observations.iter().copied(), window, width);
        scratch.states.fill_states(observations.iter().copied(), window, width);
        self.item.network.forward(&self.item.parameters, &scratch.candidates, &mut scratch.item);
        self.nothing.network.forward(&self.nothing.parameters, &scratch.states, &mut scratch.nothing);
        self.choice.appeal(&scratch.candidates, &mut scratch.choice)
    }

    /// The target of each transition, in scaled units.
    fn targets(&mut self, transitions: &[&Transition]) -> Vec<f32> {
        let scale = self.settings.reward_scale as f32;
        let mut targets: Vec<f32> = transitions.iter().map(|transition| transition.reward * scale).collect();
        let followed: Vec<usize> = (0..transitions.len()).filter(|&at| transitions[at].discount > 0.0).collect();
        if followed.is_empty() {
            return targets;
        }
        let next: Vec<&Observation> = followed.iter().map(|&at| &*transitions[at].next).collect();
        let appeal = self.look(&next);
        let scratch = &mut self.scratch;
        self.item.network.forward(&self.item_target, &scratch.candidates, &mut scratch.item_target);
        self.nothing.network.forward(&self.nothing_target, &scratch.states, &mut scratch.nothing_target);
        let (online, nothing) = (scratch.item.outputs(), scratch.nothing.outputs());
        let (values, nothing_values) = (scratch.item_target.outputs(), scratch.nothing_target.outputs());
        for (index, (&at, span)) in followed.iter().zip(scratch.candidates.spans()).enumerate() {
            let transition = transitions[at];
            let appeal = &appeal[span.clone()];
            let shown = self.settings.target_slate == SlateTarget::Sarsa && !transition.next_slate.is_empty();
            let slate = if shown {
                transition.next_slate.clone()
            } else {
                let over_nothing: Vec<f32> = online[span.clone()].iter().map(|value| value - nothing[index]).collect();
                self.objective.best(&over_nothing, appeal, self.problem.slate_size)
            };
            let base = nothing_values[index];
            let over_nothing: Vec<f32> = values[span].iter().map(|value| value - base).collect();
            let value = f64::from(base) + self.objective.worth(&over_nothing, appeal, &slate);
            targets[at] += transition.discount * value as f32;
        }
        targets
    }
}

/// Huber's loss of a network with one output a state against the targets of some transitions: the sum of their weighted
/// losses, the gradient at the output, and the error of each.
fn descend_on(
    trained: &Trained,
    chosen: &[usize],
    targets: &[f32],
    sample: &Sample,
    errors: &mut [f32],
) -> (f64, Vec<f32>) {
    let share = 1.0 / targets.len() as f32;
    let mut loss = 0.0;
    let upstream = chosen.iter().zip(trained.trace.outputs()).map(|(&at, prediction)| {
        let weight = sample.weights[at] * share;
        errors[at] = prediction - targets[at];
        let (part, slope) = huber(errors[at]);
        loss += f64::from(weight * part);
        weight * slope
    });
    let upstream = upstream.collect();
    (loss, upstream)
}

impl Learner for SlateQ {
    fn update(&mut self, replay: &Replay, sample: &Sample) -> Result<Update, Diverged> {
        let update = self.updates + 1;
        let transitions: Vec<&Transition> = sample.indices.iter().map(|&index| replay.get(index)).collect();
        let targets = self.targets(&transitions);
        let (taken, passed): (Vec<usize>, Vec<usize>) =
            (0..transitions.len()).partition(|&at| transitions[at].consumed.is_some());
        let (window, width) = self.problem.window(self.item.network.window());
        let taken_items: Vec<[usize; 1]> = taken.iter().map(|&at| [transitions[at].taken().unwrap_or(0)]).collect();
        let rows = taken.iter().zip(&taken_items).map(|(&at, item)| (&*transitions[at].observation, &item[..]));
        self.item.batch.fill_chosen(rows, window, width);
        self.nothing.batch.fill_states(passed.iter().map(|&at| &*transitions[at].observation), window, width);
        let mut errors = vec![0.0; transitions.len()];
        let (mut loss, mut norm) = (0.0, 0.0);
        let how = self.settings.optimisation;
        let rate = how.rate_at(sample.progress);
        for (trained, chosen) in [(&mut self.item, &taken), (&mut self.nothing, &passed)] {
            if chosen.is_empty() {
                continue;
            }
            trained.forward();
            let (part, upstream) = descend_on(trained, chosen, &targets, sample, &mut errors);
            if !part.is_finite() {
                return Err(Diverged { update, what: "loss", value: part });
            }
            loss += part;
            norm = f64::max(norm, trained.descend(&upstream, &how, rate, update)?);
        }
        loss += self.choice.learn(&transitions, &self.problem, &how, rate, update)?;
        self.updates = update;
        self.settings.target.apply(&mut self.item_target, &self.item.parameters, update);
        self.settings.target.apply(&mut self.nothing_target, &self.nothing.parameters, update);
        Ok(Update { loss, gradient_norm: norm, errors })
    }

    fn score(&mut self, observations: &[&Observation]) -> Vec<Scored> {
        let appeal = self.look(observations);
        let unit = 1.0 / self.settings.reward_scale as f32;
        let (values, nothing) = (self.scratch.item.outputs(), self.scratch.nothing.outputs());
        let spans = self.scratch.candidates.spans().enumerate();
        spans
            .map(|(index, span)| Scored {
                scores: values[span.clone()].iter().map(|value| unit * (value - nothing[index])).collect(),
                appeal: appeal[span].to_vec(),
            })
            .collect()
    }

    fn objective(&self) -> Option<SlateObjective> {
        Some(self.objective)
    }

    fn export(&self) -> Result<Exported, OnnxError> {
        let signature = Signature { appeal: true, ..self.problem.signature(self.window()) };
        let mut graph = GraphBuilder::new("slate_q", signature);
        let values = self.item.network.graph(&mut graph, "q", &self.item.parameters)?;
        let nothing = self.nothing.network.graph(&mut graph, "q_0", &self.nothing.parameters)?;
        let over_nothing = graph.node("Sub", &[&values, &nothing]);
        let axis = graph.integers("output_axis", &[2]);
        let over_nothing = graph.node("Squeeze", &[&over_nothing, &axis]);
        let unit = graph.constant("unit", &[1], &[1.0 / self.settings.reward_scale as f32])?;
        let scores = graph.node("Mul", &[&over_nothing, &unit]);
        graph.output(SCORES, &scores)?;
        let appeal = self.choice.graph(&mut graph)?;
        graph.output(APPEAL, &appeal)?;
        Ok(Exported { model: graph.finish()?, signature })
    }

    fn save(&self, checkpoint: &mut Checkpoint) {
        self.item.save("q", checkpoint);
        self.nothing.save("q_0", checkpoint);
        checkpoint.floats("q.target", &self.item_target);
        checkpoint.floats("q_0.target", &self.nothing_target);
        self.choice.save(checkpoint);
        checkpoint.count("updates", self.updates);
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        self.item.restore("q", checkpoint)?;
        self.nothing.restore("q_0", checkpoint)?;
        checkpoint.read_floats("q.target", &mut self.item_target)?;
        checkpoint.read_floats("q_0.target", &mut self.nothing_target)?;
        self.choice.restore(checkpoint)?;
        self.updates = checkpoint.read_count("updates")?;
        Ok(())
    }
}
