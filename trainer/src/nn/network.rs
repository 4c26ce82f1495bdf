//! The scorer of candidates: from a state and an item to one number or a few.

use std::ops::Range;

use faer::Accum;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::dense::{Stack, activate, add_columns, mask, matrix, multiply};
use super::gru::{Gru, GruTrace};
use super::threads::for_each;
use super::{Batch, Layout};

/// What a network is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkSettings {
    /// Widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// Whether value and advantage have streams of their own: `q(s, a) = v(s) + adv(s, a) - mean_a' adv(s, a')`
    /// (Wang et al. 2016, arXiv:1511.06581).
    pub dueling: bool,
    /// G, the width of the recurrent unit over the history window; 0 reads no history.
    pub history_units: usize,
}

impl Default for NetworkSettings {
    fn default() -> Self {
        Self { hidden: vec![128, 128], dueling: false, history_units: 0 }
    }
}

/// The widths of a network's inputs and outputs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NetworkShape {
    /// S.
    pub state_width: usize,
    /// D; 0 for a network of the state alone, which then has one row a state.
    pub item_width: usize,
    /// H and F of the history window.
    pub history: (usize, usize),
    /// O, numbers per row.
    pub outputs: usize,
}

/// Settings that make no network.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NetworkError {
    /// A width of zero, or beyond what fits in memory.
    #[error("`network.hidden` has a layer of {0}, allowed are 1 to {max}", max = NetworkSettings::MAX_WIDTH)]
    Hidden(usize),
    /// Units without a window to read, or too many.
    #[error(
        "`network.history_units` is {0}; allowed are 0 to {max}, and above 0 only where `session.history` is above 0",
        max = NetworkSettings::MAX_WIDTH
    )]
    History(usize),
}

/// Scores candidates by `f(s, x)`, f a stack of dense layers.
///
/// The first layer is split as `s Ws + x Wx + b`, so that a state's part is computed once for all its candidates. With a
/// history, `s` is the state followed by the last hidden state of a GRU over the window.
#[derive(Debug, Clone, PartialEq)]
pub struct CandidateNetwork {
    pub(super) shape: NetworkShape,
    pub(super) gru: Option<Gru>,
    /// S', the width of the state with the GRU's output.
    pub(super) context: usize,
    /// `Ws`, `[S', W1]`.
    pub(super) state_weight: Range<usize>,
    /// Its first layer takes the item alone.
    pub(super) scorer: Stack,
    pub(super) value: Option<Stack>,
    layout: Layout,
    threads: usize,
}

/// The most rows that run through all layers at once: few enough that what a layer leaves is still in the cache when the
/// next one reads it, and enough for the matrix products.
const BLOCK_ROWS: usize = 256;

/// Some states of a batch, and the rows of each layer's output that are theirs.
struct Block<'t> {
    states: Range<usize>,
    layers: Vec<&'t mut [f32]>,
}

impl Block<'_> {
    const fn new(states: Range<usize>) -> Self {
        Self { states, layers: Vec::new() }
    }
}

/// What a forward pass leaves: its output, and what the backward pass needs.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    gru: GruTrace,
    /// `[B, S']`; unused where there is no history.
    context: Vec<f32>,
    /// `[B, W1]`.
    state_part: Vec<f32>,
    /// The output of each layer of the scorer, `[R, width]`.
    layers: Vec<Vec<f32>>,
    /// The output of each layer of the value stream, `[B, width]`.
    value: Vec<Vec<f32>>,
    upstream: Vec<f32>,
    downstream: Vec<f32>,
    state_gradient: Vec<f32>,
    context_gradient: Vec<f32>,
}

impl Trace {
    /// The network's output, `[R, O]`.
    #[must_use]
    pub fn outputs(&self) -> &[f32] {
        self.layers.last().map_or(&[], Vec::as_slice)
    }

    /// The output of the last hidden layer, `[R, width]`; empty where there is none.
    #[must_use]
    pub fn features(&self) -> &[f32] {
        self.layers.iter().rev().nth(1).map_or(&[], Vec::as_slice)
    }
}

impl NetworkSettings {
    /// The widest layer.
    pub const MAX_WIDTH: usize = 8192;

    /// Checks the settings for a window of `window` interactions.
    ///
    /// # Errors
    /// A width outside its range, or recurrent units without a window.
    pub fn check(&self, window: usize) -> Result<(), NetworkError> {
        if let Some(width) = self.hidden.iter().find(|width| !(1..=Self::MAX_WIDTH).contains(*width)) {
            return Err(NetworkError::Hidden(*width));
        }
        if self.history_units > Self::MAX_WIDTH || (self.history_units > 0 && window == 0) {
            return Err(NetworkError::History(self.history_units));
        }
        Ok(())
    }
}

impl CandidateNetwork {
    /// The network of these settings.
    ///
    /// # Errors
    /// Settings that fail [`NetworkSettings::check`].
    pub fn new(settings: &NetworkSettings, shape: NetworkShape) -> Result<Self, NetworkError> {
        settings.check(shape.history.0)?;
        let mut layout = Layout::default();
        let (window, row) = shape.history;
        let gru = (settings.history_units > 0).then(|| Gru::new(&mut layout, row, settings.history_units, window));
        let context = shape.state_width + settings.history_units;
        let mut widths = settings.hidden.clone();
        widths.push(shape.outputs);
        let bound = (6.0 / (context + shape.item_width).max(1) as f64).sqrt();
        let state_weight = layout.add("state.weight", (context, widths[0]), bound);
        let scorer = Stack::new(&mut layout, "scorer", shape.item_width, &widths);
        let value = settings.dueling.then(|| Stack::new(&mut layout, "value", context, &widths));
        Ok(Self { shape, gru, context, state_weight, scorer, value, layout, threads: 1 })
    }

    /// Lets a pass use so many threads; what it computes does not depend on it.
    #[must_use]
    pub fn with_threads(self, threads: usize) -> Self {
        Self { threads: threads.max(1), ..self }
    }

    /// Where the tensors lie.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The widths of inputs and outputs.
    #[must_use]
    pub const fn shape(&self) -> NetworkShape {
        self.shape
    }

    /// Whether its output is a value and an advantage, and so depends on all the candidates of a state.
    #[must_use]
    pub const fn is_dueling(&self) -> bool {
        self.value.is_some()
    }

    /// H where the network reads the history, else 0.
    #[must_use]
    pub fn window(&self) -> usize {
        self.gru.as_ref().map_or(0, |gru| gru.window)
    }

    /// Initial parameters.
    #[must_use]
    pub fn initialise(&self, generator: &mut ChaCha8Rng) -> Vec<f32> {
        self.layout.initialise(generator)
    }

    /// Computes `[R, O]` into the trace.
    pub fn forward(&self, parameters: &[f32], batch: &Batch, trace: &mut Trace) {
        let (states, rows) = (batch.states, batch.rows());
        if let Some(gru) = &self.gru {
            let hidden = gru.forward(parameters, batch, &mut trace.gru);
            trace.context.clear();
            for row in 0..states {
                trace.context.extend_from_slice(&batch.state[row * self.shape.state_width..][..self.shape.state_width]);
                trace.context.extend_from_slice(&hidden[row * gru.units..][..gru.units]);
            }
        }
        let context = if self.gru.is_some() { &trace.context } else { &batch.state };
        let first = &self.scorer.layers[0];
        trace.state_part.resize(states * first.output, 0.0);
        let state_weight = matrix(&parameters[self.state_weight.clone()], self.context, first.output);
        multiply(&mut trace.state_part, Accum::Replace, matrix(context, states, self.context), state_weight);
        activate(&mut trace.state_part, &parameters[first.bias.clone()], false);

        trace.layers.resize_with(self.scorer.layers.len(), Vec::new);
        let mut blocks: Vec<Block> = batch.blocks(BLOCK_ROWS).map(Block::new).collect();
        for (layer, out) in self.scorer.layers.iter().zip(&mut trace.layers) {
            out.resize(rows * layer.output, 0.0);
            let mut rest = &mut out[..];
            for block in &mut blocks {
                let (own, after) = rest.split_at_mut(batch.rows_of(&block.states).len() * layer.output);
                block.layers.push(own);
                rest = after;
            }
        }
        let part = &trace.state_part;
        let cost = BLOCK_ROWS * self.scorer.layers.iter().map(|layer| layer.weight.len()).sum::<usize>();
        for_each(self.threads, cost, &mut blocks, |block| self.score(parameters, batch, part, block));

        if let Some(value) = &self.value {
            trace.value.resize_with(value.layers.len(), Vec::new);
            for (index, layer) in value.layers.iter().enumerate() {
                let (before, after) = trace.value.split_at_mut(index);
                let input = if index == 0 { context } else { &before[index - 1] };
                after[0].resize(states * layer.output, 0.0);
                layer.forward(parameters, input, states, &mut after[0]);
            }
            let outputs = self.shape.outputs;
            if let (Some(scores), Some(values)) = (trace.layers.last_mut(), trace.value.last()) {
                for (span, value) in batch.spans().zip(values.chunks_exact(outputs)) {
                    combine(&mut scores[span.start * outputs..span.end * outputs], value, outputs);
                }
            }
        }
    }

    /// Runs the scorer on a block of states; `state_part` is that of the whole batch.
    fn score(&self, parameters: &[f32], batch: &Batch, state_part: &[f32], block: &mut Block) {
        let rows = batch.rows_of(&block.states);
        let first = &self.scorer.layers[0];
        let out = &mut *block.layers[0];
        if first.input > 0 {
            let items = matrix(&batch.items[rows.start * first.input..rows.end * first.input], rows.len(), first.input);
            let weight = matrix(&parameters[first.weight.clone()], first.input, first.output);
            multiply(out, Accum::Replace, items, weight);
        } else {
            out.fill(0.0);
        }
        for state in block.states.clone() {
            let own = (batch.starts[state] - rows.start) * first.output
                ..(batch.starts[state + 1] - rows.start) * first.output;
            activate(&mut out[own], &state_part[state * first.output..][..first.output], first.relu);
        }
        for (index, layer) in self.scorer.layers.iter().enumerate().skip(1) {
            let (before, after) = block.layers.split_at_mut(index);
            layer.forward(parameters, before[index - 1], rows.len(), after[0]);
        }
    }

    /// Adds to `gradient` that of the parameters, where `upstream`, `[R, O]`, is that of the output of the forward pass
    /// that the trace holds.
    pub fn backward(
        &self,
        parameters: &[f32],
        batch: &Batch,
        trace: &mut Trace,
        upstream: &[f32],
        gradient: &mut [f32],
    ) {
        let (states, rows, outputs) = (batch.states, batch.rows(), self.shape.outputs);
        let reads_history = self.gru.is_some();
        trace.upstream.clear();
        trace.upstream.extend_from_slice(upstream);
        trace.context_gradient.clear();
        trace.context_gradient.resize(if reads_history { states * self.context } else { 0 }, 0.0);

        if let Some(value) = &self.value {
            // The value takes the sum over its state's rows; the advantage what is left of each row beside their mean.
            let mut value_gradient = Vec::with_capacity(states * outputs);
            for span in batch.spans() {
                value_gradient.extend(centre(&mut trace.upstream[span.start * outputs..span.end * outputs], outputs));
            }
            let mut down = Vec::new();
            for (index, layer) in value.layers.iter().enumerate().rev() {
                let context = if reads_history { &trace.context } else { &batch.state };
                let input = if index == 0 { context } else { &trace.value[index - 1] };
                let wanted = index > 0 || reads_history;
                let into = wanted.then_some(&mut down);
                layer.backward(self.threads, parameters, input, &value_gradient, gradient, into);
                if index > 0 {
                    mask(&mut down, &trace.value[index - 1]);
                }
                std::mem::swap(&mut value_gradient, &mut down);
            }
            if reads_history {
                trace.context_gradient.copy_from_slice(&value_gradient);
            }
        }

        for (index, layer) in self.scorer.layers.iter().enumerate().skip(1).rev() {
            let input = &trace.layers[index - 1];
            let down = Some(&mut trace.downstream);
            layer.backward(self.threads, parameters, input, &trace.upstream, gradient, down);
            mask(&mut trace.downstream, input);
            std::mem::swap(&mut trace.upstream, &mut trace.downstream);
        }
        let first = &self.scorer.layers[0];
        if first.input > 0 {
            let items = matrix(&batch.items, rows, first.input);
            let up = matrix(&trace.upstream, rows, first.output);
            multiply(&mut gradient[first.weight.clone()], Accum::Add, items.transpose(), up);
        }
        trace.state_gradient.clear();
        trace.state_gradient.resize(states * first.output, 0.0);
        for (span, sum) in batch.spans().zip(trace.state_gradient.chunks_exact_mut(first.output)) {
            add_columns(sum, &trace.upstream[span.start * first.output..span.end * first.output]);
        }
        add_columns(&mut gradient[first.bias.clone()], &trace.state_gradient);
        let context = if reads_history { &trace.context } else { &batch.state };
        let state_gradient = matrix(&trace.state_gradient, states, first.output);
        let context = matrix(context, states, self.context);
        multiply(&mut gradient[self.state_weight.clone()], Accum::Add, context.transpose(), state_gradient);
        if let Some(gru) = &self.gru {
            let weight = matrix(&parameters[self.state_weight.clone()], self.context, first.output);
            multiply(&mut trace.context_gradient, Accum::Add, state_gradient, weight.transpose());
            let hidden: Vec<f32> = trace
                .context_gradient
                .chunks_exact(self.context)
                .flat_map(|row| &row[self.shape.state_width..])
                .copied()
                .collect();
            gru.backward(parameters, batch, &mut trace.gru, &hidden, gradient);
        }
    }
}

/// `row += value - mean of the rows`.
fn combine(rows: &mut [f32], value: &[f32], outputs: usize) {
    let count = (rows.len() / outputs).max(1) as f32;
    let mut shift = vec![0.0; outputs];
    add_columns(&mut shift, rows);
    shift.iter_mut().zip(value).for_each(|(sum, value)| *sum = value - *sum / count);
    activate(rows, &shift, false);
}

/// Takes the mean off the rows; returns their sum.
fn centre(rows: &mut [f32], outputs: usize) -> Vec<f32> {
    let count = (rows.len() / outputs).max(1) as f32;
    let mut sum = vec![0.0; outputs];
    add_columns(&mut sum, rows);
    let shift: Vec<f32> = sum.iter().map(|sum| -sum / count).collect();
    activate(rows, &shift, false);
    sum
}
