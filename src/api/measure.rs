//! What is counted of a decision.

use std::cmp::Ordering;

use slated_contract::event::Mode;
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
    if by_score && !is_greedy(pick) {
        measures.explored.increment(1);
    }
}

/// Whether the slate holds the candidates of the greatest scores, in their order; of equal ones the first candidate.
fn is_greedy(pick: &Pick) -> bool {
    let score = |index: usize| pick.decision.candidates[index].score.unwrap_or(f32::NEG_INFINITY);
    let mut is_shown = vec![false; pick.decision.candidates.len()];
    pick.slate.iter().for_each(|&index| is_shown[index] = true);
    let left = (0..is_shown.len()).filter(|&index| !is_shown[index]).map(|index| (score(index), index));
    let best_left = left.reduce(|best, other| if rank(other, best).is_lt() { other } else { best });
    let order = pick.slate.iter().map(|&index| (score(index), index)).chain(best_left);
    order.is_sorted_by(|&a, &b| rank(a, b).is_lt())
}

fn rank((a, first): (f32, usize), (b, second): (f32, usize)) -> Ordering {
    b.total_cmp(&a).then(first.cmp(&second))
}
