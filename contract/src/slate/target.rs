//! What a policy would do, for evaluating it on decisions that another one made.
//!
//! The propensities of a decision divide, so an estimate of one must not be zero; the probabilities here are divided,
//! so they may be zero, and an estimate of one must be unbiased: of M + 1 draws of the posterior, c that agree make it
//! `c / (M + 1)`.

use super::draw::top;
use super::propensity::check_slate;
use super::{DrawError, Exploration, Propensities, Scores, plackett_luce, propensities};

/// The probabilities with which a policy would show `slate` (indices into the candidates, by position).
///
/// Exact for greedy, epsilon-greedy and softmax; for posterior sampling estimated from all rows of `scores`.
///
/// # Errors
/// A slate that is empty or too long, or names a candidate twice or one that does not exist.
pub fn target_propensities(
    exploration: &Exploration,
    scores: &Scores,
    slate: &[usize],
) -> Result<Propensities, DrawError> {
    let Exploration::PosteriorSampling { draws } = *exploration else {
        return propensities(exploration, scores, slate);
    };
    check_slate(slate, scores.candidates())?;
    let (mut cascade, mut marginal) = (vec![0_u32; slate.len()], vec![0_u32; slate.len()]);
    for row in scores.rows() {
        let mut is_prefix = true;
        for (position, (&drawn, &shown)) in top(row, slate.len()).iter().zip(slate).enumerate() {
            is_prefix &= drawn == shown;
            cascade[position] += u32::from(is_prefix);
            marginal[position] += u32::from(drawn == shown);
        }
    }
    let share = |counts: Vec<u32>| counts.into_iter().map(|count| f64::from(count) / f64::from(draws + 1)).collect();
    Ok(Propensities { cascade: share(cascade), marginal: share(marginal), draws: Some(draws) })
}

/// The probability of each candidate to come next, after those `taken` (indices, by position): a distribution over all
/// candidates, 0 for those taken. With none taken it is the first position's, or a slate of one's.
///
/// `None` where it cannot be had: under posterior sampling after the first position, or with nothing left.
#[must_use]
pub fn next_choice(exploration: &Exploration, scores: &Scores, taken: &[usize]) -> Option<Vec<f64>> {
    let candidates = scores.candidates();
    let left: Vec<usize> = (0..candidates).filter(|candidate| !taken.contains(candidate)).collect();
    let mut chances = vec![0.0; candidates];
    let best =
        |row: &[f32]| left.iter().copied().reduce(|best, other| if row[other] > row[best] { other } else { best });
    match *exploration {
        Exploration::Greedy => chances[best(scores.first())?] = 1.0,
        Exploration::EpsilonGreedy { epsilon } => {
            left.iter().for_each(|&candidate| chances[candidate] = epsilon / left.len() as f64);
            chances[best(scores.first())?] += 1.0 - epsilon;
        }
        Exploration::Softmax { temperature } => plackett_luce::next(scores.first(), &left, temperature, &mut chances)?,
        Exploration::PosteriorSampling { draws } => {
            if !taken.is_empty() {
                return None;
            }
            for row in scores.rows() {
                chances[best(row)?] += 1.0 / f64::from(draws + 1);
            }
        }
    }
    Some(chances)
}
