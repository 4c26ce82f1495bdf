//! How to search.

use serde::{Deserialize, Serialize};

use super::search::TuneError;
use super::{SamplerSettings, SearchSpace};

/// The most points that a grid may have.
const MAX_GRID: u64 = 100_000;

/// A search. The same settings give the same trials and results, whatever the number of threads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TuneSettings {
    /// The settings that vary.
    pub space: SearchSpace,
    /// What picks the next settings to try.
    #[serde(default)]
    pub sampler: SamplerSettings,
    /// How many settings to try; a grid tries all of its own.
    #[serde(default)]
    pub trials: Option<u64>,
    /// What a whole trial may use, in the objective's own unit, such as environment steps.
    pub budget: u64,
    /// Ends most trials early; each runs to the whole budget where absent.
    #[serde(default)]
    pub early_stopping: Option<EarlyStopping>,
    /// Whether the objective should be great or small.
    #[serde(default)]
    pub goal: Goal,
    /// How many runs are decided on at a time, before their results are looked at. They run side by side on as many
    /// threads as there are; results depend on this number, not on the threads.
    #[serde(default = "batch")]
    pub batch: usize,
    /// Seeds the sampler. The trials keep the seed of their own settings.
    #[serde(default = "seed")]
    pub seed: u64,
}

/// Asynchronous successive halving; see [`super::Search`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopping {
    /// The least budget after which a trial may be ended.
    pub minimum: u64,
    /// One in so many trials goes on, with so many times the budget.
    #[serde(default = "reduction")]
    pub reduction: u64,
}

/// Whether the objective should be great or small.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Great, such as a return.
    #[default]
    Maximize,
    /// Small, such as an error.
    Minimize,
}

const fn batch() -> usize {
    4
}

const fn seed() -> u64 {
    1
}

const fn reduction() -> u64 {
    3
}

impl Goal {
    /// The objective as something to minimise.
    pub(super) const fn loss(self, value: f64) -> f64 {
        match self {
            Self::Maximize => -value,
            Self::Minimize => value,
        }
    }
}

impl TuneSettings {
    /// How many trials there will be.
    ///
    /// # Errors
    /// The first setting outside its range; the message names it and what is allowed.
    pub fn check(&self) -> Result<u64, TuneError> {
        let refuse = |key: &str, value: &dyn std::fmt::Display, allowed: &str| {
            Err(TuneError::Setting(format!("`{key}` is {value}, {allowed}")))
        };
        if self.budget == 0 {
            return refuse("budget", &self.budget, "it must be at least 1");
        }
        if self.batch == 0 {
            return refuse("batch", &self.batch, "it must be at least 1");
        }
        let trials = match (&self.sampler, self.trials) {
            (SamplerSettings::Grid { points }, _) if *points < 2 => {
                return refuse("sampler.points", points, "it must be at least 2");
            }
            (SamplerSettings::Grid { points }, given) => {
                let sizes =
                    self.space.parameters().iter().map(|parameter| parameter.domain.levels(*points).len() as u64);
                let size = sizes.fold(1, u64::saturating_mul);
                if size > MAX_GRID {
                    let allowed = format!("at most {MAX_GRID}; use fewer `sampler.points` or another sampler");
                    return refuse("sampler", &format!("a grid of {size} points"), &allowed);
                }
                if let Some(given) = given.filter(|given| *given != size) {
                    return refuse(
                        "trials",
                        &given,
                        &format!("the grid has {size} points and tries all; leave it out"),
                    );
                }
                size
            }
            (_, Some(0)) => return refuse("trials", &0, "it must be at least 1"),
            (_, given) => given.unwrap_or(32),
        };
        if let Some(EarlyStopping { minimum, reduction }) = self.early_stopping {
            if reduction < 2 {
                return refuse("early_stopping.reduction", &reduction, "it must be at least 2");
            }
            if !(1..self.budget).contains(&minimum) {
                let allowed = format!("it must be from 1 to below the `budget` of {}", self.budget);
                return refuse("early_stopping.minimum", &minimum, &allowed);
            }
            let needed = reduction.pow(self.budgets().len() as u32 - 1);
            if trials < needed {
                let problem = format!(
                    "with `early_stopping` of {minimum} and a `budget` of {} none would reach the whole budget; it \
                     takes at least {needed} trials, or a greater `early_stopping.minimum`",
                    self.budget
                );
                return refuse("trials", &trials, &problem);
            }
        }
        Ok(trials)
    }

    /// The budgets at which trials are compared, up to the whole one.
    #[must_use]
    pub fn budgets(&self) -> Vec<u64> {
        let Some(EarlyStopping { minimum, reduction }) = self.early_stopping else { return vec![self.budget] };
        let smaller = std::iter::successors(Some(self.budget), |budget| {
            // A reduction that is out of range is refused by `check`.
            Some(budget / reduction.max(2)).filter(|budget| *budget >= minimum.max(1))
        });
        let mut budgets: Vec<_> = smaller.collect();
        budgets.reverse();
        budgets
    }
}
