//! What learns from a log.

use serde::{Deserialize, Serialize};

use crate::learner::{
    Awac, AwacSettings, Bc, BcSettings, Bcq, BcqSettings, Cql, CqlSettings, Crr, CrrSettings, Direct, DirectSettings,
    DoublyRobust, DoublyRobustSettings, Dqn, DqnSettings, Ips, IpsSettings, Iql, IqlSettings, Learner, LearnerError,
    Marwil, MarwilSettings, Optimisation, Problem, SlateQ, SlateQSettings, TopK, TopKSettings,
};

/// What learns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum OfflineAlgorithm {
    /// See [`Bc`].
    Bc(BcSettings),
    /// See [`Marwil`].
    Marwil(MarwilSettings),
    /// See [`Dqn`].
    Dqn(DqnSettings),
    /// See [`SlateQ`].
    SlateQ(SlateQSettings),
    /// See [`Bcq`].
    Bcq(BcqSettings),
    /// See [`Cql`].
    Cql(CqlSettings),
    /// See [`Iql`].
    Iql(IqlSettings),
    /// See [`Awac`].
    Awac(AwacSettings),
    /// See [`Crr`].
    Crr(CrrSettings),
    /// See [`Ips`].
    Ips(IpsSettings),
    /// See [`DoublyRobust`].
    DoublyRobust(DoublyRobustSettings),
    /// See [`TopK`].
    TopK(TopKSettings),
    /// See [`Direct`].
    Direct(DirectSettings),
}

/// What all algorithms say of themselves.
struct Traits<'a> {
    name: &'static str,
    discount: f64,
    steps: usize,
    optimisation: &'a Optimisation,
    problem: Option<String>,
}

/// The traits of settings that have a discount and steps.
macro_rules! traits {
    ($name:literal, $settings:expr) => {
        Traits {
            name: $name,
            discount: $settings.discount,
            steps: $settings.steps,
            optimisation: &$settings.optimisation,
            problem: $settings.problem(),
        }
    };
}

/// Those of settings for which nothing follows a decision.
macro_rules! myopic {
    ($name:literal, $settings:expr) => {
        Traits {
            name: $name,
            discount: 0.0,
            steps: 1,
            optimisation: &$settings.optimisation,
            problem: $settings.problem(),
        }
    };
}

impl OfflineAlgorithm {
    /// The names, as settings write them.
    pub const NAMES: [&'static str; 13] = [
        "bc",
        "marwil",
        "dqn",
        "slate_q",
        "bcq",
        "cql",
        "iql",
        "awac",
        "crr",
        "ips",
        "doubly_robust",
        "top_k",
        "direct",
    ];

    fn traits(&self) -> Traits<'_> {
        match self {
            Self::Bc(settings) => myopic!("bc", settings),
            Self::Marwil(settings) => traits!("marwil", settings),
            Self::Dqn(settings) => traits!("dqn", settings),
            Self::SlateQ(settings) => traits!("slate_q", settings),
            Self::Bcq(settings) => traits!("bcq", settings),
            Self::Cql(settings) => traits!("cql", settings),
            Self::Iql(settings) => traits!("iql", settings),
            Self::Awac(settings) => traits!("awac", settings),
            Self::Crr(settings) => traits!("crr", settings),
            Self::Ips(settings) => myopic!("ips", settings),
            Self::DoublyRobust(settings) => myopic!("doubly_robust", settings),
            Self::TopK(settings) => traits!("top_k", settings),
            Self::Direct(settings) => myopic!("direct", settings),
        }
    }

    /// The name in the manifest.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.traits().name
    }

    /// Gamma.
    #[must_use]
    pub fn discount(&self) -> f64 {
        self.traits().discount
    }

    /// n, the steps of a transition.
    #[must_use]
    pub fn transition_steps(&self) -> usize {
        self.traits().steps
    }

    /// Whether it learns only from decisions whose propensities are known.
    #[must_use]
    pub const fn weighs_by_propensities(&self) -> bool {
        matches!(self, Self::Ips(_) | Self::DoublyRobust(_) | Self::TopK(_))
    }

    /// How gradients become steps.
    #[must_use]
    pub fn optimisation(&self) -> &Optimisation {
        self.traits().optimisation
    }

    /// The first setting outside its range, with what is allowed.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.traits().problem.map(|problem| format!("algorithm: {problem}"))
    }

    /// The learner, its networks drawn from `seed`.
    ///
    /// # Errors
    /// A setting outside its range, or a problem that it is not for.
    pub fn build(&self, problem: Problem, seed: u64) -> Result<Box<dyn Learner>, LearnerError> {
        Ok(match self {
            Self::Bc(settings) => Box::new(Bc::new(settings, problem, seed)?),
            Self::Marwil(settings) => Box::new(Marwil::new(settings, problem, seed)?),
            Self::Dqn(settings) => Box::new(Dqn::new(settings, problem, seed)?),
            Self::SlateQ(settings) => Box::new(SlateQ::new(settings, problem, seed)?),
            Self::Bcq(settings) => Box::new(Bcq::new(settings, problem, seed)?),
            Self::Cql(settings) => Box::new(Cql::new(settings, problem, seed)?),
            Self::Iql(settings) => Box::new(Iql::new(settings, problem, seed)?),
            Self::Awac(settings) => Box::new(Awac::new(settings, problem, seed)?),
            Self::Crr(settings) => Box::new(Crr::new(settings, problem, seed)?),
            Self::Ips(settings) => Box::new(Ips::new(settings, problem, seed)?),
            Self::DoublyRobust(settings) => Box::new(DoublyRobust::new(settings, problem, seed)?),
            Self::TopK(settings) => Box::new(TopK::new(settings, problem, seed)?),
            Self::Direct(settings) => Box::new(Direct::new(settings, problem, seed)?),
        })
    }
}
