//! Feedback: what came of a decision.

use chrono::serde::ts_microseconds;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// One feedback event. It may come late, twice, or before its decision; the dataset builder sorts that out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Feedback {
    /// Unique; the same id twice is the same event.
    pub feedback_id: String,
    /// The decision it is about.
    pub decision_id: String,
    /// When it was received.
    #[serde(with = "ts_microseconds")]
    pub time: DateTime<Utc>,
    /// When it happened, by the caller's clock; when it was received, where the caller did not say.
    #[serde(with = "ts_microseconds")]
    pub occurred: DateTime<Utc>,
    /// What wrote the event: `service`, `simulator`, or `import:` and a format.
    pub source: String,
    /// What happened: `click`, `dwell`, `purchase`, or any other name.
    pub event: String,
    /// How much: 1 for a click, seconds for a dwell, an amount for a purchase.
    pub value: f64,
    /// The item it is about; the whole slate where neither item nor position is given.
    pub item: Option<String>,
    /// The position it is about, from 0.
    pub position: Option<i32>,
}

impl Feedback {
    /// The event type that says of a decision that it may not have been shown: nothing is learned from it unless an
    /// [`ACTIVATED`](Self::ACTIVATED) event says that it was.
    pub const DEFERRED: &str = "deferred";
    /// The event type that says of a deferred decision that it was shown.
    pub const ACTIVATED: &str = "activated";
}
