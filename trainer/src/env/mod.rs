//! Simulated users to learn from: recommendation problems that unfold over a session.
//!
//! Each environment is a public type with typed users, documents and responses; [`Environment`] is what they share, so
//! that rollouts, learners and the command line need not know which one they run.

mod choice;
mod error;
mod generators;
mod interest_evolution;
mod interest_exploration;
mod long_term_satisfaction;
mod optimum;
mod settings;
mod spec;

pub use choice::ChoiceModel;
pub use error::EnvironmentError;
pub use interest_evolution::{IevDocument, IevResponse, IevUser, InterestEvolution, InterestEvolutionSettings};
pub use interest_exploration::{IexDocument, IexResponse, IexUser, InterestExploration, InterestExplorationSettings};
pub use long_term_satisfaction::{
    LongTermSatisfaction, LongTermSatisfactionSettings, LtsDocument, LtsResponse, LtsUser,
};
pub use settings::EnvironmentSettings;
pub use spec::{EnvironmentSpec, Outcome};

use slated_contract::feature::Features;

/// A recommendation problem that unfolds over a session.
///
/// An episode begins with [`Environment::reset`] and ends with an outcome that is `done`. Everything random in an
/// episode derives from the seed of its reset: the same seed and slates give the same episode, whatever was run before
/// and on whichever thread.
pub trait Environment: Send {
    /// What does not change from episode to episode.
    fn spec(&self) -> &EnvironmentSpec;

    /// Begins an episode.
    fn reset(&mut self, seed: u64);

    /// What a policy may know of the user. Latent state is not in it.
    fn user(&self) -> Features;

    /// What a policy may know of a candidate, from 0 to [`EnvironmentSpec::candidates`].
    fn item(&self, candidate: usize) -> Features;

    /// The id of a candidate.
    fn item_id(&self, candidate: usize) -> String;

    /// Shows a slate of candidates, by position, and returns what came of it. The candidates of the next step may
    /// differ.
    ///
    /// # Errors
    /// A slate of another size, or that names a candidate twice or one that does not exist; an episode that is over.
    fn step(&mut self, slate: &[usize]) -> Result<Outcome, EnvironmentError>;

    /// Ranks the candidates by one of the environment's own reference policies ([`EnvironmentSpec::references`]), which
    /// may look at latent state: appends one score a candidate. Whether there is a policy of this name.
    fn reference(&self, policy: &str, scores: &mut Vec<f32>) -> bool;

    /// The latent state, for inspection.
    fn latent(&self) -> serde_json::Value;
}
