//! A gated recurrent unit over the window of interactions.
//!
//! `z = s(x Wz + h Rz + b)`, `r = s(x Wr + h Rr + b)`, `n = tanh(x Wn + c + r (h Rn + d))`, `h' = (1 - z) n + z h`
//! (Cho et al. 2014, arXiv:1406.1078, with the reset gate after the product, as ONNX's `linear_before_reset`).

use std::ops::Range;

use faer::Accum;

use super::dense::{activate, add_columns, matrix, multiply};
use super::{Batch, Layout};

/// The unit's tensors; each holds the parts z, r, n side by side.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Gru {
    /// F.
    pub input: usize,
    /// G, the width of the hidden state.
    pub units: usize,
    /// H.
    pub window: usize,
    /// `[F, 3 G]`.
    pub weight: Range<usize>,
    /// `[G, 3 G]`.
    pub recurrence: Range<usize>,
    /// `[3 G]`, added to `x W`.
    pub bias: Range<usize>,
    /// `[3 G]`, added to `h R`.
    pub recurrence_bias: Range<usize>,
}

/// What a forward pass leaves for the backward pass.
#[derive(Debug, Clone, Default)]
pub(super) struct GruTrace {
    /// `[T + 1, B, G]`: the hidden state before each step, and after the last.
    hidden: Vec<f32>,
    /// `[B * H, 3 G]`: `x W + b`, then the activated gates.
    gates: Vec<f32>,
    /// `[T, B, 3 G]`: `h R + d`.
    recurrent: Vec<f32>,
    steps: usize,
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

impl Gru {
    pub fn new(layout: &mut Layout, input: usize, units: usize, window: usize) -> Self {
        let bound = 1.0 / (units as f64).sqrt();
        Self {
            input,
            units,
            window,
            weight: layout.add("history.weight", (input, 3 * units), bound),
            recurrence: layout.add("history.recurrence", (units, 3 * units), bound),
            bias: layout.add("history.bias", (1, 3 * units), 0.0),
            recurrence_bias: layout.add("history.recurrence_bias", (1, 3 * units), 0.0),
        }
    }

    /// The hidden state after each row's last interaction, `[B, G]`; zeros where there is none.
    pub fn forward<'t>(&self, parameters: &[f32], batch: &Batch, trace: &'t mut GruTrace) -> &'t [f32] {
        let (rows, g) = (batch.states, self.units);
        let steps = batch.lengths.iter().copied().max().unwrap_or(0);
        trace.steps = steps;
        trace.gates.resize(rows * self.window * 3 * g, 0.0);
        multiply(
            &mut trace.gates,
            Accum::Replace,
            matrix(&batch.history, rows * self.window, self.input),
            matrix(&parameters[self.weight.clone()], self.input, 3 * g),
        );
        activate(&mut trace.gates, &parameters[self.bias.clone()], false);
        trace.hidden.clear();
        trace.hidden.resize((steps + 1) * rows * g, 0.0);
        trace.recurrent.resize(steps * rows * 3 * g, 0.0);
        let recurrence = matrix(&parameters[self.recurrence.clone()], g, 3 * g);
        for step in 0..steps {
            let (before, after) = trace.hidden.split_at_mut((step + 1) * rows * g);
            let before = &before[step * rows * g..];
            let recurrent = &mut trace.recurrent[step * rows * 3 * g..(step + 1) * rows * 3 * g];
            multiply(recurrent, Accum::Replace, matrix(before, rows, g), recurrence);
            activate(recurrent, &parameters[self.recurrence_bias.clone()], false);
            for row in 0..rows {
                let (old, new) = (&before[row * g..][..g], &mut after[row * g..][..g]);
                if step >= batch.lengths[row] {
                    new.copy_from_slice(old);
                    continue;
                }
                let gates = &mut trace.gates[(row * self.window + step) * 3 * g..][..3 * g];
                let recurrent = &recurrent[row * 3 * g..][..3 * g];
                for unit in 0..g {
                    let z = sigmoid(gates[unit] + recurrent[unit]);
                    let r = sigmoid(gates[g + unit] + recurrent[g + unit]);
                    let n = (gates[2 * g + unit] + r * recurrent[2 * g + unit]).tanh();
                    gates[unit] = z;
                    gates[g + unit] = r;
                    gates[2 * g + unit] = n;
                    new[unit] = (1.0 - z) * n + z * old[unit];
                }
            }
        }
        &trace.hidden[steps * rows * g..]
    }

    /// Adds the gradient of the unit's tensors; `upstream`, `[B, G]`, is that of the last hidden state.
    pub fn backward(
        &self,
        parameters: &[f32],
        batch: &Batch,
        trace: &mut GruTrace,
        upstream: &[f32],
        gradient: &mut [f32],
    ) {
        let (rows, g, steps) = (batch.states, self.units, trace.steps);
        let mut hidden = upstream.to_vec();
        let mut earlier = vec![0.0; rows * g];
        let mut recurrent_gradient = vec![0.0; rows * 3 * g];
        let mut input_gradient = vec![0.0; rows * self.window * 3 * g];
        let recurrence = matrix(&parameters[self.recurrence.clone()], g, 3 * g);
        for step in (0..steps).rev() {
            let before = &trace.hidden[step * rows * g..(step + 1) * rows * g];
            let recurrent = &trace.recurrent[step * rows * 3 * g..(step + 1) * rows * 3 * g];
            recurrent_gradient.fill(0.0);
            for row in 0..rows {
                let up = &hidden[row * g..][..g];
                let down = &mut earlier[row * g..][..g];
                if step >= batch.lengths[row] {
                    down.copy_from_slice(up);
                    continue;
                }
                let at = (row * self.window + step) * 3 * g;
                let gates = &trace.gates[at..at + 3 * g];
                let own = &mut recurrent_gradient[row * 3 * g..][..3 * g];
                let input = &mut input_gradient[at..at + 3 * g];
                for unit in 0..g {
                    let (z, r, n) = (gates[unit], gates[g + unit], gates[2 * g + unit]);
                    let old = before[row * g + unit];
                    let candidate = up[unit] * (1.0 - z) * (1.0 - n * n);
                    let update = up[unit] * (old - n) * z * (1.0 - z);
                    let reset = candidate * recurrent[row * 3 * g + 2 * g + unit] * r * (1.0 - r);
                    down[unit] = up[unit] * z;
                    input[unit] = update;
                    input[g + unit] = reset;
                    input[2 * g + unit] = candidate;
                    own[unit] = update;
                    own[g + unit] = reset;
                    own[2 * g + unit] = candidate * r;
                }
            }
            let own = matrix(&recurrent_gradient, rows, 3 * g);
            let weights = &mut gradient[self.recurrence.clone()];
            multiply(weights, Accum::Add, matrix(before, rows, g).transpose(), own);
            add_columns(&mut gradient[self.recurrence_bias.clone()], &recurrent_gradient);
            multiply(&mut earlier, Accum::Add, own, recurrence.transpose());
            std::mem::swap(&mut hidden, &mut earlier);
        }
        let inputs = matrix(&batch.history, rows * self.window, self.input);
        let own = matrix(&input_gradient, rows * self.window, 3 * g);
        multiply(&mut gradient[self.weight.clone()], Accum::Add, inputs.transpose(), own);
        add_columns(&mut gradient[self.bias.clone()], &input_gradient);
    }
}
