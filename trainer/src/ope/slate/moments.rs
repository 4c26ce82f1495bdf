//! First and second moments of which item stands where, and the weights that the pseudo-inverse estimator has of them.

use faer::{Mat, Side};
use slated_contract::slate::Propensities;

use super::super::OpeError;

/// Moments of the indicator `1_s` of a slate's items by position, a vector of K x n numbers of which K are 1.
#[derive(Debug, Clone)]
pub struct SlateMoments {
    candidates: usize,
    /// `E[1_s]`, `[K n]`: the marginal propensities of every candidate at every position.
    first: Vec<f64>,
    /// `E[1_s 1_s']`, `[K n, K n]`.
    second: Mat<f64>,
}

impl SlateMoments {
    /// The moments of a policy over slates of `size` (K) out of `candidates` (n), from slates with their probabilities:
    /// all possible ones, or draws that share a probability of one evenly.
    ///
    /// # Errors
    /// A slate of another size or with an unknown candidate; probabilities that do not sum to one.
    pub fn new<'a>(
        size: usize,
        candidates: usize,
        slates: impl IntoIterator<Item = (&'a [usize], f64)>,
    ) -> Result<Self, OpeError> {
        let width = size * candidates;
        let (mut first, mut second) = (vec![0.0; width], Mat::zeros(width, width));
        let mut total = 0.0;
        for (index, (slate, probability)) in slates.into_iter().enumerate() {
            if slate.len() != size || slate.iter().any(|&item| item >= candidates) {
                let problem = format!("is not {size} of {candidates} candidates: {slate:?}");
                return Err(OpeError::Row { row: format!("slate {index}"), field: "slate", problem });
            }
            let at: Vec<usize> = places(slate, candidates).collect();
            for &row in &at {
                first[row] += probability;
                at.iter().for_each(|&column| second[(row, column)] += probability);
            }
            total += probability;
        }
        if (total - 1.0).abs() > 1e-6 {
            let allowed = "the probabilities of all slates must sum to 1";
            return Err(OpeError::Parameter {
                of: "slate moments".into(),
                parameter: "probability",
                value: total,
                allowed,
            });
        }
        Ok(Self { candidates, first, second })
    }

    /// The weight of a slate that the policy of these moments showed: `q' Gamma^+ 1_s`, Gamma the second moment here
    /// and q the first one of the `evaluation` policy. Eigenvalues below 1e-10 of the greatest count as zero.
    ///
    /// # Errors
    /// Moments of other sizes, or whose eigenvalues cannot be found.
    pub fn weight(&self, evaluation: &Self, slate: &[usize]) -> Result<f64, OpeError> {
        let singular = || OpeError::Singular("the pseudo-inverse of the slate's second moment".to_owned());
        if evaluation.first.len() != self.first.len() || slate.len() * self.candidates != self.first.len() {
            return Err(singular());
        }
        let eigen = self.second.self_adjoint_eigen(Side::Lower).map_err(|_| singular())?;
        let (vectors, values) = (eigen.U(), eigen.S().column_vector());
        let greatest = (0..values.nrows()).map(|at| values[at]).fold(0.0, f64::max);
        let weight = (0..values.nrows()).filter(|&at| values[at] > 1e-10 * greatest).map(|at| {
            let projected: f64 = evaluation.first.iter().enumerate().map(|(row, q)| q * vectors[(row, at)]).sum();
            let shown: f64 = places(slate, self.candidates).map(|row| vectors[(row, at)]).sum();
            projected * shown / values[at]
        });
        Ok(weight.sum())
    }
}

fn places(slate: &[usize], candidates: usize) -> impl Iterator<Item = usize> {
    slate.iter().enumerate().map(move |(position, &item)| position * candidates + item)
}

/// The pseudo-inverse weight where the logging policy draws each position independently of the others:
/// `sum_k w_k - K + 1`, `w_k` the ratio of the marginal propensities (Swaminathan et al. 2017, arXiv:1605.04812).
#[must_use]
pub fn independent_positions_weight(evaluation: &Propensities, behaviour: &Propensities) -> f64 {
    let ratios = evaluation.marginal.iter().zip(&behaviour.marginal).map(|(pi, p)| pi / p);
    ratios.sum::<f64>() - behaviour.marginal.len() as f64 + 1.0
}
