//! Ids that nobody has yet.
//!
//! The process's own generator makes them: it is seeded by the operating system and as unpredictable, but is not asked for by a
//! system call for each id.

use std::time::{SystemTime, UNIX_EPOCH};

use uuid::{Builder, Uuid};

/// A UUID of version 7 (RFC 9562): the time in milliseconds, then 74 random bits.
#[must_use]
pub fn by_time() -> Uuid {
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    Builder::from_unix_timestamp_millis(u64::try_from(millis).unwrap_or(u64::MAX), &rand::random()).into_uuid()
}

/// A UUID of version 4 (RFC 9562): 122 random bits.
#[must_use]
pub fn random() -> Uuid {
    Builder::from_random_bytes(rand::random()).into_uuid()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_differ_and_say_what_they_are() {
        let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        let ids: Vec<Uuid> = (0..1000).map(|_| by_time()).collect();
        let (seconds, nanos) = ids[0].get_timestamp().unwrap().to_unix();
        let millis = seconds * 1000 + u64::from(nanos) / 1_000_000;
        assert!((before..before + 60_000).contains(&millis), "{millis} of {before}");
        assert!(ids.iter().all(|id| id.get_version_num() == 7 && id.get_variant() == uuid::Variant::RFC4122));
        assert_eq!(random().get_version_num(), 4);
        let all: HashSet<Uuid> = ids.into_iter().chain((0..1000).map(|_| random())).collect();
        assert_eq!(all.len(), 2000);
    }
}
