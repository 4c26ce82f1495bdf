//! How scores become a slate, and with which propensities.
//!
//! Randomness is the caller's, seeded per decision, never the model's: the same seed, scores and settings give the
//! same slate and the same propensities, so that a log can be verified by replay.

mod certain;
mod constrained;
mod constraints;
mod draw;
mod epsilon_greedy;
mod exploration;
mod inverse_gap;
mod objective;
mod plackett_luce;
mod posterior;
mod propensity;
mod seed;
mod target;

pub use constrained::{constrained_propensities, draw_constrained};
pub use constraints::{AtMost, ConstraintError, Constraints, Diversity, Required};
pub use draw::{DrawError, DrawnSlate, Scores, draw, draw_items};
pub use exploration::{Exploration, ExplorationError};
pub use objective::{ObjectiveError, SlateMethod, SlateObjective, drawn_by};
pub use plackett_luce::plackett_luce;
pub use propensity::{Propensities, propensities};
pub use seed::{DecisionSeed, standard_normal};
pub use target::{next_choice, target_propensities};
