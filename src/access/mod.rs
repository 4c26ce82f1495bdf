//! Who may do what: API keys with roles, and decision ids that nobody can make up.

mod ids;
mod keyfile;
mod keys;
mod settings;

pub use ids::{DecisionIds, IdError};
pub use keyfile::{KeyEntry, KeyFile, new_key};
pub use keys::{Caller, Denied, Keys};
pub use settings::SecuritySettings;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What a key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Asking for slates, and reading decisions.
    Recommend,
    /// Telling what came of them.
    Feedback,
    /// Everything that changes the service: routes of policies, the catalogue, the journal's segments.
    Admin,
    /// Reading the metrics.
    Metrics,
}

impl Role {
    /// Its name in settings and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Recommend => "recommend",
            Self::Feedback => "feedback",
            Self::Admin => "admin",
            Self::Metrics => "metrics",
        }
    }
}

/// Keys or a secret that cannot be used.
#[derive(Debug, Error)]
pub enum AccessError {
    /// A file that cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file of keys that is not one.
    #[error("{path}: {reason}; `slated key new` makes keys")]
    Keys {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A secret that could be guessed.
    #[error("{path} holds {bytes} bytes; a secret has at least 32, as of `openssl rand -hex 32`")]
    Short {
        /// The file.
        path: PathBuf,
        /// Its length without white space at the ends.
        bytes: usize,
    },
}
