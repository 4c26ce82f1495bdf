//! The autopilot: from the service's own journal to the next version, again and again, with no human step.
//!
//! It is a process of its own beside the service, which it knows by the HTTP interface, the closed segments of the journal
//! and the folder of models alone. A [`cycle`](Step) cuts a dataset, measures drift, trains candidates, evaluates them off
//! policy, publishes the one that the gate lets through, tries it as a canary, promotes it or leaves it, and writes a
//! report. Where it stands is in one file ([`State`]), written before each step: whatever kills the process, the next start
//! goes on with the step that was not done, and every step may be done twice.

mod canary;
mod cycle;
mod evaluate;
mod metrics;
mod prune;
mod quiet;
mod report;
mod service;
mod settings;
mod state;
mod train;
mod window;

use std::path::{Path, PathBuf};

use slated_contract::event::SegmentError;
use slated_contract::policy::BundleError;
use slated_trainer::dataset::DatasetError;
use slated_trainer::offline::OfflineError;
use slated_trainer::ope::OpeError;
use slated_trainer::report::PlotError;
use slated_trainer::train::TrainError;
use thiserror::Error;

pub use cycle::Autopilot;
pub use quiet::Quiet;
pub use report::CycleReport;
pub use settings::AutopilotSettings;
pub use state::{CandidateState, Cycle, Outcome, State, Step};

use crate::evaluation::EvidenceError;
use crate::files;
use crate::serving::LoadError;

/// Why a step of a cycle was not done.
#[derive(Debug, Error)]
pub enum AutopilotError {
    /// The settings.
    #[error("{0}")]
    Settings(String),
    /// The service does not answer; the step is done again until it does.
    #[error("{0}")]
    Unavailable(String),
    /// The service answered, and not as it should.
    #[error("{0}")]
    Service(String),
    /// Another autopilot works in the same folder.
    #[error("{0}: another autopilot works here; give each policy a folder of its own")]
    Locked(PathBuf),
    /// A file of the autopilot's own.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The state of an earlier run.
    #[error("{}: {reason}; move it away to begin anew", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// Why it cannot be used.
        reason: String,
    },
    /// The async runtime.
    #[error("the reader cannot be started: {0}")]
    Runtime(std::io::Error),
    /// The journal.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// A segment of the journal.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// Learning from sessions.
    #[error(transparent)]
    Offline(Box<OfflineError>),
    /// Learning from rounds.
    #[error(transparent)]
    Train(Box<TrainError>),
    /// A bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A bundle that cannot be served.
    #[error(transparent)]
    Load(Box<LoadError>),
    /// The evidence.
    #[error(transparent)]
    Evidence(Box<EvidenceError>),
    /// The gate.
    #[error(transparent)]
    Ope(#[from] OpeError),
    /// A report's plot.
    #[error(transparent)]
    Plot(#[from] PlotError),
    /// Asked to stop; the next start goes on.
    #[error("stopped; the next start goes on with the step that was not done")]
    Stopped,
}

impl From<OfflineError> for AutopilotError {
    fn from(error: OfflineError) -> Self {
        Self::Offline(Box::new(error))
    }
}

impl From<TrainError> for AutopilotError {
    fn from(error: TrainError) -> Self {
        Self::Train(Box::new(error))
    }
}

impl From<EvidenceError> for AutopilotError {
    fn from(error: EvidenceError) -> Self {
        Self::Evidence(Box::new(error))
    }
}

impl From<LoadError> for AutopilotError {
    fn from(error: LoadError) -> Self {
        Self::Load(Box::new(error))
    }
}

impl AutopilotError {
    /// Names the file that an operation failed on.
    fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// Writes a file whole, in a folder that is made where it is absent.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), AutopilotError> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).map_err(AutopilotError::at(folder))?;
    files::write_whole(path, bytes).map_err(AutopilotError::at(path))
}
