//! The return of the greedy policy, in episodes that it does not learn from.

use std::sync::Arc;

use slated_contract::slate::{DecisionSeed, Exploration};

use super::actor::{choose, ranks, seed_of};
use super::run::OnlineError;
use crate::learner::Learner;
use crate::rollout::{Lane, Observation};

/// The returns of some episodes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EpisodeReturns(pub Vec<f64>);

impl EpisodeReturns {
    /// Their mean.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len().max(1) as f64
    }

    /// The standard error of the mean.
    #[must_use]
    pub fn standard_error(&self) -> f64 {
        let (mean, count) = (self.mean(), self.0.len() as f64);
        let variance = self.0.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
        (variance / count).sqrt()
    }
}

/// Runs `episodes` episodes of the greedy policy, as many at a time as there are lanes; the seed of each is its own.
///
/// # Errors
/// A slate that the environment refuses, scores that cannot be ranked.
pub fn evaluate(
    learner: &mut dyn Learner,
    lanes: &mut [Lane],
    slate_size: usize,
    episodes: usize,
    seed: u64,
) -> Result<EpisodeReturns, OnlineError> {
    let mut returns = vec![0.0; episodes];
    let mut next = 0;
    // The episode that each lane runs, while there is one.
    let mut running: Vec<Option<usize>> = vec![None; lanes.len()];
    loop {
        for (lane, running) in lanes.iter_mut().zip(&mut running) {
            if running.is_none() && next < episodes {
                lane.reset(seed_of(seed, "evaluation", next as u64))?;
                *running = Some(next);
                next += 1;
            }
        }
        let active: Vec<usize> = (0..lanes.len()).filter(|&at| running[at].is_some()).collect();
        if active.is_empty() {
            return Ok(EpisodeReturns(returns));
        }
        let seen: Vec<Arc<Observation>> = active.iter().map(|&at| Arc::new(lanes[at].observation().clone())).collect();
        for (&at, ranks) in active.iter().zip(ranks(learner, &seen, slate_size)) {
            let slate = choose(&Exploration::Greedy, &ranks, slate_size, DecisionSeed::from_value(0))?;
            let outcome = lanes[at].step(&slate)?;
            if let Some(episode) = running[at] {
                returns[episode] += outcome.reward;
            }
            if outcome.done {
                running[at] = None;
            }
        }
    }
}
