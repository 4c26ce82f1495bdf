//! Environments from settings.

use serde::{Deserialize, Serialize};

use super::{
    Environment, EnvironmentError, InterestEvolution, InterestEvolutionSettings, InterestExploration,
    InterestExplorationSettings, LongTermSatisfaction, LongTermSatisfactionSettings,
};

/// The most candidates of a step.
const MAX_CANDIDATES: usize = 10_000;

/// An environment with its parameters, each RecSim's where absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum EnvironmentSettings {
    /// See [`LongTermSatisfaction`].
    LongTermSatisfaction(LongTermSatisfactionSettings),
    /// See [`InterestEvolution`].
    InterestEvolution(InterestEvolutionSettings),
    /// See [`InterestExploration`].
    InterestExploration(InterestExplorationSettings),
}

impl EnvironmentSettings {
    /// The presets, by name.
    pub const PRESETS: [&'static str; 4] = ["lts-tutorial", "lts", "interest-evolution", "interest-exploration"];

    /// The settings of a preset.
    #[must_use]
    pub fn preset(name: &str) -> Option<Self> {
        match name {
            "lts-tutorial" => Some(Self::LongTermSatisfaction(LongTermSatisfactionSettings::tutorial())),
            "lts" => Some(Self::LongTermSatisfaction(LongTermSatisfactionSettings::default())),
            "interest-evolution" => Some(Self::InterestEvolution(InterestEvolutionSettings::default())),
            "interest-exploration" => Some(Self::InterestExploration(InterestExplorationSettings::default())),
            _ => None,
        }
    }

    /// The settings of a preset.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn named(name: &str) -> Result<Self, EnvironmentError> {
        Self::preset(name)
            .ok_or_else(|| EnvironmentError::Unknown { name: name.to_owned(), known: Self::PRESETS.join(", ") })
    }

    /// The environment's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::LongTermSatisfaction(_) => LongTermSatisfaction::NAME,
            Self::InterestEvolution(_) => InterestEvolution::NAME,
            Self::InterestExploration(_) => InterestExploration::NAME,
        }
    }

    /// Makes the environment.
    ///
    /// # Errors
    /// The first setting outside its range.
    pub fn build(&self) -> Result<Box<dyn Environment>, EnvironmentError> {
        Ok(match self {
            Self::LongTermSatisfaction(settings) => Box::new(LongTermSatisfaction::new(settings)?),
            Self::InterestEvolution(settings) => Box::new(InterestEvolution::new(settings)?),
            Self::InterestExploration(settings) => Box::new(InterestExploration::new(settings)?),
        })
    }
}

/// Refuses the setting `key` unless its value is allowed.
pub(super) fn require(
    holds: bool,
    key: &'static str,
    value: impl ToString,
    allowed: impl Into<String>,
) -> Result<(), EnvironmentError> {
    if holds {
        Ok(())
    } else {
        Err(EnvironmentError::Setting { key, value: value.to_string(), allowed: allowed.into() })
    }
}

/// Checks the sizes that every environment has.
pub(super) fn check_sizes(candidates: usize, slate_size: usize) -> Result<(), EnvironmentError> {
    let allowed = format!("allowed are 1 to {MAX_CANDIDATES}");
    require((1..=MAX_CANDIDATES).contains(&candidates), "candidates", candidates, allowed)?;
    let allowed = format!("allowed are 1 to the {candidates} candidates");
    require((1..=candidates).contains(&slate_size), "slate_size", slate_size, allowed)
}
