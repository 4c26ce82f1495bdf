//! Exact propensities of epsilon-greedy slates; greedy is epsilon = 0.
//!
//! With n candidates, at position j (from 0) of those n - j that are left the best is taken with probability
//! `1 - epsilon + epsilon / (n - j)` and every other with `epsilon / (n - j)`.

use super::Propensities;
use super::draw::top;

pub(super) fn propensities(scores: &[f32], slate: &[usize], epsilon: f64) -> Propensities {
    let order = top(scores, scores.len());
    let mut rank = vec![0; order.len()];
    for (place, &candidate) in order.iter().enumerate() {
        rank[candidate] = place;
    }
    let slate_ranks: Vec<usize> = slate.iter().map(|&candidate| rank[candidate]).collect();
    let marginal = slate_ranks
        .iter()
        .enumerate()
        .map(|(position, &rank)| marginal(rank, position, scores.len(), epsilon))
        .collect();
    Propensities { cascade: cascade(&slate_ranks, scores.len(), epsilon), marginal, draws: None, marginal_draws: None }
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
