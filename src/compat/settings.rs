//! Settings of the Personalizer's routes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the Personalizer's routes answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CompatSettings {
    /// The policy that ranks; the default policy where absent.
    pub policy: Option<String>,
    /// The most actions in one request; the published limit is 50. A policy may take fewer.
    pub max_actions: usize,
    /// The path of a context feature that names the user, such as `user.id`; it is taken out of the features.
    pub user_id: Option<String>,
    /// The path of a context feature that names the session, likewise.
    pub session_id: Option<String>,
    /// Context features whose first name is one of these are features of the user, under the rest of their path.
    pub user: Vec<String>,
    /// Other names for features, by their path: where a schema calls them otherwise.
    pub names: BTreeMap<String, String>,
    /// What becomes of rewards and activations of events that this replica does not know.
    pub unknown_events: UnknownEvents,
}

/// What becomes of rewards and activations of events that this replica does not know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnknownEvents {
    /// An error, 404.
    #[default]
    Refuse,
    /// They are journalled, and joined with their event where the journal is read: for several replicas.
    Accept,
}

impl Default for CompatSettings {
    fn default() -> Self {
        Self {
            policy: None,
            max_actions: 50,
            user_id: None,
            session_id: None,
            user: Vec::new(),
            names: BTreeMap::new(),
            unknown_events: UnknownEvents::default(),
        }
    }
}
