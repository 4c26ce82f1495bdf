//! Running policies in environments.

mod lane;
mod policy;

pub use lane::{Lane, LaneError, Observation};
pub use policy::{Scored, Scorer, ScorerError};
