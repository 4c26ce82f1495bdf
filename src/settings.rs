//! Settings, layered: defaults, `slated.toml`, `SLATED_*` variables, flags; the later wins.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use figment::providers::{Env, Format, Serialized, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider, Source};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::access::SecuritySettings;
use crate::catalogue::CatalogueSettings;
use crate::journal::JournalSettings;
use crate::serving::{EngineSettings, Fallback};
use crate::session::SessionStoreSettings;

/// The file that is read where `--config` names none.
pub const FILE: &str = "slated.toml";

/// Everything that can be set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Seeds every random choice of the service; drawn at start, and logged, where absent.
    pub seed: Option<u64>,
    /// Logging.
    pub log: LogSettings,
    /// The HTTP server.
    pub server: ServerSettings,
    /// The policies.
    pub models: ModelSettings,
    /// How models run.
    pub runtime: EngineSettings,
    /// Items and users known by id.
    pub catalogue: CatalogueSettings,
    /// The sessions.
    pub sessions: SessionStoreSettings,
    /// The journal.
    pub journal: JournalSettings,
    /// Who may do what.
    pub security: SecuritySettings,
    /// The Azure AI Personalizer's routes.
    #[cfg(feature = "compat")]
    pub compat: crate::compat::CompatSettings,
}

/// Logging.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// `pretty` or `json`.
    pub format: LogFormat,
    /// A filter such as `info` or `slated=debug,info`.
    pub level: String,
    /// The collector that traces are sent to, OTLP over HTTP, such as `http://collector:4318`; none where absent.
    pub otlp_endpoint: Option<String>,
    /// The share of the traces that begin here and are sent, from 0 to 1; a caller's trace is sent where it says so.
    pub otlp_share: f64,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Pretty,
    /// One JSON object a line.
    Json,
}

/// The HTTP server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerSettings {
    /// The address; port 0 takes any free one.
    pub listen: SocketAddr,
    /// An address of its own for what changes the service and for the metrics; they are at `listen` where absent.
    pub admin_listen: Option<SocketAddr>,
    /// The certificates for TLS, PEM; plain HTTP where absent.
    pub tls_certificate: Option<PathBuf>,
    /// Their private key, PEM.
    pub tls_key: Option<PathBuf>,
    /// How long a client may take to send the headers of a request, and a kept connection may rest, in seconds.
    pub header_timeout_seconds: u64,
    /// The largest body, in bytes.
    pub max_body_bytes: usize,
    /// The most candidates in one request; a policy may take fewer.
    pub max_candidates: usize,
    /// The largest slate in one request; a policy may take smaller ones.
    pub max_slate_size: usize,
    /// The most events in one feedback request.
    pub max_feedback_batch: usize,
    /// The most requests at once; one more is answered 429.
    pub max_concurrency: usize,
    /// How long a request may take at most, in milliseconds; a request may ask for less with `X-Request-Timeout-Ms`.
    pub request_timeout_ms: u64,
    /// Whether models answer to raw tensors at `/v2`, by the Open Inference Protocol.
    pub inference: bool,
    /// What is answered where the model does not answer in time: `none`, an error, or `caller_order`.
    pub fallback: Fallback,
    /// How long requests in flight may take to end when the service stops, in seconds.
    pub drain_seconds: u64,
}

/// The policies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSettings {
    /// The folder that holds `<name>/<version>/`.
    pub folder: PathBuf,
    /// The policy that requests get which name none.
    pub default: String,
    /// Further policies to load at start.
    pub others: Vec<String>,
    /// The default policy's version at start; the latest where absent.
    pub version: Option<u64>,
    /// How often the folder is looked at for newer versions, in seconds; 0 is never.
    pub watch_seconds: f64,
    /// Where the routes are kept over restarts; `routes.json` in the journal's folder where absent.
    pub routes: Option<PathBuf>,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { format: LogFormat::default(), level: "info".to_owned(), otlp_endpoint: None, otlp_share: 1.0 }
    }
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            admin_listen: None,
            tls_certificate: None,
            tls_key: None,
            header_timeout_seconds: 75,
            max_body_bytes: 2 * 1024 * 1024,
            max_candidates: 2000,
            max_slate_size: 100,
            max_feedback_batch: 1000,
            max_concurrency: 1024,
            request_timeout_ms: 5000,
            inference: true,
            fallback: Fallback::default(),
            drain_seconds: 30,
        }
    }
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self {
            folder: "models".into(),
            default: "open-bandit".to_owned(),
            others: Vec::new(),
            version: None,
            watch_seconds: 2.0,
            routes: None,
        }
    }
}

/// Settings that cannot be used.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// A file that is not there.
    #[error("{0}: no such file; `--config` names a settings file in TOML")]
    NoFile(PathBuf),
    /// A value of the wrong form, or an unknown key.
    #[error("settings: {0}")]
    Invalid(Box<figment::Error>),
    /// A value outside its range.
    #[error("settings: `{key}` is {value}, {allowed}")]
    Range {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
}

/// The settings with where each came from.
#[derive(Debug)]
pub struct Layered {
    /// The result.
    pub settings: Settings,
    figment: Figment,
}

/// One setting, for `slated config`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// Its dotted key.
    pub key: String,
    /// Its value, as TOML.
    pub value: String,
    /// The layer it came from.
    pub source: String,
}

impl Layered {
    /// Reads all layers; `file` is the one named by `--config`, which must be there.
    ///
    /// # Errors
    /// A file that was named but is not there, an unknown key, a value of the wrong form or outside its range; the
    /// message names the key and the layer.
    pub fn read(file: Option<&Path>, flags: &[Flag]) -> Result<Self, SettingsError> {
        if let Some(file) = file.filter(|file| !file.is_file()) {
            return Err(SettingsError::NoFile(file.to_owned()));
        }
        let layers = Figment::from(Serialized::defaults(Settings::default()))
            .merge(Toml::file(file.unwrap_or_else(|| Path::new(FILE))))
            // What the build, the tests and the library search read is not a setting.
            .merge(
                Env::prefixed("SLATED_")
                    .filter(|name| {
                        let others = ["api_key", "chaos_rounds", "chaos_seed"];
                        !name.starts_with("test_") && others.iter().all(|other| name != other)
                    })
                    .split("__")
                    .lowercase(true),
            );
        let figment = flags.iter().fold(layers, Figment::merge);
        let settings: Settings = figment.extract().map_err(|error| SettingsError::Invalid(Box::new(error)))?;
        settings.check()?;
        Ok(Self { settings, figment })
    }

    /// Every setting with its value and source, by key.
    #[must_use]
    pub fn origins(&self) -> Vec<Origin> {
        let mut origins = Vec::new();
        if let Ok(Value::Dict(_, dict)) = Value::serialize(&self.settings) {
            self.collect(String::new(), &dict, &mut origins);
        }
        origins
    }

    fn collect(&self, prefix: String, dict: &Dict, origins: &mut Vec<Origin>) {
        for (name, value) in dict {
            let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            match value {
                Value::Dict(_, inner) => self.collect(key, inner, origins),
                _ => {
                    let source = self
                        .figment
                        .find_metadata(&key)
                        .map_or_else(|| "default".to_owned(), |metadata| describe(metadata, &key));
                    let value =
                        toml::Value::try_from(value).map_or_else(|_| "(none)".to_owned(), |value| value.to_string());
                    let value = without_password(&value);
                    origins.push(Origin { key, value, source });
                }
            }
        }
    }
}

/// A text whose address, where it is one, does not show its password.
fn without_password(text: &str) -> String {
    let hidden = || {
        let (scheme, rest) = text.split_once("://")?;
        let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
        let user = &authority[..authority.rfind('@')?];
        let (name, _) = user.split_once(':')?;
        Some(format!("{scheme}://{name}:***{}", &rest[user.len()..]))
    };
    hidden().unwrap_or_else(|| text.to_owned())
}

/// Where a value came from, as a user would say it.
fn describe(metadata: &Metadata, key: &str) -> String {
    match &metadata.source {
        Some(Source::File(path)) => path.display().to_string(),
        _ if metadata.name.contains("environment") => format!("SLATED_{}", key.replace('.', "__").to_uppercase()),
        _ if metadata.name == FLAGS => "flag".to_owned(),
        _ => "default".to_owned(),
    }
}

const FLAGS: &str = "flags";

/// One flag of the command line, as a layer.
#[derive(Debug, Clone)]
pub struct Flag {
    key: &'static str,
    value: Value,
}

impl Flag {
    /// The flag that sets the dotted `key`; `None` where the user did not give it.
    pub fn given<T: Serialize>(key: &'static str, value: Option<&T>) -> Option<Self> {
        let value = Value::serialize(value?).ok()?;
        Some(Self { key, value })
    }
}

impl Provider for &Flag {
    fn metadata(&self) -> Metadata {
        Metadata::named(FLAGS)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let nested = figment::util::nest(self.key, self.value.clone());
        Ok(nested.into_dict().map(|dict| Map::from([(Profile::Default, dict)])).unwrap_or_default())
    }
}

impl ServerSettings {
    /// How its addresses begin.
    #[must_use]
    pub const fn scheme(&self) -> &'static str {
        if self.tls_certificate.is_some() { "https" } else { "http" }
    }
}

impl Settings {
    fn check(&self) -> Result<(), SettingsError> {
        let server = &self.server;
        let positive = [
            ("server.max_body_bytes", server.max_body_bytes),
            ("server.max_candidates", server.max_candidates),
            ("server.max_slate_size", server.max_slate_size),
            ("server.max_feedback_batch", server.max_feedback_batch),
            ("server.max_concurrency", server.max_concurrency),
            ("runtime.sessions", self.runtime.sessions),
            ("runtime.threads_per_session", self.runtime.threads_per_session),
            ("runtime.max_batch", self.runtime.max_batch),
            ("runtime.queue", self.runtime.queue),
        ];
        match positive.iter().find(|(_, value)| *value == 0) {
            Some((key, _)) => {
                Err(SettingsError::Range { key, value: "0".to_owned(), allowed: "it must be at least 1" })
            }
            None if server.request_timeout_ms == 0 => Err(SettingsError::Range {
                key: "server.request_timeout_ms",
                value: "0".to_owned(),
                allowed: "it must be at least 1",
            }),
            None if !(0.0..=1.0).contains(&self.log.otlp_share) => Err(SettingsError::Range {
                key: "log.otlp_share",
                value: self.log.otlp_share.to_string(),
                allowed: "allowed are 0 to 1",
            }),
            None if server.header_timeout_seconds == 0 => Err(SettingsError::Range {
                key: "server.header_timeout_seconds",
                value: "0".to_owned(),
                allowed: "it must be at least 1",
            }),
            None if server.tls_certificate.is_some() != server.tls_key.is_some() => Err(SettingsError::Range {
                key: "server.tls_certificate",
                value: "without the other".to_owned(),
                allowed: "it goes with `server.tls_key`",
            }),
            None if !(0.1..=86_400.0).contains(&self.security.reload_seconds) => Err(SettingsError::Range {
                key: "security.reload_seconds",
                value: self.security.reload_seconds.to_string(),
                allowed: "allowed are 0.1 to 86400",
            }),
            None if !(0.0..=86_400.0).contains(&self.models.watch_seconds) => Err(SettingsError::Range {
                key: "models.watch_seconds",
                value: self.models.watch_seconds.to_string(),
                allowed: "allowed are 0 (never) to 86400",
            }),
            None if self.journal.keep_local_days.is_some_and(|days| days < self.journal.id_days) => {
                Err(SettingsError::Range {
                    key: "journal.keep_local_days",
                    value: self.journal.keep_local_days.unwrap_or_default().to_string(),
                    allowed: "it must be at least `journal.id_days`, because decisions are found by their id in segments kept here",
                })
            }
            None if self.journal.keep_days.is_some_and(|days| days < self.journal.id_days) => {
                Err(SettingsError::Range {
                    key: "journal.keep_days",
                    value: self.journal.keep_days.unwrap_or_default().to_string(),
                    allowed: "it must be at least `journal.id_days`, for which ids of decisions and feedback are known",
                })
            }
            #[cfg(feature = "compat")]
            None if self.compat.max_actions == 0 => Err(SettingsError::Range {
                key: "compat.max_actions",
                value: "0".to_owned(),
                allowed: "it must be at least 1",
            }),
            None => self.sessions.check().map_err(|(key, value, allowed)| SettingsError::Range { key, value, allowed }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::without_password;

    #[test]
    fn passwords_in_addresses_are_not_shown() {
        for (text, shown) in [
            ("\"redis://:secret@cache:6379/1\"", "\"redis://:***@cache:6379/1\""),
            ("\"redis://anna:se:cr@et@cache\"", "\"redis://anna:***@cache\""),
            ("\"redis://anna@cache:6379\"", "\"redis://anna@cache:6379\""),
            ("\"redis://cache:6379/a:b@c\"", "\"redis://cache:6379/a:b@c\""),
            ("\"unix:///run/redis.sock\"", "\"unix:///run/redis.sock\""),
            ("5000", "5000"),
        ] {
            assert_eq!(without_password(text), shown);
        }
    }
}
