//! What was lived through, kept to be learned from again.

mod buffer;
mod n_step;
mod store;
mod sum_tree;
mod transition;

pub use buffer::{Replay, ReplaySettings, Sample};
pub use n_step::{NStep, Step};
pub use transition::{Logged, Propensity, Transition};
