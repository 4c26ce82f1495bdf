//! A uniform sample of the examples of a stream, of bounded size.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{Example, Widths};
use crate::learner::{Checkpoint, CheckpointError};

/// An encoded example.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kept {
    pub state: Vec<f32>,
    pub item: Vec<f32>,
    pub reward: f32,
}

impl Kept {
    pub fn of(example: &Example) -> Self {
        Self { state: example.state.to_vec(), item: example.item.to_vec(), reward: example.reward as f32 }
    }

    /// Writes examples under a name.
    pub fn save<'a>(checkpoint: &mut Checkpoint, name: &str, examples: impl Iterator<Item = &'a Self> + Clone) {
        let join = |part: fn(&Self) -> &[f32]| examples.clone().flat_map(part).copied().collect::<Vec<f32>>();
        checkpoint.floats(format!("{name}.state"), &join(|example| &example.state));
        checkpoint.floats(format!("{name}.item"), &join(|example| &example.item));
        checkpoint.floats(format!("{name}.reward"), &examples.clone().map(|kept| kept.reward).collect::<Vec<_>>());
    }

    /// Reads what [`Kept::save`] wrote.
    pub fn restored(checkpoint: &Checkpoint, name: &str, widths: Widths) -> Result<Vec<Self>, CheckpointError> {
        let rewards = checkpoint.get_floats(&format!("{name}.reward"))?;
        let rows = |part: &str, width: usize| {
            let mut values = vec![0.0; rewards.len() * width];
            checkpoint.read_floats(&format!("{name}.{part}"), &mut values)?;
            Ok::<_, CheckpointError>(values)
        };
        let (states, items) = (rows("state", widths.state)?, rows("item", widths.item)?);
        let row = |values: &[f32], index: usize, width: usize| values[index * width..][..width].to_vec();
        let kept = |(index, &reward): (usize, &f32)| Self {
            state: row(&states, index, widths.state),
            item: row(&items, index, widths.item),
            reward,
        };
        Ok(rewards.iter().enumerate().map(kept).collect())
    }
}

/// The examples whose names hash to the smallest numbers: a uniform sample without replacement that depends on which
/// examples there were, not on their order or on how many runs they came in (bottom-k sampling, Cohen & Kaplan 2007,
/// doi:10.1145/1281100.1281133).
#[derive(Debug, Clone)]
pub(super) struct Reservoir {
    most: usize,
    seed: u64,
    /// By hash; the name makes equal hashes distinct.
    kept: BTreeMap<(u64, String), Kept>,
}

impl Reservoir {
    pub const fn new(most: usize, seed: u64) -> Self {
        Self { most, seed, kept: BTreeMap::new() }
    }

    pub fn add(&mut self, example: &Example) {
        let name = format!("{}/{}", example.decision_id, example.position);
        let hash = xxh3_64_with_seed(name.as_bytes(), self.seed);
        if self.kept.len() >= self.most {
            match self.kept.last_key_value() {
                Some(((greatest, _), _)) if *greatest > hash => self.kept.pop_last(),
                _ => return,
            };
        }
        self.kept.insert((hash, name), Kept::of(example));
    }

    /// The sample, in an order that is its own.
    pub fn examples(&self) -> impl ExactSizeIterator<Item = &Kept> + Clone {
        self.kept.values()
    }

    pub fn save(&self, checkpoint: &mut Checkpoint) {
        Kept::save(checkpoint, "reservoir", self.examples());
        checkpoint.counts("reservoir.hashes", self.kept.keys().map(|(hash, _)| *hash).collect());
        let names: Vec<&String> = self.kept.keys().map(|(_, name)| name).collect();
        checkpoint.text("reservoir.names", serde_json::json!(names).to_string());
    }

    pub fn restore(&mut self, checkpoint: &Checkpoint, widths: Widths) -> Result<(), CheckpointError> {
        let hashes = checkpoint.get_counts("reservoir.hashes")?;
        let absent = |_| CheckpointError::Absent("reservoir.names".to_owned());
        let names: Vec<String> = serde_json::from_str(checkpoint.get_text("reservoir.names")?).map_err(absent)?;
        let examples = Kept::restored(checkpoint, "reservoir", widths)?;
        let lengths = (hashes.len(), names.len());
        if lengths != (examples.len(), examples.len()) {
            let name = "reservoir.hashes".to_owned();
            return Err(CheckpointError::Length { name, found: hashes.len(), expected: examples.len() });
        }
        self.kept = hashes.iter().copied().zip(names).zip(examples).collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_uniform_and_the_same_in_any_order() {
        let ids: Vec<String> = (0..4000).map(|id| format!("decision-{id}")).collect();
        let fill = |ids: &mut dyn Iterator<Item = &String>| {
            let mut reservoir = Reservoir::new(1000, 5);
            for id in ids {
                let reward = id[9..].parse().unwrap();
                reservoir.add(&Example { decision_id: id, position: 0, item_id: "", state: &[], item: &[], reward });
            }
            reservoir.examples().map(|kept| kept.reward).collect::<Vec<_>>()
        };
        let forwards = fill(&mut ids.iter());
        assert_eq!(forwards.len(), 1000);
        assert_eq!(forwards, fill(&mut ids.iter().rev()));
        let early = forwards.iter().filter(|&&reward| reward < 1000.0).count();
        assert!((200..300).contains(&early), "{early} of the first quarter");
    }
}
