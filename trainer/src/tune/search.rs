//! Running the trials of a search.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Instant;

use thiserror::Error;
use toml::{Table, Value};

use super::halving::{Job, Rungs};
use super::log::{JobResult, LogError, TrialLog};
use super::outcome::{Status, Tried, Tuned};
use super::sampler::Point;
use super::{SpaceError, TuneSettings};
use crate::progress::Progress;

/// A run whose settings are tried.
pub trait Trial: Send {
    /// Goes on until the run has used `until` of its budget in all, and says how good it is then. The value must not
    /// depend on where the run was paused before, so that a trial can be begun anew and brought to the same point.
    ///
    /// # Errors
    /// A run that fails or is stopped.
    fn run(&mut self, until: u64) -> Result<f64, TrialError>;
}

/// Why a trial did not come to its budget.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TrialError {
    /// It failed, such as by diverging. The search goes on without it.
    #[error("{0}")]
    Failed(String),
    /// It was asked to stop.
    #[error("the trial was stopped")]
    Stopped,
}

/// A search that cannot go on.
#[derive(Debug, Error)]
pub enum TuneError {
    /// A setting.
    #[error("{0}")]
    Setting(String),
    /// The search space.
    #[error(transparent)]
    Space(#[from] SpaceError),
    /// Settings that no run can be made from.
    #[error("trial {trial} with {values}: {source}")]
    Trial {
        /// The trial.
        trial: usize,
        /// What it was to try.
        values: String,
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Every trial failed.
    #[error("all {trials} trials failed; the first one: {first}")]
    Failed {
        /// How many.
        trials: usize,
        /// Why the first one did.
        first: String,
    },
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl TuneError {
    /// Whether settings are at fault, rather than what came of them.
    #[must_use]
    pub const fn is_input(&self) -> bool {
        matches!(self, Self::Setting(_) | Self::Space(_) | Self::Trial { .. })
    }
}

/// How a search ended.
#[derive(Debug, Clone, PartialEq)]
pub enum TuneOutcome {
    /// It is done.
    Finished(Tuned),
    /// It was stopped; what the log holds need not be run again.
    Interrupted {
        /// Results in the log.
        results: usize,
    },
}

/// A search for the best settings.
///
/// It goes in rounds. For a round, [`TuneSettings::batch`] jobs are decided on from the results of all rounds before,
/// by asynchronous successive halving (Li et al. 2018, arXiv:1810.05834): a trial goes on to the next budget as soon as
/// it is among the best `1 / reduction` of those that were compared at its own, and where none is, a new trial begins.
/// The jobs run side by side and their results are taken in the order in which they were decided on. So everything
/// follows from settings and seeds.
pub struct Search<'a> {
    /// How to search.
    pub settings: &'a TuneSettings,
    /// The settings of a run, which the trials' own go over.
    pub base: &'a Table,
    /// How many trials run at a time.
    pub threads: usize,
    /// Asks the search to stop.
    pub stop: &'a AtomicBool,
}

/// Makes the run of a trial from its settings.
pub type Make<'a> = dyn FnMut(&Table) -> Result<Box<dyn Trial>, Box<dyn std::error::Error + Send + Sync>> + 'a;

/// A trial as the search knows it.
struct State {
    point: Point,
    values: Vec<Value>,
    settings: Table,
    /// The run, while it may go on.
    run: Option<Box<dyn Trial>>,
    results: Vec<JobResult>,
}

/// A job on its way to a thread.
struct Task {
    trial: usize,
    budget: u64,
    run: Box<dyn Trial>,
}

impl Search<'_> {
    /// Searches. A job whose result is in the log already is not run again.
    ///
    /// # Errors
    /// Settings outside their ranges, settings that no run can be made from, a log that cannot be written; all trials
    /// failed.
    pub fn run(
        &self,
        make: &mut Make,
        log: &mut TrialLog,
        progress: &mut dyn Progress,
    ) -> Result<TuneOutcome, TuneError> {
        let total = self.settings.check()?;
        let budgets = self.settings.budgets();
        let reduction = self.settings.early_stopping.map_or(2, |stopping| stopping.reduction);
        let mut rungs = Rungs::new(budgets.len(), reduction as usize, total as usize);
        let mut trials: Vec<State> = Vec::new();
        let mut settled = 0;
        progress.stage("tuning", Some(total));
        loop {
            let jobs: Vec<Job> = std::iter::from_fn(|| rungs.next()).take(self.settings.batch).collect();
            if jobs.is_empty() {
                break;
            }
            let ranked = rungs.ranked();
            let begun = jobs.iter().filter(|job| job.rung == 0).map(|job| job.trial);
            let begun = begun.map(|trial| self.begin(trial, &ranked, &trials)).collect::<Result<Vec<_>, _>>()?;
            trials.extend(begun);
            if !self.round(&jobs, &budgets, &mut trials, make, log)? {
                return Ok(TuneOutcome::Interrupted { results: log.len() });
            }
            for job in jobs {
                let value = trials[job.trial].results.last().and_then(|result| result.value);
                rungs.record(job, value.map_or(f64::INFINITY, |value| self.settings.goal.loss(value)));
            }
            let now_settled = rungs.settled();
            now_settled.iter().for_each(|trial| trials[*trial].run = None);
            progress.advance(now_settled.len().saturating_sub(settled) as u64);
            settled = now_settled.len();
        }
        self.outcome(trials).map(TuneOutcome::Finished)
    }

    fn begin(&self, trial: usize, ranked: &[usize], trials: &[State]) -> Result<State, TuneError> {
        let TuneSettings { space, sampler, seed, .. } = self.settings;
        let tried: Vec<_> = ranked.iter().map(|tried| &trials[*tried].point).collect();
        let point = sampler.suggest(space, *seed, trial as u64, &tried);
        let parameters = space.parameters().iter().zip(&point);
        let values: Vec<_> = parameters.map(|(parameter, at)| parameter.domain.value(*at)).collect();
        let settings = space.overlay(self.base, &values)?;
        Ok(State { point, values, settings, run: None, results: Vec::new() })
    }

    /// Runs the jobs of a round and keeps their results with their trials; whether it came to its end.
    fn round(
        &self,
        jobs: &[Job],
        budgets: &[u64],
        trials: &mut [State],
        make: &mut Make,
        log: &mut TrialLog,
    ) -> Result<bool, TuneError> {
        let mut tasks = Vec::new();
        for Job { trial, rung } in jobs.iter().copied() {
            let state = &mut trials[trial];
            if log.known(trial, budgets[rung]).is_none() {
                let run = state.run.take().map_or_else(|| make(&state.settings), Ok);
                let run =
                    run.map_err(|source| TuneError::Trial { trial, values: self.described(&state.values), source })?;
                tasks.push(Task { trial, budget: budgets[rung], run });
            }
        }
        let mut is_complete = true;
        let threads = self.threads.clamp(1, tasks.len().max(1));
        let tasks = Mutex::new(tasks.into_iter());
        let next = || tasks.lock().unwrap_or_else(PoisonError::into_inner).next();
        let (sender, receiver) = mpsc::channel();
        std::thread::scope(|scope| -> Result<(), LogError> {
            for _ in 0..threads {
                let sender = sender.clone();
                scope.spawn(move || {
                    while let Some(task) = next() {
                        let is_stopped = self.stop.load(Ordering::Relaxed);
                        if sender.send(if is_stopped { None } else { work(task) }).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(sender);
            // Taken as they come, so that what is done is in the log whatever becomes of the others.
            for done in receiver {
                match done {
                    Some((result, run)) => {
                        trials[result.trial].run = Some(run);
                        log.record(result)?;
                    }
                    None => is_complete = false,
                }
            }
            Ok(())
        })?;
        for job in jobs {
            trials[job.trial].results.extend(log.known(job.trial, budgets[job.rung]).cloned());
        }
        Ok(is_complete)
    }

    fn described(&self, values: &[Value]) -> String {
        let parameters = self.settings.space.parameters().iter().zip(values);
        parameters.map(|(parameter, value)| format!("{} = {value}", parameter.path)).collect::<Vec<_>>().join(", ")
    }

    fn outcome(&self, trials: Vec<State>) -> Result<Tuned, TuneError> {
        let tried = |(trial, state): (usize, State)| {
            let status = match state.results.last() {
                Some(JobResult { failure: Some(failure), .. }) => Status::Failed(failure.clone()),
                Some(result) if result.budget < self.settings.budget => Status::Stopped,
                _ => Status::Finished,
            };
            Tried { trial, values: state.values, settings: state.settings, results: state.results, status }
        };
        let trials: Vec<_> = trials.into_iter().enumerate().map(tried).collect();
        let parameters = self.settings.space.parameters().iter().map(|parameter| parameter.path.clone()).collect();
        Tuned::new(parameters, self.settings.goal, trials)
    }
}

/// Runs a trial up to its budget; `None` where it was stopped.
fn work(Task { trial, budget, mut run }: Task) -> Option<(JobResult, Box<dyn Trial>)> {
    let begun = Instant::now();
    let (value, failure) = match run.run(budget) {
        Ok(value) if value.is_finite() => (Some(value), None),
        Ok(value) => (None, Some(format!("the objective is {value}"))),
        Err(TrialError::Failed(failure)) => (None, Some(failure)),
        Err(TrialError::Stopped) => return None,
    };
    Some((JobResult { trial, budget, value, failure, seconds: begun.elapsed().as_secs_f64() }, run))
}
