//! The seeded generators of one decision.

use rand::SeedableRng;
use rand::distr::Distribution;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The seed of everything random in one decision; below 2^53, so that every JSON reader keeps it exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DecisionSeed(u64);

impl DecisionSeed {
    const BITS: u64 = (1 << 53) - 1;

    /// The seed of the decision `decision_id` in a service seeded with `service_seed`.
    ///
    /// Derived from the id rather than from a counter, so that it does not depend on the order in which concurrent
    /// requests are served.
    #[must_use]
    pub fn derive(service_seed: u64, decision_id: &str) -> Self {
        Self(xxh3_64_with_seed(decision_id.as_bytes(), service_seed) & Self::BITS)
    }

    /// A seed read back from the journal; bits above the 53rd are cut.
    #[must_use]
    pub const fn from_value(value: u64) -> Self {
        Self(value & Self::BITS)
    }

    /// The number to journal.
    #[must_use]
    pub const fn value(self) -> u64 {
        self.0
    }

    /// The generator that draws the slate.
    #[must_use]
    pub fn slate_generator(self) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(self.0)
    }

    /// The generator that draws the model's `noise`; another stream, so that neither shifts the other.
    #[must_use]
    pub fn noise_generator(self) -> ChaCha8Rng {
        self.stream(1)
    }

    /// The generator that simulates prefixes, where marginal propensities are estimated from them.
    pub(super) fn marginal_generator(self) -> ChaCha8Rng {
        self.stream(2)
    }

    fn stream(self, stream: u64) -> ChaCha8Rng {
        let mut generator = ChaCha8Rng::seed_from_u64(self.0);
        generator.set_stream(stream);
        generator
    }
}

/// `count` standard normal draws.
#[must_use]
pub fn standard_normal(generator: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
    StandardNormal.sample_iter(generator).take(count).collect()
}
