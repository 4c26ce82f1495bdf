//! Where each tensor lies in a flat vector of parameters.

use std::ops::Range;

use rand::distr::{Distribution, Uniform};
use rand_chacha::ChaCha8Rng;

/// One tensor of a [`Layout`].
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Rows and columns; a bias has one row.
    pub shape: (usize, usize),
    /// Where it lies.
    pub range: Range<usize>,
    /// Its initial values are uniform in `[-bound, bound]`.
    bound: f32,
}

/// The tensors of a network, one after the other in one vector.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Layout {
    tensors: Vec<Tensor>,
    length: usize,
}

impl Layout {
    /// Appends a tensor, row-major, whose initial values are uniform in `[-bound, bound]`; returns where it lies.
    pub fn add(&mut self, name: impl Into<String>, shape: (usize, usize), bound: f64) -> Range<usize> {
        let range = self.length..self.length + shape.0 * shape.1;
        self.length = range.end;
        self.tensors.push(Tensor { name: name.into(), shape, range: range.clone(), bound: bound as f32 });
        range
    }

    /// The tensors, in order.
    #[must_use]
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// How many numbers they hold together.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether there is no tensor.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Initial values.
    #[must_use]
    pub fn initialise(&self, generator: &mut ChaCha8Rng) -> Vec<f32> {
        let mut values = vec![0.0; self.length];
        for tensor in &self.tensors {
            // A bound of zero leaves zeros; `Uniform` refuses an empty interval.
            if let Ok(uniform) = Uniform::new(-tensor.bound, tensor.bound) {
                values[tensor.range.clone()].iter_mut().for_each(|value| *value = uniform.sample(generator));
            }
        }
        values
    }
}
