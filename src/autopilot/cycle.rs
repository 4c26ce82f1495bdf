//! The state machine.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use chrono::{SubsecRound, TimeDelta, Utc};
use slated_contract::policy::versions;
use slated_trainer::drift::Drift;

use super::canary::{self, change_id, pause};
use super::service::Service;
use super::window::{Closed, look};
use super::{
    AutopilotError, AutopilotSettings, Cycle, CycleReport, Outcome, Quiet, State, Step, evaluate, metrics, prune,
    train, write_whole,
};
use crate::serving::traffic::Action;

/// The autopilot of one policy.
pub struct Autopilot {
    settings: AutopilotSettings,
    service: Service,
    state: State,
    quiet: Quiet,
    closed: Closed,
    stop: Arc<AtomicBool>,
    /// Held as long as this lives.
    _lock: File,
}

impl Autopilot {
    /// Takes over where an earlier run left off. `stop` ends it at the next safe place.
    ///
    /// # Errors
    /// A folder that another autopilot works in, a state that does not read.
    pub fn open(settings: AutopilotSettings, quiet: Quiet, stop: Arc<AtomicBool>) -> Result<Self, AutopilotError> {
        let folder = &settings.folder;
        std::fs::create_dir_all(folder).map_err(AutopilotError::at(folder))?;
        let path = folder.join(".lock");
        let lock = File::create(&path).map_err(AutopilotError::at(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(AutopilotError::Locked(folder.clone())),
            Err(std::fs::TryLockError::Error(source)) => return Err(AutopilotError::Io { path, source }),
        }
        let mut state = State::read(folder)?;
        if state.last_begin.is_none() {
            // The first cycle is due when the others are: so long after there was an autopilot, or after so many events.
            state.last_begin = Some(Utc::now());
            state.write(folder)?;
        }
        let service = Service::new(&settings.service, &settings.policy)?;
        Ok(Self { settings, service, state, quiet, closed: Closed::default(), stop, _lock: lock })
    }

    /// Runs cycle after cycle, `most` of them where that is given; the first of them at once where `now` is.
    ///
    /// # Errors
    /// [`AutopilotError::Stopped`] where it was asked to stop; a state that cannot be kept.
    pub fn run(&mut self, most: Option<u64>, now: bool) -> Result<Option<CycleReport>, AutopilotError> {
        let (mut done, mut last) = (0, None);
        while most.is_none_or(|most| done < most) {
            if self.state.running.is_none() {
                self.wait(now && done == 0)?;
            }
            last = self.finish()?;
            done += 1;
        }
        Ok(last)
    }

    /// Waits until a cycle is due, and begins it.
    fn wait(&mut self, now: bool) -> Result<(), AutopilotError> {
        loop {
            match self.due(now) {
                Ok(true) => match self.begin() {
                    Ok(true) => return Ok(()),
                    Ok(false) => {}
                    Err(error) => self.unavailable(error)?,
                },
                Ok(false) => {}
                Err(error) => self.unavailable(error)?,
            }
            pause(self.settings.trigger.poll_seconds, &self.stop)?;
        }
    }

    /// What only needs time is waited for.
    fn unavailable(&self, error: AutopilotError) -> Result<(), AutopilotError> {
        match error {
            AutopilotError::Unavailable(why) => {
                tracing::warn!("{why}; trying again in {} s", self.settings.trigger.poll_seconds);
                Ok(())
            }
            error => Err(error),
        }
    }

    fn due(&mut self, now: bool) -> Result<bool, AutopilotError> {
        if now {
            return Ok(true);
        }
        let trigger = self.settings.trigger;
        let elapsed = self.state.last_begin.map_or(f64::INFINITY, |begin| (Utc::now() - begin).as_seconds_f64());
        if trigger.every_seconds.is_some_and(|seconds| elapsed >= seconds) {
            return Ok(true);
        }
        let Some(events) = trigger.after_events else { return Ok(false) };
        // In this order: an event that is closed between the two looks is counted twice rather than not at all.
        let open = self.service.open_events()?;
        let closed = self.closed.count(&self.settings.journal)?;
        Ok((open + closed).saturating_sub(self.state.events) >= events)
    }

    /// Fixes the inputs of the next cycle; `false` where there is nothing new, or the route is in other hands.
    fn begin(&mut self) -> Result<bool, AutopilotError> {
        let status = self.service.status()?;
        let Some(live) = status.version else { return Ok(false) };
        if status.route.shares.len() > 1 || status.route.apprentice {
            tracing::info!(
                "the route is shared or in apprentice mode; the next cycle waits until one version answers everything"
            );
            return Ok(false);
        }
        let begun = Utc::now();
        self.service.seal()?;
        let events = self.closed.count(&self.settings.journal)?;
        if events == self.state.events {
            return Ok(false);
        }
        let settle = TimeDelta::milliseconds((1e3 * self.settings.data.settle_seconds) as i64);
        let cut = (begun - settle).trunc_subsecs(6);
        if self.state.last_cut.is_some_and(|last| cut <= last) {
            return Ok(false);
        }
        let newest = versions(&self.settings.models, &self.settings.policy)?.last().copied().unwrap_or(0);
        let cycle = Cycle {
            number: self.state.cycles + 1,
            step: Step::Drift,
            begun,
            cut,
            learn_from: None,
            split: None,
            live,
            version: newest.max(self.state.newest) + 1,
            events,
            dataset: None,
            drift: None,
            beginning: false,
            explores: false,
            candidates: Vec::new(),
            winner: None,
            canary_begun: None,
            figures: std::collections::BTreeMap::new(),
            outcome: None,
            pruned: Vec::new(),
            seconds: Vec::new(),
        };
        tracing::info!(cycle = cycle.number, live, version = cycle.version, %cut, "a cycle begins");
        self.state.running = Some(cycle);
        self.keep()?;
        Ok(true)
    }

    /// Runs the steps of the running cycle that are not done.
    fn finish(&mut self) -> Result<Option<CycleReport>, AutopilotError> {
        loop {
            let Some(mut cycle) = self.state.running.clone() else { return Ok(None) };
            let step = cycle.step;
            let started = Instant::now();
            let next = match self.step(&mut cycle) {
                Ok(next) => next,
                Err(AutopilotError::Stopped) => return Err(AutopilotError::Stopped),
                Err(AutopilotError::Unavailable(why)) => {
                    tracing::warn!(step = step.name(), "{why}; trying again");
                    pause(self.settings.trigger.poll_seconds, &self.stop)?;
                    // What the step has come to so far was kept by the step itself.
                    self.state = State::read(&self.settings.folder)?;
                    continue;
                }
                Err(error) if step < Step::Prune => {
                    tracing::error!(cycle = cycle.number, step = step.name(), %error, "the cycle failed");
                    cycle.outcome = Some(Outcome::Failed(format!("{}: {error}", step.name())));
                    Some(Step::Prune)
                }
                Err(error) => return Err(error),
            };
            cycle.seconds.retain(|(done, _)| *done != step);
            cycle.seconds.push((step, started.elapsed().as_secs_f64()));
            tracing::info!(cycle = cycle.number, step = step.name(), seconds = started.elapsed().as_secs_f64(), "done");
            if let Some(next) = next {
                cycle.step = next;
                self.state.running = Some(cycle);
                self.keep()?;
                continue;
            }
            let report = self.report(cycle)?;
            return Ok(Some(report));
        }
    }

    /// Does one step; the next one, or none where only the report is left.
    fn step(&mut self, cycle: &mut Cycle) -> Result<Option<Step>, AutopilotError> {
        let folder = self.folder(cycle.number);
        let mut state = self.state.clone();
        let home = self.settings.folder.clone();
        // A long step keeps what it has come to: neither is done twice that need not be.
        let mut kept = |cycle: &Cycle| {
            state.running = Some(cycle.clone());
            state.write(&home)
        };
        let settings = &self.settings;
        match cycle.step {
            Step::Drift => {
                look(settings, &self.state, cycle)?;
                Ok(Some(Step::Train))
            }
            Step::Train if cycle.explores => {
                train::explore(settings, cycle, &folder)?;
                Ok(Some(Step::Publish))
            }
            Step::Train => {
                train::train_all(settings, cycle, &folder, &self.stop, &mut kept)?;
                Ok(Some(Step::Evaluate))
            }
            Step::Evaluate => {
                evaluate::evaluate_all(settings, cycle, &folder)?;
                if cycle.winner.is_some() {
                    return Ok(Some(Step::Publish));
                }
                cycle.outcome = Some(why_none(cycle));
                Ok(Some(Step::Prune))
            }
            Step::Publish => {
                canary::publish(settings, cycle, &folder)?;
                Ok(Some(Step::Canary))
            }
            // It is the live version itself, and earning less for a while is what it is for.
            Step::Canary if cycle.explores => Ok(Some(Step::Promote)),
            Step::Canary => {
                let outcome = canary::run(settings, cycle, &self.service, &self.stop, &mut kept)?;
                cycle.outcome = outcome;
                Ok(Some(if cycle.outcome.is_some() { Step::Prune } else { Step::Promote }))
            }
            Step::Promote => {
                canary::promote(settings, cycle, &self.service)?;
                cycle.outcome = Some(Outcome::Promoted);
                Ok(Some(Step::Prune))
            }
            Step::Prune => {
                if cycle.outcome != Some(Outcome::Promoted) {
                    canary::leave(settings, cycle, &self.service)?;
                }
                let there = settings.models.join(&settings.policy).join(cycle.version.to_string()).is_dir();
                if cycle.winner.is_some() && there && !self.state.published.contains(&cycle.version) {
                    self.state.published.push(cycle.version);
                }
                self.state.newest = self.state.newest.max(cycle.version);
                prune::versions(settings, &mut self.state, cycle, &self.service)?;
                prune::folders(settings, &self.settings.folder.join("cycles"), cycle)?;
                Ok(Some(Step::Report))
            }
            Step::Report => Ok(None),
        }
    }

    /// Leaves the report and the event, and ends the cycle.
    fn report(&mut self, cycle: Cycle) -> Result<CycleReport, AutopilotError> {
        let folder = self.folder(cycle.number);
        let mut state = self.state.clone();
        state.cycles = cycle.number;
        state.learn_from = cycle.learn_from.max(state.learn_from);
        if cycle.drift.as_ref().is_some_and(Drift::of_rewards) {
            state.begun_after = cycle.number - 1;
        }
        state.last_cut = Some(cycle.cut);
        state.last_begin = Some(cycle.begun);
        state.events = cycle.events;
        state.running = None;
        let report =
            CycleReport { policy: self.settings.policy.clone(), cycle, ended: Utc::now(), quiet: self.quiet.clone() };
        let id = change_id(&self.settings, report.cycle.number, "cycle");
        loop {
            let said = self.service.change(&Action::Cycle { cycle: report.cycle.number }, &report.summary(), &id);
            match said {
                Ok(()) => break,
                Err(error) => self.unavailable(error)?,
            }
            pause(self.settings.trigger.poll_seconds, &self.stop)?;
        }
        write_whole(&folder.join("report.html"), report.html().as_bytes())?;
        let text = serde_json::to_vec_pretty(&report);
        let text = text.map_err(|error| AutopilotError::Service(format!("the report cannot be written: {error}")))?;
        write_whole(&folder.join("report.json"), &text)?;
        write_whole(&self.settings.folder.join("metrics.prom"), metrics::text(&report, &state).as_bytes())?;
        self.state = state;
        self.keep()?;
        tracing::info!(cycle = report.cycle.number, "{}", report.summary());
        Ok(report)
    }

    fn folder(&self, cycle: u64) -> PathBuf {
        folder(&self.settings.folder, cycle)
    }

    fn keep(&self) -> Result<(), AutopilotError> {
        self.state.write(&self.settings.folder)
    }
}

fn folder(home: &Path, cycle: u64) -> PathBuf {
    home.join("cycles").join(cycle.to_string())
}

/// Why no candidate was chosen.
fn why_none(cycle: &Cycle) -> Outcome {
    let trained = cycle.candidates.iter().filter(|candidate| candidate.model_sha256.is_some()).count();
    if trained == 0 {
        let problems =
            cycle.candidates.iter().filter_map(|one| Some(format!("{}: {}", one.name, one.problem.as_ref()?)));
        return Outcome::Failed(format!("no candidate was trained: {}", problems.collect::<Vec<_>>().join("; ")));
    }
    let failed = cycle
        .candidates
        .iter()
        .filter_map(|one| Some(format!("{} fails {}", one.name, one.failed.as_ref()?.join(", "))));
    Outcome::Kept(failed.collect::<Vec<_>>().join("; "))
}
