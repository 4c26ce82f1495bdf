//! Learning from a log and nothing else: from the journal, or from simulated sessions in its place, to a policy bundle.
//!
//! Data flows in this order: [`read_journal`] or [`simulate`] gathers decisions into [`Episode`]s, these become transitions in a
//! replay, and [`train_offline`] runs a learner over it.

mod algorithm;
mod bundle;
mod episodes;
mod error;
mod gather;
mod journal;
mod run;
mod settings;
mod simulated;

pub use algorithm::OfflineAlgorithm;
pub use bundle::LearnedOffline;
pub use episodes::{Episode, Experience, LoggedStep, SessionEnd, is_kept_out, user_number};
pub use error::OfflineError;
pub use journal::read_journal;
pub use run::{OfflineOutcome, check_offline, train_offline};
pub use settings::{EpisodeSettings, OfflineEvaluation, OfflineSettings};
pub use simulated::simulate;
