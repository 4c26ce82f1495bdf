//! Training: from settings and a journal to everything a policy bundle holds.

mod error;
mod learning;
mod run;
mod settings;

pub use error::TrainError;
pub use run::{Outcome, Start, Trained, train, untrained};
pub use settings::{AlgorithmSettings, TrainSettings};
