//! Traffic: the routes of all policies, changed one at a time, kept over restarts, and journalled with who and why.

mod attribution;
mod guardrail;
mod route;
mod watch;

pub use attribution::{Attribution, Judged};
pub use guardrail::{Figures, Guardrails, Rewards};
pub use route::{Action, Canary, Route, RouteError};
pub use watch::watch;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{SubsecRound, Utc};
use slated_contract::event::RouteChange;
use thiserror::Error;
use tokio::sync::Mutex;

use super::registry::{Registry, RegistryError, RouteState};
use crate::files::write_whole;
use crate::journal::{Journal, JournalError};
use crate::unique;

/// Who changes a route, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reason {
    /// A person, a script, or slated itself.
    pub by: String,
    /// Why.
    pub why: String,
    /// The id that the change has in the journal, where whoever asks gave one: what is asked again with it is journalled once.
    pub id: Option<String>,
}

/// A change that was not made.
#[derive(Debug, Error)]
pub enum TrafficError {
    /// The registry refuses it.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// It cannot be journalled.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The routes cannot be kept.
    #[error("routes {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The task that loads was cut short.
    #[error("the change was cut short: {0}")]
    Cut(#[from] tokio::task::JoinError),
}

/// Changes routes.
pub struct Traffic {
    registry: Arc<Registry>,
    journal: Journal,
    path: PathBuf,
    /// One change at a time.
    changing: Mutex<()>,
}

impl Traffic {
    /// Over a registry whose policies are open; keeps their routes in the file at `path`.
    #[must_use]
    pub fn new(registry: Arc<Registry>, journal: Journal, path: PathBuf) -> Self {
        Self { registry, journal, path, changing: Mutex::new(()) }
    }

    /// Changes the route of a policy. Every version that the new route needs is loaded and proven first; then the
    /// change is journalled, kept, and put in force by one exchange of a pointer. No request fails because of it.
    ///
    /// # Errors
    /// Why it was not made; the route is then what it was.
    pub async fn change(&self, policy: &str, action: Action, reason: Reason) -> Result<Route, TrafficError> {
        let _one_at_a_time = self.changing.lock().await;
        self.make(policy, action, reason).await
    }

    /// Takes a canary back, unless someone ended its trial meanwhile.
    pub async fn take_back(&self, policy: &str, version: u64, why: String) {
        let _one_at_a_time = self.changing.lock().await;
        let route = self.registry.state(policy).map(|state| state.route);
        let on_trial = route.as_ref().ok().and_then(|route| route.canary.as_ref());
        if on_trial.is_none_or(|canary| canary.version != version) {
            return;
        }
        let rest = route.into_iter().flat_map(|route| route.shares.into_keys()).find(|other| *other != version);
        let Some(rest) = rest else { return };
        tracing::warn!(policy, version, why, "the canary broke a guardrail and is taken back");
        metrics::counter!("slated_canary_rollbacks_total", "policy" => policy.to_owned()).increment(1);
        let reason = Reason { by: "slated".to_owned(), why, id: None };
        if let Err(error) = self.make(policy, Action::Promote { version: rest }, reason).await {
            tracing::error!(policy, version, %error, "the canary cannot be taken back");
        }
    }

    async fn make(&self, policy: &str, action: Action, reason: Reason) -> Result<Route, TrafficError> {
        let (registry, name, asked) = (Arc::clone(&self.registry), policy.to_owned(), action.clone());
        let before = self.registry.state_before(policy, &action)?.route;
        let state = tokio::task::spawn_blocking(move || registry.prepare(&name, &asked)).await??;
        let change = RouteChange {
            change_id: reason.id.unwrap_or_else(|| unique::by_time().to_string()),
            time: Utc::now().trunc_subsecs(6),
            source: "service".to_owned(),
            policy: policy.to_owned(),
            action: action.name().to_owned(),
            before: serde_json::json!(before).to_string(),
            after: serde_json::json!(state.route).to_string(),
            by: reason.by,
            why: reason.why,
        };
        self.journal.append_change(&change).await?;
        if matches!(action, Action::Cycle { .. }) {
            // The route is what it was, and so are the figures of a canary.
            return Ok(state.route);
        }
        let mut states = self.registry.states();
        states.insert(policy.to_owned(), state.clone());
        save(&self.path, &states)?;
        metrics::counter!("slated_route_changes_total", "policy" => policy.to_owned(), "action" => action.name())
            .increment(1);
        let route = state.route.clone();
        self.registry.adopt(policy, state);
        Ok(route)
    }
}

/// The routes that were kept; none where there is no such file.
///
/// # Errors
/// A file that does not read.
pub fn saved(path: &Path) -> Result<BTreeMap<String, RouteState>, TrafficError> {
    let failed = |source: io::Error| TrafficError::File { path: path.to_owned(), source };
    match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map_err(|error| failed(error.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(failed(error)),
    }
}

/// Writes the routes: a reader finds the old ones or the new.
fn save(path: &Path, states: &BTreeMap<String, RouteState>) -> Result<(), TrafficError> {
    let text = serde_json::to_vec_pretty(states).map_err(io::Error::from);
    text.and_then(|text| write_whole(path, &text))
        .map_err(|source| TrafficError::File { path: path.to_owned(), source })
}
