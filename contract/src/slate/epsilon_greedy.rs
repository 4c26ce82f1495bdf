//! Exact propensities of epsilon-greedy slates; greedy is epsilon = 0.
//!
//! With n candidates, at position j (from 0) of those n - j that are left the best is taken with probability
//! `1 - epsilon + epsilon / (n - j)` and every other with `epsilon / (n - j)`.

use super::Propensities;
use super::draw::{is_better, top};

/// Items of a slate for which counting what is better takes less time than ordering all candidates.
const FEW: usize = 16;

pub(super) fn propensities(scores: &[f32], slate: &[usize], epsilon: f64) -> Propensities {
    let slate_ranks = ranks(scores, slate);
    let marginal = slate_ranks
        .iter()
        .enumerate()
        .map(|(position, &rank)| marginal(rank, position, scores.len(), epsilon))
        .collect();
    Propensities { cascade: cascade(&slate_ranks, scores.len(), epsilon), marginal, draws: None, marginal_draws: None }
}

/// How many candidates are better than each of the slate.
fn ranks(scores: &[f32], slate: &[usize]) -> Vec<usize> {
    if slate.len() <= FEW {
        let better_than = |&item: &usize| (0..scores.len()).filter(|&other| is_better(scores, other, item)).count();
        return slate.iter().map(better_than).collect();
    }
    let mut rank = vec![0; scores.len()];
    for (place, candidate) in top(scores, scores.len()).into_iter().enumerate() {
        rank[candidate] = place;
    }
    slate.iter().map(|&candidate| rank[candidate]).collect()
}

fn cascade(slate_ranks: &[usize], candidates: usize, epsilon: f64) -> Vec<f64> {
    let mut prefix = 1.0;
    slate_ranks
        .iter()
        .enumerate()
        .map(|(position, &rank)| {
            // The best candidate left is the one all of whose betters were taken before.
            let better_taken = slate_ranks[..position].iter().filter(|&&taken| taken < rank).count();
            let greedy = if better_taken == rank { 1.0 - epsilon } else { 0.0 };
            prefix *= greedy + epsilon / (candidates - position) as f64;
            prefix
        })
        .collect()
}

/// `P(the candidate of this rank stands at this position)`.
///
/// Candidates better than it are alike to it, and so are those worse, so the process is a Markov chain in t, the
/// number of better ones taken; `mass[t]` is the probability that t are and it is not.
fn marginal(rank: usize, position: usize, candidates: usize, epsilon: f64) -> f64 {
    let mut mass = vec![0.0; position + 2];
    mass[0] = 1.0;
    for step in 0..position {
        let uniform = epsilon / (candidates - step) as f64;
        for taken in (0..=step.min(rank)).rev() {
            let here = std::mem::take(&mut mass[taken]);
            let better = rank - taken;
            let worse = (candidates - 1 - rank).saturating_sub(step - taken);
            let greedy_takes_better = if better > 0 { 1.0 - epsilon } else { 0.0 };
            mass[taken + 1] += here * (greedy_takes_better + uniform * better as f64);
            mass[taken] += here * uniform * worse as f64;
        }
    }
    let uniform = epsilon / (candidates - position) as f64;
    let greedy = if rank <= position { (1.0 - epsilon) * mass[rank] } else { 0.0 };
    let reachable: f64 = mass.iter().take(rank + 1).sum();
    greedy + uniform * reachable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_places_in_the_order_however_many_are_asked_for() {
        let scores: Vec<f32> = (0..40).map(|item| (item * 7919 % 13) as f32).collect();
        let order = top(&scores, scores.len());
        for size in [1, FEW, FEW + 1, scores.len()] {
            let slate: Vec<usize> = (0..size).map(|place| place * 27 % 40).collect();
            let places = slate.iter().map(|item| order.iter().position(|other| other == item).unwrap());
            assert_eq!(ranks(&scores, &slate), places.collect::<Vec<_>>(), "{size}");
        }
    }
}
