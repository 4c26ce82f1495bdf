//! Sessions in Redis, seen alike by all replicas.
//!
//! A connection that fails is given up at once and made again in the background, so no request waits for a Redis that is
//! away. What could not be told to a session meanwhile is kept in memory, in bounds, and told when Redis is back; events
//! may be told late or twice, since a [timeline](super::timeline) puts them in their place.

mod codec;
mod store;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, RedisError};
use chrono::{DateTime, Utc};
use slated_contract::event::Feedback;
use slated_contract::session::SessionAccumulator;
use thiserror::Error;
use tokio::sync::Notify;

use super::embedded::Embedded;
use super::key::SessionKey;
use super::settings::{RedisSettings, SessionStoreSettings};
use super::slate::ShownSlate;
use super::timeline::SessionView;
use super::{Away, SessionStoreError, report};
use store::Store;

/// The shortest wait between two attempts to connect.
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// How often an idle connection is tried.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// What the sessions are by the journal; blocking.
pub type Restore = Arc<dyn Fn() -> Embedded + Send + Sync>;

/// Why Redis did not do what it was asked.
#[derive(Debug, Error)]
pub enum Failure {
    /// The connection, or Redis itself.
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// Other replicas changed the session each time.
    #[error("a session was changed by other replicas {0} times in a row")]
    Conflict(usize),
    /// Something of ours that cannot be encoded, which would be a defect.
    #[error("a session cannot be encoded: {0}")]
    Encode(String),
}

/// What a session must be told.
#[derive(Debug, Clone)]
enum Told {
    Shown(Arc<ShownSlate>, Arc<SessionAccumulator>),
    Responded(Box<Feedback>),
}

/// The sessions in Redis.
pub struct RedisSessions {
    store: Store,
    client: Client,
    settings: RedisSettings,
    /// The key that says that this replica has told Redis what its journal knows.
    told_by: String,
    restore: Restore,
    link: Mutex<Link>,
    lost: Notify,
}

/// The connection, and what waits for one.
#[derive(Default)]
struct Link {
    connection: Option<MultiplexedConnection>,
    /// Counts connections, so that the failure of an old one does not end its successor.
    number: u64,
    waiting: VecDeque<Told>,
    /// Whether this process has restored sessions.
    restored: bool,
}

impl RedisSessions {
    /// Connects, restores what Redis lacks, and keeps the connection from then on. `replica` names the journal.
    ///
    /// # Errors
    /// An address that is none.
    pub async fn start(
        settings: &SessionStoreSettings,
        replica: &str,
        restore: Restore,
    ) -> Result<Arc<Self>, SessionStoreError> {
        let redis = settings.redis.clone();
        let client = Client::open(redis.url.as_str()).map_err(|error| SessionStoreError::Url(error.to_string()))?;
        let sessions = Arc::new(Self {
            store: Store::new(&redis.prefix, settings.idle_seconds),
            client,
            told_by: format!("{}:told:{replica}", redis.prefix),
            settings: redis,
            restore,
            link: Mutex::default(),
            lost: Notify::new(),
        });
        let first = sessions.connect().await;
        if let Err(error) = &first {
            tracing::error!(%error, "Redis does not answer; it is tried again until it does");
        }
        tokio::spawn(Arc::clone(&sessions).keep(first.is_ok()));
        Ok(sessions)
    }

    /// What there is to see of a session at `now`.
    pub async fn view(&self, key: &SessionKey, now: DateTime<Utc>) -> Result<Option<SessionView>, Away> {
        let Some((mut connection, number)) = self.connection() else { return Err(Away) };
        let started = Instant::now();
        let seen = self.store.view(&mut connection, key, now).await;
        report::took("view", started);
        seen.map_err(|error| {
            self.give_up(number, &error);
            Away
        })
    }

    /// A slate was shown.
    pub async fn show(&self, slate: Arc<ShownSlate>, empty: Arc<SessionAccumulator>) {
        self.tell(Told::Shown(slate, empty), "show").await;
    }

    /// Feedback arrived.
    pub async fn respond(&self, feedback: &Feedback) {
        self.tell(Told::Responded(Box::new(feedback.clone())), "respond").await;
    }

    async fn tell(&self, told: Told, operation: &'static str) {
        loop {
            if let Some((mut connection, number)) = self.connection() {
                let started = Instant::now();
                let done = self.perform(&mut connection, &told).await;
                report::took(operation, started);
                match done {
                    Ok(()) => return,
                    Err(error) => self.give_up(number, &error),
                }
            }
            let mut link = self.link();
            // Whoever connects hands over what waits before anybody else may use the connection.
            if link.connection.is_none() {
                if link.waiting.len() < self.settings.max_pending {
                    report::away("deferred");
                    link.waiting.push_back(told);
                } else {
                    report::away("lost");
                }
                return;
            }
        }
    }

    async fn perform(&self, connection: &mut MultiplexedConnection, told: &Told) -> Result<(), Failure> {
        match told {
            Told::Shown(slate, empty) => self.store.show(connection, slate, empty).await,
            Told::Responded(feedback) => self.store.respond(connection, feedback).await,
        }
    }

    /// Whether Redis answers.
    pub fn is_there(&self) -> bool {
        self.link().connection.is_some()
    }

    /// Sets the gauges.
    pub fn report_metrics(&self) {
        let link = self.link();
        metrics::gauge!("slated_session_store_up").set(if link.connection.is_some() { 1.0 } else { 0.0 });
        metrics::gauge!("slated_session_store_pending").set(link.waiting.len() as f64);
    }

    fn link(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connection(&self) -> Option<(MultiplexedConnection, u64)> {
        let link = self.link();
        link.connection.clone().map(|connection| (connection, link.number))
    }

    fn give_up(&self, number: u64, error: &Failure) {
        let mut link = self.link();
        if link.number == number && link.connection.take().is_some() {
            tracing::error!(%error, "Redis failed; it is tried again until it answers");
            self.lost.notify_one();
        }
    }

    /// Connects again whenever the connection is lost.
    async fn keep(self: Arc<Self>, mut there: bool) {
        let longest = Duration::from_millis(self.settings.max_backoff_ms).max(FIRST_WAIT);
        let mut wait = FIRST_WAIT;
        loop {
            if there {
                there = self.beat().await;
                continue;
            }
            tokio::time::sleep(wait).await;
            match self.connect().await {
                Ok(()) => {
                    tracing::info!("Redis answers again");
                    (there, wait) = (true, FIRST_WAIT);
                }
                Err(error) => {
                    tracing::debug!(%error, "Redis does not answer yet");
                    wait = (wait * 2).min(longest);
                }
            }
        }
    }

    /// Whether the connection still holds after a while, or after somebody lost it.
    async fn beat(&self) -> bool {
        // A connection that nobody uses is tried, so that `/readyz` does not say what was true long ago.
        let _ = tokio::time::timeout(HEARTBEAT, self.lost.notified()).await;
        let Some((mut connection, number)) = self.connection() else { return false };
        if let Err(error) = ::redis::cmd("PING").exec_async(&mut connection).await {
            self.give_up(number, &error.into());
        }
        self.is_there()
    }

    /// Connects, restores what Redis lacks, tells it what waits, and lets everybody use the connection.
    async fn connect(&self) -> Result<(), Failure> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(Duration::from_millis(self.settings.connect_timeout_ms)))
            .set_response_timeout(Some(Duration::from_millis(self.settings.command_timeout_ms)));
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        self.restore(&mut connection).await?;
        loop {
            let told = {
                let mut link = self.link();
                let Some(told) = link.waiting.front().cloned() else {
                    link.connection = Some(connection);
                    link.number += 1;
                    return Ok(());
                };
                told
            };
            match self.perform(&mut connection, &told).await {
                Ok(()) => report::away("made_up"),
                Err(error) => {
                    // What Redis refuses alone must not keep everything else away.
                    ::redis::cmd("PING").exec_async(&mut connection).await?;
                    tracing::error!(%error, "Redis refuses what a session is told");
                    report::away("lost");
                }
            }
            self.link().waiting.pop_front();
        }
    }

    /// Tells Redis what the journal knows of sessions: at the start of the process, since it may have ended between
    /// the journal and Redis, and where Redis has lost what it was told.
    async fn restore(&self, connection: &mut MultiplexedConnection) -> Result<(), Failure> {
        let kept: bool = ::redis::cmd("EXISTS").arg(&self.told_by).query_async(connection).await?;
        if kept && self.link().restored {
            return Ok(());
        }
        let restore = Arc::clone(&self.restore);
        match tokio::task::spawn_blocking(move || restore()).await {
            Ok(embedded) => self.store.adopt(connection, &embedded).await?,
            Err(error) => tracing::error!(%error, "the rebuilding of the sessions was cut short"),
        }
        ::redis::cmd("SET").arg(&self.told_by).arg(1).exec_async(connection).await?;
        self.link().restored = true;
        Ok(())
    }
}
