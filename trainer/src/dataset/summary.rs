//! What the dataset builder saw, counted.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Round;

/// Everything that was read, used or passed over.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DatasetSummary {
    /// Decisions used.
    pub decisions: u64,
    /// Decisions passed over because their id was seen before.
    pub duplicate_decisions: u64,
    /// Decisions passed over because they were deferred and never activated: nobody is known to have seen them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub not_activated: u64,
    /// Of the decisions used, those whose propensities say nothing of what was shown: to learn rewards from, and not to
    /// weigh by.
    #[serde(default)]
    pub not_evaluable: u64,
    /// Segments passed over because they are not as they were written; the log names each.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub damaged_segments: u64,
    /// Feedback events in the journal.
    pub feedback: u64,
    /// Of these, those that counted towards a reward.
    pub counted_feedback: u64,
    /// Those passed over because their id was seen before.
    pub duplicate_feedback: u64,
    /// Those about no decision of this dataset.
    pub orphan_feedback: u64,
    /// Those that happened after the reward definition's waiting time.
    pub late_feedback: u64,
    /// Those whose event type has no weight.
    pub unweighted_feedback: u64,
    /// Those about an item or position that was not shown.
    pub misplaced_feedback: u64,
    /// Items shown.
    pub shown: u64,
    /// Sum of their rewards.
    pub reward: f64,
    /// The time of the first decision.
    pub from: Option<DateTime<Utc>>,
    /// The time of the last decision.
    pub until: Option<DateTime<Utc>>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl DatasetSummary {
    /// Mean reward of a shown item; 0 where there is none.
    #[must_use]
    pub fn mean_reward(&self) -> f64 {
        if self.shown == 0 { 0.0 } else { self.reward / self.shown as f64 }
    }

    pub(super) fn add(&mut self, round: &Round) {
        self.decisions += 1;
        self.not_evaluable += u64::from(round.decision.not_evaluable.is_some());
        self.shown += round.rewards.len() as u64;
        self.reward += round.rewards.iter().sum::<f64>();
        self.from.get_or_insert(round.decision.time);
        self.until = Some(round.decision.time);
    }
}

impl fmt::Display for DatasetSummary {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let time = |time: Option<DateTime<Utc>>| time.map_or_else(|| "-".to_owned(), |time| time.to_rfc3339());
        writeln!(
            formatter,
            "decisions            {:>10}  from {} to {}",
            self.decisions,
            time(self.from),
            time(self.until)
        )?;
        writeln!(formatter, "  given twice        {:>10}", self.duplicate_decisions)?;
        writeln!(formatter, "  not evaluable      {:>10}", self.not_evaluable)?;
        if self.not_activated > 0 {
            writeln!(formatter, "  not activated      {:>10}", self.not_activated)?;
        }
        if self.damaged_segments > 0 {
            writeln!(formatter, "damaged segments     {:>10}  passed over", self.damaged_segments)?;
        }
        writeln!(formatter, "items shown          {:>10}  mean reward {:.6}", self.shown, self.mean_reward())?;
        writeln!(formatter, "feedback             {:>10}", self.feedback)?;
        writeln!(formatter, "  counted            {:>10}", self.counted_feedback)?;
        writeln!(formatter, "  given twice        {:>10}", self.duplicate_feedback)?;
        writeln!(formatter, "  without decision   {:>10}", self.orphan_feedback)?;
        writeln!(formatter, "  too late           {:>10}", self.late_feedback)?;
        writeln!(formatter, "  without weight     {:>10}", self.unweighted_feedback)?;
        write!(formatter, "  of items not shown {:>10}", self.misplaced_feedback)
    }
}

/// SHA-256 over decision ids, slates and rewards, in order: names exactly what was learned from.
#[derive(Debug, Clone, Default)]
pub struct RoundDigest(Sha256);

impl RoundDigest {
    /// Adds a round.
    pub fn add(&mut self, round: &Round) {
        let mut field = |bytes: &[u8]| {
            self.0.update((bytes.len() as u64).to_le_bytes());
            self.0.update(bytes);
        };
        field(round.decision.decision_id.as_bytes());
        for (shown, reward) in round.decision.slate.iter().zip(&round.rewards) {
            field(shown.item.as_bytes());
            field(&reward.to_le_bytes());
        }
    }

    /// The digest so far, in hex.
    #[must_use]
    pub fn hex(&self) -> String {
        self.0.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
