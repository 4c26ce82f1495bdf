//! What to train, from what, and how.

use serde::{Deserialize, Serialize};
use slated_contract::feature::FeatureSchema;
use slated_contract::policy::SlateLimits;
use slated_contract::session::SessionSettings;
use slated_contract::slate::Exploration;

use crate::bandit::{
    BanditSettings, BernoulliThompsonSettings, BootstrapEnsembleSettings, EpsilonGreedySettings, LinUcbSettings,
    LinearThompsonSettings, NeuralLinearSettings, SquareCbSettings, Ucb1Settings,
};
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum AlgorithmSettings {
    /// The mean reward of each item.
    EpsilonGreedy(EpsilonGreedySettings),
    /// The upper confidence bound of each item.
    Ucb1(Ucb1Settings),
    /// See [`crate::bandit::BernoulliThompson`].
    BernoulliThompson(BernoulliThompsonSettings),
    /// See [`crate::bandit::LinUcb`].
    Linucb(LinUcbSettings),
    /// See [`crate::bandit::LinearThompson`].
    LinearThompson(LinearThompsonSettings),
    /// See [`SquareCbSettings`].
    SquareCb(SquareCbSettings),
    /// See [`crate::bandit::NeuralLinear`].
    NeuralLinear(NeuralLinearSettings),
    /// See [`crate::bandit::BootstrapEnsemble`].
    BootstrapEnsemble(BootstrapEnsembleSettings),
}

const fn seed() -> u64 {
    1
}

impl Default for AlgorithmSettings {
    fn default() -> Self {
        Self::LinearThompson(LinearThompsonSettings::default())
    }
}

impl AlgorithmSettings {
    /// The name in the manifest.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::EpsilonGreedy(_) => "epsilon_greedy",
            Self::Ucb1(_) => "ucb1",
            Self::BernoulliThompson(_) => "bernoulli_thompson",
            Self::Linucb(_) => "linucb",
            Self::LinearThompson(_) => "linear_thompson",
            Self::SquareCb(_) => "square_cb",
            Self::NeuralLinear(_) => "neural_linear",
            Self::BootstrapEnsemble(_) => "bootstrap_ensemble",
        }
    }

    /// The settings of the algorithm.
    #[must_use]
    pub fn bandit(&self) -> &dyn BanditSettings {
        match self {
            Self::EpsilonGreedy(settings) => settings,
            Self::Ucb1(settings) => settings,
            Self::BernoulliThompson(settings) => settings,
            Self::Linucb(settings) => settings,
            Self::LinearThompson(settings) => settings,
            Self::SquareCb(settings) => settings,
            Self::NeuralLinear(settings) => settings,
            Self::BootstrapEnsemble(settings) => settings,
        }
    }
}
