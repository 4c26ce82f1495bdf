//! What environments say of themselves, and what comes of a slate.

use slated_contract::feature::FeatureSchema;
use slated_contract::session::SessionSettings;

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
    /// The names of the reference policies, for [`super::Environment::reference`].
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
