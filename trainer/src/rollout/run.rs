//! Episodes of a policy, over vectorised environments on worker threads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use serde::Serialize;
use slated_contract::slate::DrawError;
use thiserror::Error;

use super::observer::{MakeObserver, ObserverError};
use super::worker::{BLOCK, Worker};
use super::{LaneError, Part, ScorerError};
use crate::env::{Environment, EnvironmentError, Outcome};

/// Episodes to be run.
///
/// An episode depends on (seed, its number) alone. What is scored in one batch depends on `lanes` as well, because a
/// model may round differently in batches of another size; neither depends on `workers`.
#[derive(Clone, Copy)]
pub struct Rollout<'a> {
    /// Makes an environment for one lane.
    pub environment: &'a MakeEnvironment<'a>,
    /// How many episodes.
    pub episodes: u64,
    /// Seeds everything random.
    pub seed: u64,
    /// Threads.
    pub workers: usize,
    /// Environments that a worker runs in step, and scores in one batch.
    pub lanes: usize,
    /// Whether to average the latent state over the steps of each episode.
    pub latent: bool,
    /// Makes an observer for each block of episodes.
    pub observe: Option<&'a MakeObserver<'a>>,
    /// Is told of each episode that ended, from any thread and in any order.
    pub ended: &'a (dyn Fn(&Episode) + Sync + 'a),
}

/// Makes an environment.
pub type MakeEnvironment<'a> = dyn Fn() -> Result<Box<dyn Environment>, EnvironmentError> + Sync + 'a;

/// What came of one episode.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Episode {
    /// Its number, from 0.
    pub index: u64,
    /// Which part of the mixture acted.
    pub part: usize,
    /// The return: the sum of the rewards, undiscounted.
    pub total_reward: f64,
    /// Slates shown.
    pub steps: u32,
    /// Items consumed.
    pub responses: u32,
    /// Seconds of the simulated session.
    pub seconds: f64,
    /// Each number of the latent state, averaged over the states that the steps led to; empty unless asked for.
    pub latent: BTreeMap<String, f64>,
}

/// Episodes that could not be run.
#[derive(Debug, Error)]
pub enum RolloutError {
    /// The environment's settings.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// The environment, or a policy that cannot read it.
    #[error(transparent)]
    Lane(#[from] LaneError),
    /// The model.
    #[error(transparent)]
    Scorer(#[from] ScorerError),
    /// Scores that make no slate.
    #[error(transparent)]
    Draw(#[from] DrawError),
    /// No reference policy of this name.
    #[error("environment `{environment}` has no reference policy `{name}`; it has: {known}")]
    Reference {
        /// The name.
        name: String,
        /// The environment.
        environment: &'static str,
        /// The names that are.
        known: String,
    },
    /// A mixture whose shares are not probabilities.
    #[error("the shares of the mixture are {0:?}; they must be from 0 to 1 and sum to 1")]
    Shares(Vec<f64>),
    /// The observer.
    #[error("{0}")]
    Observer(#[source] ObserverError),
}

impl<'a> Rollout<'a> {
    /// Environments that a worker runs in step unless told otherwise.
    pub const LANES: usize = 32;

    /// A rollout on one thread that no one watches.
    #[must_use]
    pub fn new(environment: &'a MakeEnvironment<'a>, episodes: u64, seed: u64) -> Self {
        Self {
            environment,
            episodes,
            seed,
            workers: 1,
            lanes: Self::LANES,
            latent: false,
            observe: None,
            ended: &|_| {},
        }
    }

    /// Runs the episodes under a mixture of policies, chosen for each episode; they come in the order of their numbers.
    ///
    /// # Errors
    /// The first block of episodes that failed, and why; shares that are not probabilities.
    pub fn run(&self, parts: &[Part<'_>]) -> Result<Vec<Episode>, RolloutError> {
        let shares: Vec<f64> = parts.iter().map(|part| part.share).collect();
        let total: f64 = shares.iter().sum();
        if !(shares.iter().all(|share| (0.0..=1.0).contains(share)) && (total - 1.0).abs() < 1e-6) {
            return Err(RolloutError::Shares(shares));
        }
        let blocks = self.episodes.div_ceil(BLOCK);
        let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
        let work = || {
            let mut worker = Worker::new(self, parts);
            let mut done = Vec::new();
            while !failed.load(Ordering::Relaxed) {
                let block = next.fetch_add(1, Ordering::Relaxed);
                if block >= blocks {
                    break;
                }
                let result = worker.block(block);
                failed.fetch_or(result.is_err(), Ordering::Relaxed);
                done.push((block, result));
            }
            done
        };
        let workers = self.workers.max(1).min(usize::try_from(blocks).unwrap_or(usize::MAX));
        let mut done = thread::scope(|scope| {
            let others: Vec<_> = (1..workers).map(|_| scope.spawn(work)).collect();
            let mut done = work();
            for other in others {
                done.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            done
        });
        done.sort_unstable_by_key(|(block, _)| *block);
        let mut episodes = Vec::new();
        for (_, block) in done {
            episodes.extend(block?);
        }
        Ok(episodes)
    }
}

impl RolloutError {
    /// Whether what was asked for cannot be run, rather than that running it failed.
    #[must_use]
    pub const fn is_input(&self) -> bool {
        matches!(self, Self::Environment(_) | Self::Lane(_) | Self::Reference { .. } | Self::Shares(_))
    }
}

impl Episode {
    /// Counts what came of one step.
    pub fn add(&mut self, outcome: &Outcome) {
        self.total_reward += outcome.reward;
        self.steps += 1;
        self.responses += u32::from(outcome.consumed.is_some());
        self.seconds += outcome.seconds;
    }

    /// Averages the latent state in, after [`Episode::add`].
    pub fn add_latent(&mut self, latent: &serde_json::Value) {
        let numbers = latent.as_object().into_iter().flatten();
        for (name, value) in numbers.filter_map(|(name, value)| Some((name, value.as_f64()?))) {
            let mean = self.latent.entry(name.clone()).or_insert(0.0);
            *mean += (value - *mean) / f64::from(self.steps);
        }
    }
}
