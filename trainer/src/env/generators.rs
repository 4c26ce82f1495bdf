//! The seeded generators of one episode.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Everything random in an episode.
///
/// Documents have a stream of their own, so that two policies under the same seed are offered the same candidates at
/// the same step whatever they did before: their returns can be compared in pairs.
#[derive(Debug, Clone)]
pub(super) struct Generators {
    /// Draws the candidates.
    pub documents: ChaCha8Rng,
    /// Draws the user and what the user does.
    pub user: ChaCha8Rng,
}

impl Generators {
    pub fn new(seed: u64) -> Self {
        let documents = ChaCha8Rng::seed_from_u64(seed);
        let mut user = documents.clone();
        user.set_stream(1);
        Self { documents, user }
    }
}

/// A number from 0 up to 1, of 32 random bits: half the work of 64, and as good for a simulated document.
pub(super) fn uniform(bits: u32) -> f64 {
    f64::from(bits) / (1_u64 << 32) as f64
}
