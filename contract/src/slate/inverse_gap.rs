//! Inverse gap weighting: the nearer a candidate's score to the best, the likelier it is drawn.
//!
//! Of m candidates with scores f and the best b, `p(a) = 1 / (m + gamma (f(b) - f(a)))` for `a != b`, and
//! `p(b) = 1 - sum_{a != b} p(a)`, which is at least `1 / m` (Foster & Rakhlin 2020, arXiv:2002.04926, with mu = m). A slate
//! is drawn position by position from the candidates that are left, so its cascade propensities are products of these.
//!
//! The marginal at a position is the sum over all prefixes; where those are too many to enumerate it is the mean of
//! `p(a_k | prefix)` over simulated prefixes, the shown one among them, so that it is never zero.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::draw::top;
use super::{DecisionSeed, Propensities};

/// The most prefixes that a marginal is summed over.
const ENUMERATED: usize = 5_000;
/// Simulated prefixes, where those are more.
const SIMULATED: u32 = 1_000;

/// The probability of each of `values`; ties for the best go to the lower index.
pub(super) fn chances(values: &[f64], gamma: f64) -> Vec<f64> {
    let Some(best) = (0..values.len()).reduce(|best, other| if values[other] > values[best] { other } else { best })
    else {
        return Vec::new();
    };
    let count = values.len() as f64;
    let mut chances: Vec<f64> = values.iter().map(|value| (count + gamma * (values[best] - value)).recip()).collect();
    chances[best] = 0.0;
    chances[best] = 1.0 - chances.iter().sum::<f64>();
    chances
}

/// Draws `size` of the candidates.
pub(super) fn draw(scores: &[f32], size: usize, gamma: f64, generator: &mut ChaCha8Rng) -> Vec<usize> {
    let order = top(scores, scores.len());
    let mut left = Left::new(&order, scores, gamma);
    (0..size)
        .map(|_| {
            let rank = left.pick(generator);
            left.take(rank);
            order[rank]
        })
        .collect()
}

pub(super) fn propensities(scores: &[f32], slate: &[usize], gamma: f64, seed: DecisionSeed) -> Propensities {
    let order = top(scores, scores.len());
    let mut rank = vec![0; order.len()];
    for (place, &candidate) in order.iter().enumerate() {
        rank[candidate] = place;
    }
    let ranks: Vec<usize> = slate.iter().map(|&candidate| rank[candidate]).collect();
    let start = Left::new(&order, scores, gamma);
    let mut left = start.clone();
    let mut probability = 1.0;
    let cascade = ranks
        .iter()
        .map(|&rank| {
            probability *= left.chance(rank);
            left.take(rank);
            probability
        })
        .collect();
    let prefixes = (0..ranks.len()).try_fold((0, 1), |(sum, paths): (usize, usize), taken| {
        Some((sum + paths, paths.checked_mul(order.len() - taken)?)).filter(|(sum, _)| *sum <= ENUMERATED)
    });
    let mut marginal = vec![0.0; ranks.len()];
    let marginal_draws = if prefixes.is_some() {
        enumerate(&start, 0, 1.0, &ranks, &mut marginal);
        None
    } else {
        simulate(&start, &ranks, &mut seed.marginal_generator(), &mut marginal);
        Some(SIMULATED)
    };
    marginal.iter_mut().for_each(|marginal| *marginal = marginal.min(1.0));
    Propensities { cascade, marginal, draws: None, marginal_draws }
}

/// Adds `P(prefix) p(item | prefix)` to each position's sum, over every prefix.
fn enumerate(left: &Left, position: usize, mass: f64, ranks: &[usize], sums: &mut [f64]) {
    sums[position] += mass * left.chance(ranks[position]);
    if position + 1 < ranks.len() {
        for &rank in &left.ranks {
            let mut longer = left.clone();
            longer.take(rank);
            enumerate(&longer, position + 1, mass * left.chance(rank), ranks, sums);
        }
    }
}

fn simulate(start: &Left, ranks: &[usize], generator: &mut ChaCha8Rng, means: &mut [f64]) {
    let share = 1.0 / f64::from(SIMULATED + 1);
    let mut left = start.clone();
    for draw in 0..=SIMULATED {
        left.reset(start);
        for (mean, &rank) in means.iter_mut().zip(ranks) {
            *mean += share * left.chance(rank);
            // The last pass is along what was shown.
            let next = if draw == SIMULATED { rank } else { left.pick(generator) };
            left.take(next);
        }
    }
}

/// The candidates that are left, by their rank among all: rank 0 has the highest score.
#[derive(Debug, Clone)]
struct Left<'a> {
    order: &'a [usize],
    scores: &'a [f32],
    gamma: f64,
    /// Those that are left, in no order.
    ranks: Vec<usize>,
    /// Where each stands in `ranks`; `TAKEN` where it does not.
    places: Vec<usize>,
    best: usize,
}

const TAKEN: usize = usize::MAX;

impl<'a> Left<'a> {
    fn new(order: &'a [usize], scores: &'a [f32], gamma: f64) -> Self {
        let ranks: Vec<usize> = (0..order.len()).collect();
        Self { order, scores, gamma, places: ranks.clone(), ranks, best: 0 }
    }

    fn reset(&mut self, start: &Self) {
        self.ranks.clone_from(&start.ranks);
        self.places.clone_from(&start.places);
        self.best = start.best;
    }

    /// The probability of one that is not the best.
    fn other(&self, rank: usize) -> f64 {
        let score = |rank: usize| f64::from(self.scores[self.order[rank]]);
        (self.ranks.len() as f64 + self.gamma * (score(self.best) - score(rank))).recip()
    }

    fn chance(&self, rank: usize) -> f64 {
        if self.places[rank] == TAKEN {
            0.0
        } else if rank == self.best {
            1.0 - self.ranks.iter().filter(|&&other| other != rank).map(|&other| self.other(other)).sum::<f64>()
        } else {
            self.other(rank)
        }
    }

    /// Any of the m with probability `1 / m`, and then it with `m p`, else the best.
    fn pick(&self, generator: &mut ChaCha8Rng) -> usize {
        let rank = self.ranks[generator.random_range(0..self.ranks.len())];
        let keep = generator.random::<f64>() < self.ranks.len() as f64 * self.other(rank);
        if keep { rank } else { self.best }
    }

    fn take(&mut self, rank: usize) {
        let place = self.places[rank];
        if place == TAKEN {
            return;
        }
        self.ranks.swap_remove(place);
        if let Some(&moved) = self.ranks.get(place) {
            self.places[moved] = place;
        }
        self.places[rank] = TAKEN;
        while self.places.get(self.best) == Some(&TAKEN) {
            self.best += 1;
        }
    }
}
