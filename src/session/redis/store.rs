//! What is asked of Redis over one connection.

use std::sync::Arc;

use ::redis::aio::MultiplexedConnection;
use ::redis::{cmd, pipe};
use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use slated_contract::event::Feedback;
use slated_contract::session::SessionAccumulator;
use tokio::sync::Mutex;
use xxhash_rust::xxh3::xxh3_64;

use super::Failure;
use super::codec::{TAG, read_slate, read_timeline, write_slate, write_timeline};
use crate::session::embedded::{EARLY_EVENTS, Embedded};
use crate::session::key::SessionKey;
use crate::session::report;
use crate::session::slate::ShownSlate;
use crate::session::timeline::{Happened, Recorded, SETTLED_AFTER, SessionView, Timeline, kept};

/// Writes a session where it is as it was read: KEYS session; ARGV its tag or nothing, the new bytes, milliseconds.
const SWAP: &str = "if redis.call('GETRANGE', KEYS[1], 0, 8) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1";
/// How often a session is tried again that other replicas changed meanwhile.
const ATTEMPTS: usize = 64;
/// Sessions of this process are changed by one request at a time, where they fall on the same one of so many locks.
const LOCKS: u64 = 256;
/// Sessions that are restored at a time.
const AT_ONCE: usize = 64;

/// The names and the clock of the sessions in Redis.
pub struct Store {
    prefix: String,
    idle: TimeDelta,
    /// So that requests of one process do not run into each other in Redis.
    locks: Vec<Mutex<()>>,
}

impl Store {
    /// Sessions under `prefix` that end after so long without an event.
    pub fn new(prefix: &str, idle_seconds: u64) -> Self {
        let idle = TimeDelta::seconds(idle_seconds.min(1 << 40).cast_signed());
        Self { prefix: prefix.to_owned(), idle, locks: (0..LOCKS).map(|_| Mutex::default()).collect() }
    }

    fn session_key(&self, SessionKey { policy, shape, session }: &SessionKey) -> String {
        format!("{}:session:{policy}:{shape:016x}:{session}", self.prefix)
    }

    fn slate_key(&self, decision_id: &str) -> String {
        format!("{}:slate:{decision_id}", self.prefix)
    }

    fn early_key(&self, decision_id: &str) -> String {
        format!("{}:early:{decision_id}", self.prefix)
    }

    /// What there is to see of a session at `now`; `None` where there is none.
    pub async fn view(
        &self,
        connection: &mut MultiplexedConnection,
        key: &SessionKey,
        now: DateTime<Utc>,
    ) -> Result<Option<SessionView>, Failure> {
        let bytes: Option<Vec<u8>> = cmd("GET").arg(self.session_key(key)).query_async(connection).await?;
        let timeline = bytes.and_then(|bytes| self.read(&bytes));
        Ok(timeline.and_then(|timeline| timeline.view(now, self.idle)))
    }

    fn read(&self, bytes: &[u8]) -> Option<Timeline> {
        let timeline = read_timeline(bytes, self.idle);
        if timeline.is_none() {
            report::ended("unreadable");
        }
        timeline
    }

    /// A slate was shown.
    pub async fn show(
        &self,
        connection: &mut MultiplexedConnection,
        slate: &ShownSlate,
        empty: &Arc<SessionAccumulator>,
    ) -> Result<(), Failure> {
        self.record(connection, &slate.key, Some(empty), vec![slate.shown()]).await?;
        // In this order, feedback that arrives meanwhile finds the slate, or is found.
        let (early,): (Vec<Vec<u8>>,) = pipe()
            .cmd("SET")
            .arg(self.slate_key(&slate.decision_id))
            .arg(write_slate(slate)?)
            .arg("PX")
            .arg(self.left(slate.decided).max(1))
            .ignore()
            .cmd("LRANGE")
            .arg(self.early_key(&slate.decision_id))
            .arg(0)
            .arg(-1)
            .query_async(connection)
            .await?;
        let early = early.iter().filter_map(|bytes| rmp_serde::from_slice(bytes).ok());
        let events: Vec<Happened> = early.filter_map(|feedback| slate.consumed(&feedback, self.idle)).collect();
        if events.is_empty() { Ok(()) } else { self.record(connection, &slate.key, None, events).await }
    }

    /// Feedback arrived.
    pub async fn respond(&self, connection: &mut MultiplexedConnection, feedback: &Feedback) -> Result<(), Failure> {
        let slate_key = self.slate_key(&feedback.decision_id);
        let mut slate: Option<Vec<u8>> = cmd("GET").arg(&slate_key).query_async(connection).await?;
        if slate.is_none() {
            let early_key = self.early_key(&feedback.decision_id);
            let bytes = rmp_serde::to_vec_named(feedback).map_err(|error| Failure::Encode(error.to_string()))?;
            let (found,): (Option<Vec<u8>>,) = pipe()
                .cmd("RPUSH")
                .arg(&early_key)
                .arg(bytes)
                .ignore()
                .cmd("LTRIM")
                .arg(&early_key)
                .arg(0)
                .arg(EARLY_EVENTS - 1)
                .ignore()
                .cmd("PEXPIRE")
                .arg(&early_key)
                .arg(SETTLED_AFTER.num_milliseconds())
                .ignore()
                .cmd("GET")
                .arg(&slate_key)
                .query_async(connection)
                .await?;
            slate = found;
        }
        let Some(slate) = slate.as_deref().and_then(read_slate) else { return Ok(()) };
        match slate.consumed(feedback, self.idle) {
            Some(event) => self.record(connection, &slate.key, None, vec![event]).await,
            None => Ok(()),
        }
    }

    /// Tells Redis what it lacks of what is in `embedded`.
    pub async fn adopt(&self, connection: &MultiplexedConnection, embedded: &Embedded) -> Result<(), Failure> {
        let sessions = stream::iter(embedded.sessions().map(|(key, timeline)| {
            let mut connection = connection.clone();
            async move { self.merge(&mut connection, &key, timeline).await }
        }));
        sessions.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        let slates = stream::iter(embedded.slates().map(|slate| {
            let mut connection = connection.clone();
            async move {
                let left = self.left(slate.decided);
                if left <= 0 {
                    return Ok(());
                }
                let mut set = cmd("SET");
                set.arg(self.slate_key(&slate.decision_id)).arg(write_slate(&slate)?).arg("NX").arg("PX").arg(left);
                set.exec_async(&mut connection).await?;
                Ok::<_, Failure>(())
            }
        }));
        slates.buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Puts a session there where there is none; else records what is not settled of it.
    async fn merge(
        &self,
        connection: &mut MultiplexedConnection,
        key: &SessionKey,
        timeline: Timeline,
    ) -> Result<(), Failure> {
        let name = self.session_key(key);
        let left = timeline.last().map_or(0, |last| self.left(last));
        if left <= 0 {
            return Ok(());
        }
        let swapped = self.swap(connection, &name, &[], &timeline, left).await?;
        if swapped {
            return Ok(());
        }
        self.record(connection, key, None, timeline.recent().cloned().collect()).await
    }

    /// Milliseconds until what happened at `since` is forgotten.
    fn left(&self, since: DateTime<Utc>) -> i64 {
        (since + kept(self.idle) - Utc::now()).num_milliseconds()
    }

    /// Records events of a session; one that is not there is begun where `empty` is given.
    async fn record(
        &self,
        connection: &mut MultiplexedConnection,
        key: &SessionKey,
        empty: Option<&Arc<SessionAccumulator>>,
        events: Vec<Happened>,
    ) -> Result<(), Failure> {
        let name = self.session_key(key);
        let lock = &self.locks[(xxh3_64(name.as_bytes()) % LOCKS) as usize];
        let _alone = lock.lock().await;
        for _ in 0..ATTEMPTS {
            let bytes: Option<Vec<u8>> = cmd("GET").arg(&name).query_async(connection).await?;
            let bytes = bytes.unwrap_or_default();
            let known = if bytes.is_empty() { None } else { self.read(&bytes) };
            let begun = || empty.map(|empty| Timeline::new((**empty).clone()));
            let Some(mut timeline) = known.or_else(begun) else { return Ok(()) };
            let outcomes: Vec<Recorded> =
                events.iter().map(|event| timeline.record(event.clone(), self.idle)).collect();
            let tag = &bytes[..TAG.min(bytes.len())];
            let changed = outcomes.contains(&Recorded::New);
            let left = kept(self.idle).num_milliseconds();
            if !changed || self.swap(connection, &name, tag, &timeline, left).await? {
                outcomes.into_iter().for_each(report::recorded);
                return Ok(());
            }
            metrics::counter!("slated_session_conflicts_total").increment(1);
        }
        Err(Failure::Conflict(ATTEMPTS))
    }

    /// Writes a session whose tag is still `tag`; whether it was.
    async fn swap(
        &self,
        connection: &mut MultiplexedConnection,
        name: &str,
        tag: &[u8],
        timeline: &Timeline,
        milliseconds: i64,
    ) -> Result<bool, Failure> {
        let mut swap = cmd("EVAL");
        swap.arg(SWAP).arg(1).arg(name).arg(tag).arg(write_timeline(timeline)?).arg(milliseconds);
        Ok(swap.query_async(connection).await?)
    }
}
