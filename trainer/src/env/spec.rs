//! What environments say of themselves, and what comes of a slate.

use slated_contract::feature::{Extra, Feature, FeatureKind, FeatureSchema, Missing, Normalisation, OutOfRange};
use slated_contract::session::SessionSettings;

use super::EnvironmentError;

/// What does not change from episode to episode.
#[derive(Debug, Clone, PartialEq)]
pub struct EnvironmentSpec {
    /// The environment's name, such as `long_term_satisfaction`.
    pub name: &'static str,
    /// How many candidates each step offers.
    pub candidates: usize,
    /// How many of them a slate shows.
    pub slate_size: usize,
    /// The features of [`super::Environment::user`] and [`super::Environment::item`], with the session features that
    /// stand for what is latent: what a policy reads unless its settings say otherwise.
    pub features: FeatureSchema,
    /// What the session accumulator must keep for these features.
    pub session: SessionSettings,
    /// The names of the reference policies, that of the greatest return first, for [`super::Environment::reference`].
    pub references: &'static [&'static str],
    /// The event type under which a response is journalled, such as `watch`; its value is the reward.
    pub event: &'static str,
    /// The greatest possible mean return, where it is known.
    pub optimum: Option<f64>,
}

/// What came of a slate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// The reward.
    pub reward: f64,
    /// The position in the slate of the item that the user consumed; `None` where the user took none.
    pub consumed: Option<usize>,
    /// How long the step took, in seconds of the simulated session.
    pub seconds: f64,
    /// Whether the episode has ended.
    pub done: bool,
}

impl EnvironmentSpec {
    /// Checks that a slate can be shown.
    ///
    /// # Errors
    /// Another size than [`EnvironmentSpec::slate_size`], a candidate named twice or one that does not exist.
    pub fn check_slate(&self, slate: &[usize]) -> Result<(), EnvironmentError> {
        if slate.len() != self.slate_size {
            return Err(EnvironmentError::Size { given: slate.len(), expected: self.slate_size });
        }
        for (position, &candidate) in slate.iter().enumerate() {
            if candidate >= self.candidates || slate[..position].contains(&candidate) {
                return Err(EnvironmentError::Item { candidate, candidates: self.candidates });
            }
        }
        Ok(())
    }
}

/// A schema of features that are always there.
pub(super) fn schema(user: Vec<Feature>, session: Vec<Feature>, item: Vec<Feature>) -> FeatureSchema {
    FeatureSchema { user, context: Vec::new(), session, item, item_id: None, extra: Extra::Ignore }
}

/// A number of any size.
pub(super) fn numeric(name: &str, normalisation: Normalisation) -> Feature {
    feature(name, FeatureKind::Numeric { normalisation, range: None, out_of_range: OutOfRange::Error })
}

/// A vector.
pub(super) fn embedding(name: &str, dimensions: u32) -> Feature {
    feature(name, FeatureKind::Embedding { dimensions })
}

/// A feature without default.
pub(super) fn feature(name: &str, kind: FeatureKind) -> Feature {
    Feature { name: name.to_owned(), kind, missing: Missing::Error }
}
