//! Settings of who may do what.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who may do what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SecuritySettings {
    /// File of API keys, as `slated key new` writes it; requests need no key where absent.
    pub keys: Option<PathBuf>,
    /// File with the secret by which decision ids are signed; they are not where absent. Replicas share it.
    pub decision_secret: Option<PathBuf>,
    /// Whether a request may choose its `event_id`.
    pub caller_ids: bool,
    /// Origins whose pages may call the service from a browser, such as `https://shop.example`.
    pub cors_origins: Vec<String>,
    /// How often the files of keys and certificates are looked at, in seconds.
    pub reload_seconds: f64,
}

impl Default for SecuritySettings {
    fn default() -> Self {
        Self { keys: None, decision_secret: None, caller_ids: true, cors_origins: Vec::new(), reload_seconds: 5.0 }
    }
}
