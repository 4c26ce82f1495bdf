//! A change of which policy versions answer which requests.

use chrono::serde::ts_microseconds;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// One change of a policy's route: what, by whom, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteChange {
    /// Unique; a UUIDv7 unless whoever asked for the change gave one.
    pub change_id: String,
    /// When it was made.
    #[serde(with = "ts_microseconds")]
    pub time: DateTime<Utc>,
    /// What wrote the event: `service`.
    pub source: String,
    /// The policy.
    pub policy: String,
    /// `promote`, `rollback`, `split`, `canary`, `shadow` or `apprentice`; or `cycle`, which changes nothing: a cycle of the
    /// autopilot ended.
    pub action: String,
    /// The route before, as JSON.
    pub before: String,
    /// The route after, as JSON.
    pub after: String,
    /// Who made it: a person, a script, or `slated` itself.
    pub by: String,
    /// Why.
    pub why: String,
}
