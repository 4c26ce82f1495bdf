//! Which policies are loaded, and which versions of each answer which requests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use slated_contract::policy::{self, Evaluation};
use thiserror::Error;

use super::engine::EngineSettings;
use super::policy::{LoadError, LoadedPolicy};
use super::traffic::{Action, Figures, Route, RouteError};
use crate::schema;

/// How many earlier routes a policy remembers.
const EARLIER: usize = 16;

/// The loaded policies by name. A swap is one exchange of a pointer: a request keeps the version with which it began.
#[derive(Debug)]
pub struct Registry {
    models: PathBuf,
    default: String,
    engine: EngineSettings,
    slots: RwLock<BTreeMap<String, Slot>>,
}

#[derive(Debug, Default)]
struct Slot {
    loaded: BTreeMap<u64, (Arc<LoadedPolicy>, DateTime<Utc>)>,
    state: RouteState,
    failure: Option<LoadFailure>,
    /// Since the route was last changed, where several versions share the requests.
    figures: BTreeMap<u64, Figures>,
}

/// What a restart must not forget of a policy's route.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RouteState {
    /// The route in force.
    pub route: Route,
    /// The routes before it, oldest first.
    pub earlier: Vec<Route>,
    /// The greatest version that was ever looked at: what is rolled back does not come back by itself.
    pub newest: u64,
}

/// Who answers one request.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// The version that decides.
    pub policy: Arc<LoadedPolicy>,
    /// Versions that are computed and not shown.
    pub shadow: Vec<Arc<LoadedPolicy>>,
    /// Whether the caller's own order is shown.
    pub apprentice: bool,
}

/// A version that was refused.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct LoadFailure {
    /// The version asked for; absent where the latest was.
    #[schema(example = 3)]
    pub version: Option<u64>,
    /// Why it was refused.
    #[schema(example = "models/open-bandit/3/policy.json: the file cannot be read")]
    pub reason: String,
    /// When.
    #[schema(example = "2026-01-31T12:00:00Z")]
    pub at: DateTime<Utc>,
}

/// Whether a policy serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PolicyState {
    /// A version is loaded and answers.
    Live,
    /// No version could be loaded.
    Failed,
}

/// What `/policies` says of one policy.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct PolicyStatus {
    /// Its name.
    #[schema(example = "open-bandit")]
    pub name: String,
    /// Whether requests that name no policy get this one.
    #[schema(example = true)]
    pub default: bool,
    /// Whether it serves.
    pub state: PolicyState,
    /// The live version; where several share the requests, the one with the greatest share.
    #[schema(example = 1)]
    pub version: Option<u64>,
    /// Which versions answer which requests.
    pub route: Route,
    /// What came of each version's requests since the route was last changed, where several share them.
    #[schema(schema_with = schema::figures)]
    pub figures: BTreeMap<u64, Figures>,
    /// Every version in memory, those that a rollback would need included.
    #[schema(example = json!([1, 2]))]
    pub loaded: Vec<u64>,
    /// What learned it.
    #[schema(example = "linear_thompson")]
    pub algorithm: Option<String>,
    /// How it explores.
    #[schema(example = "posterior_sampling")]
    pub exploration: Option<String>,
    /// SHA-256 of its model, in hex.
    #[schema(example = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    pub model_sha256: Option<String>,
    /// What its model runs on.
    #[schema(example = "cpu")]
    pub device: Option<String>,
    /// Why `runtime.device = "auto"` took the processor.
    #[schema(example = "no NVIDIA GPU was found")]
    pub device_fallback: Option<String>,
    /// Since when it is loaded.
    #[schema(example = "2026-01-31T12:00:00Z")]
    pub live_since: Option<DateTime<Utc>>,
    /// What offline evaluation says of it.
    #[schema(value_type = Vec<schema::Evaluation>)]
    pub evaluation: Vec<Evaluation>,
    /// The last version that was refused, and why; cleared when a load succeeds.
    pub last_failure: Option<LoadFailure>,
}

/// A policy that is not there, or a route that cannot be had.
#[derive(Debug, Error)]
pub enum RegistryError {
    /// No policy of this name is live.
    #[error("no policy `{name}` is live; live are: {live}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names that are.
        live: String,
    },
    /// A request asks for a version that is not in memory.
    #[error("version {version} of `{name}` is not loaded; loaded are: {loaded}")]
    NotLoaded {
        /// The policy.
        name: String,
        /// The version asked for.
        version: u64,
        /// The versions that are.
        loaded: String,
    },
    /// A version is asked for that the route does not name.
    #[error("version {version} of `{name}` answers nobody; the versions that do are: {routed}")]
    NotRouted {
        /// The policy.
        name: String,
        /// The version asked for.
        version: String,
        /// The versions that the route names.
        routed: String,
    },
    /// The version asked for was refused; the one that was live still is.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The route asked for is none.
    #[error(transparent)]
    Route(#[from] RouteError),
}

impl Registry {
    /// An empty registry over a folder of models; requests that name no policy get `default`.
    #[must_use]
    pub fn new(models: PathBuf, default: String, engine: EngineSettings) -> Self {
        Self { models, default, engine, slots: RwLock::default() }
    }

    /// Loads what a policy needs at start; blocking. That is `version`, where one is asked for; else the route that
    /// was `saved`, without the versions of it that are refused; else the newest version that is not refused.
    ///
    /// # Errors
    /// Why the version, or the newest of all, was refused.
    pub fn open(
        &self,
        name: &str,
        version: Option<u64>,
        saved: Option<&RouteState>,
    ) -> Result<RouteState, RegistryError> {
        let on_disk = || policy::versions(&self.models, name).unwrap_or_default();
        // What is held back goes live where a route names it, and only there.
        let free = || {
            let held = |version: &u64| policy::is_held(&self.models, name, *version);
            on_disk().into_iter().filter(move |version| !held(version))
        };
        if version.is_none()
            && let Some(saved) = saved
        {
            let mut state = saved.clone();
            let asked: Vec<u64> = state.route.versions().collect();
            let refused: Vec<u64> = asked.into_iter().filter(|&version| self.ready(name, version).is_err()).collect();
            state.route = state.route.less(&refused);
            if state.route.main().is_some() {
                self.adopt(name, state.clone());
                return Ok(state);
            }
            tracing::error!(policy = name, "no version of the saved route can be served; trying the newest");
        }
        let pinned = version.is_some();
        let tried = version.map_or_else(|| free().rev().collect::<Vec<_>>(), |version| vec![version]);
        let mut first_refusal = None;
        for version in tried {
            match self.ready(name, version) {
                Ok(_) => {
                    // Whoever names a version wants it, not a newer one; otherwise what was refused is looked at again
                    // when its files change.
                    let newest = if pinned { on_disk().last().copied().unwrap_or(version) } else { version };
                    let state = RouteState { route: Route::to(version), earlier: Vec::new(), newest };
                    self.adopt(name, state.clone());
                    return Ok(state);
                }
                Err(error) => first_refusal = first_refusal.or(Some(error)),
            }
        }
        match first_refusal {
            Some(error) => Err(error),
            // There is nothing on disk; the attempt says so.
            None => self.load_latest(name).map(|_| RouteState::default()),
        }
    }

    fn load_latest(&self, name: &str) -> Result<Arc<LoadedPolicy>, RegistryError> {
        self.prove(name, None)
    }

    /// The version, loaded now if it was not; blocking. It serves nobody until a route names it.
    ///
    /// # Errors
    /// Why the version was refused; `/policies` repeats it.
    pub fn ready(&self, name: &str, version: u64) -> Result<Arc<LoadedPolicy>, RegistryError> {
        let known = self.read().get(name).and_then(|slot| slot.loaded.get(&version)).map(|(policy, _)| policy.clone());
        match known {
            Some(policy) => Ok(policy),
            None => self.prove(name, Some(version)),
        }
    }

    fn prove(&self, name: &str, version: Option<u64>) -> Result<Arc<LoadedPolicy>, RegistryError> {
        let loaded = LoadedPolicy::load(&self.models, name, version, &self.engine).map(Arc::new);
        let outcome = if loaded.is_ok() { "loaded" } else { "refused" };
        metrics::counter!("slated_policy_loads_total", "policy" => name.to_owned(), "outcome" => outcome).increment(1);
        let mut slots = self.write();
        match loaded {
            Ok(policy) => {
                let slot = slots.entry(name.to_owned()).or_default();
                slot.failure = None;
                slot.loaded.insert(policy.manifest.version, (Arc::clone(&policy), Utc::now()));
                let device = policy.engine.device();
                let fallback = if device.fallback.is_some() { "yes" } else { "no" };
                let kind = device.kind.to_string();
                metrics::gauge!("slated_policy_device", "policy" => name.to_owned(), "device" => kind, "fallback" => fallback)
                    .set(1.0);
                tracing::info!(policy = name, version = policy.manifest.version, "policy loaded");
                Ok(policy)
            }
            Err(error) => {
                tracing::error!(policy = name, version, %error, "policy refused");
                // A name that never was live is remembered only if it is the default one: a caller's typing errors
                // must not fill the list.
                if slots.contains_key(name) || name == self.default {
                    let failure = LoadFailure { version, reason: error.to_string(), at: Utc::now() };
                    slots.entry(name.to_owned()).or_default().failure = Some(failure);
                }
                Err(error.into())
            }
        }
    }

    /// What a policy's route would be after a change, with every version that it needs loaded; blocking. Nothing is
    /// routed differently yet.
    ///
    /// # Errors
    /// A policy that is not live, a route that is none, a version that is refused.
    pub fn prepare(&self, name: &str, action: &Action) -> Result<RouteState, RegistryError> {
        let mut state = self.state_before(name, action)?;
        let next = state.route.after(action, state.earlier.last())?;
        for version in next.versions() {
            self.ready(name, version)?;
            state.newest = state.newest.max(version);
        }
        let before = std::mem::replace(&mut state.route, next);
        if matches!(action, Action::Rollback {}) {
            state.earlier.pop();
        } else if before != state.route && before.main().is_some() {
            state.earlier.push(before);
            state.earlier.drain(..state.earlier.len().saturating_sub(EARLIER));
        }
        Ok(state)
    }

    /// Puts a route in force. Versions that neither it nor a rollback needs are let go: the requests that have them end
    /// with them, then they are freed.
    pub fn adopt(&self, name: &str, state: RouteState) {
        let mut slots = self.write();
        let slot = slots.entry(name.to_owned()).or_default();
        let needed: Vec<u64> =
            state.route.versions().chain(state.earlier.last().into_iter().flat_map(Route::versions)).collect();
        slot.loaded.retain(|version, _| needed.contains(version));
        slot.figures.clear();
        let version = state.route.main();
        metrics::gauge!("slated_policy_version", "policy" => name.to_owned()).set(version.unwrap_or(0) as f64);
        tracing::info!(policy = name, version, shares = ?state.route.shares, "policy is live");
        slot.state = state;
    }

    /// The route of a policy that is live.
    ///
    /// # Errors
    /// Nothing of that name is live.
    pub fn state(&self, name: &str) -> Result<RouteState, RegistryError> {
        let slots = self.read();
        slots.get(name).map(|slot| slot.state.clone()).ok_or_else(|| unknown(&slots, name))
    }

    /// The route that a change begins with: that of the policy, or none where a first version is promoted.
    ///
    /// # Errors
    /// Nothing of that name is live, and the change is no first promotion.
    pub fn state_before(&self, name: &str, action: &Action) -> Result<RouteState, RegistryError> {
        match self.state(name) {
            Err(_) if matches!(action, Action::Promote { .. }) => Ok(RouteState::default()),
            state => state,
        }
    }

    /// Every policy's route, by name.
    #[must_use]
    pub fn states(&self) -> BTreeMap<String, RouteState> {
        self.read().iter().map(|(name, slot)| (name.clone(), slot.state.clone())).collect()
    }

    /// Notes that a version on disk was looked at.
    pub fn looked_at(&self, name: &str, version: u64) {
        if let Some(slot) = self.write().get_mut(name) {
            slot.state.newest = slot.state.newest.max(version);
        }
    }

    /// The folder of bundles.
    #[must_use]
    pub fn models(&self) -> &std::path::Path {
        &self.models
    }

    /// The live version of `name`, of the default policy where none is named.
    ///
    /// # Errors
    /// Nothing of that name is live.
    pub fn live(&self, name: Option<&str>) -> Result<Arc<LoadedPolicy>, RegistryError> {
        self.choose(name, None, "").map(|chosen| chosen.policy)
    }

    /// Who answers a request of `key` (the user, the session or the decision) that names a policy or none, and may
    /// insist on a version.
    ///
    /// # Errors
    /// Nothing of that name is live, or the version is not loaded.
    pub fn choose(&self, name: Option<&str>, version: Option<u64>, key: &str) -> Result<Chosen, RegistryError> {
        let name = name.unwrap_or(&self.default);
        let slots = self.read();
        let slot = slots.get(name).ok_or_else(|| unknown(&slots, name))?;
        let loaded = |version: u64| slot.loaded.get(&version).map(|(policy, _)| Arc::clone(policy));
        if let Some(version) = version {
            return match loaded(version) {
                Some(policy) => Ok(Chosen { policy, shadow: Vec::new(), apprentice: false }),
                None => {
                    let loaded = slot.loaded.keys().map(u64::to_string).collect::<Vec<_>>().join(", ");
                    Err(RegistryError::NotLoaded { name: name.to_owned(), version, loaded })
                }
            };
        }
        let route = &slot.state.route;
        let policy = route.pick(name, key).and_then(loaded).ok_or_else(|| unknown(&slots, name))?;
        let shadow = route.shadow.iter().copied().filter_map(loaded).collect();
        Ok(Chosen { policy, shadow, apprentice: route.apprentice })
    }

    /// The versions of a policy that its route names, ascending, and the one among them with the greatest share.
    ///
    /// # Errors
    /// Nothing of that name is live.
    pub fn routed(&self, name: &str) -> Result<(Vec<Arc<LoadedPolicy>>, Arc<LoadedPolicy>), RegistryError> {
        let slots = self.read();
        let slot = slots.get(name).ok_or_else(|| unknown(&slots, name))?;
        let loaded = |version: u64| slot.loaded.get(&version).map(|(policy, _)| Arc::clone(policy));
        let main = slot.state.route.main().and_then(loaded).ok_or_else(|| unknown(&slots, name))?;
        let versions: BTreeSet<u64> = slot.state.route.versions().collect();
        Ok((versions.into_iter().filter_map(loaded).collect(), main))
    }

    /// Whether anything that is loaded reads the session.
    #[must_use]
    pub fn reads_sessions(&self) -> bool {
        self.read().values().flat_map(|slot| slot.loaded.values()).any(|(policy, _)| policy.sessions.is_some())
    }

    /// Counts a request that a version was to answer; why its trial ends, if it does.
    pub fn count(&self, name: &str, version: u64, failed: bool, took: Duration) -> Option<String> {
        if !self.compares(name) {
            return None;
        }
        let mut slots = self.write();
        let slot = slots.get_mut(name)?;
        let limit = slot.state.route.canary.as_ref().and_then(|canary| canary.guardrails.max_p99_ms);
        let figures = slot.figures.entry(version).or_default();
        figures.requests += 1;
        figures.errors += u64::from(failed);
        figures.slow += u64::from(limit.is_some_and(|limit| took.as_secs_f64() * 1e3 > limit));
        if !failed {
            figures.rewards.decide();
        }
        slot.breach()
    }

    /// Counts the reward of a version's decision, which became `after` from `before`; why its trial ends, if it does.
    pub fn reward(&self, name: &str, version: u64, before: f64, after: f64) -> Option<String> {
        if !self.compares(name) {
            return None;
        }
        let mut slots = self.write();
        let slot = slots.get_mut(name)?;
        slot.figures.entry(version).or_default().rewards.change(before, after);
        slot.breach()
    }

    /// Whether versions of a policy share its requests; a request of any other need not wait for its turn to count.
    fn compares(&self, name: &str) -> bool {
        self.read().get(name).is_some_and(|slot| slot.state.route.shares.len() > 1)
    }

    /// Sets the gauges that only make sense at the moment they are read.
    pub fn report_metrics(&self) {
        for (name, slot) in &*self.read() {
            let queued: usize = slot.loaded.values().map(|(policy, _)| policy.engine.queued()).sum();
            metrics::gauge!("slated_model_queue_depth", "policy" => name.clone()).set(queued as f64);
            for (version, share) in &slot.state.route.shares {
                metrics::gauge!("slated_policy_share", "policy" => name.clone(), "version" => version.to_string())
                    .set(*share);
            }
        }
    }

    /// The name of the policy that requests get which name none.
    #[must_use]
    pub fn default_policy(&self) -> &str {
        &self.default
    }

    /// Every policy, by name.
    #[must_use]
    pub fn statuses(&self) -> Vec<PolicyStatus> {
        self.read().iter().map(|(name, slot)| slot.status(name, *name == self.default)).collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Slot>> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Slot>> {
        self.slots.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unknown(slots: &BTreeMap<String, Slot>, name: &str) -> RegistryError {
    let live = slots.iter().filter(|(_, slot)| slot.state.route.main().is_some()).map(|(name, _)| name.as_str());
    RegistryError::Unknown { name: name.to_owned(), live: live.collect::<Vec<_>>().join(", ") }
}

impl Slot {
    fn breach(&self) -> Option<String> {
        let canary = self.state.route.canary.as_ref()?;
        let baseline = self.state.route.main().filter(|main| *main != canary.version);
        let baseline = baseline.or_else(|| self.state.route.shares.keys().copied().find(|v| *v != canary.version))?;
        let figures = |version: u64| self.figures.get(&version).copied().unwrap_or_default();
        canary.guardrails.breach(&figures(canary.version), &figures(baseline))
    }

    fn status(&self, name: &str, default: bool) -> PolicyStatus {
        let version = self.state.route.main();
        let live = version.and_then(|version| self.loaded.get(&version));
        let manifest = live.map(|(policy, _)| &policy.manifest);
        let device = live.map(|(policy, _)| policy.engine.device());
        PolicyStatus {
            name: name.to_owned(),
            default,
            state: if live.is_some() { PolicyState::Live } else { PolicyState::Failed },
            version,
            route: self.state.route.clone(),
            figures: self.figures.clone(),
            loaded: self.loaded.keys().copied().collect(),
            algorithm: manifest.map(|manifest| manifest.algorithm.name.clone()),
            exploration: manifest.map(|manifest| manifest.exploration.method().to_owned()),
            model_sha256: manifest.map(|manifest| manifest.model_sha256.clone()),
            device: device.map(|device| device.kind.to_string()),
            device_fallback: device.and_then(|device| device.fallback.clone()),
            live_since: live.map(|(_, since)| *since),
            evaluation: manifest.map(|manifest| manifest.evaluation.clone()).unwrap_or_default(),
            last_failure: self.failure.clone(),
        }
    }
}
