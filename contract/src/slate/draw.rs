//! Drawing a slate.

use std::cmp::Ordering;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use thiserror::Error;

use super::{DecisionSeed, Exploration, Propensities, inverse_gap, propensities};

/// The model's scores for one decision: `[rows, candidates]`, one row except under posterior sampling, where row 0 is
/// acted upon and the others serve to estimate propensities.
#[derive(Debug, Clone, Copy)]
pub struct Scores<'a> {
    values: &'a [f32],
    candidates: usize,
}

/// A slate with the probabilities of showing it.
#[derive(Debug, Clone, PartialEq)]
pub struct DrawnSlate {
    /// Indices into the candidates, by position.
    pub items: Vec<usize>,
    /// The probabilities of this slate.
    pub propensities: Propensities,
}

/// A slate that cannot be drawn.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DrawError {
    /// A size of zero, or above the number of candidates.
    #[error("a slate of {size} cannot be drawn from {candidates} candidates")]
    Size {
        /// The slate size asked for.
        size: usize,
        /// How many candidates there are.
        candidates: usize,
    },
    /// The scores are not `rows x candidates`.
    #[error("{given} scores for {rows} rows of {candidates} candidates")]
    Shape {
        /// How many scores there are.
        given: usize,
        /// How many rows the exploration needs.
        rows: usize,
        /// How many candidates there are.
        candidates: usize,
    },
    /// A score is NaN or infinite.
    #[error("the policy scored candidate {candidate} with {score}, which cannot be ranked")]
    NotFinite {
        /// Its index.
        candidate: usize,
        /// Its score, as text.
        score: String,
    },
    /// A slate whose propensities are asked for names a candidate twice, or one that does not exist.
    #[error("the slate names candidate {candidate}, which is not one of the {candidates} candidates or stands twice")]
    Item {
        /// The index.
        candidate: usize,
        /// How many candidates there are.
        candidates: usize,
    },
}

impl<'a> Scores<'a> {
    /// Checks and wraps `values`, row after row.
    ///
    /// # Errors
    /// Values that do not make the rows that `exploration` needs, or are not finite.
    pub fn new(values: &'a [f32], candidates: usize, exploration: &Exploration) -> Result<Self, DrawError> {
        let rows = exploration.score_rows();
        if values.len() != rows * candidates {
            return Err(DrawError::Shape { given: values.len(), rows, candidates });
        }
        match values.iter().position(|score| !score.is_finite()) {
            Some(at) => Err(DrawError::NotFinite { candidate: at % candidates, score: values[at].to_string() }),
            None => Ok(Self { values, candidates }),
        }
    }

    /// How many candidates there are.
    #[must_use]
    pub const fn candidates(&self) -> usize {
        self.candidates
    }

    /// The row that is acted upon.
    #[must_use]
    pub fn first(&self) -> &'a [f32] {
        &self.values[..self.candidates]
    }

    /// All rows.
    pub(super) fn rows(&self) -> impl Iterator<Item = &'a [f32]> {
        self.values.chunks_exact(self.candidates)
    }

    /// The rows that propensities are estimated from.
    pub(super) fn further(&self) -> impl Iterator<Item = &'a [f32]> {
        self.rows().skip(1)
    }
}

/// Draws a slate of `size` and computes its propensities.
///
/// # Errors
/// A size of zero or above the number of candidates.
pub fn draw(
    exploration: &Exploration,
    scores: &Scores,
    size: usize,
    seed: DecisionSeed,
) -> Result<DrawnSlate, DrawError> {
    let items = draw_items(exploration, scores, size, seed)?;
    let propensities = propensities(exploration, scores, &items, seed)?;
    Ok(DrawnSlate { items, propensities })
}

/// Draws the same slate as [`draw`], without its propensities: for simulated decisions that no one will evaluate.
///
/// # Errors
/// As for [`draw`].
pub fn draw_items(
    exploration: &Exploration,
    scores: &Scores,
    size: usize,
    seed: DecisionSeed,
) -> Result<Vec<usize>, DrawError> {
    let candidates = scores.candidates();
    if size == 0 || size > candidates {
        return Err(DrawError::Size { size, candidates });
    }
    let mut generator = seed.slate_generator();
    Ok(match exploration {
        Exploration::InverseGapWeighting { gamma } => inverse_gap::draw(scores.first(), size, *gamma, &mut generator),
        Exploration::Greedy | Exploration::PosteriorSampling { .. } => top(scores.first(), size),
        Exploration::EpsilonGreedy { epsilon } => draw_epsilon_greedy(scores.first(), size, *epsilon, &mut generator),
        Exploration::Softmax { temperature } => draw_plackett_luce(scores.first(), size, *temperature, &mut generator),
    })
}

/// Whether the candidate `a` ranks before `b`.
pub(super) fn is_better<T: PartialOrd + Copy>(values: &[T], a: usize, b: usize) -> bool {
    order(values, a, b).is_lt()
}

fn order<T: PartialOrd + Copy>(values: &[T], a: usize, b: usize) -> Ordering {
    values[b].partial_cmp(&values[a]).unwrap_or(Ordering::Equal).then(a.cmp(&b))
}

/// The indices of the `size` highest values, best first; ties go to the lower index.
pub(super) fn top<T: PartialOrd + Copy>(values: &[T], size: usize) -> Vec<usize> {
    let order = |&a: &usize, &b: &usize| order(values, a, b);
    let mut indices: Vec<usize> = (0..values.len()).collect();
    if size < indices.len() {
        indices.select_nth_unstable_by(size, order);
        indices.truncate(size);
    }
    indices.sort_unstable_by(order);
    indices
}

fn draw_epsilon_greedy(scores: &[f32], size: usize, epsilon: f64, generator: &mut ChaCha8Rng) -> Vec<usize> {
    // As long as nothing is explored, the best are all that is asked for.
    let mut left = top(scores, size);
    let mut all = size == scores.len();
    (0..size)
        .map(|taken| {
            let explore = generator.random::<f64>() < epsilon;
            if explore && !all {
                left = top(scores, scores.len()).split_off(taken);
                all = true;
            }
            left.remove(if explore { generator.random_range(0..left.len()) } else { 0 })
        })
        .collect()
}

/// The Gumbel trick: the order of `logit + Gumbel noise` is a Plackett-Luce draw (Yellott 1977; Kool et al. 2019,
/// arXiv:1903.06059).
fn draw_plackett_luce(scores: &[f32], size: usize, temperature: f64, generator: &mut ChaCha8Rng) -> Vec<usize> {
    let keys: Vec<f64> = scores
        .iter()
        .map(|&score| {
            // 1 - u is in (0, 1], so the inner logarithm is finite; u = 0 gives the largest key, which is right.
            let uniform: f64 = generator.random();
            f64::from(score) / temperature - (-(1.0 - uniform).ln()).ln()
        })
        .collect();
    top(&keys, size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epsilon_greedy_draws_from_all_that_are_left_in_their_order() {
        let scores: Vec<f32> = (0..30).map(|item| (item * 7919 % 11) as f32).collect();
        for (seed, size) in (0..200).flat_map(|seed| [1, 5, 29, 30].map(|size| (seed, size))) {
            let seed = DecisionSeed::from_value(seed);
            let mut generator = seed.slate_generator();
            let mut left = top(&scores, scores.len());
            let expected: Vec<usize> = (0..size)
                .map(|_| match generator.random::<f64>() < 0.2 {
                    true => left.remove(generator.random_range(0..left.len())),
                    false => left.remove(0),
                })
                .collect();
            assert_eq!(draw_epsilon_greedy(&scores, size, 0.2, &mut seed.slate_generator()), expected);
        }
    }
}
