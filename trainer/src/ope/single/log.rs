//! A log of single actions, checked and reduced to what estimators read.

use super::super::column::Column;
use super::super::diagnostics::{Diagnostics, Reliability, Support, Weights, kish};
use super::super::error::{finite, happened, probability, row};
use super::super::estimator::Clusters;
use super::super::{Log, OpeError};

/// How far the probabilities of a row may be from summing to one: what float32 softmax outputs and rounded files keep.
const SUM: f64 = 1e-5;

/// One round: an action was shown out of some candidates, and a reward came of it. Where positions of a page differ,
/// the probabilities are those at the round's position.
#[derive(Debug, Clone, Copy, Default)]
pub struct SingleRound<'a> {
    /// Names the round in errors; may be empty.
    pub id: &'a str,
    /// The reward, r.
    pub reward: f64,
    /// The probability with which the logging policy showed the action, p.
    pub propensity: f64,
    /// The action shown, an index into the candidates, a.
    pub shown: usize,
    /// The evaluation policy's probability of each candidate, pi(. | x).
    pub evaluation: &'a [f64],
    /// The logging policy's probability of each candidate, where it is known exactly.
    pub behaviour: Option<&'a [f64]>,
    /// A reward model's prediction for each candidate, q(x, .), for the direct method and doubly robust estimators.
    pub predictions: Option<&'a [f64]>,
    /// The probabilities of the shown action's embedding under the evaluation and the logging policy, for
    /// [`super::MarginalisedIps`].
    pub embedding: Option<(f64, f64)>,
    /// The user; rounds of one user are not independent.
    pub user: Option<&'a str>,
}

/// Rounds, reduced to a few numbers each.
#[derive(Debug, Clone, Default)]
pub struct SingleLog {
    reward: Vec<f64>,
    weight: Vec<f64>,
    uniform_weight: Vec<f64>,
    /// q(x, a) and `sum_a pi(a | x) q(x, a)`.
    predicted: Column<(f64, f64)>,
    embedding_weight: Column<f64>,
    support: Support,
    reliability: Reliability,
    clusters: Clusters,
}

impl SingleLog {
    /// An empty log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a round.
    ///
    /// # Errors
    /// A field that nothing can be concluded from, by the round's number and id: a reward or prediction that is not
    /// finite, a propensity outside (0, 1], probabilities outside 0 to 1 or that do not sum to one, lengths that
    /// differ, a column that other rounds have and this one lacks.
    pub fn push(&mut self, round: &SingleRound) -> Result<(), OpeError> {
        let index = self.reward.len();
        let refuse = |field| move |problem| OpeError::Row { row: row("round", index, round.id), field, problem };
        finite(round.reward).map_err(refuse("reward"))?;
        happened(round.propensity).map_err(refuse("propensity"))?;
        let candidates = round.evaluation.len();
        if round.shown >= candidates {
            let problem = format!("is {}, there are {candidates} candidates", round.shown);
            return Err(refuse("shown")(problem));
        }
        distribution(round.evaluation).map_err(refuse("evaluation"))?;
        if let Some(behaviour) = round.behaviour {
            check_behaviour(round, behaviour).map_err(refuse("behaviour"))?;
        }
        let predicted = round.predictions.map(|predictions| expected(round, predictions)).transpose();
        let predicted = predicted.map_err(refuse("predictions"))?;
        if let Some((evaluation, behaviour)) = round.embedding {
            probability(evaluation).and_then(|()| happened(behaviour)).map_err(refuse("embedding"))?;
        }
        self.predicted.fits(index, predicted.is_some()).map_err(refuse("predictions"))?;
        self.embedding_weight.fits(index, round.embedding.is_some()).map_err(refuse("embedding"))?;
        // Nothing is added before everything is checked: a refused round leaves the log as it was.
        self.predicted.extend(predicted);
        self.embedding_weight.extend(round.embedding.map(|(evaluation, behaviour)| evaluation / behaviour));
        self.reward.push(round.reward);
        self.weight.push(round.evaluation[round.shown] / round.propensity);
        self.uniform_weight.push(1.0 / (candidates as f64 * round.propensity));
        self.support.add(round.evaluation, round.behaviour, round.propensity, round.shown);
        if let Some(behaviour) = round.behaviour {
            self.reliability.add(behaviour, round.shown);
        }
        self.clusters.push(round.user);
        Ok(())
    }

    /// r, by round.
    #[must_use]
    pub fn rewards(&self) -> &[f64] {
        &self.reward
    }

    /// `w = pi(a | x) / p`, by round.
    #[must_use]
    pub fn weights(&self) -> &[f64] {
        &self.weight
    }

    /// What the log can say of the evaluation policy, and whether its propensities can be true.
    ///
    /// # Errors
    /// An empty log.
    pub fn diagnostics(&self) -> Result<Diagnostics, OpeError> {
        if self.reward.is_empty() {
            return Err(OpeError::Empty(Self::ROW));
        }
        let clusters = self.clusters();
        let weighted: Vec<f64> = self.weight.iter().zip(&self.reward).map(|(w, r)| w * r.abs()).collect();
        Ok(Diagnostics {
            weights: Weights::of(&self.weight, clusters),
            effective_rewards: kish(&weighted),
            uniform: Some(Weights::of(&self.uniform_weight, clusters)),
            support: self.support.clone(),
            reliability: self.reliability.test(),
        })
    }

    /// `(q(x, a), sum_a pi(a | x) q(x, a))`, by round.
    pub(super) fn predicted(&self, estimator: &str) -> Result<&[(f64, f64)], OpeError> {
        self.predicted.all(estimator, "predictions")
    }

    /// `pi(e | x) / p(e | x)` of the shown action's embedding e, by round.
    pub(super) fn embedding_weights(&self, estimator: &str) -> Result<&[f64], OpeError> {
        self.embedding_weight.all(estimator, "embedding")
    }
}

impl Log for SingleLog {
    const ROW: &'static str = "round";

    fn rows(&self) -> usize {
        self.reward.len()
    }

    fn clusters(&self) -> Option<&[u32]> {
        self.clusters.rows()
    }
}

fn distribution(probabilities: &[f64]) -> Result<(), String> {
    for (candidate, &value) in probabilities.iter().enumerate() {
        probability(value).map_err(|problem| format!("of candidate {candidate} {problem}"))?;
    }
    let sum: f64 = probabilities.iter().sum();
    if (sum - 1.0).abs() <= SUM { Ok(()) } else { Err(format!("sums to {sum}, it must sum to 1")) }
}

fn check_behaviour(round: &SingleRound, behaviour: &[f64]) -> Result<(), String> {
    if behaviour.len() != round.evaluation.len() {
        return Err(format!("has {} probabilities for {} candidates", behaviour.len(), round.evaluation.len()));
    }
    distribution(behaviour)?;
    let shown = behaviour[round.shown];
    if (shown - round.propensity).abs() <= SUM * round.propensity {
        Ok(())
    } else {
        Err(format!("of the action shown is {shown}, but `propensity` is {}", round.propensity))
    }
}

/// `(q(x, a), sum_a pi(a | x) q(x, a))`, the latter divided by the probabilities' sum so that their rounding is no bias.
fn expected(round: &SingleRound, predictions: &[f64]) -> Result<(f64, f64), String> {
    if predictions.len() != round.evaluation.len() {
        return Err(format!("has {} entries for {} candidates", predictions.len(), round.evaluation.len()));
    }
    for (candidate, &prediction) in predictions.iter().enumerate() {
        finite(prediction).map_err(|problem| format!("of candidate {candidate} {problem}"))?;
    }
    let products = round.evaluation.iter().zip(predictions).map(|(pi, q)| pi * q);
    Ok((predictions[round.shown], products.sum::<f64>() / round.evaluation.iter().sum::<f64>()))
}
