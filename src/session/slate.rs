//! What a decision showed to a session, for the feedback that will name only the decision.

use std::ops::Deref;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use slated_contract::event::{Decision, Feedback};
use slated_contract::reward::RewardDefinition;

use super::key::{SessionKey, SessionKind};
use super::timeline::{Happened, Place, SETTLED_AFTER};

/// An item's encoded features, shared by all that hold them.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded(Arc<[f32]>);

impl Deref for Encoded {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl From<&[f32]> for Encoded {
    fn from(numbers: &[f32]) -> Self {
        Self(numbers.into())
    }
}

impl Serialize for Encoded {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Encoded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(|numbers: Vec<f32>| Self(numbers.into()))
    }
}

/// A slate that was shown.
#[derive(Debug, Clone)]
pub struct ShownSlate {
    /// The session.
    pub key: SessionKey,
    /// The decision.
    pub decision_id: String,
    /// When it was decided.
    pub decided: DateTime<Utc>,
    /// What feedback on it is worth.
    pub reward: Arc<RewardDefinition>,
    /// Ids and encoded features, by position.
    pub items: Vec<(String, Encoded)>,
}

impl ShownSlate {
    /// The slate of `decision`, whose items are encoded as `encoded`, by position.
    #[must_use]
    pub fn new(kind: &SessionKind, key: SessionKey, decision: &Decision, encoded: &[Encoded]) -> Self {
        let ids = decision.slate.iter().map(|shown| shown.item.clone());
        Self {
            key,
            decision_id: decision.decision_id.clone(),
            decided: decision.time,
            reward: Arc::clone(&kind.reward),
            items: ids.zip(encoded.iter().cloned()).collect(),
        }
    }

    /// What happened when it was shown.
    #[must_use]
    pub fn shown(&self) -> Happened {
        let place = Place { at: self.decided, feedback: false, id: self.decision_id.clone() };
        Happened { place, consumed: None }
    }

    /// What happened when feedback on it arrived; `None` where the feedback does not count by the policy's reward
    /// definition, names no item that was shown, or came after more than `idle`, when what a session showed is forgotten.
    #[must_use]
    pub fn consumed(&self, feedback: &Feedback, idle: TimeDelta) -> Option<Happened> {
        let after = feedback.time - self.decided;
        if after > idle || after < -SETTLED_AFTER {
            return None;
        }
        let worth = self.reward.worth(&feedback.event, feedback.value, self.decided, feedback.occurred)?;
        let (_, item) = match (&feedback.item, feedback.position) {
            (Some(id), _) => self.items.iter().find(|(shown, _)| shown == id),
            (None, Some(position)) => usize::try_from(position).ok().and_then(|position| self.items.get(position)),
            (None, None) => None,
        }?;
        // The clock of the replica that took the feedback may be behind.
        let at = feedback.time.max(self.decided);
        let place = Place { at, feedback: true, id: feedback.feedback_id.clone() };
        Some(Happened { place, consumed: Some((item.clone(), worth)) })
    }
}
