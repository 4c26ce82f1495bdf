//! A run in an environment as a trial of a search.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::run::{Figures, Observer, OnlineError, OnlineOutcome, check_online, train_online};
use super::settings::OnlineSettings;
use crate::tune::{Trial, TrialError};

/// A run whose value is the mean return of its greedy policy: that of the latest evaluation while it is on its way, that
/// of the final one at its end. Its whole budget is [`OnlineSettings::steps`]. It pauses at checkpoints, so a budget
/// that is no multiple of [`OnlineSettings::checkpoint_every`] is exceeded by less than that.
#[derive(Debug)]
pub struct OnlineTrial {
    settings: OnlineSettings,
    stop: Arc<AtomicBool>,
    paused: Option<Paused>,
}

#[derive(Debug)]
struct Paused {
    checkpoint: Vec<u8>,
    steps: u64,
    value: f64,
}

/// Stops a run at its budget, or when the search is stopped.
struct Watch<'a> {
    until: u64,
    value: Option<f64>,
    pause: &'a AtomicBool,
    stop: &'a AtomicBool,
}

impl Observer for Watch<'_> {
    fn figures(&mut self, figures: &Figures) {
        self.value = figures.evaluation.as_ref().map_or(self.value, |returns| Some(returns.mean));
        if figures.steps >= self.until || self.stop.load(Ordering::Relaxed) {
            self.pause.store(true, Ordering::Relaxed);
        }
    }
}

impl OnlineTrial {
    /// A run that `stop` asks to stop.
    ///
    /// # Errors
    /// Settings that no run can be made from, or without the evaluations that a trial is compared by.
    pub fn new(settings: OnlineSettings, stop: Arc<AtomicBool>) -> Result<Self, OnlineError> {
        check_online(&settings)?;
        let every = settings.evaluation.every;
        if !(1..=settings.steps).contains(&every) {
            let message = format!("`evaluation.every` is {every}, a search allows 1 to {}", settings.steps);
            return Err(OnlineError::Setting(message));
        }
        Ok(Self { settings, stop, paused: None })
    }
}

impl Trial for OnlineTrial {
    fn run(&mut self, until: u64) -> Result<f64, TrialError> {
        if let Some(Paused { steps, value, .. }) = self.paused
            && steps >= until
        {
            return Ok(value);
        }
        let pause = AtomicBool::new(false);
        let (checkpoint, value) = self.paused.take().map(|paused| (paused.checkpoint, paused.value)).unzip();
        let mut watch = Watch { until, value, pause: &pause, stop: &self.stop };
        let outcome = train_online(&self.settings, 1, checkpoint.as_deref(), &mut watch, &pause);
        let value = watch.value;
        let paused = match outcome.map_err(|error| TrialError::Failed(error.to_string()))? {
            OnlineOutcome::Finished(learned) => {
                Paused { checkpoint: Vec::new(), steps: self.settings.steps, value: learned.returns.mean }
            }
            OnlineOutcome::Interrupted { checkpoint, steps } if steps >= until => {
                let every = self.settings.evaluation.every;
                let absent =
                    || TrialError::Failed(format!("no evaluation in {steps} steps, there is one every {every}"));
                Paused { checkpoint, steps, value: value.ok_or_else(absent)? }
            }
            OnlineOutcome::Interrupted { .. } => return Err(TrialError::Stopped),
        };
        Ok(self.paused.insert(paused).value)
    }
}
