//! The keys in force: looked up by their hash, limited in their rate, and changed while the service runs.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use chrono::Utc;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use slated_contract::policy::sha256_hex;

use super::{AccessError, KeyEntry, KeyFile, Role};

/// Whose key a request came with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(pub Arc<str>);

/// Why a request is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// No key, or none that is known or still valid.
    Unknown,
    /// A key without the role.
    Role {
        /// Whose key.
        name: Arc<str>,
        /// What is needed.
        needed: Role,
    },
    /// More requests than the key's limit allows.
    Rate {
        /// Whose key.
        name: Arc<str>,
        /// When the next one is let in.
        again_in: Duration,
    },
}

/// The keys in force; absent where requests need none.
pub struct Keys {
    file: Option<PathBuf>,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    modified: Option<SystemTime>,
    /// By their hash, so that looking one up takes as long whatever of it is right.
    keys: HashMap<String, Arc<Key>>,
}

struct Key {
    name: Arc<str>,
    entry: KeyEntry,
    limiter: Option<DefaultDirectRateLimiter>,
}

impl Key {
    fn new(entry: KeyEntry) -> Self {
        let limiter = entry.requests_per_second.and_then(NonZeroU32::new).map(|rate| {
            let burst = entry.burst.and_then(NonZeroU32::new).unwrap_or(rate);
            RateLimiter::direct(Quota::per_second(rate).allow_burst(burst))
        });
        Self { name: entry.name.as_str().into(), entry, limiter }
    }
}

impl Keys {
    /// The keys of a file; without one, everybody may do everything.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn open(file: Option<PathBuf>) -> Result<Self, AccessError> {
        let keys = Self { file, known: RwLock::default() };
        keys.reload()?;
        Ok(keys)
    }

    /// Whether requests need one.
    #[must_use]
    pub const fn needed(&self) -> bool {
        self.file.is_some()
    }

    /// Reads the file again where it has changed, and says whether it has. A key that stays as it was keeps the state of its
    /// limit.
    ///
    /// # Errors
    /// A file that cannot be used; the keys stay what they were.
    pub fn reload(&self) -> Result<bool, AccessError> {
        let Some(path) = &self.file else { return Ok(false) };
        let modified = std::fs::metadata(path)
            .and_then(|metadata| metadata.modified())
            .map_err(|source| AccessError::File { path: path.clone(), source })?;
        if self.known.read().unwrap_or_else(PoisonError::into_inner).modified == Some(modified) {
            return Ok(false);
        }
        let file = KeyFile::read(path)?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut known.keys);
        known.keys = file
            .keys
            .into_iter()
            .map(|entry| {
                let same = before.get(&entry.sha256).filter(|key| key.entry == entry).cloned();
                (entry.sha256.clone(), same.unwrap_or_else(|| Arc::new(Key::new(entry))))
            })
            .collect();
        known.modified = Some(modified);
        Ok(true)
    }

    /// Lets a request with this key do what takes this role; `None` where no keys are needed.
    ///
    /// # Errors
    /// Why it may not.
    pub fn admit(&self, key: Option<&str>, needed: Role) -> Result<Option<Caller>, Denied> {
        if self.file.is_none() {
            return Ok(None);
        }
        let hash = sha256_hex(key.ok_or(Denied::Unknown)?.as_bytes());
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).keys.get(&hash).cloned();
        let key =
            known.filter(|key| key.entry.expires.is_none_or(|expires| Utc::now() < expires)).ok_or(Denied::Unknown)?;
        let name = Arc::clone(&key.name);
        if !key.entry.roles.contains(&needed) {
            return Err(Denied::Role { name, needed });
        }
        if let Some(Err(until)) = key.limiter.as_ref().map(RateLimiter::check) {
            return Err(Denied::Rate { name, again_in: until.wait_time_from(DefaultClock::default().now()) });
        }
        Ok(Some(Caller(name)))
    }
}
