//! Whose session it is.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use slated_contract::policy::Manifest;
use slated_contract::reward::RewardDefinition;
use slated_contract::session::SessionAccumulator;
use xxhash_rust::xxh3::xxh3_64;

/// What a policy version keeps of its sessions.
#[derive(Debug, Clone)]
pub struct SessionKind {
    policy: String,
    /// Hash of the settings of the accumulator and the width of an item.
    shape: u64,
    /// A session in which nothing has happened.
    pub empty: Arc<SessionAccumulator>,
    /// What feedback is worth.
    pub reward: Arc<RewardDefinition>,
}

/// Names a session. Policies keep different things of a session, so each has its own; a new version of a policy that
/// keeps other things begins afresh.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SessionKey {
    /// The policy.
    pub policy: String,
    /// Hash of what its sessions keep.
    pub shape: u64,
    /// The session's id, or the user's.
    pub session: String,
}

impl SessionKind {
    /// What the policy of `manifest` keeps; `None` where it reads nothing of the session.
    #[must_use]
    pub fn of(manifest: &Manifest) -> Option<Self> {
        if !manifest.reads_session() {
            return None;
        }
        let (settings, width) = (&manifest.session, manifest.signature.item_width);
        // The settings were checked when the bundle was read.
        let empty = SessionAccumulator::new(settings, width).ok()?;
        let shape = format!("{:?}/{}/{width}", settings.decay_rates, settings.history);
        let reward = manifest.training.as_ref().map(|training| training.reward.clone()).unwrap_or_default();
        Some(Self {
            policy: manifest.name.clone(),
            shape: xxh3_64(shape.as_bytes()),
            empty: Arc::new(empty),
            reward: Arc::new(reward),
        })
    }

    /// The key of the session that a request names; a session's id goes before a user's.
    #[must_use]
    pub fn key(&self, session_id: Option<&str>, user_id: Option<&str>) -> Option<SessionKey> {
        let session = session_id.or(user_id)?.to_owned();
        Some(SessionKey { policy: self.policy.clone(), shape: self.shape, session })
    }
}
