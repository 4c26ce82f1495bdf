//! What the Personalizer's routes keep: the service configuration and the learning settings, in a file beside the journal,
//! each change journalled.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use chrono::{DateTime, SubsecRound, Utc};
use serde::{Deserialize, Serialize};
use slated_contract::event::RouteChange;
use slated_contract::policy::BundleError;
use slated_contract::reward::{Aggregation, RewardDefinition};
use slated_contract::slate::Exploration;
use slated_trainer::train::{AlgorithmSettings, TrainError};
use thiserror::Error;
use tokio::sync::Mutex;

use super::versions::{Begin, begin, explore};
use super::{
    ArgumentError, CompatSettings, ConfigurationError, LearningMode, LearningSettings, REWARD, RewardAggregation,
    ServiceConfiguration, algorithm_of, duration,
};
use crate::files::write_whole;
use crate::journal::{Journal, JournalError};
use crate::serving::traffic::{Action, Reason, Route, Traffic, TrafficError};
use crate::serving::{LoadError, LoadedPolicy, Registry, RegistryError};
use crate::unique;

/// The file's name, in the journal's folder.
pub const KEPT: &str = "personalizer.json";

/// What is kept over restarts; what training reads with `slated train --personalizer`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// The policy that ranks.
    pub policy: String,
    /// Up to when rewards count, in milliseconds after their rank call.
    pub reward_wait_ms: u64,
    /// The reward of an event that got none in time.
    pub default_reward: f64,
    /// How several rewards of one event combine.
    pub reward_aggregation: RewardAggregation,
    /// The share of rank calls that explore; as the live policy has it where absent.
    #[serde(default)]
    pub exploration_percentage: Option<f64>,
    /// How training learns; the default where absent.
    #[serde(default)]
    pub learning: Option<LearningSettings>,
    /// When the configuration was last changed.
    #[serde(default)]
    pub edited: Option<DateTime<Utc>>,
    /// What is answered as it was given, and nothing else.
    #[serde(default)]
    pub answered: Answered,
}

/// Parts of the service configuration that are kept and answered, because something else decides them here.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Answered {
    model_export_frequency: Option<String>,
    is_auto_optimization_enabled: Option<bool>,
    auto_optimization_frequency: Option<String>,
    auto_optimization_start_date: Option<DateTime<Utc>>,
    model_retrain_days: Option<i64>,
}

impl Kept {
    /// What the Personalizer begins with.
    #[must_use]
    pub fn new(policy: String) -> Self {
        Self {
            policy,
            reward_wait_ms: 600_000,
            default_reward: 0.0,
            reward_aggregation: RewardAggregation::Earliest,
            exploration_percentage: None,
            learning: None,
            edited: None,
            answered: Answered::default(),
        }
    }

    /// What is kept in a journal's folder; `None` where nothing is.
    ///
    /// # Errors
    /// A file that does not read.
    pub fn read(journal: &Path) -> Result<Option<Self>, CompatError> {
        let path = journal.join(KEPT);
        let failed = |source: std::io::Error| CompatError::File { path: path.clone(), source };
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| failed(error.into())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// How rewards are read from the journal.
    #[must_use]
    pub fn reward(&self) -> RewardDefinition {
        RewardDefinition {
            weights: [(REWARD.to_owned(), 1.0)].into(),
            aggregation: match self.reward_aggregation {
                RewardAggregation::Earliest => Aggregation::First,
                RewardAggregation::Sum => Aggregation::Sum,
            },
            wait_seconds: Some(self.reward_wait_ms as f64 / 1000.0),
            default: self.default_reward,
        }
    }

    /// The learning settings in force.
    #[must_use]
    pub fn learning(&self) -> LearningSettings {
        self.learning.clone().unwrap_or_default()
    }

    /// What learns.
    ///
    /// # Errors
    /// Arguments that an earlier slated took and this one does not.
    pub fn algorithm(&self) -> Result<AlgorithmSettings, ArgumentError> {
        algorithm_of(&self.learning())
    }

    /// How the next version explores, where the configuration says it.
    #[must_use]
    pub fn exploration(&self) -> Option<Exploration> {
        self.exploration_percentage.map(|epsilon| Exploration::EpsilonGreedy { epsilon })
    }
}

/// What cannot be done.
#[derive(Debug, Error)]
pub enum CompatError {
    /// The configuration asked for.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// The learning settings asked for.
    #[error(transparent)]
    Arguments(#[from] ArgumentError),
    /// Versions share the requests, and which of them is to change is not said.
    #[error("versions {0:?} of the policy share the requests; promote one of them first")]
    Shared(Vec<u64>),
    /// The kept file.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The policy is not live.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Its route cannot be changed.
    #[error(transparent)]
    Traffic(#[from] TrafficError),
    /// The journal cannot keep the change.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A bundle that cannot be served.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A policy that cannot be begun.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The task that works on the disk was cut short.
    #[error("the change was cut short: {0}")]
    Cut(#[from] tokio::task::JoinError),
}

/// What the Personalizer's routes share.
pub struct Compat {
    /// The settings.
    pub settings: CompatSettings,
    /// The policy that ranks.
    pub policy: String,
    registry: Arc<Registry>,
    traffic: Arc<Traffic>,
    journal: Journal,
    /// Where it is kept.
    folder: PathBuf,
    retention_days: Option<u32>,
    watch_ms: u64,
    kept: RwLock<Arc<Kept>>,
    /// One change at a time.
    changing: Mutex<()>,
}

impl Compat {
    /// With what is kept in the journal's folder.
    ///
    /// # Errors
    /// A file that does not read, or is of another policy.
    pub fn open(
        settings: CompatSettings,
        default_policy: &str,
        registry: Arc<Registry>,
        traffic: Arc<Traffic>,
        journal: Journal,
        folder: PathBuf,
        (retention_days, watch_seconds): (Option<u32>, f64),
    ) -> Result<Self, CompatError> {
        let policy = settings.policy.clone().unwrap_or_else(|| default_policy.to_owned());
        let kept = match Kept::read(&folder)? {
            Some(kept) => Kept { policy: policy.clone(), ..kept },
            None => Kept::new(policy.clone()),
        };
        Ok(Self {
            settings,
            policy,
            registry,
            traffic,
            journal,
            folder,
            retention_days,
            watch_ms: (watch_seconds * 1000.0) as u64,
            kept: RwLock::new(Arc::new(kept)),
            changing: Mutex::new(()),
        })
    }

    /// What is in force.
    #[must_use]
    pub fn kept(&self) -> Arc<Kept> {
        Arc::clone(&self.kept.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The version that answers, or the one that has the greatest share.
    ///
    /// # Errors
    /// The policy is not live.
    pub fn live(&self) -> Result<Arc<LoadedPolicy>, CompatError> {
        Ok(self.registry.live(Some(&self.policy))?)
    }

    /// The service configuration.
    ///
    /// # Errors
    /// The policy is not live.
    pub fn configuration(&self) -> Result<ServiceConfiguration, CompatError> {
        let (kept, live) = (self.kept(), self.live()?);
        let route = self.registry.state(&self.policy)?.route;
        Ok(ServiceConfiguration {
            reward_wait_time: duration::write(kept.reward_wait_ms),
            default_reward: kept.default_reward,
            reward_aggregation: kept.reward_aggregation,
            exploration_percentage: explores(&live.manifest.exploration),
            model_export_frequency: kept
                .answered
                .model_export_frequency
                .clone()
                .unwrap_or_else(|| duration::write(self.watch_ms)),
            log_mirror_enabled: Some(false),
            log_mirror_sas_uri: None,
            log_retention_days: self.retention_days.map_or(-1, i64::from),
            last_configuration_edit_date: kept.edited,
            learning_mode: Some(if route.apprentice { LearningMode::Apprentice } else { LearningMode::Online }),
            is_auto_optimization_enabled: Some(kept.answered.is_auto_optimization_enabled.unwrap_or(false)),
            auto_optimization_frequency: kept.answered.auto_optimization_frequency.clone(),
            auto_optimization_start_date: kept.answered.auto_optimization_start_date,
            model_retrain_days: kept.answered.model_retrain_days,
        })
    }

    /// Puts a service configuration in force; `by` is who asks.
    ///
    /// # Errors
    /// A field that is refused, and nothing has changed; or a change that cannot be kept.
    pub async fn configure(&self, asked: ServiceConfiguration, by: &str) -> Result<ServiceConfiguration, CompatError> {
        asked.check()?;
        let _one_at_a_time = self.changing.lock().await;
        let (now, kept) = (self.configuration()?, self.kept());
        let retention = asked.log_retention_days;
        if retention != now.log_retention_days {
            return Err(CompatError::Configuration(ConfigurationError {
                code: "InvalidLogRetentionDays",
                field: "logRetentionDays",
                problem: format!(
                    "is {retention}, and {} is in force; `journal.keep_days` of the service's settings changes it",
                    now.log_retention_days
                ),
            }));
        }
        let wait = asked.wait_milliseconds()?;
        let mode = asked.learning_mode.or(now.learning_mode);
        let rewards = (wait, asked.default_reward, asked.reward_aggregation);
        if mode != now.learning_mode && rewards != (kept.reward_wait_ms, kept.default_reward, kept.reward_aggregation) {
            return Err(CompatError::Configuration(ConfigurationError {
                code: "InvalidLearningModeServiceConfiguration",
                field: "learningMode",
                problem: "cannot change together with defaultReward, rewardWaitTime or rewardAggregation; change one first, then the other"
                    .to_owned(),
            }));
        }
        let reason = || Reason { by: by.to_owned(), why: "a change of the service configuration".to_owned(), id: None };
        let mut exploration_percentage = kept.exploration_percentage;
        // The wire may carry it as a 32-bit number.
        if (asked.exploration_percentage - now.exploration_percentage).abs() > 1e-6 {
            self.explore(asked.exploration_percentage, reason()).await?;
            exploration_percentage = Some(asked.exploration_percentage);
        }
        if mode != now.learning_mode {
            let enabled = mode == Some(LearningMode::Apprentice);
            self.traffic.change(&self.policy, Action::Apprentice { enabled }, reason()).await?;
        }
        let next = Kept {
            reward_wait_ms: wait,
            default_reward: asked.default_reward,
            reward_aggregation: asked.reward_aggregation,
            exploration_percentage,
            edited: Some(Utc::now().trunc_subsecs(3)),
            answered: Answered {
                model_export_frequency: Some(asked.model_export_frequency),
                is_auto_optimization_enabled: asked.is_auto_optimization_enabled,
                auto_optimization_frequency: asked.auto_optimization_frequency,
                auto_optimization_start_date: asked.auto_optimization_start_date,
                model_retrain_days: asked.model_retrain_days,
            },
            ..(*kept).clone()
        };
        self.keep(next, reason()).await?;
        self.configuration()
    }

    /// Puts learning settings in force, the default ones where none are given.
    ///
    /// # Errors
    /// Arguments that are not known, and nothing has changed; or a change that cannot be kept.
    pub async fn learn_by(
        &self,
        learning: Option<LearningSettings>,
        by: &str,
    ) -> Result<LearningSettings, CompatError> {
        if let Some(learning) = &learning {
            algorithm_of(learning)?;
        }
        let _one_at_a_time = self.changing.lock().await;
        let next = Kept { learning, ..(*self.kept()).clone() };
        let why = "a change of the learning settings".to_owned();
        self.keep(next, Reason { by: by.to_owned(), why, id: None }).await?;
        Ok(self.kept().learning())
    }

    /// Lets a version answer that has learned nothing, of the live one's features and exploration.
    ///
    /// # Errors
    /// Versions that share the requests, or a version that cannot be made.
    pub async fn reset(&self, by: &str) -> Result<(), CompatError> {
        let _one_at_a_time = self.changing.lock().await;
        self.one_version()?;
        let (kept, live) = (self.kept(), self.live()?);
        let fresh = Begin {
            policy: self.policy.clone(),
            algorithm: kept.algorithm()?,
            features: live.manifest.features.clone(),
            exploration: kept.exploration().unwrap_or(live.manifest.exploration),
            reward: kept.reward(),
            max_candidates: live.manifest.slate.max_candidates,
        };
        let models = self.registry.models().to_owned();
        let made = tokio::task::spawn_blocking(move || begin(&models, &fresh)).await??;
        let reason = Reason { by: by.to_owned(), why: "the model was reset".to_owned(), id: None };
        self.take(made.version, reason).await
    }

    async fn explore(&self, epsilon: f64, reason: Reason) -> Result<(), CompatError> {
        let version = self.one_version()?;
        if matches!(self.live()?.manifest.exploration, Exploration::PosteriorSampling { .. }) {
            let problem =
                "cannot change: the live policy explores by drawing from its posterior, which is part of its model";
            return Err(ConfigurationError::of("explorationPercentage", problem).into());
        }
        let (models, policy) = (self.registry.models().to_owned(), self.policy.clone());
        let exploration = Exploration::EpsilonGreedy { epsilon };
        let made = tokio::task::spawn_blocking(move || explore(&models, &policy, version, exploration)).await??;
        self.take(made.version, reason).await
    }

    /// Lets a new version answer everything; an apprentice stays one.
    async fn take(&self, version: u64, reason: Reason) -> Result<(), CompatError> {
        self.traffic.change(&self.policy, Action::Split { shares: [(version, 1.0)].into() }, reason).await?;
        Ok(())
    }

    fn one_version(&self) -> Result<u64, CompatError> {
        let Route { shares, .. } = self.registry.state(&self.policy)?.route;
        match shares.keys().collect::<Vec<_>>().as_slice() {
            [version] => Ok(**version),
            several => Err(CompatError::Shared(several.iter().map(|version| **version).collect())),
        }
    }

    /// Journals the change, keeps it, and puts it in force.
    async fn keep(&self, next: Kept, reason: Reason) -> Result<(), CompatError> {
        let before = self.kept();
        let change = RouteChange {
            change_id: unique::by_time().to_string(),
            time: Utc::now().trunc_subsecs(6),
            source: "service".to_owned(),
            policy: self.policy.clone(),
            action: "configure".to_owned(),
            before: serde_json::json!(*before).to_string(),
            after: serde_json::json!(next).to_string(),
            by: reason.by,
            why: reason.why,
        };
        self.journal.append_change(&change).await?;
        let path = self.folder.join(KEPT);
        let text = serde_json::to_vec_pretty(&next).map_err(std::io::Error::from);
        text.and_then(|text| write_whole(&path, &text)).map_err(|source| CompatError::File { path, source })?;
        *self.kept.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        Ok(())
    }
}

/// The share of decisions that explore, as far as a method says it.
fn explores(exploration: &Exploration) -> f64 {
    match exploration {
        Exploration::Greedy => 0.0,
        Exploration::EpsilonGreedy { epsilon } => *epsilon,
        _ => 1.0,
    }
}
