//! Turning other logs into journal events.

mod open_bandit;
mod report;

pub use open_bandit::{CampaignLog, ImportError, find_logs, import_log};
pub use report::{FileReport, ImportReport, Refusal};
