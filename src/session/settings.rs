//! Settings of the sessions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many sessions are kept, how long, and where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SessionStoreSettings {
    /// Where they are kept.
    pub backend: SessionBackend,
    /// The most sessions in memory; beyond it the least recently used is forgotten. Redis has a limit of its own.
    pub capacity: u64,
    /// A session in which nothing has happened for so long has ended.
    pub idle_seconds: u64,
    /// How far back the journal is read at most to rebuild sessions, in seconds; 0 rebuilds none.
    pub rebuild_seconds: u64,
    /// What a policy sees of a session where the backend is away.
    pub unavailable: Unavailable,
    /// Where Redis is, and how long it may take.
    pub redis: RedisSettings,
}

/// Where sessions are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionBackend {
    /// In this process, for this process alone.
    #[default]
    Embedded,
    /// In Redis, for all replicas.
    Redis,
}

/// What happens to a request that needs a session while the backend is away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unavailable {
    /// The policy sees a session in which nothing has happened, and the decision says so.
    #[default]
    Empty,
    /// It is answered 503, and the service is not ready.
    Refuse,
}

/// Where Redis is, and how long it may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedisSettings {
    /// `redis://[user:password@]host[:port][/database]`, or `unix:///path`.
    pub url: String,
    /// What every key begins with, so that several services share one Redis.
    pub prefix: String,
    /// How long connecting may take, in milliseconds.
    pub connect_timeout_ms: u64,
    /// How long one command may take, in milliseconds.
    pub command_timeout_ms: u64,
    /// The longest wait between two attempts to connect, in milliseconds.
    pub max_backoff_ms: u64,
    /// How many updates are kept in memory while Redis is away, to be made up for when it is back.
    pub max_pending: usize,
}

impl Default for SessionStoreSettings {
    fn default() -> Self {
        Self {
            backend: SessionBackend::default(),
            capacity: 100_000,
            idle_seconds: 30 * 60,
            rebuild_seconds: 6 * 60 * 60,
            unavailable: Unavailable::default(),
            redis: RedisSettings::default(),
        }
    }
}

impl Default for RedisSettings {
    fn default() -> Self {
        Self {
            url: "redis://127.0.0.1:6379".to_owned(),
            prefix: "slated".to_owned(),
            connect_timeout_ms: 1000,
            command_timeout_ms: 250,
            max_backoff_ms: 2000,
            max_pending: 100_000,
        }
    }
}

impl SessionStoreSettings {
    /// Checks the ranges.
    ///
    /// # Errors
    /// The key, its value, and what is allowed.
    pub fn check(&self) -> Result<(), (&'static str, String, &'static str)> {
        const YEAR: u64 = 366 * 24 * 60 * 60;
        let redis = &self.redis;
        let range = [
            ("sessions.capacity", self.capacity, 1, u64::MAX, "it must be at least 1"),
            ("sessions.idle_seconds", self.idle_seconds, 1, YEAR, "allowed are 1 to 31622400, a year"),
            ("sessions.rebuild_seconds", self.rebuild_seconds, 0, YEAR, "allowed are 0 (never) to 31622400, a year"),
            ("sessions.redis.connect_timeout_ms", redis.connect_timeout_ms, 1, 60_000, "allowed are 1 to 60000"),
            ("sessions.redis.command_timeout_ms", redis.command_timeout_ms, 1, 60_000, "allowed are 1 to 60000"),
            ("sessions.redis.max_backoff_ms", redis.max_backoff_ms, 1, 600_000, "allowed are 1 to 600000"),
        ];
        match range.iter().find(|(_, value, least, most, _)| !(*least..=*most).contains(value)) {
            Some((key, value, _, _, allowed)) => Err((key, value.to_string(), allowed)),
            None if redis.prefix.is_empty() => {
                Err(("sessions.redis.prefix", "empty".to_owned(), "name one, such as slated"))
            }
            None => Ok(()),
        }
    }
}
