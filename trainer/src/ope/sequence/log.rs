//! A log of episodes, checked and reduced to what estimators read.

use std::ops::Range;

use super::super::column::Column;
use super::super::diagnostics::{Diagnostics, Support, Weights, kish};
use super::super::error::{finite, happened, probability, row};
use super::super::estimator::Clusters;
use super::super::{Log, OpeError};
use super::FittedQ;

/// One decision of an episode. An action may be a whole slate, with its joint propensities.
#[derive(Debug, Clone, Copy, Default)]
pub struct Step<'a> {
    /// The reward, r.
    pub reward: f64,
    /// The probability with which the logging policy took the action.
    pub propensity: f64,
    /// The probability with which the evaluation policy would, 0 included.
    pub evaluation: f64,
    /// `q(s, a)` of the action taken and `v(s) = sum_a pi(a | s) q(s, a)`, for the doubly robust estimators.
    pub predictions: Option<(f64, f64)>,
    /// `phi(s, a)` of the action taken and `sum_a pi(a | s) phi(s, a)`, for [`super::FittedQ`] and
    /// [`super::DoubleReinforcement`]: of one length over the log.
    pub features: Option<(&'a [f64], &'a [f64])>,
    /// Features of the state, for [`super::StateMarginalisedIs`]: of one length over the log.
    pub state: Option<&'a [f64]>,
}

/// One episode, from its first decision to its end: what follows the last step is worth nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Episode<'a> {
    /// Names the episode in errors; may be empty.
    pub id: &'a str,
    /// Its steps, in order.
    pub steps: &'a [Step<'a>],
    /// The user; episodes of one user are not independent.
    pub user: Option<&'a str>,
}

/// Episodes, reduced to a few numbers for each step.
#[derive(Debug, Clone)]
pub struct SequenceLog {
    discount: f64,
    /// Where the steps of each episode end.
    ends: Vec<usize>,
    reward: Vec<f64>,
    /// `pi(a | s) / p` of the step alone.
    ratio: Vec<f64>,
    predicted: Column<(f64, f64)>,
    features: Matrix,
    expected_features: Matrix,
    states: Matrix,
    support: Support,
    clusters: Clusters,
}

/// Feature rows of one width, a row a step.
#[derive(Debug, Clone, Default)]
pub(super) struct Matrix {
    pub width: usize,
    pub cells: Column<f64>,
}

impl Matrix {
    fn fits(&self, steps: usize, row: Option<&[f64]>) -> Result<(), String> {
        self.cells.fits(steps, row.is_some())?;
        let Some(row) = row else { return Ok(()) };
        if row.is_empty() || (steps > 0 && row.len() != self.width) {
            return Err(format!("has {} numbers, expected {}", row.len(), self.width.max(1)));
        }
        row.iter().try_for_each(|&number| finite(number))
    }

    fn extend(&mut self, row: Option<&[f64]>) {
        self.width = row.map_or(self.width, <[f64]>::len);
        self.cells.extend(row.into_iter().flatten().copied());
    }
}

impl SequenceLog {
    /// An empty log of a problem whose rewards are worth `discount` (gamma, 0 to 1) less with each step.
    ///
    /// # Errors
    /// A discount outside 0 to 1.
    pub fn new(discount: f64) -> Result<Self, OpeError> {
        if !(0.0..=1.0).contains(&discount) {
            let (of, parameter, allowed) = ("the log".to_owned(), "discount", "allowed are 0 to 1");
            return Err(OpeError::Parameter { of, parameter, value: discount, allowed });
        }
        Ok(Self {
            discount,
            ends: Vec::new(),
            reward: Vec::new(),
            ratio: Vec::new(),
            predicted: Column::default(),
            features: Matrix::default(),
            expected_features: Matrix::default(),
            states: Matrix::default(),
            support: Support::default(),
            clusters: Clusters::default(),
        })
    }

    /// Adds an episode.
    ///
    /// # Errors
    /// A field that nothing can be concluded from, by the episode's number and id and the step: no step, a reward,
    /// prediction or feature that is not finite, a propensity outside (0, 1], a probability outside 0 to 1, features of
    /// another length, a column that other steps have.
    pub fn push(&mut self, episode: &Episode) -> Result<(), OpeError> {
        let (index, before) = (self.ends.len(), self.reward.len());
        let name = row("episode", index, episode.id);
        if episode.steps.is_empty() {
            return Err(OpeError::Row { row: name, field: "steps", problem: "is empty".to_owned() });
        }
        // A column is decided by the first step of the log, so the steps of an episode are checked one by one as they
        // are added, and taken back where one is refused.
        for (at, step) in episode.steps.iter().enumerate() {
            if let Err((field, problem)) = self.add(step) {
                self.truncate(before);
                return Err(OpeError::Row { row: format!("{name}, step {at}"), field, problem });
            }
        }
        for step in episode.steps {
            self.support.add_shown(step.propensity, step.evaluation);
        }
        self.ends.push(self.reward.len());
        self.clusters.push(episode.user);
        Ok(())
    }

    fn add(&mut self, step: &Step) -> Result<(), (&'static str, String)> {
        let steps = self.reward.len();
        let at = |field| move |problem| (field, problem);
        finite(step.reward).map_err(at("reward"))?;
        happened(step.propensity).map_err(at("propensity"))?;
        probability(step.evaluation).map_err(at("evaluation"))?;
        if let Some((q, v)) = step.predictions {
            finite(q).and_then(|()| finite(v)).map_err(at("predictions"))?;
        }
        self.predicted.fits(steps, step.predictions.is_some()).map_err(at("predictions"))?;
        let (taken, expected) = step.features.unzip();
        self.features.fits(steps, taken).map_err(at("features"))?;
        self.expected_features.fits(steps, expected).map_err(at("features"))?;
        if taken.map(<[f64]>::len) != expected.map(<[f64]>::len) {
            return Err(("features", "of the action and of the policy differ in length".to_owned()));
        }
        self.states.fits(steps, step.state).map_err(at("state"))?;
        self.reward.push(step.reward);
        self.ratio.push(step.evaluation / step.propensity);
        self.predicted.extend(step.predictions);
        self.features.extend(taken);
        self.expected_features.extend(expected);
        self.states.extend(step.state);
        Ok(())
    }

    fn truncate(&mut self, steps: usize) {
        self.reward.truncate(steps);
        self.ratio.truncate(steps);
        self.predicted.truncate(steps);
        for matrix in [&mut self.features, &mut self.expected_features, &mut self.states] {
            matrix.cells.truncate(steps * matrix.width);
        }
    }

    /// What the log can say of the evaluation policy: by the weights of whole episodes.
    ///
    /// # Errors
    /// An empty log.
    pub fn diagnostics(&self) -> Result<Diagnostics, OpeError> {
        if self.ends.is_empty() {
            return Err(OpeError::Empty(Self::ROW));
        }
        let cumulative = self.cumulative();
        let weights: Vec<f64> = self.episodes().map(|steps| cumulative[steps.end - 1]).collect();
        let weighted: Vec<f64> = weights.iter().zip(self.returns()).map(|(w, total)| w * total.abs()).collect();
        Ok(Diagnostics {
            weights: Weights::of(&weights, self.clusters()),
            effective_rewards: kish(&weighted),
            uniform: None,
            support: self.support.clone(),
            reliability: None,
        })
    }

    /// What the log can say of the evaluation policy, by how often both policies visit what was seen: the effective sizes
    /// are those of the density ratios of `fitted`, in decisions. A product of weights over a session says that a log holds
    /// next to nothing of a policy that differs in every decision, however many like decisions it holds.
    ///
    /// The mean, its error and p-value are those of the single decisions' ratios `pi(a | s) / p`, whose mean is 1 where the
    /// propensities are true; that of density ratios is made to be so by the fit.
    ///
    /// # Errors
    /// An empty log, or one without features; singular equations.
    pub fn visits(&self, fitted: &FittedQ) -> Result<Diagnostics, OpeError> {
        if self.ends.is_empty() {
            return Err(OpeError::Empty(Self::ROW));
        }
        let of_steps = |clusters: &[u32]| -> Vec<u32> {
            self.episodes().zip(clusters).flat_map(|(steps, &cluster)| steps.map(move |_| cluster)).collect()
        };
        // The steps of a session are not independent, whether or not users are named.
        let own: Vec<u32> = (0..).take(self.rows()).collect();
        let clusters = of_steps(self.clusters().unwrap_or(&own));
        let ratios = fitted.density_ratios(self)?;
        let rewarded: Vec<f64> = ratios.iter().zip(&self.reward).map(|(ratio, reward)| ratio * reward).collect();
        let single = Weights::of(&self.ratio, Some(&clusters));
        let (mean, standard_error, p_value) = (single.mean, single.standard_error, single.p_value);
        Ok(Diagnostics {
            weights: Weights { mean, standard_error, p_value, ..Weights::of(&ratios, Some(&clusters)) },
            effective_rewards: kish(&rewarded),
            uniform: None,
            support: self.support.clone(),
            reliability: None,
        })
    }

    /// The discounted sum of the rewards of each episode: the logging policy's own returns.
    #[must_use]
    pub fn returns(&self) -> Vec<f64> {
        let total =
            |steps: Range<usize>| steps.rev().fold(0.0, |after, step| self.reward[step] + self.discount * after);
        self.episodes().map(total).collect()
    }

    /// Replaces the predictions of every step: `(q(s, a), v(s))`, in order.
    pub(super) fn set_predictions(&mut self, predictions: Vec<(f64, f64)>) {
        self.predicted = Column::default();
        self.predicted.extend(predictions);
    }

    /// gamma.
    pub(super) const fn discount(&self) -> f64 {
        self.discount
    }

    /// The steps of each episode.
    pub(super) fn episodes(&self) -> impl Iterator<Item = Range<usize>> {
        self.ends.iter().scan(0, |start, &end| Some(std::mem::replace(start, end)..end))
    }

    /// r, by step.
    pub(super) fn rewards(&self) -> &[f64] {
        &self.reward
    }

    /// `pi(a | s) / p`, by step.
    pub(super) fn ratios(&self) -> &[f64] {
        &self.ratio
    }

    /// `w_t`, the product of the ratios up to and including each step.
    pub(super) fn cumulative(&self) -> Vec<f64> {
        let product = |steps: Range<usize>| {
            steps.scan(1.0, |weight, step| {
                *weight *= self.ratio[step];
                Some(*weight)
            })
        };
        self.episodes().flat_map(product).collect()
    }

    /// `(q(s, a), v(s))`, by step.
    pub(super) fn predicted(&self, estimator: &str) -> Result<&[(f64, f64)], OpeError> {
        self.predicted.all(estimator, "predictions")
    }

    /// Rows of `phi(s, a)` and of `sum_a pi(a | s) phi(s, a)`, and their width.
    pub(super) fn features(&self, estimator: &str) -> Result<(&[f64], &[f64], usize), OpeError> {
        let taken = self.features.cells.all(estimator, "features")?;
        Ok((taken, self.expected_features.cells.all(estimator, "features")?, self.features.width))
    }

    /// Rows of the state's features, and their width.
    pub(super) fn states(&self, estimator: &str) -> Result<(&[f64], usize), OpeError> {
        Ok((self.states.cells.all(estimator, "state")?, self.states.width))
    }

    /// The part, of `folds`, that each episode belongs to: all episodes of a user to one.
    pub(super) fn folds(&self, folds: usize) -> Vec<usize> {
        match self.clusters() {
            Some(clusters) => clusters.iter().map(|&cluster| cluster as usize % folds).collect(),
            None => (0..self.rows()).map(|row| row % folds).collect(),
        }
    }
}

impl Log for SequenceLog {
    const ROW: &'static str = "episode";

    fn rows(&self) -> usize {
        self.ends.len()
    }

    fn clusters(&self) -> Option<&[u32]> {
        self.clusters.rows()
    }
}
