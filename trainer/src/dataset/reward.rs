//! The reward of each item of a slate, from the feedback that names its decision.

use std::collections::HashSet;

use slated_contract::event::{Decision, Shown};
use slated_contract::reward::RewardDefinition;

use super::DatasetSummary;
use super::join::Joined;

/// What came of the items of a slate, by position.
#[derive(Debug, Clone, PartialEq)]
pub struct Rewarded {
    pub rewards: Vec<f64>,
    /// Whether a counting event was about the item itself.
    pub responded: Vec<bool>,
}

/// The reward of each item of the slate, by position, counting into `summary` what became of each event.
///
/// An event that names neither item nor position is about the whole slate: its worth is divided evenly over the items,
/// so that the slate's total is what was reported.
pub fn rewards(
    decision: &Decision,
    mut feedback: Vec<Joined>,
    definition: &RewardDefinition,
    summary: &mut DatasetSummary,
) -> Rewarded {
    // The order in which rows come out of a join is not determined; first and last must not depend on it.
    feedback.sort_by(|a, b| (a.occurred, &a.feedback_id).cmp(&(b.occurred, &b.feedback_id)));
    let slate = &decision.slate;
    let mut worths = vec![Vec::new(); slate.len()];
    let mut responded = vec![false; slate.len()];
    let mut seen = HashSet::new();
    for event in &feedback {
        if !seen.insert(event.feedback_id.as_str()) {
            summary.duplicate_feedback += 1;
            continue;
        }
        if !definition.weights.contains_key(&event.event) {
            summary.unweighted_feedback += 1;
            continue;
        }
        let Some(worth) = definition.worth(&event.event, event.value, decision.time, event.occurred) else {
            summary.late_feedback += 1;
            continue;
        };
        match place(event, slate) {
            Place::Item(index) => {
                worths[index].push(worth);
                responded[index] = true;
            }
            Place::Slate => worths.iter_mut().for_each(|item| item.push(worth / slate.len() as f64)),
            Place::NotShown => {
                summary.misplaced_feedback += 1;
                continue;
            }
        }
        summary.counted_feedback += 1;
    }
    Rewarded { rewards: worths.iter().map(|worths| definition.aggregate(worths)).collect(), responded }
}

enum Place {
    Item(usize),
    Slate,
    NotShown,
}

/// Which item an event is about; the item's id decides where both id and position are given.
fn place(event: &Joined, slate: &[Shown]) -> Place {
    let index = match (&event.item, event.position) {
        (Some(item), _) => slate.iter().position(|shown| shown.item == *item),
        (None, Some(position)) => slate.iter().position(|shown| shown.position == position),
        (None, None) => return Place::Slate,
    };
    index.map_or(Place::NotShown, Place::Item)
}
