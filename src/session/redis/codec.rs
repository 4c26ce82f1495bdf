//! What is in Redis: MessagePack behind a tag.
//!
//! | key | value | ends after |
//! |---|---|---|
//! | `<prefix>:session:<policy>:<shape>:<session>` | tag, timeline | `idle_seconds` and up to a minute without a change |
//! | `<prefix>:slate:<decision>` | the slate with its encoded items | `idle_seconds` and up to a minute |
//! | `<prefix>:early:<decision>` | list of feedback whose decision is not known yet | a minute |
//! | `<prefix>:told:<journal>` | that this replica has told what its journal knows | never |
//!
//! A tag is the format's number and the XXH3 of what follows; a session is written only where its tag is still the one
//! that was read.

use std::sync::Arc;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use slated_contract::reward::RewardDefinition;
use xxhash_rust::xxh3::xxh3_64;

use super::Failure;
use crate::session::key::SessionKey;
use crate::session::slate::{Encoded, ShownSlate};
use crate::session::timeline::{Stored, Timeline};

/// The number of this format. A session of another one counts as none.
const FORMAT: u8 = 1;
/// Bytes of a tag.
pub const TAG: usize = 9;

/// A timeline, behind its tag.
pub fn write_timeline(timeline: &Timeline) -> Result<Vec<u8>, Failure> {
    let body = rmp_serde::to_vec(&timeline.stored()).map_err(|error| Failure::Encode(error.to_string()))?;
    let mut bytes = Vec::with_capacity(TAG + body.len());
    bytes.push(FORMAT);
    bytes.extend(xxh3_64(&body).to_le_bytes());
    bytes.extend(body);
    Ok(bytes)
}

/// The timeline that was written; `None` for what is none.
pub fn read_timeline(bytes: &[u8], idle: TimeDelta) -> Option<Timeline> {
    let (tag, body) = bytes.split_at_checked(TAG)?;
    if tag[0] != FORMAT || tag[1..] != xxh3_64(body).to_le_bytes() {
        return None;
    }
    let stored: Stored = rmp_serde::from_slice(body).ok()?;
    Some(Timeline::restored(stored, idle))
}

#[derive(Serialize, Deserialize)]
struct StoredSlate {
    key: SessionKey,
    decision_id: String,
    decided: chrono::DateTime<chrono::Utc>,
    reward: RewardDefinition,
    items: Vec<(String, Encoded)>,
}

/// A slate.
pub fn write_slate(slate: &ShownSlate) -> Result<Vec<u8>, Failure> {
    let stored = StoredSlate {
        key: slate.key.clone(),
        decision_id: slate.decision_id.clone(),
        decided: slate.decided,
        reward: (*slate.reward).clone(),
        items: slate.items.clone(),
    };
    // With names, since a reward definition leaves out what it has not.
    rmp_serde::to_vec_named(&stored).map_err(|error| Failure::Encode(error.to_string()))
}

/// The slate that was written; `None` for what is none.
pub fn read_slate(bytes: &[u8]) -> Option<ShownSlate> {
    let StoredSlate { key, decision_id, decided, reward, items } = rmp_serde::from_slice(bytes).ok()?;
    Some(ShownSlate { key, decision_id, decided, reward: Arc::new(reward), items })
}
