//! The Personalizer's service configuration, as published.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use utoipa::ToSchema;

use super::duration;

/// The service configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceConfiguration {
    /// How long after its rank call a reward counts, and after which an event without one has the default reward: an ISO
    /// 8601 duration from 5 seconds to 2 days.
    #[schema(example = "PT10M")]
    pub reward_wait_time: String,
    /// The reward of an event that got none in time, from -1 to 1.
    #[schema(example = 0.0, minimum = -1, maximum = 1)]
    pub default_reward: f64,
    /// How several rewards of one event combine.
    #[schema(example = "earliest")]
    pub reward_aggregation: RewardAggregation,
    /// The share of rank calls that explore, from 0 to 1; 1 where the live policy explores otherwise than by epsilon-greedy.
    #[schema(example = 0.2, minimum = 0, maximum = 1)]
    pub exploration_percentage: f64,
    /// How soon a newer model goes live. Kept and answered; `models.watch_seconds` is what decides.
    #[schema(example = "PT2S")]
    pub model_export_frequency: String,
    /// Whether logs are copied elsewhere; `journal.upload_to` does that here, so it cannot be switched on by this route.
    #[serde(default)]
    #[schema(example = false)]
    pub log_mirror_enabled: Option<bool>,
    /// Where logs would be copied to; cannot be set by this route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = json!(null))]
    pub log_mirror_sas_uri: Option<String>,
    /// For how many days the journal is kept, -1 for ever; set by `journal.keep_days`, and cannot be changed by this route.
    #[schema(example = -1, minimum = -1)]
    pub log_retention_days: i64,
    /// When the configuration was last changed by this route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "2026-01-31T12:00:00Z")]
    pub last_configuration_edit_date: Option<DateTime<Utc>>,
    /// Who decides; as it is where absent.
    #[serde(default)]
    #[schema(example = "Online")]
    pub learning_mode: Option<LearningMode>,
    /// Kept and answered; `slated autopilot` is what tries other learning settings.
    #[serde(default)]
    #[schema(example = false)]
    pub is_auto_optimization_enabled: Option<bool>,
    /// Kept and answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "P7D")]
    pub auto_optimization_frequency: Option<String>,
    /// Kept and answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "2026-02-01T00:00:00Z")]
    pub auto_optimization_start_date: Option<DateTime<Utc>>,
    /// Kept and answered; what is learned from is a setting of training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 0, minimum = 0)]
    pub model_retrain_days: Option<i64>,
}

/// Who decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = "Online")]
pub enum LearningMode {
    /// The policy.
    Online,
    /// The caller, whose first action is answered, while the policy's choice is journalled beside it.
    Apprentice,
    /// Not offered here: a service that only logs is an apprentice.
    LoggingOnly,
}

/// How several rewards of one event combine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(example = "earliest")]
pub enum RewardAggregation {
    /// The earliest counts.
    #[serde(alias = "Earliest")]
    Earliest,
    /// They are added.
    #[serde(alias = "Sum")]
    Sum,
}

/// A configuration that is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{field}` {problem}")]
pub struct ConfigurationError {
    /// The published code of the error.
    pub code: &'static str,
    /// The field at fault.
    pub field: &'static str,
    /// What is wrong, and what to do.
    pub problem: String,
}

impl ConfigurationError {
    /// A field at fault; the code is the general one.
    pub fn of(field: &'static str, problem: impl Into<String>) -> Self {
        Self { code: "InvalidServiceConfiguration", field, problem: problem.into() }
    }
}

impl ServiceConfiguration {
    /// The waiting time, in milliseconds.
    ///
    /// # Errors
    /// A duration that is none, or not from 5 seconds to 2 days.
    pub fn wait_milliseconds(&self) -> Result<u64, ConfigurationError> {
        let wait = duration::parse(&self.reward_wait_time).filter(|wait| (5_000..=172_800_000).contains(wait));
        wait.ok_or_else(|| ConfigurationError {
            code: "InvalidRewardWaitTime",
            field: "rewardWaitTime",
            problem: format!(
                "is `{}`; it is an ISO 8601 duration from 5 seconds to 2 days, such as PT10M",
                self.reward_wait_time
            ),
        })
    }

    /// Checks what can be checked without knowing what is in force.
    ///
    /// # Errors
    /// The first field at fault.
    pub fn check(&self) -> Result<(), ConfigurationError> {
        self.wait_milliseconds()?;
        let durations = [
            ("modelExportFrequency", Some(&self.model_export_frequency)),
            ("autoOptimizationFrequency", self.auto_optimization_frequency.as_ref()),
        ];
        for (field, text) in durations {
            if text.is_some_and(|text| duration::parse(text).is_none()) {
                return Err(ConfigurationError::of(field, "must be an ISO 8601 duration, such as PT5M"));
            }
        }
        if !(-1.0..=1.0).contains(&self.default_reward) {
            return Err(ConfigurationError::of(
                "defaultReward",
                format!("is {}, allowed are -1 to 1", self.default_reward),
            ));
        }
        if !(0.0..=1.0).contains(&self.exploration_percentage) {
            let problem = format!("is {}, allowed are 0 to 1", self.exploration_percentage);
            return Err(ConfigurationError::of("explorationPercentage", problem));
        }
        if self.log_mirror_enabled == Some(true) || self.log_mirror_sas_uri.is_some() {
            let problem = "cannot be set here: `journal.upload_to` of the service's settings copies closed segments to an object store";
            return Err(ConfigurationError::of("logMirrorEnabled", problem));
        }
        if self.learning_mode == Some(LearningMode::LoggingOnly) {
            return Err(ConfigurationError {
                code: "InvalidLearningModeServiceConfiguration",
                field: "learningMode",
                problem: "cannot be LoggingOnly; Apprentice answers the caller's own choice and journals the policy's"
                    .to_owned(),
            });
        }
        if self.model_retrain_days.is_some_and(|days| days < 0) {
            return Err(ConfigurationError::of("modelRetrainDays", "must be at least 0"));
        }
        Ok(())
    }
}
