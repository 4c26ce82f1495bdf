//! A policy that is loaded and proven, ready to serve.

use slated_contract::feature::Encoder;
use slated_contract::policy::{Bundle, BundleError, Manifest};
use std::path::Path;
use std::sync::Arc;
use thiserror::Error;

use super::engine::{Engine, EngineSettings};
use super::measures::Measures;
use super::model::ModelError;
use super::traffic::Judged;
use crate::session::SessionKind;

/// A bundle whose model runs. Shared by the requests in flight; freed when the last of them is answered.
#[derive(Debug)]
pub struct LoadedPolicy {
    /// Its manifest.
    pub manifest: Manifest,
    /// The encoder of its feature schema.
    pub encoder: Encoder,
    /// Its running model.
    pub engine: Engine,
    /// Its exploration, as the journal keeps it.
    pub exploration_json: String,
    /// What feedback on its decisions speaks of.
    pub judged: Arc<Judged>,
    /// What it keeps of its sessions; absent where it reads nothing of them.
    pub sessions: Option<SessionKind>,
    /// What is counted of its decisions.
    pub measures: Measures,
}

/// A bundle that cannot be served.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The bundle on disk.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// Its model.
    #[error("{name} version {version}: {source}")]
    Model {
        /// The policy.
        name: String,
        /// Its version.
        version: u64,
        /// What is wrong.
        source: ModelError,
    },
}

impl LoadedPolicy {
    /// Loads `<models>/<name>/<version>/`, the latest version where none is given: checks the manifest, the hash, the
    /// signature and the sample scores, and runs the model once.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn load(models: &Path, name: &str, version: Option<u64>, settings: &EngineSettings) -> Result<Self, LoadError> {
        Self::start(Bundle::open(models, name, version)?, settings)
    }

    /// Loads the bundle in `folder`, as [`LoadedPolicy::load`] does.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn load_folder(folder: &Path, settings: &EngineSettings) -> Result<Self, LoadError> {
        Self::start(Bundle::read(folder)?, settings)
    }

    fn start(bundle: Bundle, settings: &EngineSettings) -> Result<Self, LoadError> {
        let engine = Engine::start(&bundle, settings).map_err(|source| LoadError::Model {
            name: bundle.manifest.name.clone(),
            version: bundle.manifest.version,
            source,
        })?;
        let exploration_json = serde_json::json!(bundle.manifest.exploration).to_string();
        let judged = Arc::new(Judged::of(&bundle.manifest));
        let sessions = SessionKind::of(&bundle.manifest);
        let measures = Measures::of(&bundle.manifest.name, bundle.manifest.version);
        Ok(Self {
            measures,
            manifest: bundle.manifest,
            encoder: bundle.encoder,
            engine,
            exploration_json,
            judged,
            sessions,
        })
    }
}
