//! The seeds of a rollout, each derived from what it belongs to and never from the order of the work.

use slated_contract::slate::DecisionSeed;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The seed of an episode's environment: of (rollout's seed, number of the episode) alone.
#[must_use]
pub fn episode_seed(seed: u64, episode: u64) -> u64 {
    xxh3_64_with_seed(&episode.to_le_bytes(), seed)
}

/// The seed of a decision in an episode.
#[must_use]
pub fn decision_seed(episode_seed: u64, step: u32) -> DecisionSeed {
    DecisionSeed::from_value(xxh3_64_with_seed(&step.to_le_bytes(), episode_seed))
}

/// A number from 0 up to 1 that decides which part of a mixture an episode belongs to.
pub(super) fn part_draw(episode_seed: u64) -> f64 {
    (xxh3_64_with_seed(b"part", episode_seed) >> 11) as f64 / (1_u64 << 53) as f64
}
