//! Slates drawn under constraints, with their propensities.
//!
//! At each position the candidates that the constraints allow after the prefix are drawn from by the policy's own
//! exploration: epsilon-greedy takes the best of them with `1 - epsilon`, else any; softmax draws one with weight
//! `exp(score / temperature)`; inverse gap weighting weighs their gaps to the best of them. What is allowed and how scores are adjusted depend on the prefix alone, so
//! `P(a_1..a_k) = prod_{j<=k} p(a_j | a_1..a_{j-1})` is exact. The marginal at a position is the sum over all
//! prefixes; where they are too many to enumerate it is the mean of `p(a_k | prefix)` over simulated prefixes, the
//! shown one among them, so that it is never zero. Under posterior sampling each draw of the posterior fills a slate of
//! its own, and all three kinds are estimated as without constraints.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::constraints::Prefix;
use super::propensity::check_slate;
use super::{Constraints, DecisionSeed, DrawError, DrawnSlate, Exploration, Propensities, Scores};

/// The most prefixes that a marginal is summed over.
const ENUMERATED: usize = 5_000;
/// Simulated prefixes, where those are too many: about so many candidates are looked at, within these bounds.
const SIMULATED: std::ops::RangeInclusive<usize> = 100..=1_000;
const LOOKED_AT: usize = 2_000_000;

/// Draws a slate of at most `size` under `constraints`, and computes its propensities. It is shorter than asked for where
/// the constraints leave no candidate for a position.
///
/// # Errors
/// A size of zero or above the number of candidates.
pub fn draw_constrained(
    exploration: &Exploration,
    scores: &Scores,
    size: usize,
    constraints: &Constraints,
    seed: DecisionSeed,
) -> Result<DrawnSlate, DrawError> {
    let candidates = scores.candidates();
    if size == 0 || size > candidates {
        return Err(DrawError::Size { size, candidates });
    }
    let chooser = Chooser { exploration, scores: scores.first(), constraints };
    let items = match exploration {
        Exploration::Greedy | Exploration::PosteriorSampling { .. } => best(scores.first(), constraints, size),
        _ => chooser.simulate(size, &mut seed.slate_generator()),
    };
    let propensities = constrained_propensities(exploration, scores, &items, size, constraints, seed)?;
    Ok(DrawnSlate { items, propensities })
}

/// The propensities of `items` (candidate indices by position) under `constraints`, for a slate of at most `size`.
///
/// # Errors
/// A slate that is empty or too long, or names a candidate twice or one that does not exist.
pub fn constrained_propensities(
    exploration: &Exploration,
    scores: &Scores,
    items: &[usize],
    size: usize,
    constraints: &Constraints,
    seed: DecisionSeed,
) -> Result<Propensities, DrawError> {
    check_slate(items, scores.candidates())?;
    Ok(if let Exploration::PosteriorSampling { draws } = *exploration {
        let drawn: Vec<Vec<usize>> = scores.further().map(|row| best(row, constraints, size)).collect();
        super::posterior::of_slates(drawn.iter().map(Vec::as_slice), items, draws)
    } else {
        Chooser { exploration, scores: scores.first(), constraints }.propensities(items, seed)
    })
}

/// The slate of the highest adjusted scores, position by position.
pub(super) fn best(scores: &[f32], constraints: &Constraints, size: usize) -> Vec<usize> {
    let mut prefix = Prefix::new(constraints, scores.len());
    while prefix.items().len() < size {
        let feasible = prefix.feasible();
        let Some(candidate) = argmax(&prefix, scores, &feasible) else { break };
        prefix.push(candidate);
    }
    prefix.into_items()
}

/// Ties go to the lower index.
fn argmax(prefix: &Prefix, scores: &[f32], feasible: &[usize]) -> Option<usize> {
    let value = |candidate: usize| prefix.adjusted(candidate, f64::from(scores[candidate]));
    feasible.iter().copied().reduce(|best, other| if value(other) > value(best) { other } else { best })
}

pub(super) struct Chooser<'a> {
    pub exploration: &'a Exploration,
    pub scores: &'a [f32],
    pub constraints: &'a Constraints,
}

impl Chooser<'_> {
    /// The candidates that may stand at the next position, with the probability of each; empty where there is none.
    pub fn next(&self, prefix: &Prefix) -> Vec<(usize, f64)> {
        let feasible = prefix.feasible();
        match *self.exploration {
            Exploration::Softmax { temperature } => {
                let adjusted =
                    |&candidate: &usize| prefix.adjusted(candidate, f64::from(self.scores[candidate])) / temperature;
                let greatest = feasible.iter().map(adjusted).fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = feasible.iter().map(|c| (adjusted(c) - greatest).exp()).collect();
                let total: f64 = weights.iter().sum();
                feasible.into_iter().zip(weights.into_iter().map(|weight| weight / total)).collect()
            }
            Exploration::EpsilonGreedy { epsilon } => self.greedy(prefix, feasible, epsilon),
            Exploration::InverseGapWeighting { gamma } => {
                let values: Vec<f64> =
                    feasible.iter().map(|&c| prefix.adjusted(c, f64::from(self.scores[c]))).collect();
                let chances = super::inverse_gap::chances(&values, gamma);
                feasible.into_iter().zip(chances).collect()
            }
            Exploration::Greedy | Exploration::PosteriorSampling { .. } => self.greedy(prefix, feasible, 0.0),
        }
    }

    fn greedy(&self, prefix: &Prefix, feasible: Vec<usize>, epsilon: f64) -> Vec<(usize, f64)> {
        let best = argmax(prefix, self.scores, &feasible);
        let any = epsilon / feasible.len() as f64;
        let probability = |candidate| if Some(candidate) == best { 1.0 - epsilon + any } else { any };
        feasible.into_iter().map(|candidate| (candidate, probability(candidate))).collect()
    }

    fn propensities(&self, items: &[usize], seed: DecisionSeed) -> Propensities {
        let cascade = self.cascade(items);
        let (marginal, marginal_draws) = self.marginals(items, seed);
        Propensities { cascade, marginal, draws: None, marginal_draws }
    }

    fn simulate(&self, size: usize, generator: &mut ChaCha8Rng) -> Vec<usize> {
        let mut prefix = Prefix::new(self.constraints, self.scores.len());
        while prefix.items().len() < size {
            let Some(candidate) = pick(&self.next(&prefix), generator) else { break };
            prefix.push(candidate);
        }
        prefix.into_items()
    }

    fn cascade(&self, items: &[usize]) -> Vec<f64> {
        let mut prefix = Prefix::new(self.constraints, self.scores.len());
        let mut probability = 1.0;
        items
            .iter()
            .map(|&item| {
                probability *= conditional(&self.next(&prefix), item);
                prefix.push(item);
                probability
            })
            .collect()
    }

    fn marginals(&self, items: &[usize], seed: DecisionSeed) -> (Vec<f64>, Option<u32>) {
        let mut sums = vec![0.0; items.len()];
        let mut left = ENUMERATED;
        let start = Prefix::new(self.constraints, self.scores.len());
        if self.enumerate(start, 1.0, items, &mut sums, &mut left) {
            return (sums.into_iter().map(|sum| sum.min(1.0)).collect(), None);
        }
        let draws = (LOOKED_AT / (self.scores.len() * items.len())).clamp(*SIMULATED.start(), *SIMULATED.end());
        let mut generator = seed.marginal_generator();
        let mut sums = vec![0.0; items.len()];
        for draw in 0..=draws {
            let mut prefix = Prefix::new(self.constraints, self.scores.len());
            for (position, &item) in items.iter().enumerate() {
                let next = self.next(&prefix);
                sums[position] += conditional(&next, item);
                // The last pass is along what was shown.
                let follow = if draw == draws { Some(item) } else { pick(&next, &mut generator) };
                let Some(candidate) = follow else { break };
                prefix.push(candidate);
            }
        }
        (sums.into_iter().map(|sum| (sum / (draws + 1) as f64).min(1.0)).collect(), Some(draws as u32))
    }

    /// Adds `P(prefix) p(item | prefix)` to each position's sum, over every prefix; false where they are too many.
    fn enumerate(&self, prefix: Prefix, mass: f64, items: &[usize], sums: &mut [f64], left: &mut usize) -> bool {
        let position = prefix.items().len();
        if position == items.len() {
            return true;
        }
        if *left == 0 {
            return false;
        }
        *left -= 1;
        let next = self.next(&prefix);
        sums[position] += mass * conditional(&next, items[position]);
        position + 1 == items.len()
            || next.iter().filter(|(_, probability)| *probability > 0.0).all(|&(candidate, probability)| {
                let mut longer = prefix.clone();
                longer.push(candidate);
                self.enumerate(longer, mass * probability, items, sums, left)
            })
    }
}

fn conditional(next: &[(usize, f64)], item: usize) -> f64 {
    next.iter().find(|(candidate, _)| *candidate == item).map_or(0.0, |(_, probability)| *probability)
}

fn pick(next: &[(usize, f64)], generator: &mut ChaCha8Rng) -> Option<usize> {
    let mut point = generator.random::<f64>();
    for &(candidate, probability) in next {
        point -= probability;
        if point < 0.0 {
            return Some(candidate);
        }
    }
    // Rounding may leave a last crumb of probability.
    next.iter().rev().find(|(_, probability)| *probability > 0.0).map(|(candidate, _)| *candidate)
}
