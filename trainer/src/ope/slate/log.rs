//! A log of slates, checked and reduced to what estimators read.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use slated_contract::slate::Propensities;

use super::super::column::Column;
use super::super::diagnostics::{Diagnostics, Support, Weights, kish};
use super::super::error::{finite, happened, probability, row};
use super::super::estimator::Clusters;
use super::super::{Log, OpeError};

/// How far probabilities that belong together may contradict each other, relatively.
const TOLERANCE: f64 = 1e-6;

/// One slate of K items that was shown, with the reward of each.
#[derive(Debug, Clone, Copy)]
pub struct SlateRound<'a> {
    /// Names the slate in errors; may be empty.
    pub id: &'a str,
    /// The reward of each item, `[K]`.
    pub rewards: &'a [f64],
    /// The probabilities with which the logging policy showed it.
    pub behaviour: &'a Propensities,
    /// The probabilities with which the evaluation policy would, 0 included.
    pub evaluation: &'a Propensities,
    /// What a reward model says, for [`super::CascadeDoublyRobust`].
    pub predictions: Option<SlatePredictions<'a>>,
    /// The weight of the pseudo-inverse estimator, from [`super::SlateMoments::weight`] or
    /// [`super::independent_positions_weight`], for [`super::PseudoInverse`].
    pub pseudo_inverse: Option<f64>,
    /// The user; slates of one user are not independent.
    pub user: Option<&'a str>,
}

/// What a reward model says of a slate. `q_k(a)` is the reward expected from position k on, of item a there, given the
/// items shown before.
#[derive(Debug, Clone, Copy)]
pub struct SlatePredictions<'a> {
    /// `q_k` of the item shown at k, `[K]`.
    pub shown: &'a [f64],
    /// `sum_a pi(a | items shown before k) q_k(a)`, `[K]`.
    pub expected: &'a [f64],
}

/// What the reward of an item is taken to depend on, and so by which propensity it is weighted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dependence {
    /// On the whole slate: the joint propensity.
    #[default]
    Slate,
    /// On the item and those before it: the cascade propensity.
    Cascade,
    /// On the item and its position: the marginal propensity.
    Position,
}

/// Slates, reduced to a few numbers for each item.
#[derive(Debug, Clone, Default)]
pub struct SlateLog {
    /// Where the items of each slate end.
    ends: Vec<usize>,
    reward: Vec<f64>,
    cascade: Vec<f64>,
    marginal: Vec<f64>,
    /// `(q_k, expected q_k)` by item.
    predicted: Column<(f64, f64)>,
    pseudo_inverse: Column<f64>,
    support: Support,
    clusters: Clusters,
}

impl SlateLog {
    /// An empty log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a slate.
    ///
    /// # Errors
    /// A field that nothing can be concluded from, by the slate's number and id: a slate without items, lengths that
    /// differ, a reward or prediction that is not finite, a propensity of the log outside (0, 1], a probability outside
    /// 0 to 1, a longer prefix likelier than a shorter one or than its last item, a column that other slates have.
    pub fn push(&mut self, slate: &SlateRound) -> Result<(), OpeError> {
        let index = self.ends.len();
        let refuse = |field| move |problem| OpeError::Row { row: row("slate", index, slate.id), field, problem };
        let items = slate.rewards.len();
        if items == 0 {
            return Err(refuse("rewards")("is empty".to_owned()));
        }
        slate.rewards.iter().try_for_each(|&reward| finite(reward)).map_err(refuse("rewards"))?;
        check(slate.behaviour, items, happened).map_err(refuse("behaviour"))?;
        check(slate.evaluation, items, probability).map_err(refuse("evaluation"))?;
        if let Some(predictions) = slate.predictions {
            let SlatePredictions { shown, expected } = predictions;
            if shown.len() != items || expected.len() != items {
                let problem = format!("have {} and {} entries for {items} items", shown.len(), expected.len());
                return Err(refuse("predictions")(problem));
            }
            shown.iter().chain(expected).try_for_each(|&q| finite(q)).map_err(refuse("predictions"))?;
        }
        slate.pseudo_inverse.map_or(Ok(()), finite).map_err(refuse("pseudo_inverse"))?;
        self.predicted.fits(index, slate.predictions.is_some()).map_err(refuse("predictions"))?;
        self.pseudo_inverse.fits(index, slate.pseudo_inverse.is_some()).map_err(refuse("pseudo_inverse"))?;

        let ratios = |evaluation: &[f64], behaviour: &[f64]| {
            evaluation.iter().zip(behaviour).map(|(pi, p)| pi / p).collect::<Vec<_>>()
        };
        self.reward.extend(slate.rewards);
        self.cascade.extend(ratios(&slate.evaluation.cascade, &slate.behaviour.cascade));
        self.marginal.extend(ratios(&slate.evaluation.marginal, &slate.behaviour.marginal));
        if let Some(SlatePredictions { shown, expected }) = slate.predictions {
            self.predicted.extend(shown.iter().copied().zip(expected.iter().copied()));
        }
        self.pseudo_inverse.extend(slate.pseudo_inverse);
        self.ends.push(self.reward.len());
        self.support.add_shown(slate.behaviour.joint(), slate.evaluation.joint());
        self.clusters.push(slate.user);
        Ok(())
    }

    /// What the log can say of the evaluation policy, by the weights that an estimator of this dependence uses: of the
    /// slate, or the mean over its positions.
    ///
    /// # Errors
    /// An empty log.
    pub fn diagnostics(&self, dependence: Dependence) -> Result<Diagnostics, OpeError> {
        if self.ends.is_empty() {
            return Err(OpeError::Empty(Self::ROW));
        }
        let weights = self.weights(dependence);
        let mean = |items: Range<usize>| weights[items.clone()].iter().sum::<f64>() / items.len() as f64;
        let weighted = |items: Range<usize>| items.map(|item| weights[item] * self.reward[item].abs()).sum();
        Ok(Diagnostics {
            weights: Weights::of(&self.slates().map(mean).collect::<Vec<_>>(), self.clusters()),
            effective_rewards: kish(&self.slates().map(weighted).collect::<Vec<_>>()),
            uniform: None,
            support: self.support.clone(),
            reliability: None,
        })
    }

    /// The sum of the rewards of each slate.
    #[must_use]
    pub fn totals(&self) -> Vec<f64> {
        self.slates().map(|items| self.reward[items].iter().sum()).collect()
    }

    /// The items of each slate.
    pub(super) fn slates(&self) -> impl Iterator<Item = Range<usize>> {
        self.ends.iter().scan(0, |start, &end| Some(std::mem::replace(start, end)..end))
    }

    /// The reward of each item.
    pub(super) fn rewards(&self) -> &[f64] {
        &self.reward
    }

    /// The weight of each item.
    pub(super) fn weights(&self, dependence: Dependence) -> std::borrow::Cow<'_, [f64]> {
        match dependence {
            Dependence::Slate => {
                let joint = |items: Range<usize>| std::iter::repeat_n(self.cascade[items.end - 1], items.len());
                self.slates().flat_map(joint).collect()
            }
            Dependence::Cascade => (&self.cascade).into(),
            Dependence::Position => (&self.marginal).into(),
        }
    }

    /// `(q_k, expected q_k)` of each item.
    pub(super) fn predicted(&self, estimator: &str) -> Result<&[(f64, f64)], OpeError> {
        self.predicted.all(estimator, "predictions")
    }

    /// The pseudo-inverse weight of each slate.
    pub(super) fn pseudo_inverse(&self, estimator: &str) -> Result<&[f64], OpeError> {
        self.pseudo_inverse.all(estimator, "pseudo_inverse")
    }
}

impl Log for SlateLog {
    const ROW: &'static str = "slate";

    fn rows(&self) -> usize {
        self.ends.len()
    }

    fn clusters(&self) -> Option<&[u32]> {
        self.clusters.rows()
    }
}

fn check(propensities: &Propensities, items: usize, allowed: impl Fn(f64) -> Result<(), String>) -> Result<(), String> {
    let Propensities { cascade, marginal, .. } = propensities;
    if cascade.len() != items || marginal.len() != items {
        return Err(format!("has {} and {} probabilities for {items} items", cascade.len(), marginal.len()));
    }
    let mut before = 1.0;
    for (position, (&prefix, &item)) in cascade.iter().zip(marginal).enumerate() {
        let place = |kind| move |problem| format!("{kind} probability of position {position} {problem}");
        allowed(prefix).map_err(place("cascade"))?;
        allowed(item).map_err(place("marginal"))?;
        if prefix > before * (1.0 + TOLERANCE) {
            return Err(place("cascade")(format!("is {prefix}, that of the items before it is {before}")));
        }
        // Estimates of the two need not agree.
        if propensities.are_exact() && prefix > item * (1.0 + TOLERANCE) {
            return Err(place("marginal")(format!(
                "is {item}, less than that of the item with those before it, {prefix}"
            )));
        }
        before = prefix;
    }
    Ok(())
}
