//! What to learn, in which environment, and how.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use slated_contract::feature::FeatureSchema;
use slated_contract::policy::SlateLimits;
use slated_contract::session::SessionSettings;
use slated_contract::slate::Exploration;

use crate::env::EnvironmentSettings;
use crate::learner::{Dqn, DqnSettings, Learner, LearnerError, Optimisation, Problem, SlateQ, SlateQSettings};
use crate::replay::ReplaySettings;

/// A run in an environment. The same settings give the same bytes on the same kind of processor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnlineSettings {
    /// The policy's name.
    pub policy: String,
    /// Where it learns: the name of a preset, or a table of settings.
    #[serde(deserialize_with = "preset_or_table")]
    pub environment: EnvironmentSettings,
    /// What learns.
    pub algorithm: OnlineAlgorithm,
    /// Seeds everything random.
    #[serde(default = "one")]
    pub seed: u64,
    /// How many slates are shown in all.
    #[serde(default = "default_steps")]
    pub steps: u64,
    /// How many environments run side by side.
    #[serde(default = "default_lanes")]
    pub lanes: usize,
    /// How many slates are shown at random before learning begins.
    #[serde(default = "default_warm_up")]
    pub warm_up: u64,
    /// Gradient steps for each slate shown.
    #[serde(default = "default_updates")]
    pub updates_per_step: f64,
    /// How slates are drawn while learning.
    #[serde(default)]
    pub behaviour: ExplorationSchedule,
    /// What is kept to learn from.
    #[serde(default)]
    pub replay: ReplaySettings,
    /// How progress is measured.
    #[serde(default)]
    pub evaluation: EvaluationSettings,
    /// A run can be stopped and resumed every so many steps: all environments then begin new episodes.
    #[serde(default = "default_checkpoint")]
    pub checkpoint_every: u64,
    /// The features to read; those of the environment where absent.
    #[serde(default)]
    pub features: Option<FeatureSchema>,
    /// What the session accumulator keeps; as the environment says where absent.
    #[serde(default)]
    pub session: Option<SessionSettings>,
    /// The requests that the policy is for; four times the environment's where absent.
    #[serde(default)]
    pub slate: Option<SlateLimits>,
    /// How the policy explores in service.
    #[serde(default = "default_exploration")]
    pub exploration: Exploration,
}

/// Reads `"lts-tutorial"` as well as a table; by hand, because serde's `untagged` would lose the key at fault.
pub(crate) fn preset_or_table<'de, D: Deserializer<'de>>(deserializer: D) -> Result<EnvironmentSettings, D::Error> {
    struct Either;

    impl<'de> Visitor<'de> for Either {
        type Value = EnvironmentSettings;

        fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
            formatter.write_str("the name of an environment's preset, or a table of its settings")
        }

        fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<EnvironmentSettings, E> {
            EnvironmentSettings::named(name).map_err(E::custom)
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<EnvironmentSettings, A::Error> {
            EnvironmentSettings::deserialize(MapAccessDeserializer::new(map))
        }
    }

    deserializer.deserialize_any(Either)
}

const fn one() -> u64 {
    1
}

const fn default_steps() -> u64 {
    100_000
}

const fn default_lanes() -> usize {
    16
}

const fn default_warm_up() -> u64 {
    1000
}

const fn default_updates() -> f64 {
    0.25
}

const fn default_checkpoint() -> u64 {
    5000
}

/// A little exploration: a log of certain decisions says nothing of any other policy.
const fn default_exploration() -> Exploration {
    Exploration::EpsilonGreedy { epsilon: 0.05 }
}

/// What learns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum OnlineAlgorithm {
    /// See [`Dqn`].
    Dqn(DqnSettings),
    /// See [`SlateQ`].
    SlateQ(SlateQSettings),
}

impl OnlineAlgorithm {
    /// The name in the manifest.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Dqn(_) => "dqn",
            Self::SlateQ(_) => "slate_q",
        }
    }

    /// Gamma.
    #[must_use]
    pub const fn discount(&self) -> f64 {
        match self {
            Self::Dqn(settings) => settings.discount,
            Self::SlateQ(settings) => settings.discount,
        }
    }

    /// n, the steps of a transition.
    #[must_use]
    pub const fn transition_steps(&self) -> usize {
        match self {
            Self::Dqn(settings) => settings.steps,
            Self::SlateQ(settings) => settings.steps,
        }
    }

    /// How gradients become steps.
    #[must_use]
    pub const fn optimisation(&self) -> &Optimisation {
        match self {
            Self::Dqn(settings) => &settings.optimisation,
            Self::SlateQ(settings) => &settings.optimisation,
        }
    }

    /// The learner, its networks drawn from `seed`.
    ///
    /// # Errors
    /// A setting outside its range, or a problem that it is not for.
    pub fn build(&self, problem: Problem, seed: u64) -> Result<Box<dyn Learner>, LearnerError> {
        Ok(match self {
            Self::Dqn(settings) => Box::new(Dqn::new(settings, problem, seed)?),
            Self::SlateQ(settings) => Box::new(SlateQ::new(settings, problem, seed)?),
        })
    }
}

/// Exploration that shrinks: linearly from `start` to `end` over the first `share` of the run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case", deny_unknown_fields)]
pub enum ExplorationSchedule {
    /// Of epsilon.
    EpsilonGreedy {
        /// At the start, 0 to 1.
        start: f64,
        /// At the end, 0 to 1.
        end: f64,
        /// From 0 to 1.
        share: f64,
    },
    /// Of the temperature, in units of the score.
    Softmax {
        /// At the start, above 0.
        start: f64,
        /// At the end, above 0.
        end: f64,
        /// From 0 to 1.
        share: f64,
    },
}

impl Default for ExplorationSchedule {
    fn default() -> Self {
        Self::EpsilonGreedy { start: 1.0, end: 0.05, share: 0.5 }
    }
}

impl ExplorationSchedule {
    /// The exploration when training has come `progress` of its way.
    #[must_use]
    pub fn at(&self, progress: f64) -> Exploration {
        let between = |start: f64, end: f64, share: f64| {
            let way = if share > 0.0 { (progress / share).min(1.0) } else { 1.0 };
            start + (end - start) * way
        };
        match *self {
            Self::EpsilonGreedy { start, end, share } => {
                Exploration::EpsilonGreedy { epsilon: between(start, end, share) }
            }
            Self::Softmax { start, end, share } => Exploration::Softmax { temperature: between(start, end, share) },
        }
    }

    fn problem(&self) -> Option<String> {
        let (Self::EpsilonGreedy { share, .. } | Self::Softmax { share, .. }) = *self;
        if !(0.0..=1.0).contains(&share) {
            return Some(format!("`behaviour.share` is {share}, allowed are 0 to 1"));
        }
        [0.0, 1.0]
            .into_iter()
            .find_map(|progress| self.at(progress).check().err())
            .map(|error| format!("behaviour: {error}"))
    }
}

/// How progress is measured: the greedy policy in episodes that it does not learn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluationSettings {
    /// Every so many steps; 0 measures only the end.
    pub every: u64,
    /// Episodes of each measurement.
    pub episodes: usize,
    /// Episodes of the last one.
    pub final_episodes: usize,
    /// Whether the policy that measured best is kept, rather than the last.
    pub keep_best: bool,
}

impl Default for EvaluationSettings {
    fn default() -> Self {
        Self { every: 5000, episodes: 100, final_episodes: 1000, keep_best: true }
    }
}

impl OnlineSettings {
    /// The most slates of one run.
    pub const MAX_STEPS: u64 = 10_000_000_000;

    /// The first setting outside its range, with what is allowed; the environment and the algorithm check their own.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let between = |key: &str, value: u64, least: u64, most: u64| {
            (!(least..=most).contains(&value)).then(|| format!("`{key}` is {value}, allowed are {least} to {most}"))
        };
        between("steps", self.steps, 1, Self::MAX_STEPS)
            .or_else(|| between("lanes", self.lanes as u64, 1, 10_000))
            .or_else(|| between("warm_up", self.warm_up, 1, self.steps))
            .or_else(|| between("checkpoint_every", self.checkpoint_every, 1, Self::MAX_STEPS))
            .or_else(|| between("evaluation.episodes", self.evaluation.episodes as u64, 2, 10_000_000))
            .or_else(|| between("evaluation.final_episodes", self.evaluation.final_episodes as u64, 2, 10_000_000))
            .or_else(|| {
                (!(self.updates_per_step.is_finite() && (0.0..=1000.0).contains(&self.updates_per_step)))
                    .then(|| format!("`updates_per_step` is {}, allowed are 0 to 1000", self.updates_per_step))
            })
            .or_else(|| self.behaviour.problem())
            .or_else(|| self.replay.problem())
            .or_else(|| self.exploration.check().err().map(|error| error.to_string()))
    }
}
