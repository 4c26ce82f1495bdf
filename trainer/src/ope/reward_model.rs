//! Reward models for the direct method and doubly robust estimators, cross-fitted: what a round is told was learned
//! from other rounds, so that the model's errors are independent of the round's own reward (Chernozhukov et al. 2018,
//! arXiv:1608.00060).
//!
//! The examples are not held in memory: they are given once for a ridge regression, and as often as it takes for a
//! logistic one.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use crate::bandit::{LinearError, LinearStatistics};
use crate::logistic::{sigmoid, softplus};

/// What predicts the reward from features phi(s, a).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardModelSettings {
    /// The kind of regression.
    #[serde(default)]
    pub kind: RewardModelKind,
    /// The ridge, above 0; on sums over examples.
    #[serde(default = "lambda")]
    pub lambda: f64,
    /// Into how many parts the log is divided, from 2 to 20.
    #[serde(default = "folds")]
    pub folds: u32,
}

const fn lambda() -> f64 {
    1.0
}

const fn folds() -> u32 {
    3
}

impl Default for RewardModelSettings {
    fn default() -> Self {
        Self { kind: RewardModelKind::default(), lambda: lambda(), folds: folds() }
    }
}

/// The kind of regression.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewardModelKind {
    /// `q = w' phi`, for any reward.
    #[default]
    Ridge,
    /// `q = 1 / (1 + exp(-w' phi))`, for rewards from 0 to 1: fitted by Newton's method, halving steps that lose.
    Logistic,
}

/// A reward model that cannot be fitted.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum RewardModelError {
    /// A setting.
    #[error("reward model: `{parameter}` is {value}, {allowed}")]
    Setting {
        /// Which.
        parameter: &'static str,
        /// Its value.
        value: f64,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A reward that the model cannot predict.
    #[error("a reward of {0} is not for a logistic reward model, which takes 0 to 1; choose `ridge`")]
    Reward(f64),
    /// A part of the log without any other.
    #[error("the reward model has no example to learn part {0} of the log from; the log is too small for its `folds`")]
    Empty(u32),
    /// The regression.
    #[error("reward model: {0}")]
    Linear(#[from] LinearError),
    /// Newton's method did not arrive.
    #[error("the logistic reward model did not converge in {0} passes; normalise the features, or raise `lambda`")]
    Diverged(u32),
}

/// The part of the log, of `folds`, to which the rounds of a user (or a round without one, by its id) belong.
#[must_use]
pub fn fold_of(id: &str, folds: u32) -> u32 {
    (xxh3_64(id.as_bytes()) % u64::from(folds.max(1))) as u32
}

/// The most passes of Newton's method.
const PASSES: u32 = 50;
/// The change of the weights, relative to their size, at which it has arrived.
const ARRIVED: f64 = 1e-6;

/// A reward model for each part of the log, fitted from the other parts.
///
/// Give every example to [`CrossFit::add`], then call [`CrossFit::end_pass`]; again, in the same order, for as long as it
/// says so.
#[derive(Debug, Clone)]
pub struct CrossFit {
    settings: RewardModelSettings,
    models: Vec<Model>,
    examples: Vec<u64>,
    passes: u32,
}

/// The model for one part.
#[derive(Debug, Clone)]
struct Model {
    /// Ridge: the examples of this part alone. Logistic: those of the other parts, weighted.
    statistics: LinearStatistics,
    weights: Vec<f64>,
    /// Logistic: the penalised negative log-likelihood of `weights`, summed in this pass.
    loss: f64,
    /// Logistic: the weights before the last step, and their loss.
    before: Option<(Vec<f64>, f64)>,
    fitted: bool,
}

impl CrossFit {
    /// An empty fit over `width` (d) features.
    ///
    /// # Errors
    /// A setting outside its range.
    pub fn new(settings: RewardModelSettings, width: usize) -> Result<Self, RewardModelError> {
        let RewardModelSettings { lambda, folds, .. } = settings;
        let refuse = |parameter, value, allowed| Err(RewardModelError::Setting { parameter, value, allowed });
        if !(lambda.is_finite() && lambda > 0.0) {
            return refuse("lambda", lambda, "it must be finite and above 0");
        }
        if !(2..=20).contains(&folds) {
            return refuse("folds", f64::from(folds), "allowed are 2 to 20");
        }
        let model = Model {
            statistics: LinearStatistics::new(width),
            weights: vec![0.0; width],
            loss: 0.0,
            before: None,
            fitted: false,
        };
        Ok(Self { settings, models: vec![model; folds as usize], examples: vec![0; folds as usize], passes: 0 })
    }

    /// The settings.
    #[must_use]
    pub const fn settings(&self) -> &RewardModelSettings {
        &self.settings
    }

    /// Adds an example of a part of the log.
    ///
    /// # Errors
    /// A reward that a logistic model cannot predict.
    pub fn add(&mut self, fold: u32, phi: &[f64], reward: f64) -> Result<(), RewardModelError> {
        let own = fold as usize % self.models.len();
        self.examples[own] += u64::from(self.passes == 0);
        match self.settings.kind {
            RewardModelKind::Ridge => {
                let statistics = &mut self.models[own].statistics;
                statistics.add(reward, |block| block.extend_from_slice(phi));
                statistics.flush_full();
            }
            RewardModelKind::Logistic => {
                if !(0.0..=1.0).contains(&reward) {
                    return Err(RewardModelError::Reward(reward));
                }
                let others = self.models.iter_mut().enumerate().filter(|(part, model)| *part != own && !model.fitted);
                others.for_each(|(_, model)| model.add_logistic(phi, reward));
            }
        }
        Ok(())
    }

    /// Ends a pass over the examples; whether another one is needed.
    ///
    /// # Errors
    /// A part without examples in the others, a regression that fails.
    pub fn end_pass(&mut self) -> Result<bool, RewardModelError> {
        let all: u64 = self.examples.iter().sum();
        if let Some(part) = self.examples.iter().position(|own| *own == all) {
            return Err(RewardModelError::Empty(part as u32));
        }
        self.passes += 1;
        match self.settings.kind {
            RewardModelKind::Ridge => self.solve_ridge()?,
            RewardModelKind::Logistic => {
                for model in self.models.iter_mut().filter(|model| !model.fitted) {
                    model.step(self.settings.lambda)?;
                }
                if self.passes == PASSES && self.models.iter().any(|model| !model.fitted) {
                    return Err(RewardModelError::Diverged(PASSES));
                }
            }
        }
        Ok(self.models.iter().any(|model| !model.fitted))
    }

    fn solve_ridge(&mut self) -> Result<(), RewardModelError> {
        let width = self.models.first().map_or(0, |model| model.weights.len());
        let parts: Vec<(Vec<f64>, Vec<f64>)> = self
            .models
            .iter_mut()
            .map(|model| {
                let (gram, moment) = model.statistics.parts();
                (gram, moment.to_vec())
            })
            .collect();
        for (own, model) in self.models.iter_mut().enumerate() {
            let (mut gram, mut moment) = (vec![0.0; width * width], vec![0.0; width]);
            for (part, (other_gram, other_moment)) in parts.iter().enumerate() {
                if part != own {
                    gram.iter_mut().zip(other_gram).for_each(|(sum, value)| *sum += value);
                    moment.iter_mut().zip(other_moment).for_each(|(sum, value)| *sum += value);
                }
            }
            let mut others = LinearStatistics::from_parts(&gram, moment, 0);
            model.weights = others.posterior(self.settings.lambda)?.theta;
            model.fitted = true;
        }
        Ok(())
    }

    /// The prediction for an item of a round of this part of the log, by the model that has not seen the part.
    #[must_use]
    pub fn predict(&self, fold: u32, phi: &[f64]) -> f64 {
        let product = dot(&self.models[fold as usize % self.models.len()].weights, phi);
        match self.settings.kind {
            RewardModelKind::Ridge => product,
            RewardModelKind::Logistic => sigmoid(product),
        }
    }
}

impl Model {
    /// Adds a row of the weighted regression by which Newton's method steps: `sqrt(s) phi` on
    /// `sqrt(s) (w' phi + (r - p) / s)` with `s = p (1 - p)`.
    fn add_logistic(&mut self, phi: &[f64], reward: f64) {
        let product = dot(&self.weights, phi);
        let p = sigmoid(product);
        let s = (p * (1.0 - p)).max(1e-10);
        self.loss += softplus(product) - reward * product;
        let root = s.sqrt();
        self.statistics.add(root * (product + (reward - p) / s), |block| block.extend(phi.iter().map(|x| root * x)));
        self.statistics.flush_full();
    }

    /// Goes to where the regression points, or half way back where the last step lost.
    fn step(&mut self, lambda: f64) -> Result<(), RewardModelError> {
        let width = self.weights.len();
        let loss = self.loss + 0.5 * lambda * dot(&self.weights, &self.weights);
        let mut statistics = std::mem::replace(&mut self.statistics, LinearStatistics::new(width));
        self.loss = 0.0;
        if let Some((before, least)) = &self.before
            && loss.partial_cmp(&(least + 1e-9 * least.abs())).is_none_or(std::cmp::Ordering::is_gt)
        {
            self.weights.iter_mut().zip(before).for_each(|(weight, before)| *weight = 0.5 * (*weight + before));
            return Ok(());
        }
        let next = statistics.posterior(lambda)?.theta;
        let change = next.iter().zip(&self.weights).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let size = next.iter().map(|weight| weight.abs()).fold(1.0, f64::max);
        self.before = Some((std::mem::replace(&mut self.weights, next), loss));
        self.fitted = change <= ARRIVED * size;
        Ok(())
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
