//! Which policies are loaded, and which version of each is live.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use chrono::{DateTime, Utc};
use serde::Serialize;
use slated_contract::policy::Evaluation;
use thiserror::Error;

use super::engine::EngineSettings;
use super::policy::{LoadError, LoadedPolicy};

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
    live: Option<(Arc<LoadedPolicy>, DateTime<Utc>)>,
    failure: Option<LoadFailure>,
}

/// A version that was refused.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct LoadFailure {
    /// The version asked for; absent where the latest was.
    pub version: Option<u64>,
    /// Why it was refused.
    pub reason: String,
    /// When.
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
    pub default: bool,
    /// Whether it serves.
    pub state: PolicyState,
    /// The live version.
    #[schema(example = 1)]
    pub version: Option<u64>,
    /// What learned it.
    #[schema(example = "linear_thompson")]
    pub algorithm: Option<String>,
    /// How it explores.
    #[schema(example = "posterior_sampling")]
    pub exploration: Option<String>,
    /// SHA-256 of its model, in hex.
    pub model_sha256: Option<String>,
    /// What its model runs on.
    #[schema(example = "cpu")]
    pub device: Option<String>,
    /// Why `runtime.device = "auto"` took the processor.
    pub device_fallback: Option<String>,
    /// Since when it is live.
    pub live_since: Option<DateTime<Utc>>,
    /// What offline evaluation says of it.
    #[schema(value_type = Vec<Object>)]
    pub evaluation: Vec<Evaluation>,
    /// The last version that was refused, and why; cleared when a load succeeds.
    pub last_failure: Option<LoadFailure>,
}

/// A policy that is not there.
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
    /// The version asked for was refused; the one that was live still is.
    #[error(transparent)]
    Load(#[from] LoadError),
}

impl Registry {
    /// An empty registry over a folder of models; requests that name no policy get `default`.
    #[must_use]
    pub fn new(models: PathBuf, default: String, engine: EngineSettings) -> Self {
        Self { models, default, engine, slots: RwLock::default() }
    }

    /// Loads a version, proves it, then makes it live; blocking. Where it is refused, the live one stays.
    ///
    /// # Errors
    /// Why the version was refused; `/policies` repeats it.
    pub fn load(&self, name: &str, version: Option<u64>) -> Result<Arc<LoadedPolicy>, RegistryError> {
        let loaded = LoadedPolicy::load(&self.models, name, version, &self.engine).map(Arc::new);
        let outcome = if loaded.is_ok() { "loaded" } else { "refused" };
        metrics::counter!("slated_policy_loads_total", "policy" => name.to_owned(), "outcome" => outcome).increment(1);
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        match loaded {
            Ok(policy) => {
                let slot = slots.entry(name.to_owned()).or_default();
                slot.failure = None;
                slot.live = Some((Arc::clone(&policy), Utc::now()));
                metrics::gauge!("slated_policy_version", "policy" => name.to_owned())
                    .set(policy.manifest.version as f64);
                let device = policy.engine.device();
                let fallback = if device.fallback.is_some() { "yes" } else { "no" };
                metrics::gauge!("slated_policy_device", "policy" => name.to_owned(), "device" => device.kind.to_string(), "fallback" => fallback).set(1.0);
                tracing::info!(policy = name, version = policy.manifest.version, "policy is live");
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

    /// The live version of `name`, of the default policy where none is named.
    ///
    /// # Errors
    /// Nothing of that name is live.
    pub fn live(&self, name: Option<&str>) -> Result<Arc<LoadedPolicy>, RegistryError> {
        let name = name.unwrap_or(&self.default);
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        match slots.get(name).and_then(|slot| slot.live.as_ref()) {
            Some((policy, _)) => Ok(Arc::clone(policy)),
            None => {
                let live = slots.iter().filter(|(_, slot)| slot.live.is_some()).map(|(name, _)| name.as_str());
                Err(RegistryError::Unknown { name: name.to_owned(), live: live.collect::<Vec<_>>().join(", ") })
            }
        }
    }

    /// Sets the gauges that only make sense at the moment they are read.
    pub fn report_metrics(&self) {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        for (name, slot) in &*slots {
            let queued = slot.live.as_ref().map_or(0, |(policy, _)| policy.engine.queued());
            metrics::gauge!("slated_model_queue_depth", "policy" => name.clone()).set(queued as f64);
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
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots
            .iter()
            .map(|(name, slot)| {
                let manifest = slot.live.as_ref().map(|(policy, _)| &policy.manifest);
                let device = slot.live.as_ref().map(|(policy, _)| policy.engine.device());
                PolicyStatus {
                    name: name.clone(),
                    default: *name == self.default,
                    state: if manifest.is_some() { PolicyState::Live } else { PolicyState::Failed },
                    version: manifest.map(|manifest| manifest.version),
                    algorithm: manifest.map(|manifest| manifest.algorithm.name.clone()),
                    exploration: manifest.map(|manifest| manifest.exploration.method().to_owned()),
                    model_sha256: manifest.map(|manifest| manifest.model_sha256.clone()),
                    device: device.map(|device| device.kind.to_string()),
                    device_fallback: device.and_then(|device| device.fallback.clone()),
                    live_since: slot.live.as_ref().map(|(_, since)| *since),
                    evaluation: manifest.map(|manifest| manifest.evaluation.clone()).unwrap_or_default(),
                    last_failure: slot.failure.clone(),
                }
            })
            .collect()
    }
}
