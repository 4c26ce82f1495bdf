//! Slates under a choice model: which set of items is worth most, when the user takes at most one of them.
//!
//! With the score s_i of item i, its value over that of taking nothing, and its appeal v_i beside v_0 of taking nothing,
//! a user who chooses in proportion to appeal makes the slate A worth
//! `sum_{i in A} v_i s_i / (v_0 + sum_{i in A} v_i)` more than nothing (Ie et al. 2019, arXiv:1905.12767).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::draw::top;

/// How the items of a slate are chosen together, for models that give `appeal`.
///
/// The method turns scores and appeal into the scores that the slate is drawn by, so exploration and propensities are
/// those of any other policy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlateObjective {
    /// How the best slate is found.
    pub method: SlateMethod,
    /// v_0, the appeal of taking nothing; at least 0.
    pub no_choice: f64,
}

/// How the best slate is found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SlateMethod {
    /// The greatest `v_i s_i`.
    TopK,
    /// Item after item, each that which makes the slate so far worth most.
    Greedy,
    /// The best slate, exactly: the optimum of the fractional linear program over slates of this size. It is found by
    /// Dinkelbach's iteration (1967, doi:10.1287/mnsc.13.7.492): the best slate holds the greatest `v_i (s_i - w)`, w
    /// being its own worth. Items are drawn by these numbers.
    #[default]
    Exact,
}

/// An objective that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
#[error("slate objective: `no_choice` is {0}, it must be finite and at least 0")]
pub struct ObjectiveError(f64);

impl SlateObjective {
    /// Checks the settings.
    ///
    /// # Errors
    /// A `no_choice` that is negative or not finite.
    pub fn check(&self) -> Result<(), ObjectiveError> {
        if self.no_choice.is_finite() && self.no_choice >= 0.0 { Ok(()) } else { Err(ObjectiveError(self.no_choice)) }
    }

    /// What a slate is worth over taking nothing; 0 where nothing has any appeal.
    #[must_use]
    pub fn worth(&self, scores: &[f32], appeal: &[f32], slate: &[usize]) -> f64 {
        let (mut sum, mut weight) = (0.0, self.no_choice);
        for &item in slate {
            sum += f64::from(appeal[item]) * f64::from(scores[item]);
            weight += f64::from(appeal[item]);
        }
        if weight > 0.0 { sum / weight } else { 0.0 }
    }

    /// The numbers by which a slate of `size` is drawn, one a candidate; the greatest of them make the slate that the
    /// method finds. `scores` and `appeal` hold one number a candidate; an appeal below zero counts as zero.
    #[must_use]
    pub fn rank(&self, scores: &[f32], appeal: &[f32], size: usize) -> Vec<f32> {
        let appeal: Vec<f32> = appeal.iter().map(|appeal| appeal.max(0.0)).collect();
        match self.method {
            SlateMethod::TopK => scores.iter().zip(&appeal).map(|(score, appeal)| appeal * score).collect(),
            SlateMethod::Greedy => self.rank_greedily(scores, &appeal, size),
            SlateMethod::Exact => self.rank_exactly(scores, &appeal, size),
        }
    }

    /// The slate itself, best first.
    #[must_use]
    pub fn best(&self, scores: &[f32], appeal: &[f32], size: usize) -> Vec<usize> {
        top(&self.rank(scores, appeal, size), size)
    }

    fn rank_greedily(&self, scores: &[f32], appeal: &[f32], size: usize) -> Vec<f32> {
        let mut order: Vec<usize> = Vec::with_capacity(scores.len());
        let (mut sum, mut weight) = (0.0, self.no_choice);
        let with = |sum: f64, weight: f64, item: usize| {
            let (score, appeal) = (f64::from(scores[item]), f64::from(appeal[item]));
            (sum + appeal * score, weight + appeal)
        };
        for _ in 0..size.min(scores.len()) {
            let worth = |item: usize| {
                let (sum, weight) = with(sum, weight, item);
                if weight > 0.0 { sum / weight } else { 0.0 }
            };
            let left = (0..scores.len()).filter(|item| !order.contains(item));
            let Some(next) = left.reduce(|best, item| if worth(item) > worth(best) { item } else { best }) else {
                break;
            };
            (sum, weight) = with(sum, weight, next);
            order.push(next);
        }
        // What is left follows by its own product, so that exploration has an order to fall back on.
        let mut rest: Vec<usize> = (0..scores.len()).filter(|item| !order.contains(item)).collect();
        rest.sort_by(|&a, &b| (appeal[b] * scores[b]).total_cmp(&(appeal[a] * scores[a])).then(a.cmp(&b)));
        order.extend(rest);
        let mut ranks = vec![0.0; scores.len()];
        for (place, item) in order.into_iter().enumerate() {
            ranks[item] = -(place as f32);
        }
        ranks
    }

    fn rank_exactly(&self, scores: &[f32], appeal: &[f32], size: usize) -> Vec<f32> {
        let margins = |worth: f64| -> Vec<f64> {
            scores.iter().zip(appeal).map(|(&s, &v)| f64::from(v) * (f64::from(s) - worth)).collect()
        };
        let mut slate = top(appeal, size);
        let mut worth = self.worth(scores, appeal, &slate);
        // Each round raises the worth, and there are finitely many slates; a handful of rounds is the rule.
        for _ in 0..MAX_ROUNDS {
            slate = top(&margins(worth), size);
            let better = self.worth(scores, appeal, &slate);
            if better <= worth {
                break;
            }
            worth = better;
        }
        margins(worth).into_iter().map(|margin| margin as f32).collect()
    }
}

/// The numbers that a slate of `size` is drawn by, from the model's output, `[rows, candidates]` each: the scores
/// themselves, or what the objective makes of scores and appeal.
#[must_use]
pub fn drawn_by(
    objective: Option<&SlateObjective>,
    scores: Vec<f32>,
    appeal: &[f32],
    candidates: usize,
    size: usize,
) -> Vec<f32> {
    let Some(objective) = objective else { return scores };
    let rows = scores.chunks_exact(candidates.max(1)).zip(appeal.chunks_exact(candidates.max(1)));
    rows.flat_map(|(scores, appeal)| objective.rank(scores, appeal, size)).collect()
}

/// Dinkelbach's iteration converges faster than linearly; this is beyond what rounding leaves to improve.
const MAX_ROUNDS: usize = 50;
