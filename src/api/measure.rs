//! What is counted of a decision.

use std::cmp::Ordering;
use std::collections::HashMap;

use slated_contract::event::{Decision, Mode};
use slated_contract::slate::Exploration;
use tokio::time::Instant;

use super::deadline::missed;
use crate::serving::Pick;

/// Counts a decision that is answered, and was asked for at `arrived`.
pub fn count(pick: &Pick, arrived: Instant) {
    let (decision, measures) = (&pick.decision, &pick.policy.measures);
    measures.decisions.increment(1);
    measures.seconds.record(arrived.elapsed().as_secs_f64());
    if decision.mode == Mode::Fallback {
        missed("fallback");
        return;
    }
    measures.propensity.record(decision.propensity);
    if decision.mode != Mode::Policy || decision.not_evaluable.is_some() || decision.propensity <= 0.0 {
        return;
    }
    // The mean of -ln p over what is shown is the entropy of the distribution that it was drawn from.
    measures.surprisal.record(-decision.propensity.ln());
    let manifest = &pick.policy.manifest;
    let by_score = !matches!(manifest.exploration, Exploration::PosteriorSampling { .. })
        && manifest.objective.is_none()
        && decision.rules.is_none();
    if by_score && !is_greedy(decision) {
        measures.explored.increment(1);
    }
}

/// Whether the slate holds the candidates of the greatest scores, in their order; of equal ones the first candidate.
fn is_greedy(decision: &Decision) -> bool {
    let positions: HashMap<&str, usize> =
        decision.slate.iter().enumerate().map(|(position, shown)| (shown.item.as_str(), position)).collect();
    let mut shown = vec![None; decision.slate.len()];
    let mut best_left: Option<(f32, usize)> = None;
    for (index, candidate) in decision.candidates.iter().enumerate() {
        let here = (candidate.score.unwrap_or(f32::NEG_INFINITY), index);
        match positions.get(candidate.item.as_str()) {
            Some(&position) => shown[position] = Some(here),
            None if best_left.is_none_or(|best| rank(here, best).is_lt()) => best_left = Some(here),
            None => {}
        }
    }
    let order: Vec<(f32, usize)> = shown.into_iter().flatten().chain(best_left).collect();
    order.is_sorted_by(|&a, &b| rank(a, b).is_lt())
}

fn rank((a, first): (f32, usize), (b, second): (f32, usize)) -> Ordering {
    b.total_cmp(&a).then(first.cmp(&second))
}
