//! Training: from settings and a journal to everything a policy bundle holds.

mod run;
mod settings;

pub use run::{Outcome, Start, TrainError, Trained, train};
pub use settings::{AlgorithmSettings, TrainSettings};
