//! SlateQ: the long-term value of a slate, taken apart into those of its items.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use slated_contract::slate::{SlateMethod, SlateObjective};
use slated_contract::tensor::{APPEAL, SCORES, Signature};

use super::checkpoint::{Checkpoint, CheckpointError};
use super::choice::{Choice, ChoiceSettings};
use super::cql::{alpha_problem, penalty};
use super::dqn::value_problem;
use super::loss::huber;
use super::trained::{Optimisation, TargetUpdate, Trained};
use super::{Diverged, Exported, Learner, LearnerError, Problem, Snapshot, Update};
use crate::nn::{Batch, NetworkSettings, NetworkShape, Trace};
use crate::onnx::{GraphBuilder, OnnxError};
use crate::replay::{Replay, Sample, Transition};
use crate::rollout::{Observation, Scored, Scorer};

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
    /// Alpha of conservative Q-learning over items (Kumar et al. 2020, arXiv:2006.04779), for logs: adds
    /// `alpha (log sum_i exp a(s, i) - mean_{i in A} a(s, i))` to the loss, which holds down the worth of items that were not
    /// shown; in scaled units. 0 is SlateQ as it is.
    pub alpha: f64,
    /// How the best slate is found, in targets and in service.
    pub method: SlateMethod,
    /// How users choose.
    pub choice: ChoiceSettings,
    /// Rewards are multiplied by it while learning; scores are in units of the reward.
    pub reward_scale: f64,
    /// The networks of an item's worth and of the value of taking nothing.
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
            alpha: 0.0,
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
            .or_else(|| alpha_problem(self.alpha))
            .or_else(|| self.target.problem())
            .or_else(|| self.optimisation.problem())
    }
}

/// SlateQ (Ie et al. 2019, arXiv:1905.12767): under a choice model with appeal v, the value of a slate is
/// `Q(s, A) = (v_0 q_0(s) + sum_{i in A} v_i q(s, i)) / (v_0 + sum_{i in A} v_i)`, and the value q(s, i) of taking item i is
/// learned towards `r + g Q'(s', A')`, A' the best next slate (or the next one shown, for SARSA) and Q' by target networks.
///
/// Taking nothing also leads somewhere, so its value `q_0(s)` is learned alike, where the paper gives it none. What is
/// learned of an item is its worth over taking nothing, `q(s, i) = q_0(s) + a(s, i)`, by a network of its own: the value of
/// a state may be a hundred times what tells its items apart. The model's scores are `a(s, i)`, for the best slate does
/// not depend on `q_0`.
#[derive(Debug, Clone)]
pub struct SlateQ {
    settings: SlateQSettings,
    problem: Problem,
    /// a(s, i).
    item: Trained,
    item_target: Vec<f32>,
    /// q_0(s).
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
    choice: Trace,
}

impl SlateQ {
    /// A learner with initial networks drawn from `seed`.
    ///
    /// # Errors
    /// A setting outside its range, or a choice model of features that the policy has not.
    pub fn new(settings: &SlateQSettings, problem: Problem, seed: u64) -> Result<Self, LearnerError> {
        LearnerError::check(settings.problem())?;
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        let shape = problem.shape(1);
        let how = &settings.optimisation;
        let item = Trained::new(&settings.network, shape, how, &mut generator)?;
        let nothing = Trained::new(&settings.network, NetworkShape { item_width: 0, ..shape }, how, &mut generator)?;
        let choice = settings.choice.build(&problem, how, &mut generator)?;
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

    /// Runs the online networks on all candidates: leaves their worth over nothing in the scratch, and returns their
    /// appeal.
    fn look(&mut self, observations: &[&Observation]) -> Vec<f32> {
        let (window, width) = self.problem.window(self.window());
        let scratch = &mut self.scratch;
        scratch.candidates.fill(observations.iter().copied(), window, width);
        self.item.network.forward(&self.item.parameters, &scratch.candidates, &mut scratch.item);
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
        let (window, width) = self.problem.window(self.nothing.network.window());
        let scratch = &mut self.scratch;
        scratch.states.fill_states(next, window, width);
        self.item.network.forward(&self.item_target, &scratch.candidates, &mut scratch.item_target);
        self.nothing.network.forward(&self.nothing_target, &scratch.states, &mut scratch.nothing);
        let (online, values, nothing) =
            (scratch.item.outputs(), scratch.item_target.outputs(), scratch.nothing.outputs());
        for ((&at, span), nothing) in followed.iter().zip(scratch.candidates.spans()).zip(nothing) {
            let transition = transitions[at];
            let appeal = &appeal[span.clone()];
            let slate = match self.settings.target_slate {
                SlateTarget::Sarsa if !transition.next_slate.is_empty() => transition.next_slate.clone(),
                _ => self.objective.best(&online[span.clone()], appeal, self.problem.slate_size),
            };
            let value = f64::from(*nothing) + self.objective.worth(&values[span], appeal, &slate);
            targets[at] += transition.discount * value as f32;
        }
        targets
    }
}

impl Learner for SlateQ {
    fn update(&mut self, replay: &Replay, sample: &Sample) -> Result<Update, Diverged> {
        let update = self.updates + 1;
        let transitions: Vec<&Transition> = sample.indices.iter().map(|&index| replay.get(index)).collect();
        let targets = self.targets(&transitions);
        let taken: Vec<usize> = (0..transitions.len()).filter(|&at| transitions[at].consumed.is_some()).collect();
        let items: Vec<[usize; 1]> = taken.iter().map(|&at| [transitions[at].taken().unwrap_or(0)]).collect();
        let (window, width) = self.problem.window(self.item.network.window());
        // The penalty is about all candidates; without it only what was taken is computed.
        let conservative = self.settings.alpha > 0.0;
        let rows: Vec<usize> = if conservative {
            let seen = transitions.iter().map(|transition| &*transition.observation);
            self.item.batch.fill(seen, window, width);
            taken.iter().zip(&items).map(|(&at, [item])| self.item.batch.starts[at] + item).collect()
        } else {
            let rows = taken.iter().zip(&items).map(|(&at, item)| (&*transitions[at].observation, &item[..]));
            self.item.batch.fill_chosen(rows, window, width);
            (0..taken.len()).collect()
        };
        self.item.forward();
        let (window, width) = self.problem.window(self.nothing.network.window());
        let seen = transitions.iter().map(|transition| &*transition.observation);
        self.nothing.batch.fill_states(seen, window, width);
        self.nothing.forward();

        let mut errors: Vec<f32> = self.nothing.trace.outputs().iter().zip(&targets).map(|(q, y)| q - y).collect();
        let worth = self.item.trace.outputs();
        for (&at, &row) in taken.iter().zip(&rows) {
            errors[at] += worth[row];
        }
        let share = 1.0 / transitions.len() as f32;
        let mut loss = 0.0;
        let slope = |(error, weight): (&f32, &f32)| {
            let (part, slope) = huber(*error);
            loss += f64::from(share * weight * part);
            share * weight * slope
        };
        // The value of taking an item is a sum, so both of its terms have the same gradient.
        let upstream: Vec<f32> = errors.iter().zip(&sample.weights).map(slope).collect();
        let mut of_items = vec![0.0; if rows.is_empty() && !conservative { 0 } else { worth.len() }];
        if conservative {
            for (at, span) in self.item.batch.spans().enumerate() {
                let alpha = self.settings.alpha as f32 * share * sample.weights[at];
                let own = penalty(&worth[span.clone()], &transitions[at].slate, alpha, &mut of_items[span]);
                loss += f64::from(own);
            }
        }
        taken.iter().zip(&rows).for_each(|(&at, &row)| of_items[row] += upstream[at]);
        if !loss.is_finite() {
            return Err(Diverged { update, what: "loss", value: loss });
        }
        let how = self.settings.optimisation;
        let rate = how.rate_at(sample.progress);
        let mut norm = self.nothing.descend(&upstream, &how, rate, update)?;
        if !of_items.is_empty() {
            norm = norm.hypot(self.item.descend(&of_items, &how, rate, update)?);
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
        let worth = self.scratch.item.outputs();
        let scored = |span: std::ops::Range<usize>| Scored {
            scores: worth[span.clone()].iter().map(|worth| unit * worth).collect(),
            appeal: appeal[span].to_vec(),
        };
        self.scratch.candidates.spans().map(scored).collect()
    }

    fn scorer(&self) -> Box<dyn Scorer> {
        Box::new(Snapshot(self.clone()))
    }

    fn copy(&self) -> Box<dyn Learner> {
        Box::new(self.clone())
    }

    fn objective(&self) -> Option<SlateObjective> {
        Some(self.objective)
    }

    fn export(&self) -> Result<Exported, OnnxError> {
        let signature = Signature { appeal: true, ..self.problem.signature(self.window()) };
        let mut graph = GraphBuilder::new("slate_q", signature);
        let worth = self.item.network.graph(&mut graph, "worth", &self.item.parameters)?;
        let axis = graph.integers("output_axis", &[2]);
        let worth = graph.node("Squeeze", &[&worth, &axis]);
        let unit = graph.constant("unit", &[1], &[1.0 / self.settings.reward_scale as f32])?;
        let scores = graph.node("Mul", &[&worth, &unit]);
        graph.output(SCORES, &scores)?;
        let appeal = self.choice.graph(&mut graph)?;
        graph.output(APPEAL, &appeal)?;
        Ok(Exported { model: graph.finish()?, signature })
    }

    fn save(&self, checkpoint: &mut Checkpoint) {
        self.item.save("worth", checkpoint);
        self.nothing.save("q_0", checkpoint);
        checkpoint.floats("worth.target", &self.item_target);
        checkpoint.floats("q_0.target", &self.nothing_target);
        self.choice.save(checkpoint);
        checkpoint.count("updates", self.updates);
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        self.item.restore("worth", checkpoint)?;
        self.nothing.restore("q_0", checkpoint)?;
        checkpoint.read_floats("worth.target", &mut self.item_target)?;
        checkpoint.read_floats("q_0.target", &mut self.nothing_target)?;
        self.choice.restore(checkpoint)?;
        self.updates = checkpoint.read_count("updates")?;
        Ok(())
    }
}
