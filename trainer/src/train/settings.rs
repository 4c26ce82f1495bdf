//! What to train, from what, and how.

use serde::{Deserialize, Serialize};
use slated_contract::feature::FeatureSchema;
use slated_contract::policy::SlateLimits;
use slated_contract::session::SessionSettings;
use slated_contract::slate::Exploration;

use crate::bandit::Interaction;
use crate::dataset::DatasetSettings;

/// A training run. The same settings over the same journal give the same bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSettings {
    /// The policy's name.
    pub policy: String,
    /// What to learn from.
    pub data: DatasetSettings,
    /// What learns.
    #[serde(default)]
    pub algorithm: AlgorithmSettings,
    /// Seeds everything random.
    #[serde(default = "seed")]
    pub seed: u64,
    /// The features to read; found in the data where absent.
    #[serde(default)]
    pub features: Option<FeatureSchema>,
    /// What the session accumulator keeps, for a schema that reads the session.
    #[serde(default)]
    pub session: SessionSettings,
    /// The requests that the policy is for; four times the largest in the data where absent.
    #[serde(default)]
    pub slate: Option<SlateLimits>,
    /// How the policy explores; what suits the algorithm where absent.
    #[serde(default)]
    pub exploration: Option<Exploration>,
}

/// What learns.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum AlgorithmSettings {
    /// See [`crate::bandit::LinUcb`].
    Linucb {
        /// Width of the bound, in standard deviations.
        #[serde(default = "one")]
        alpha: f64,
        /// Prior precision of the weights.
        #[serde(default = "one")]
        lambda: f64,
        /// How state and item interact.
        #[serde(default)]
        interaction: Interaction,
    },
    /// See [`crate::bandit::LinearThompson`].
    LinearThompson {
        /// Scale of the posterior draws.
        #[serde(default = "one")]
        scale: f64,
        /// Prior precision of the weights.
        #[serde(default = "one")]
        lambda: f64,
        /// How state and item interact.
        #[serde(default)]
        interaction: Interaction,
    },
}

const fn seed() -> u64 {
    1
}

const fn one() -> f64 {
    1.0
}

impl Default for AlgorithmSettings {
    fn default() -> Self {
        Self::LinearThompson { scale: 1.0, lambda: 1.0, interaction: Interaction::default() }
    }
}

impl AlgorithmSettings {
    /// The name in the manifest.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Linucb { .. } => "linucb",
            Self::LinearThompson { .. } => "linear_thompson",
        }
    }

    /// How state and item interact.
    #[must_use]
    pub const fn interaction(&self) -> Interaction {
        match self {
            Self::Linucb { interaction, .. } | Self::LinearThompson { interaction, .. } => *interaction,
        }
    }

    /// Prior precision of the weights.
    #[must_use]
    pub const fn lambda(&self) -> f64 {
        match self {
            Self::Linucb { lambda, .. } | Self::LinearThompson { lambda, .. } => *lambda,
        }
    }

    /// What the algorithm explores with by itself. A bound alone would make every decision certain, and a log of
    /// certain decisions says nothing of any other policy, so LinUCB explores a little besides.
    #[must_use]
    pub const fn exploration(&self) -> Exploration {
        match self {
            Self::Linucb { .. } => Exploration::EpsilonGreedy { epsilon: 0.05 },
            Self::LinearThompson { .. } => Exploration::PosteriorSampling { draws: 100 },
        }
    }

    /// The first parameter outside its range, and what is allowed.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let (name, value) = match self {
            Self::Linucb { alpha, .. } => ("alpha", *alpha),
            Self::LinearThompson { scale, .. } => ("scale", *scale),
        };
        if !(value.is_finite() && value >= 0.0) {
            return Some(format!("`algorithm.{name}` is {value}, it must be finite and at least 0"));
        }
        let lambda = self.lambda();
        (!(lambda.is_finite() && lambda > 0.0))
            .then(|| format!("`algorithm.lambda` is {lambda}, it must be finite and above 0"))
    }
}
