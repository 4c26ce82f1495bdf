//! Turning other logs into journal events.

mod error;
mod lines;
mod mapped;
mod open_bandit;
mod report;
mod rllib;
mod rows;
mod writer;

pub use error::ImportError;
pub(in crate::journal) use lines::Lines;
pub use mapped::{
    CandidateColumns, DecisionColumns, FeatureColumns, Mapping, PropensityOf, Rows, ShownColumns, TimeFormat,
    import_mapped,
};
pub use open_bandit::{CampaignLog, find_logs, import_log};
pub use report::{FileReport, ImportReport, Refusal};
pub use rllib::{RllibSettings, import_rllib};
pub(in crate::journal) use writer::{LogWriter, Logged};
