//! How users choose from a slate: the appeal of each item beside that of taking nothing.

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use slated_contract::tensor::{ITEMS, STATE};

use super::checkpoint::{Checkpoint, CheckpointError};
use super::trained::{Optimisation, Trained};
use super::{Diverged, LearnerError, Problem};
use crate::nn::{Batch, NetworkSettings, Trace};
use crate::onnx::{GraphBuilder, OnnxError, Value};
use crate::replay::Transition;

/// Logits are kept within this of 0, so that an appeal neither overflows nor vanishes.
const MAX_LOGIT: f32 = 15.0;

/// The choice model. A user takes item i of the slate A with probability `v_i / (v_0 + sum_{j in A} v_j)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "model", rename_all = "snake_case", deny_unknown_fields)]
pub enum ChoiceSettings {
    /// The multinomial logit `v_i = exp(f(s, x_i))`, `v_0 = 1`, f a network fitted to what users took and passed over, by
    /// maximum likelihood (McFadden 1974).
    Learned {
        /// The network f.
        #[serde(default)]
        network: NetworkSettings,
    },
    /// The proportional model `v_i = max(0, u . x_i - minimum)`, of two features of the same width.
    Proportional {
        /// The user feature u.
        user: String,
        /// The item feature x.
        item: String,
        /// Subtracted from the product.
        minimum: f64,
        /// v_0.
        no_choice: f64,
    },
    /// The multinomial logit `v_i = exp(u . x_i)`, of two features of the same width.
    Logit {
        /// The user feature u.
        user: String,
        /// The item feature x.
        item: String,
        /// v_0.
        no_choice: f64,
    },
}

impl Default for ChoiceSettings {
    fn default() -> Self {
        Self::Learned { network: NetworkSettings::default() }
    }
}

/// A choice model at work.
#[derive(Debug, Clone)]
pub(super) enum Choice {
    Learned(Box<Trained>),
    Given(Product),
}

/// A given model: the product of columns of state and item, and what makes it an appeal.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Product {
    state: Vec<usize>,
    item: Vec<usize>,
    /// What is subtracted for the proportional model; the logit has none.
    minimum: Option<f32>,
    no_choice: f64,
}

impl ChoiceSettings {
    pub(super) fn build(
        &self,
        problem: &Problem,
        optimisation: &Optimisation,
        generator: &mut ChaCha8Rng,
    ) -> Result<Choice, LearnerError> {
        let (user, item, minimum, no_choice) = match self {
            Self::Learned { network } => {
                if network.dueling {
                    let message =
                        "algorithm: `choice.network.dueling` must be false: a logit has no value to split off";
                    return Err(LearnerError::Setting(message.to_owned()));
                }
                let trained = Trained::new(network, problem.shape(1), optimisation, generator)?;
                return Ok(Choice::Learned(Box::new(trained)));
            }
            Self::Proportional { user, item, minimum, no_choice } => (user, item, Some(*minimum as f32), *no_choice),
            Self::Logit { user, item, no_choice } => (user, item, None, *no_choice),
        };
        let state = columns("choice.user", user, "user", &problem.state_columns)?;
        let item = columns("choice.item", item, "item", &problem.item_columns)?;
        if state.len() != item.len() {
            let message = format!(
                "algorithm: `choice.user` encodes to {} numbers and `choice.item` to {}; a product needs as many of each",
                state.len(),
                item.len()
            );
            return Err(LearnerError::Setting(message));
        }
        Ok(Choice::Given(Product { state, item, minimum, no_choice }))
    }
}

/// The columns of a feature.
fn columns(key: &str, feature: &str, group: &str, known: &[String]) -> Result<Vec<usize>, LearnerError> {
    let name = format!("{group}.{feature}");
    let of_feature = |column: &String| {
        column.strip_prefix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(['[', '=', '#']))
    };
    let found: Vec<usize> = (0..known.len()).filter(|&at| of_feature(&known[at])).collect();
    if found.is_empty() {
        let message = format!("algorithm: `{key}` names `{feature}`, which is no {group} feature of the policy");
        return Err(LearnerError::Setting(message));
    }
    Ok(found)
}

impl Choice {
    /// v_0.
    pub fn no_choice(&self) -> f64 {
        match self {
            Self::Learned(_) => 1.0,
            Self::Given(product) => product.no_choice,
        }
    }

    /// H where the model reads the history, else 0.
    pub fn window(&self) -> usize {
        match self {
            Self::Learned(trained) => trained.network.window(),
            Self::Given(_) => 0,
        }
    }

    /// The appeal of each row of a batch.
    pub fn appeal(&self, batch: &Batch, trace: &mut Trace) -> Vec<f32> {
        match self {
            Self::Learned(trained) => {
                trained.network.forward(&trained.parameters, batch, trace);
                trace.outputs().iter().map(|logit| logit.clamp(-MAX_LOGIT, MAX_LOGIT).exp()).collect()
            }
            Self::Given(product) => product.appeal(batch),
        }
    }

    /// One step of a learned model towards what users did; its loss.
    pub fn learn(
        &mut self,
        transitions: &[&Transition],
        problem: &Problem,
        how: &Optimisation,
        rate: f64,
        update: u64,
    ) -> Result<f64, Diverged> {
        let Self::Learned(trained) = self else { return Ok(0.0) };
        let (window, width) = problem.window(trained.network.window());
        let shown = transitions.iter().map(|transition| (&*transition.observation, transition.slate.as_slice()));
        trained.batch.fill_chosen(shown, window, width);
        trained.forward();
        let logits = trained.trace.outputs();
        let mut upstream = vec![0.0; logits.len()];
        let mut loss = 0.0;
        let share = 1.0 / transitions.len() as f32;
        for (transition, span) in transitions.iter().zip(trained.batch.spans()) {
            // Taking nothing is one more option, with logit 0.
            let own = &logits[span.clone()];
            let greatest = own.iter().copied().fold(0.0, f32::max);
            let total = own.iter().map(|logit| (logit - greatest).exp()).sum::<f32>() + (-greatest).exp();
            let chosen = transition.consumed.map_or(0.0, |position| own[position]);
            loss += f64::from(share * (total.ln() + greatest - chosen));
            for (position, row) in span.enumerate() {
                let probability = (logits[row] - greatest).exp() / total;
                let taken = f32::from(u8::from(transition.consumed == Some(position)));
                upstream[row] = share * (probability - taken);
            }
        }
        if !loss.is_finite() {
            return Err(Diverged { update, what: "choice model's loss", value: loss });
        }
        trained.descend(&upstream, how, rate, update)?;
        Ok(loss)
    }

    /// Adds the model to a graph: appeal, \[batch, candidates\].
    pub fn graph(&self, graph: &mut GraphBuilder) -> Result<Value, OnnxError> {
        match self {
            Self::Learned(trained) => {
                let rows = trained.network.graph(graph, "choice", &trained.parameters)?;
                let axis = graph.integers("choice.output_axis", &[2]);
                let logits = graph.node("Squeeze", &[&rows, &axis]);
                let least = graph.constant("choice.least", &[1], &[-MAX_LOGIT])?;
                let most = graph.constant("choice.most", &[1], &[MAX_LOGIT])?;
                let logits = graph.node("Max", &[&logits, &least]);
                let logits = graph.node("Min", &[&logits, &most]);
                Ok(graph.node("Exp", &[&logits]))
            }
            Self::Given(product) => product.graph(graph),
        }
    }

    pub fn save(&self, checkpoint: &mut Checkpoint) {
        if let Self::Learned(trained) = self {
            trained.save("choice", checkpoint);
        }
    }

    pub fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        match self {
            Self::Learned(trained) => trained.restore("choice", checkpoint),
            Self::Given(_) => Ok(()),
        }
    }
}

impl Product {
    fn appeal(&self, batch: &Batch) -> Vec<f32> {
        let (state_width, item_width) =
            (batch.state.len() / batch.states.max(1), batch.items.len() / batch.rows().max(1));
        let mut appeal = Vec::with_capacity(batch.rows());
        for (state, span) in batch.state.chunks_exact(state_width).zip(batch.spans()) {
            for item in batch.items[span.start * item_width..span.end * item_width].chunks_exact(item_width) {
                let product: f32 = self.state.iter().zip(&self.item).map(|(&s, &x)| state[s] * item[x]).sum();
                appeal.push(match self.minimum {
                    Some(minimum) => (product - minimum).max(0.0),
                    None => product.clamp(-MAX_LOGIT, MAX_LOGIT).exp(),
                });
            }
        }
        appeal
    }

    fn graph(&self, graph: &mut GraphBuilder) -> Result<Value, OnnxError> {
        let integers = |columns: &[usize]| columns.iter().map(|&column| column as i64).collect::<Vec<i64>>();
        let state_columns = graph.integers("choice.state_columns", &integers(&self.state));
        let item_columns = graph.integers("choice.item_columns", &integers(&self.item));
        let (state, items) = (graph.input(STATE)?, graph.input(ITEMS)?);
        let state = graph.node_with("Gather", &[&state, &state_columns], "axis", 1);
        let items = graph.node_with("Gather", &[&items, &item_columns], "axis", 2);
        let column = graph.integers("choice.column_axis", &[2]);
        let state = graph.node("Unsqueeze", &[&state, &column]);
        let product = graph.node("MatMul", &[&items, &state]);
        let product = graph.node("Squeeze", &[&product, &column]);
        match self.minimum {
            Some(minimum) => {
                let minimum = graph.constant("choice.minimum", &[1], &[minimum])?;
                let above = graph.node("Sub", &[&product, &minimum]);
                Ok(graph.node("Relu", &[&above]))
            }
            None => {
                let least = graph.constant("choice.least", &[1], &[-MAX_LOGIT])?;
                let most = graph.constant("choice.most", &[1], &[MAX_LOGIT])?;
                let product = graph.node("Max", &[&product, &least]);
                let product = graph.node("Min", &[&product, &most]);
                Ok(graph.node("Exp", &[&product]))
            }
        }
    }
}
