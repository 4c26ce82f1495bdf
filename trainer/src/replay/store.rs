//! Transitions as arrays, for checkpoints. An observation that several transitions share is written once.

use std::collections::HashMap;
use std::sync::Arc;

use super::Transition;
use crate::learner::{Checkpoint, CheckpointError};
use crate::rollout::Observation;

/// Stands for a slate from which nothing was taken.
const NOTHING: u64 = u64::MAX;
/// Counts that describe one transition, and one observation.
const TRANSITION: usize = 5;
const OBSERVATION: usize = 4;

pub(super) fn save(transitions: &[Transition], checkpoint: &mut Checkpoint) {
    let mut known: HashMap<*const Observation, u64> = HashMap::new();
    let mut observations: Vec<&Observation> = Vec::new();
    let (mut rows, mut slates, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
    for transition in transitions {
        let [own, next] = [&transition.observation, &transition.next].map(|observation| {
            *known.entry(Arc::as_ptr(observation)).or_insert_with(|| {
                observations.push(observation);
                observations.len() as u64 - 1
            })
        });
        let consumed = transition.consumed.map_or(NOTHING, |position| position as u64);
        rows.extend([own, next, consumed, transition.slate.len() as u64, transition.next_slate.len() as u64]);
        slates.extend(transition.slate.iter().chain(&transition.next_slate).map(|&item| item as u64));
        numbers.extend([transition.reward, transition.discount]);
    }
    let (mut shapes, mut values) = (Vec::new(), Vec::new());
    for Observation { state, items, candidates, history } in observations {
        shapes.extend([state.len() as u64, items.len() as u64, *candidates as u64, history.len() as u64]);
        values.extend(state.iter().chain(items).chain(history));
    }
    checkpoint.counts("replay.transitions", rows);
    checkpoint.counts("replay.slates", slates);
    checkpoint.floats("replay.numbers", &numbers);
    checkpoint.counts("replay.shapes", shapes);
    checkpoint.floats("replay.observations", &values);
}

pub(super) fn restore(checkpoint: &Checkpoint) -> Result<Vec<Transition>, CheckpointError> {
    let mut values = checkpoint.get_floats("replay.observations")?;
    let mut observations = Vec::new();
    for shape in checkpoint.get_counts("replay.shapes")?.chunks_exact(OBSERVATION) {
        let mut next = |length: u64| take(&mut values, length as usize, "replay.observations").map(<[f32]>::to_vec);
        let (state, items) = (next(shape[0])?, next(shape[1])?);
        let observation = Observation { state, items, candidates: shape[2] as usize, history: next(shape[3])? };
        observations.push(Arc::new(observation));
    }
    let mut slates = checkpoint.get_counts("replay.slates")?;
    let mut numbers = checkpoint.get_floats("replay.numbers")?;
    let mut transitions = Vec::new();
    for row in checkpoint.get_counts("replay.transitions")?.chunks_exact(TRANSITION) {
        let observation = |index: u64| observations.get(index as usize).cloned().ok_or_else(|| absent("replay.shapes"));
        let mut slate = |length: u64| -> Result<Vec<usize>, CheckpointError> {
            Ok(take(&mut slates, length as usize, "replay.slates")?.iter().map(|&item| item as usize).collect())
        };
        let own = take(&mut numbers, 2, "replay.numbers")?;
        transitions.push(Transition {
            observation: observation(row[0])?,
            next: observation(row[1])?,
            consumed: (row[2] != NOTHING).then_some(row[2] as usize),
            slate: slate(row[3])?,
            next_slate: slate(row[4])?,
            reward: own[0],
            discount: own[1],
            logged: None,
        });
    }
    Ok(transitions)
}

/// Cuts the next `length` numbers off an array.
fn take<'a, T>(array: &mut &'a [T], length: usize, name: &str) -> Result<&'a [T], CheckpointError> {
    let (own, rest) = array.split_at_checked(length).ok_or_else(|| absent(name))?;
    *array = rest;
    Ok(own)
}

fn absent(name: &str) -> CheckpointError {
    CheckpointError::Absent(name.to_owned())
}
