//! Tuning: searching for the settings with which a run does best.
//!
//! A [`SearchSpace`] says which settings vary and how far, a sampler picks from it, early stopping gives most of the
//! budget to what looks good, and [`Search`] runs the trials, several at a time. What is tried, and what comes out,
//! depends on the settings and the seed alone, not on the number of threads or on which trial ends first.

mod folder;
mod halving;
mod log;
mod outcome;
mod report;
mod sampler;
mod search;
mod settings;
mod space;

pub use folder::{TuneFolder, TuneLabels};
pub use log::{JobResult, LogError, TrialLog};
pub use outcome::{Status, Tried, Tuned};
pub use sampler::SamplerSettings;
pub use search::{Make, Search, Trial, TrialError, TuneError, TuneOutcome};
pub use settings::{EarlyStopping, Goal, TuneSettings};
pub use space::{Domain, Parameter, SearchSpace, SpaceError};
