//! How a policy explores: a setting of its bundle.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How a slate is drawn from scores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "method", rename_all = "snake_case", deny_unknown_fields)]
pub enum Exploration {
    /// The highest scores, in order; ties go to the candidate that stands first.
    #[default]
    Greedy,
    /// At each position, with probability `epsilon` a uniform draw from the candidates that are left, otherwise the
    /// best of them.
    EpsilonGreedy {
        /// From 0 to 1.
        epsilon: f64,
    },
    /// Plackett-Luce without replacement: at each position, candidate i of those left with probability
    /// `exp(score_i / temperature) / sum_j exp(score_j / temperature)`.
    Softmax {
        /// Above zero.
        temperature: f64,
    },
    /// At each position, candidate i of the m that are left with probability `1 / (m + gamma (score_best - score_i))`, and
    /// the best of them with what remains (SquareCB, Foster & Rakhlin 2020, arXiv:2002.04926).
    InverseGapWeighting {
        /// At least 0: 0 is uniform, and the greater the nearer to greedy; in units of one over the scores'.
        gamma: f64,
    },
    /// The highest scores under one draw of the model's posterior, through its `noise` input.
    ///
    /// There is no closed form: propensities are estimated from `draws` further draws.
    PosteriorSampling {
        /// How many draws the propensities are estimated from, 1 to 4,096.
        draws: u32,
    },
}

/// Exploration settings that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum ExplorationError {
    /// `epsilon` outside 0 to 1.
    #[error("exploration: `epsilon` is {0}, allowed are 0 to 1")]
    Epsilon(f64),
    /// `temperature` not above zero.
    #[error("exploration: `temperature` is {0}, it must be finite and above 0")]
    Temperature(f64),
    /// `gamma` below zero.
    #[error("exploration: `gamma` is {0}, it must be finite and at least 0")]
    Gamma(f64),
    /// `draws` outside 1 to [`Exploration::MAX_DRAWS`].
    #[error("exploration: `draws` is {0}, allowed are 1 to {max}", max = Exploration::MAX_DRAWS)]
    Draws(u32),
}

impl Exploration {
    /// The most draws that propensities may be estimated from.
    pub const MAX_DRAWS: u32 = 4096;

    /// Checks the settings.
    ///
    /// # Errors
    /// A parameter outside its range.
    pub fn check(&self) -> Result<(), ExplorationError> {
        match *self {
            Self::EpsilonGreedy { epsilon } if !(0.0..=1.0).contains(&epsilon) => {
                Err(ExplorationError::Epsilon(epsilon))
            }
            Self::Softmax { temperature } if !(temperature.is_finite() && temperature > 0.0) => {
                Err(ExplorationError::Temperature(temperature))
            }
            Self::InverseGapWeighting { gamma } if !(gamma.is_finite() && gamma >= 0.0) => {
                Err(ExplorationError::Gamma(gamma))
            }
            Self::PosteriorSampling { draws } if draws == 0 || draws > Self::MAX_DRAWS => {
                Err(ExplorationError::Draws(draws))
            }
            _ => Ok(()),
        }
    }

    /// How many rows of scores a decision needs: one, and one more for each draw of the posterior.
    #[must_use]
    pub const fn score_rows(&self) -> usize {
        match self {
            Self::PosteriorSampling { draws } => 1 + *draws as usize,
            _ => 1,
        }
    }

    /// The name under which the journal and the metrics know the method.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        match self {
            Self::Greedy => "greedy",
            Self::EpsilonGreedy { .. } => "epsilon_greedy",
            Self::Softmax { .. } => "softmax",
            Self::InverseGapWeighting { .. } => "inverse_gap_weighting",
            Self::PosteriorSampling { .. } => "posterior_sampling",
        }
    }
}
