//! Dense layers over row-major matrices that lie in slices.

use std::ops::Range;

use faer::linalg::matmul::matmul;
use faer::traits::pulp::Arch;
use faer::{Accum, MatMut, MatRef, Par};

use super::Layout;

/// `rows x columns` numbers.
pub(super) fn matrix(values: &[f32], rows: usize, columns: usize) -> MatRef<'_, f32> {
    MatRef::from_row_major_slice(values, rows, columns)
}

/// `out = a b`, or `out += a b`.
pub(super) fn multiply(out: &mut [f32], accumulate: Accum, a: MatRef<f32>, b: MatRef<f32>) {
    let out = MatMut::from_row_major_slice_mut(out, a.nrows(), b.ncols());
    matmul(out, accumulate, a, b, 1.0, Par::Seq);
}

/// Runs loops over numbers in the widest registers that the machine has. They reorder no sums, so the results do not
/// depend on the width.
pub(super) fn wide<R>(work: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(work)
}

/// `out[row] += bias` and, where `relu`, `max(0, .)`.
pub(super) fn activate(out: &mut [f32], bias: &[f32], relu: bool) {
    wide(
        #[inline(always)]
        || {
            for row in out.chunks_exact_mut(bias.len()) {
                if relu {
                    row.iter_mut().zip(bias).for_each(|(value, bias)| *value = (*value + bias).max(0.0));
                } else {
                    row.iter_mut().zip(bias).for_each(|(value, bias)| *value += bias);
                }
            }
        },
    );
}

/// Sets to zero the gradient of what ReLU had cut.
pub(super) fn mask(gradient: &mut [f32], activation: &[f32]) {
    wide(
        #[inline(always)]
        || {
            // Chosen, not skipped: half of the units are off, in no order that a processor could foresee.
            let pairs = gradient.iter_mut().zip(activation);
            pairs.for_each(|(gradient, &value)| *gradient = if value <= 0.0 { 0.0 } else { *gradient });
        },
    );
}

/// `sum[column] += sum over rows`.
pub(super) fn add_columns(sum: &mut [f32], rows: &[f32]) {
    wide(
        #[inline(always)]
        || {
            for row in rows.chunks_exact(sum.len()) {
                sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
        },
    );
}

/// Layers `x -> x W + b`, all but the last followed by ReLU.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stack {
    pub layers: Vec<Dense>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Dense {
    pub input: usize,
    pub output: usize,
    pub weight: Range<usize>,
    pub bias: Range<usize>,
    pub relu: bool,
}

impl Stack {
    /// Layers of the `widths` on an input of `input` numbers.
    ///
    /// Weights begin uniform with the variance `2 / input` that keeps ReLU's signal (He et al. 2015,
    /// arXiv:1502.01852), those of the last layer with a third of its deviation; biases begin at zero.
    pub fn new(layout: &mut Layout, name: &str, input: usize, widths: &[usize]) -> Self {
        let mut width = input;
        let mut layers = Vec::with_capacity(widths.len());
        for (index, &output) in widths.iter().enumerate() {
            let last = index + 1 == widths.len();
            let bound = (6.0 / width.max(1) as f64).sqrt() * if last { 1.0 / 3.0 } else { 1.0 };
            layers.push(Dense {
                input: width,
                output,
                weight: layout.add(format!("{name}.{index}.weight"), (width, output), bound),
                bias: layout.add(format!("{name}.{index}.bias"), (1, output), 0.0),
                relu: !last,
            });
            width = output;
        }
        Self { layers }
    }
}

impl Dense {
    /// `out = act(x W + b)`, `[rows, output]`.
    pub fn forward(&self, parameters: &[f32], x: &[f32], rows: usize, out: &mut [f32]) {
        multiply(
            out,
            Accum::Replace,
            matrix(x, rows, self.input),
            matrix(&parameters[self.weight.clone()], self.input, self.output),
        );
        activate(out, &parameters[self.bias.clone()], self.relu);
    }

    /// Adds the gradient of weight and bias; `upstream` is that of the output before ReLU, `[rows, output]`. Writes that
    /// of the input to `downstream` where it is asked for.
    pub fn backward(
        &self,
        parameters: &[f32],
        x: &[f32],
        rows: usize,
        upstream: &[f32],
        gradient: &mut [f32],
        downstream: Option<&mut Vec<f32>>,
    ) {
        let up = matrix(upstream, rows, self.output);
        multiply(&mut gradient[self.weight.clone()], Accum::Add, matrix(x, rows, self.input).transpose(), up);
        add_columns(&mut gradient[self.bias.clone()], upstream);
        if let Some(down) = downstream {
            down.resize(rows * self.input, 0.0);
            let weight = matrix(&parameters[self.weight.clone()], self.input, self.output);
            multiply(down, Accum::Replace, up, weight.transpose());
        }
    }
}
