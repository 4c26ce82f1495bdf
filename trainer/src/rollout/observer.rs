//! Watching a rollout, to journal what happens.

use slated_contract::slate::{DecisionSeed, DrawnSlate};

use super::Lane;
use crate::env::Outcome;

/// One decision of a rollout, before the user responds.
#[derive(Clone, Copy)]
pub struct Decided<'a> {
    /// The episode, from 0.
    pub episode: u64,
    /// The step in the episode, from 0.
    pub step: u32,
    /// Which part of the mixture decided.
    pub part: usize,
    /// The environment and the session, as the policy saw them.
    pub lane: &'a Lane,
    /// The slate with its propensities: those of the part that decided.
    pub slate: &'a DrawnSlate,
    /// The score of each candidate, by which the slate was drawn; under posterior sampling the row that was acted upon.
    pub scores: &'a [f32],
    /// Seeds everything random in the decision.
    pub seed: DecisionSeed,
}

/// Watches a block of episodes. Their steps are interleaved, in the same order whatever the number of threads.
pub trait Observer {
    /// A slate was decided.
    ///
    /// # Errors
    /// Whatever ends the rollout.
    fn decided(&mut self, decided: &Decided<'_>) -> Result<(), ObserverError>;

    /// What came of the last decision.
    ///
    /// # Errors
    /// Whatever ends the rollout.
    fn responded(&mut self, outcome: &Outcome) -> Result<(), ObserverError>;

    /// The block is over.
    ///
    /// # Errors
    /// Whatever ends the rollout.
    fn finish(&mut self) -> Result<(), ObserverError>;
}

/// What an observer failed with.
pub type ObserverError = Box<dyn std::error::Error + Send + Sync>;

/// Makes the observer of one block of episodes, from the block's number.
pub type MakeObserver<'a> = dyn Fn(u64) -> Box<dyn Observer + 'a> + Sync + 'a;
