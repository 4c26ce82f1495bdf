//! What happened in a session, as the policies see it: kept for each user or session, rebuilt after a crash.
//!
//! A decision or feedback is journalled first and told to its session then, so a session never knows more than the
//! journal. What it knows depends on what happened and not on the order in which it was told; see [`timeline`].

mod embedded;
mod key;
mod rebuild;
#[cfg(feature = "redis")]
mod redis;
mod report;
mod settings;
mod slate;
mod timeline;

pub use embedded::Embedded;
pub use key::{SessionKey, SessionKind};
pub use rebuild::{Rebuilt, rebuild};
pub use settings::{RedisSettings, SessionBackend, SessionStoreSettings, Unavailable};
pub use slate::{Encoded, ShownSlate};
pub use timeline::{Happened, Place, Recorded, SETTLED_AFTER, SessionView, Timeline};

use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use slated_contract::event::Feedback;
use thiserror::Error;

use crate::journal::Journal;

/// The feature of a journalled session that says that nothing was known of it, because the backend was away.
pub const UNAVAILABLE: &str = "unavailable";

/// Sessions that cannot be kept or read.
#[derive(Debug, Error)]
pub enum SessionStoreError {
    /// The backend is not in this build.
    #[error("`sessions.backend` is \"redis\", but this build is without it; build with `--features redis`")]
    NotBuilt,
    /// The address of Redis.
    #[error(
        "`sessions.redis.url` is not an address of Redis ({0}); write redis://[user:password@]host[:port][/database]"
    )]
    Url(String),
    /// The backend is away, and the settings say to refuse.
    #[error("the store of the sessions does not answer (`sessions.unavailable` is \"refuse\")")]
    Away,
}

/// The sessions, wherever they are kept.
pub struct Sessions {
    backend: Backend,
    unavailable: Unavailable,
}

enum Backend {
    Embedded(Embedded),
    #[cfg(feature = "redis")]
    Redis(Arc<redis::RedisSessions>),
}

/// What a policy sees of a session.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// The view; of a session in which nothing has happened where there is none, or the backend is away.
    pub view: SessionView,
    /// Whether the backend was away.
    pub away: bool,
}

impl Sessions {
    /// Opens the backend of the settings, and rebuilds from the journal what it lacks.
    ///
    /// # Errors
    /// Settings that cannot be used. A Redis that does not answer is not an error, since it is tried again until it does,
    /// nor is a journal that cannot be read.
    pub async fn open(
        settings: &SessionStoreSettings,
        journal: &Journal,
        models: &Path,
    ) -> Result<Self, SessionStoreError> {
        let rebuilt = {
            let (settings, journal, models) = (settings.clone(), journal.clone(), models.to_owned());
            move || {
                let store = Embedded::new(&settings);
                if settings.rebuild_seconds > 0 {
                    match rebuild(&journal, &models, &settings, &store, Utc::now()) {
                        Ok(rebuilt) => report::rebuilt(&rebuilt),
                        Err(error) => tracing::error!(%error, "the sessions cannot be rebuilt from the journal"),
                    }
                }
                store
            }
        };
        let backend = match settings.backend {
            SessionBackend::Embedded => {
                let store = tokio::task::spawn_blocking(rebuilt).await.unwrap_or_else(|error| {
                    tracing::error!(%error, "the rebuilding of the sessions was cut short");
                    Embedded::new(settings)
                });
                Backend::Embedded(store)
            }
            #[cfg(feature = "redis")]
            SessionBackend::Redis => {
                Backend::Redis(redis::RedisSessions::start(settings, journal.writer_id(), Arc::new(rebuilt)).await?)
            }
            #[cfg(not(feature = "redis"))]
            SessionBackend::Redis => return Err(SessionStoreError::NotBuilt),
        };
        Ok(Self { backend, unavailable: settings.unavailable })
    }

    /// What a policy that keeps `kind` sees of a session at `now`.
    ///
    /// # Errors
    /// A backend that is away, where the settings say to refuse.
    pub async fn view(
        &self,
        kind: &SessionKind,
        key: Option<&SessionKey>,
        now: DateTime<Utc>,
    ) -> Result<Seen, SessionStoreError> {
        let found = match (key, &self.backend) {
            (None, _) => Ok(None),
            (Some(key), Backend::Embedded(store)) => Ok(store.view(key, now)),
            #[cfg(feature = "redis")]
            (Some(key), Backend::Redis(store)) => store.view(key, now).await,
        };
        let empty = || SessionView::of(&kind.empty, now);
        match found {
            Ok(found) => Ok(Seen { view: found.unwrap_or_else(empty), away: false }),
            Err(Away) if self.unavailable == Unavailable::Refuse => {
                report::away("refused");
                Err(SessionStoreError::Away)
            }
            Err(Away) => {
                report::away("empty");
                Ok(Seen { view: empty(), away: true })
            }
        }
    }

    /// A slate was shown to a session of `kind`.
    pub async fn show(&self, kind: &SessionKind, slate: ShownSlate) {
        let slate = Arc::new(slate);
        match &self.backend {
            Backend::Embedded(store) => store.show(&slate, &kind.empty),
            #[cfg(feature = "redis")]
            Backend::Redis(store) => store.show(slate, Arc::clone(&kind.empty)).await,
        }
    }

    /// Feedback arrived. What does not count by the policy's reward definition, or names an item that was not shown,
    /// changes nothing.
    pub async fn respond(&self, feedback: &Feedback) {
        match &self.backend {
            Backend::Embedded(store) => store.respond(feedback),
            #[cfg(feature = "redis")]
            Backend::Redis(store) => store.respond(feedback).await,
        }
    }

    /// Whether requests that need a session can be answered.
    ///
    /// # Errors
    /// A backend that is away, where the settings say to refuse.
    pub fn health(&self) -> Result<(), SessionStoreError> {
        match &self.backend {
            #[cfg(feature = "redis")]
            Backend::Redis(store) if self.unavailable == Unavailable::Refuse && !store.is_there() => {
                Err(SessionStoreError::Away)
            }
            _ => Ok(()),
        }
    }

    /// Sets the gauges that only make sense at the moment they are read.
    pub fn report_metrics(&self) {
        match &self.backend {
            Backend::Embedded(store) => metrics::gauge!("slated_sessions").set(store.held() as f64),
            #[cfg(feature = "redis")]
            Backend::Redis(store) => store.report_metrics(),
        }
    }
}

/// The backend does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Away;
