//! What a policy would do, for evaluating it on decisions that another one made.
//!
//! The propensities of a decision divide, so an estimate of one must not be zero; the probabilities here are divided,
//! so they may be zero, and an estimate of one must be unbiased: of M + 1 draws of the posterior, c that agree make it
//! `c / (M + 1)`.

use super::constrained::{Chooser, best};
use super::constraints::Prefix;
use super::propensity::check_slate;
use super::{
    Constraints, DecisionSeed, DrawError, Exploration, Propensities, Scores, constrained_propensities, propensities,
};

/// The probabilities with which a policy would show `slate` (indices into the candidates, by position) under the
/// constraints that the slate was asked for with; `size` is the size asked for.
///
/// Exact for greedy, epsilon-greedy, softmax and inverse gap weighting, but for marginals with too many prefixes (under
/// constraints, or with inverse gap weighting), which are simulated from `seed`, as `marginal_draws` says; for posterior
/// sampling estimated from all rows of `scores`, as `draws` says.
///
/// # Errors
/// A slate that is empty or too long, or names a candidate twice or one that does not exist.
pub fn target_propensities(
    exploration: &Exploration,
    scores: &Scores,
    slate: &[usize],
    size: usize,
    constraints: &Constraints,
    seed: DecisionSeed,
) -> Result<Propensities, DrawError> {
    let Exploration::PosteriorSampling { draws } = *exploration else {
        if constraints.is_empty() {
            return propensities(exploration, scores, slate, seed);
        }
        return constrained_propensities(exploration, scores, slate, size, constraints, seed);
    };
    check_slate(slate, scores.candidates())?;
    let (mut cascade, mut marginal) = (vec![0_u32; slate.len()], vec![0_u32; slate.len()]);
    for row in scores.rows() {
        let mut is_prefix = true;
        for (position, (&drawn, &shown)) in best(row, constraints, size).iter().zip(slate).enumerate() {
            is_prefix &= drawn == shown;
            cascade[position] += u32::from(is_prefix);
            marginal[position] += u32::from(drawn == shown);
        }
    }
    let share = |counts: Vec<u32>| counts.into_iter().map(|count| f64::from(count) / f64::from(draws + 1)).collect();
    Ok(Propensities { cascade: share(cascade), marginal: share(marginal), draws: Some(draws), marginal_draws: None })
}

/// The probability of each candidate to come next, after those `taken` (indices, by position): a distribution over all
/// candidates, 0 for those taken. With none taken it is the first position's, or a slate of one's.
///
/// `None` where it cannot be had: under posterior sampling after the first position, or with nothing left.
#[must_use]
pub fn next_choice(
    exploration: &Exploration,
    scores: &Scores,
    taken: &[usize],
    constraints: &Constraints,
) -> Option<Vec<f64>> {
    let mut chances = vec![0.0; scores.candidates()];
    if let Exploration::PosteriorSampling { draws } = *exploration {
        if !taken.is_empty() {
            return None;
        }
        for row in scores.rows() {
            chances[*best(row, constraints, 1).first()?] += 1.0;
        }
        // Divided at the end: a sum of many parts of one may be more than one.
        chances.iter_mut().for_each(|chance| *chance /= f64::from(draws + 1));
        return Some(chances);
    }
    let mut prefix = Prefix::new(constraints, scores.candidates());
    taken.iter().for_each(|&candidate| prefix.push(candidate));
    let next = Chooser { exploration, scores: scores.first(), constraints }.next(&prefix);
    next.iter().for_each(|&(candidate, chance)| chances[candidate] = chance);
    (!next.is_empty()).then_some(chances)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_that_all_draws_agree_on_is_certain() {
        for draws in 1..=300 {
            let exploration = Exploration::PosteriorSampling { draws };
            let rows: Vec<f32> = [1.0, 2.0].repeat(draws as usize + 1);
            let scores = Scores::new(&rows, 2, &exploration).unwrap();
            assert_eq!(
                next_choice(&exploration, &scores, &[], &Constraints::default()),
                Some(vec![0.0, 1.0]),
                "{draws}"
            );
        }
    }
}
