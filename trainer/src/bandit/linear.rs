//! Ridge regression as a Bayesian posterior, shared by the linear bandits.
//!
//! With one example `(phi, r)` for each item shown, `A = lambda I + sum phi phi'` and `b = sum r phi`. The posterior of
//! the weights under unit noise and prior variance `1 / lambda` is normal with mean `theta = A^-1 b` and covariance
//! `A^-1` (Bishop 2006, section 3.3).

use faer::linalg::matmul::triangular::{BlockStructure, matmul as triangular_matmul};
use faer::linalg::solvers::{Llt, Solve};
use faer::linalg::triangular_solve::solve_lower_triangular_in_place;
use faer::{Accum, Mat, MatRef, Par, Side};
use thiserror::Error;

use crate::learner::{Checkpoint, CheckpointError};

/// Examples that are gathered before they enter A as one product.
const BLOCK: usize = 256;

/// A and b, and the examples that have not entered them yet.
///
/// A holds only its lower triangle while it grows. The sums depend on the order of the examples and on nothing else.
#[derive(Debug, Clone)]
pub struct LinearStatistics {
    gram: Mat<f64>,
    moment: Vec<f64>,
    examples: u64,
    block: Vec<f64>,
    rewards: Vec<f64>,
}

/// Statistics that have no posterior.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum LinearError {
    /// `lambda` is not above zero.
    #[error("`lambda` is {0}, it must be finite and above 0")]
    Lambda(f64),
    /// A is not positive definite: a feature or reward is far outside any sensible scale.
    #[error("the statistics are not positive definite; normalise the features, or raise `lambda`")]
    NotDefinite,
}

impl LinearStatistics {
    /// No examples, of `width` (d) features.
    #[must_use]
    pub fn new(width: usize) -> Self {
        Self {
            gram: Mat::zeros(width, width),
            moment: vec![0.0; width],
            examples: 0,
            block: Vec::new(),
            rewards: Vec::new(),
        }
    }

    /// Statistics read back: `gram` is the lower triangle of the sum of `phi phi'`, row-major.
    #[must_use]
    pub fn from_parts(gram: &[f64], moment: Vec<f64>, examples: u64) -> Self {
        let width = moment.len();
        let gram =
            Mat::from_fn(width, width, |row, column| if row >= column { gram[row * width + column] } else { 0.0 });
        Self { gram, moment, examples, block: Vec::new(), rewards: Vec::new() }
    }

    /// d.
    #[must_use]
    pub fn width(&self) -> usize {
        self.moment.len()
    }

    /// How many examples were added.
    #[must_use]
    pub const fn examples(&self) -> u64 {
        self.examples
    }

    /// Adds an example, whose features `extend` appends to the vector it is given.
    pub fn add(&mut self, reward: f64, extend: impl FnOnce(&mut Vec<f64>)) {
        extend(&mut self.block);
        self.rewards.push(reward);
        self.examples += 1;
    }

    /// Takes the gathered examples into A and b once they fill a block; whether they did. Called after each decision,
    /// so that a run can stop where no example is left over.
    pub fn flush_full(&mut self) -> bool {
        let full = self.rewards.len() >= BLOCK;
        if full {
            self.flush();
        }
        full
    }

    /// Takes the gathered examples into A and b.
    pub fn flush(&mut self) {
        let (rows, width) = (self.rewards.len(), self.width());
        if rows == 0 {
            return;
        }
        let phi = MatRef::from_row_major_slice(&self.block, rows, width);
        triangular_matmul(
            self.gram.as_mut(),
            BlockStructure::TriangularLower,
            Accum::Add,
            phi.transpose(),
            BlockStructure::Rectangular,
            phi,
            BlockStructure::Rectangular,
            1.0,
            Par::Seq,
        );
        for (phi, reward) in self.block.chunks_exact(width).zip(&self.rewards) {
            self.moment.iter_mut().zip(phi).for_each(|(sum, phi)| *sum += reward * phi);
        }
        self.block.clear();
        self.rewards.clear();
    }

    /// The sums, lower triangle row-major, and b.
    #[must_use]
    pub fn parts(&mut self) -> (Vec<f64>, &[f64]) {
        self.flush();
        (self.gram(), &self.moment)
    }

    fn gram(&self) -> Vec<f64> {
        let width = self.width();
        let entry = |at| if at / width >= at % width { self.gram[(at / width, at % width)] } else { 0.0 };
        (0..width * width).map(entry).collect()
    }

    /// Saves everything, the examples of an unfinished block as they are: going on from there adds in the same order as
    /// if nothing had been saved, and so gives the same bits.
    pub fn save(&self, checkpoint: &mut Checkpoint) {
        checkpoint.doubles("gram", &self.gram());
        checkpoint.doubles("moment", &self.moment);
        checkpoint.doubles("block", &self.block);
        checkpoint.doubles("rewards", &self.rewards);
        checkpoint.count("examples", self.examples);
    }

    /// Statistics of `width` features as [`LinearStatistics::save`] left them.
    ///
    /// # Errors
    /// They are of another width, or damaged.
    pub fn restored(checkpoint: &Checkpoint, width: usize) -> Result<Self, CheckpointError> {
        let gram = checkpoint.read_doubles("gram", width * width)?;
        let moment = checkpoint.read_doubles("moment", width)?.to_vec();
        let mut statistics = Self::from_parts(gram, moment, checkpoint.read_count("examples")?);
        statistics.rewards = checkpoint.get_doubles("rewards")?.to_vec();
        statistics.block = checkpoint.read_doubles("block", width * statistics.rewards.len())?.to_vec();
        Ok(statistics)
    }

    /// L with `L L' = A` under `lambda`.
    fn factor(&mut self, lambda: f64) -> Result<Llt<f64>, LinearError> {
        if !(lambda.is_finite() && lambda > 0.0) {
            return Err(LinearError::Lambda(lambda));
        }
        self.flush();
        let mut precision = self.gram.clone();
        (0..self.width()).for_each(|at| precision[(at, at)] += lambda);
        precision.llt(Side::Lower).map_err(|_| LinearError::NotDefinite)
    }

    /// `A^-1 (b + lambda prior)`: the ridge regression that shrinks towards `prior` (d numbers) instead of zero.
    ///
    /// # Errors
    /// A `lambda` that is not above zero, or statistics beyond the range of numbers.
    pub fn solve(&mut self, lambda: f64, prior: &[f64]) -> Result<Vec<f64>, LinearError> {
        let factor = self.factor(lambda)?;
        let width = self.width();
        let mut theta = Mat::from_fn(width, 1, |row, _| self.moment[row] + lambda * prior[row]);
        factor.solve_in_place(theta.as_mut());
        finite((0..width).map(|row| theta[(row, 0)]).collect())
    }

    /// The posterior under `lambda`.
    ///
    /// # Errors
    /// A `lambda` that is not above zero, or statistics beyond the range of numbers.
    pub fn posterior(&mut self, lambda: f64) -> Result<LinearPosterior, LinearError> {
        let factor = self.factor(lambda)?;
        let width = self.width();
        // A = L L', so A^-1 = (L^-1)' L^-1 and W = (L^-1)' has W W' = A^-1.
        let mut inverse = Mat::<f64>::identity(width, width);
        solve_lower_triangular_in_place(factor.L(), inverse.as_mut(), Par::Seq);
        let root = inverse.transpose().to_owned();
        let moment = Mat::from_fn(width, 1, |row, _| self.moment[row]);
        let mean = &root * (inverse * moment);
        let theta = finite((0..width).map(|row| mean[(row, 0)]).collect())?;
        Ok(LinearPosterior { theta, root })
    }
}

fn finite(theta: Vec<f64>) -> Result<Vec<f64>, LinearError> {
    if theta.iter().all(|weight| weight.is_finite()) { Ok(theta) } else { Err(LinearError::NotDefinite) }
}

/// Normal posterior of the weights.
#[derive(Debug, Clone)]
pub struct LinearPosterior {
    /// theta, its mean, d numbers.
    pub theta: Vec<f64>,
    /// W \[d, d\], upper triangular, with `W W'` its covariance.
    root: Mat<f64>,
}

impl LinearPosterior {
    /// d.
    #[must_use]
    pub fn width(&self) -> usize {
        self.theta.len()
    }

    /// `phi' theta`.
    #[must_use]
    pub fn mean(&self, phi: &[f64]) -> f64 {
        phi.iter().zip(&self.theta).map(|(phi, weight)| phi * weight).sum()
    }

    /// `phi' A^-1 phi`, as the squared length of `W' phi`.
    #[must_use]
    pub fn variance(&self, phi: &[f64]) -> f64 {
        let width = self.width();
        (0..width)
            .map(|column| {
                let projection: f64 = (0..=column).map(|row| phi[row] * self.root[(row, column)]).sum();
                projection * projection
            })
            .sum()
    }

    /// `theta + scale W z`: a draw of the weights for standard normal z.
    #[must_use]
    pub fn draw(&self, scale: f64, z: &[f64]) -> Vec<f64> {
        let width = self.width();
        (0..width)
            .map(|row| {
                self.theta[row] + scale * (row..width).map(|column| self.root[(row, column)] * z[column]).sum::<f64>()
            })
            .collect()
    }

    /// theta as float32.
    #[must_use]
    pub fn theta_f32(&self) -> Vec<f32> {
        self.theta.iter().map(|&weight| weight as f32).collect()
    }

    /// W, scaled, as float32, row-major.
    #[must_use]
    pub fn root_f32(&self, scale: f64) -> Vec<f32> {
        let width = self.width();
        (0..width * width).map(|at| (scale * self.root[(at / width, at % width)]) as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Deterministic numbers without pattern enough for a regression.
    fn wave(at: usize) -> f64 {
        ((at * 7919 % 1009) as f64 / 1009.0 - 0.5) * 2.0
    }

    fn fill(statistics: &mut LinearStatistics, examples: std::ops::Range<usize>, weights: &[f64]) {
        for example in examples {
            let phi: Vec<f64> =
                (0..weights.len()).map(|feature| wave(example * weights.len() + feature + example * example)).collect();
            let reward = phi.iter().zip(weights).map(|(phi, weight)| phi * weight).sum();
            statistics.add(reward, |block| block.extend(&phi));
            statistics.flush_full();
        }
    }

    #[test]
    fn the_mean_recovers_the_weights() {
        let weights = [1.0, -2.0, 0.5, 3.0];
        let mut statistics = LinearStatistics::new(4);
        fill(&mut statistics, 0..5000, &weights);
        let posterior = statistics.posterior(1e-6).unwrap();
        for (found, expected) in posterior.theta.iter().zip(weights) {
            assert!((found - expected).abs() < 1e-6, "{:?}", posterior.theta);
        }
    }

    #[test]
    fn going_on_from_saved_statistics_equals_one_pass() {
        let weights = [0.3, -0.7, 1.1];
        let mut whole = LinearStatistics::new(3);
        fill(&mut whole, 0..1000, &weights);
        let mut first = LinearStatistics::new(3);
        fill(&mut first, 0..613, &weights);
        let mut saved = Checkpoint::default();
        first.save(&mut saved);
        first.flush();
        let mut second = LinearStatistics::restored(&saved, 3).unwrap();
        fill(&mut second, 613..1000, &weights);
        assert_eq!((whole.examples(), second.examples()), (1000, 1000));
        assert_eq!(whole.posterior(1.0).unwrap().theta, second.posterior(1.0).unwrap().theta, "to the bit");
        assert!(LinearStatistics::restored(&saved, 4).unwrap_err().to_string().contains("`gram` has 9 numbers"));
    }

    #[test]
    fn variance_is_that_of_the_inverse() {
        let mut statistics = LinearStatistics::new(2);
        statistics.add(1.0, |phi| phi.extend([1.0, 1.0]));
        statistics.add(0.0, |phi| phi.extend([0.0, 2.0]));
        // A = [[1, 1], [1, 5]] + I = [[2, 1], [1, 6]], its inverse [[6, -1], [-1, 2]] / 11.
        let posterior = statistics.posterior(1.0).unwrap();
        assert!((posterior.variance(&[1.0, 0.0]) - 6.0 / 11.0).abs() < 1e-12);
        assert!((posterior.variance(&[1.0, 3.0]) - (6.0 - 6.0 + 18.0) / 11.0).abs() < 1e-12);
        assert!((posterior.theta[0] - 5.0 / 11.0).abs() < 1e-12);
        // A (theta - t) = b - sum phi phi' t: with t the prior, (b + t) = (1, 1) + (3, -1) = (4, 0).
        let shrunk = statistics.solve(1.0, &[3.0, -1.0]).unwrap();
        assert!((shrunk[0] - 24.0 / 11.0).abs() < 1e-12 && (shrunk[1] + 4.0 / 11.0).abs() < 1e-12, "{shrunk:?}");
    }

    #[test]
    fn lambda_must_be_positive() {
        assert_eq!(LinearStatistics::new(1).posterior(0.0).unwrap_err(), LinearError::Lambda(0.0));
    }
}
