//! Contextual bandits that are linear in the interaction of state and item.

mod features;
mod linear;
mod linear_thompson;
mod linucb;
mod state;

pub use features::{FeatureMap, Interaction};
pub use linear::{LinearError, LinearPosterior, LinearStatistics};
pub use linear_thompson::LinearThompson;
pub use linucb::LinUcb;
pub use state::{LearnerNotes, LearnerState, StateError};
