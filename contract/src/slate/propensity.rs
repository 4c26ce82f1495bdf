//! The probabilities of a slate.

use super::{DecisionSeed, DrawError, Exploration, Scores, epsilon_greedy, inverse_gap, plackett_luce, posterior};

/// The probabilities with which a policy shows a slate of K items.
#[derive(Debug, Clone, PartialEq)]
pub struct Propensities {
    /// `P(a_1, ..., a_k)` for each prefix length k = 1..K; the last is the joint propensity of the slate.
    pub cascade: Vec<f64>,
    /// `P(item a_k stands at position k)`, whatever stands elsewhere, for k = 1..K.
    pub marginal: Vec<f64>,
    /// How many draws the figures are estimated from; `None` where they are exact.
    pub draws: Option<u32>,
    /// How many simulated prefixes the marginal figures alone are estimated from; `None` where they are as exact as the
    /// others.
    pub marginal_draws: Option<u32>,
}

impl Propensities {
    /// The probability of the whole slate.
    #[must_use]
    pub fn joint(&self) -> f64 {
        self.cascade.last().copied().unwrap_or(1.0)
    }

    /// Whether no figure is an estimate.
    #[must_use]
    pub const fn are_exact(&self) -> bool {
        self.draws.is_none() && self.marginal_draws.is_none()
    }
}

/// The propensities of `slate` (indices into the candidates, by position) under `exploration` of `scores`.
///
/// Greedy, epsilon-greedy and softmax are exact; see the method's own module for the formula. Inverse gap weighting is
/// exact but for marginals with too many prefixes, which are simulated from `seed`. Posterior sampling is estimated from
/// the further rows of `scores`.
///
/// # Errors
/// A slate that is empty or too long, or names a candidate twice or one that does not exist.
pub fn propensities(
    exploration: &Exploration,
    scores: &Scores,
    slate: &[usize],
    seed: DecisionSeed,
) -> Result<Propensities, DrawError> {
    check_slate(slate, scores.candidates())?;
    Ok(match *exploration {
        Exploration::Greedy => epsilon_greedy::propensities(scores.first(), slate, 0.0),
        Exploration::EpsilonGreedy { epsilon } => epsilon_greedy::propensities(scores.first(), slate, epsilon),
        Exploration::Softmax { temperature } => plackett_luce::propensities(scores.first(), slate, temperature),
        Exploration::InverseGapWeighting { gamma } => inverse_gap::propensities(scores.first(), slate, gamma, seed),
        Exploration::PosteriorSampling { draws } => posterior::propensities(scores, slate, draws),
    })
}

/// Checks that a slate names each of its candidates once.
pub(super) fn check_slate(slate: &[usize], candidates: usize) -> Result<(), DrawError> {
    if slate.is_empty() || slate.len() > candidates {
        return Err(DrawError::Size { size: slate.len(), candidates });
    }
    for (position, &candidate) in slate.iter().enumerate() {
        if candidate >= candidates || slate[..position].contains(&candidate) {
            return Err(DrawError::Item { candidate, candidates });
        }
    }
    Ok(())
}
