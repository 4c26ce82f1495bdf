//! Linear Bellman equations, primal and dual.

use faer::linalg::solvers::{PartialPivLu, Solve};
use faer::{Mat, MatRef};

use super::super::OpeError;

/// `A theta = sum x_t r_t` with `A = sum x_t (x_t - gamma y_{t+1})' + lambda I` over the steps of n episodes, and
/// `A' z = nu` with nu the mean of `y_0`: a value linear in the features, and a density ratio linear in them.
pub(super) struct FixedPoint {
    /// The weights of the value.
    pub theta: Vec<f64>,
    /// `n z`, the weights of the density ratio.
    pub ratio: Vec<f64>,
}

/// The steps from which a fixed point is found, rows of `width` numbers each.
pub(super) struct Equations<'a> {
    /// The number of features.
    pub width: usize,
    /// `x_t`, a row a step.
    pub current: Vec<&'a [f64]>,
    /// `gamma y_{t+1}`, a row a step; zeros after the last.
    pub next: Vec<Vec<f64>>,
    /// `r_t`, by step.
    pub reward: Vec<f64>,
    /// `y_0`, a row an episode.
    pub initial: Vec<&'a [f64]>,
}

impl FixedPoint {
    /// Solves both.
    ///
    /// # Errors
    /// A `lambda` below zero, or equations without a unique solution.
    pub fn solve(equations: &Equations, lambda: f64, estimator: &str) -> Result<Self, OpeError> {
        if !(lambda.is_finite() && lambda >= 0.0) {
            let (of, parameter) = (estimator.to_owned(), "lambda");
            let allowed = "it must be finite and at least 0";
            return Err(OpeError::Parameter { of, parameter, value: lambda, allowed });
        }
        let Equations { width, current, next, reward, initial } = equations;
        let (width, steps) = (*width, current.len());
        let rows: Vec<f64> = current.concat();
        let differences: Vec<f64> =
            current.iter().zip(next).flat_map(|(x, y)| x.iter().zip(y).map(|(x, y)| x - y)).collect();
        let rows = MatRef::from_row_major_slice(&rows, steps, width);
        let mut matrix: Mat<f64> = rows.transpose() * MatRef::from_row_major_slice(&differences, steps, width);
        (0..width).for_each(|at| matrix[(at, at)] += lambda);
        let moment = rows.transpose() * Mat::from_fn(steps, 1, |step, _| reward[step]);
        // n nu is a sum, so solving for it gives n z.
        let initial = Mat::from_fn(width, 1, |feature, _| initial.iter().map(|row| row[feature]).sum());
        let theta = solve(&matrix, &moment);
        let ratio = solve(&matrix.transpose().to_owned(), &initial);
        match (theta, ratio) {
            (Some(theta), Some(ratio)) => Ok(Self { theta, ratio }),
            _ => Err(OpeError::Singular(estimator.to_owned())),
        }
    }
}

/// The solution; `None` where the matrix is singular to rounding.
fn solve(matrix: &Mat<f64>, right: &Mat<f64>) -> Option<Vec<f64>> {
    let factors = PartialPivLu::new(matrix.as_ref());
    let pivots: Vec<f64> = factors.U().diagonal().column_vector().iter().map(|pivot| pivot.abs()).collect();
    let greatest = pivots.iter().copied().fold(0.0, f64::max);
    // Written so that NaN fails.
    if !pivots.iter().all(|pivot| *pivot > 1e-12 * greatest) {
        return None;
    }
    let solution = factors.solve(right);
    let solution: Vec<f64> = (0..solution.nrows()).map(|row| solution[(row, 0)]).collect();
    solution.iter().all(|number| number.is_finite()).then_some(solution)
}

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
