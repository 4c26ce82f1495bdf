//! A bounded store of transitions, drawn from uniformly or by priority.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::sum_tree::SumTree;
use super::{Transition, store};
use crate::learner::{Checkpoint, CheckpointError};

/// How transitions are kept and drawn.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReplaySettings {
    /// The most transitions; beyond it the oldest make room.
    pub capacity: usize,
    /// alpha of prioritised replay: a transition is drawn in proportion to `(|error| + 1e-6)^alpha`; 0 draws uniformly
    /// (Schaul et al. 2016, arXiv:1511.05952).
    pub priority: f64,
    /// beta at the start of training, rising to 1 at its end: how far importance weights correct for the priorities.
    pub correction: f64,
}

impl Default for ReplaySettings {
    fn default() -> Self {
        Self { capacity: 100_000, priority: 0.0, correction: 0.4 }
    }
}

impl ReplaySettings {
    /// The first setting outside its range, with what is allowed.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let share = |name: &str, value: f64| {
            (!(0.0..=1.0).contains(&value)).then(|| format!("`replay.{name}` is {value}, allowed are 0 to 1"))
        };
        let capacity = (!(1..=Self::MAX_CAPACITY).contains(&self.capacity))
            .then(|| format!("`replay.capacity` is {}, allowed are 1 to {}", self.capacity, Self::MAX_CAPACITY));
        capacity.or_else(|| share("priority", self.priority)).or_else(|| share("correction", self.correction))
    }

    /// The most transitions that may be kept.
    pub const MAX_CAPACITY: usize = 100_000_000;
}

/// A drawn mini-batch: indices of transitions with their importance weights, the greatest of which is 1.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// Indices, for [`Replay::get`] and [`Replay::prioritise`].
    pub indices: Vec<usize>,
    /// `(1 / (N p_i))^beta`, divided by the greatest of the mini-batch.
    pub weights: Vec<f32>,
    /// How far training has come, from 0 to 1.
    pub progress: f64,
}

/// The transitions.
#[derive(Debug, Clone)]
pub struct Replay {
    settings: ReplaySettings,
    transitions: Vec<Transition>,
    /// Where the next transition goes.
    next: usize,
    priorities: Option<SumTree>,
    /// The greatest priority so far; what is new gets it, so that everything is seen once.
    greatest: f64,
}

impl Replay {
    /// Holds nothing yet.
    #[must_use]
    pub fn new(settings: ReplaySettings) -> Self {
        let priorities = (settings.priority > 0.0).then(|| SumTree::new(settings.capacity));
        Self { settings, transitions: Vec::new(), next: 0, priorities, greatest: 1.0 }
    }

    /// Keeps a transition, in the place of the oldest where there is no other.
    pub fn push(&mut self, transition: Transition) {
        if let Some(priorities) = &mut self.priorities {
            priorities.set(self.next, self.greatest);
        }
        if self.next == self.transitions.len() {
            self.transitions.push(transition);
        } else {
            self.transitions[self.next] = transition;
        }
        self.next = (self.next + 1) % self.settings.capacity;
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.transitions.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.transitions.is_empty()
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, index: usize) -> &Transition {
        &self.transitions[index]
    }

    /// Draws `size` transitions with replacement; `progress`, from 0 to 1, is how far training has come.
    pub fn sample(&self, size: usize, progress: f64, generator: &mut ChaCha8Rng) -> Sample {
        let count = self.transitions.len();
        let Some(priorities) = &self.priorities else {
            let indices = (0..size).map(|_| generator.random_range(0..count)).collect();
            return Sample { indices, weights: vec![1.0; size], progress };
        };
        let beta = self.settings.correction + (1.0 - self.settings.correction) * progress.clamp(0.0, 1.0);
        let total = priorities.total();
        // One draw in each of `size` strata of equal mass, as in the paper.
        let indices: Vec<usize> = (0..size)
            .map(|stratum| priorities.find((stratum as f64 + generator.random::<f64>()) * total / size as f64))
            .collect();
        let weight = |&index: &usize| (total / (count as f64 * priorities.get(index))).powf(beta);
        let weights: Vec<f64> = indices.iter().map(weight).collect();
        let greatest = weights.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let weights = weights.into_iter().map(|weight| (weight / greatest) as f32).collect();
        Sample { indices, weights, progress }
    }

    /// Writes the transitions with their priorities.
    pub fn save(&self, checkpoint: &mut Checkpoint) {
        store::save(&self.transitions, checkpoint);
        checkpoint.counts("replay.next", vec![self.next as u64, self.greatest.to_bits()]);
        if let Some(priorities) = &self.priorities {
            let leaves = (0..self.transitions.len()).map(|leaf| priorities.get(leaf).to_bits());
            checkpoint.counts("replay.priorities", leaves.collect());
        }
    }

    /// Reads what [`Replay::save`] wrote.
    ///
    /// # Errors
    /// Arrays that are absent or do not fit together.
    pub fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        self.transitions = store::restore(checkpoint)?;
        let &[next, greatest] = checkpoint.get_counts("replay.next")? else {
            return Err(CheckpointError::Absent("replay.next".to_owned()));
        };
        if self.transitions.len() > self.settings.capacity || next as usize > self.transitions.len() {
            return Err(CheckpointError::Settings);
        }
        self.next = next as usize;
        self.greatest = f64::from_bits(greatest);
        if let Some(priorities) = &mut self.priorities {
            for (leaf, &bits) in checkpoint.get_counts("replay.priorities")?.iter().enumerate() {
                if leaf < self.settings.capacity {
                    priorities.set(leaf, f64::from_bits(bits));
                }
            }
        }
        Ok(())
    }

    /// Tells how far off the learner was on each drawn transition.
    pub fn prioritise(&mut self, sample: &Sample, errors: &[f32]) {
        let Some(priorities) = &mut self.priorities else { return };
        for (&index, &error) in sample.indices.iter().zip(errors) {
            let priority = (f64::from(error.abs()) + 1e-6).powf(self.settings.priority);
            self.greatest = self.greatest.max(priority);
            priorities.set(index, priority);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rand::SeedableRng;

    use super::*;
    use crate::rollout::Observation;

    fn marked(mark: f32) -> Transition {
        let observation = Arc::new(Observation::default());
        Transition {
            observation: Arc::clone(&observation),
            slate: vec![0],
            consumed: Some(0),
            reward: mark,
            discount: 0.0,
            next: observation,
            next_slate: Vec::new(),
            logged: None,
        }
    }

    #[test]
    fn the_oldest_make_room() {
        let mut replay = Replay::new(ReplaySettings { capacity: 3, ..ReplaySettings::default() });
        (0..5).for_each(|mark| replay.push(marked(mark as f32)));
        let mut marks: Vec<f32> = (0..3).map(|index| replay.get(index).reward).collect();
        marks.sort_by(f32::total_cmp);
        assert_eq!(marks, [2.0, 3.0, 4.0]);
    }

    #[test]
    fn priorities_decide_how_often_and_weights_correct_for_it() {
        let settings = ReplaySettings { capacity: 4, priority: 1.0, correction: 1.0 };
        let mut replay = Replay::new(settings);
        (0..4).for_each(|mark| replay.push(marked(mark as f32)));
        let all = Sample { indices: vec![0, 1, 2, 3], weights: vec![1.0; 4], progress: 0.0 };
        replay.prioritise(&all, &[1.0, 2.0, 3.0, 4.0]);
        let mut generator = ChaCha8Rng::seed_from_u64(1);
        let sample = replay.sample(10_000, 0.0, &mut generator);
        for index in 0..4 {
            let count = sample.indices.iter().filter(|&&drawn| drawn == index).count();
            assert!((count as f64 - 1000.0 * (index + 1) as f64).abs() <= 2.0, "{index}: {count}");
        }
        // Corrected, every transition counts the same in sum.
        for (index, weight) in sample.indices.iter().zip(&sample.weights) {
            assert!((weight * (index + 1) as f32 - 1.0).abs() < 1e-4, "{index}: {weight}");
        }
    }

    #[test]
    fn settings_outside_their_range_are_named() {
        let problem = |settings: ReplaySettings| settings.problem().unwrap();
        assert!(problem(ReplaySettings { capacity: 0, ..ReplaySettings::default() }).contains("replay.capacity"));
        assert!(problem(ReplaySettings { priority: -0.1, ..ReplaySettings::default() }).contains("replay.priority"));
        assert_eq!(ReplaySettings::default().problem(), None);
    }
}
