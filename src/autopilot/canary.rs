//! Publishing the chosen candidate, its trial, and its promotion.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::Utc;
use slated_contract::event::{RouteChange, SegmentReader, segments};
use slated_contract::policy::{Bundle, BundleWriter, hold, read_manifest};

use super::service::Service;
use super::train::models_of;
use super::{AutopilotError, AutopilotSettings, Cycle, Outcome};
use crate::serving::traffic::Action;

/// Puts the winner into the service's folder of models, held back: the service gives it to nobody until a route names it.
/// What is there already from an interrupted attempt is left as it is.
pub fn publish(settings: &AutopilotSettings, cycle: &Cycle, folder: &Path) -> Result<(), AutopilotError> {
    let Some(winner) = cycle.winner.map(|place| &cycle.candidates[place]) else { return Ok(()) };
    let target = settings.models.join(&settings.policy).join(cycle.version.to_string());
    if let Ok(there) = read_manifest(&target) {
        if Some(&there.model_sha256) == winner.model_sha256.as_ref() {
            return Ok(());
        }
        let message = format!("{} is taken: another version of that number was published meanwhile", target.display());
        return Err(AutopilotError::Service(message));
    }
    let bundle = Bundle::open(&models_of(folder, &winner.name), &settings.policy, Some(cycle.version))?;
    let learner = bundle.learner()?;
    let mut manifest = bundle.manifest;
    manifest.evaluation.clone_from(&winner.evaluation);
    let writer = BundleWriter::stage(&settings.models, &manifest, &bundle.model, learner.as_deref())?;
    hold(&writer.folder(), true)?;
    writer.publish()?;
    Ok(())
}

/// Where a trial stands.
enum Trial {
    /// The version answers its share of the users; whether it has answered enough.
    Running { enough: bool },
    /// It serves everyone.
    Promoted,
    /// It serves nobody.
    None,
}

fn trial(settings: &AutopilotSettings, cycle: &mut Cycle, service: &Service) -> Result<Trial, AutopilotError> {
    let status = service.status()?;
    let on_trial = status.route.canary.as_ref().is_some_and(|canary| canary.version == cycle.version);
    if on_trial {
        cycle.figures = status.figures;
        let requests = cycle.figures.get(&cycle.version).map_or(0, |figures| figures.requests);
        return Ok(Trial::Running { enough: requests >= settings.canary.min_requests });
    }
    let serves = status.route.shares.contains_key(&cycle.version);
    Ok(if serves { Trial::Promoted } else { Trial::None })
}

/// Begins the trial, or goes on with it, until it has answered enough requests, breaks a guardrail or takes too long; the
/// outcome where it does not end well.
pub fn run(
    settings: &AutopilotSettings,
    cycle: &mut Cycle,
    service: &Service,
    stop: &AtomicBool,
    kept: &mut dyn FnMut(&Cycle) -> Result<(), AutopilotError>,
) -> Result<Option<Outcome>, AutopilotError> {
    let canary = &settings.canary;
    if canary.share == 0.0 {
        return Ok(None);
    }
    let id = |what: &str| change_id(settings, cycle.number, what);
    let (begin, leave) = (id("canary"), id("leave"));
    if cycle.canary_begun.is_none() {
        if matches!(trial(settings, cycle, service)?, Trial::None) {
            let action = Action::Canary { version: cycle.version, share: canary.share, guardrails: canary.guardrails };
            service.change(&action, &describe(cycle), &begin)?;
        }
        cycle.canary_begun = Some(Utc::now());
        kept(cycle)?;
    }
    let begun = cycle.canary_begun.unwrap_or_else(Utc::now);
    loop {
        match trial(settings, cycle, service)? {
            Trial::Running { enough: true } | Trial::Promoted => return Ok(None),
            Trial::None => return Ok(Some(Outcome::RolledBack(taken_back(settings, cycle, service)?))),
            Trial::Running { enough: false } => {}
        }
        let seconds = (Utc::now() - begun).as_seconds_f64();
        if seconds > canary.max_seconds {
            let requests = cycle.figures.get(&cycle.version).map_or(0, |figures| figures.requests);
            let why = format!("{requests} of {} requests after {seconds:.0} s on trial", canary.min_requests);
            service.change(&Action::Promote { version: cycle.live }, &why, &leave)?;
            return Ok(Some(Outcome::RolledBack(why)));
        }
        pause(settings.trigger.poll_seconds.min(1.0), stop)?;
    }
}

/// Gives the version to everyone.
pub fn promote(settings: &AutopilotSettings, cycle: &mut Cycle, service: &Service) -> Result<(), AutopilotError> {
    let status = service.status()?;
    let alone = status.route.canary.is_none() && status.route.shares.len() == 1;
    if !(alone && status.version == Some(cycle.version)) {
        if let Some(canary) = &status.route.canary
            && canary.version == cycle.version
        {
            cycle.figures = status.figures;
        }
        let id = change_id(settings, cycle.number, "promote");
        service.change(&Action::Promote { version: cycle.version }, &describe(cycle), &id)?;
    }
    hold(&settings.models.join(&settings.policy).join(cycle.version.to_string()), false)?;
    Ok(())
}

/// Ends a trial of this cycle that is still under way.
pub fn leave(settings: &AutopilotSettings, cycle: &Cycle, service: &Service) -> Result<(), AutopilotError> {
    let status = service.status()?;
    if status.route.canary.is_some_and(|canary| canary.version == cycle.version) {
        let id = change_id(settings, cycle.number, "leave");
        service.change(&Action::Promote { version: cycle.live }, "the cycle failed", &id)?;
    }
    Ok(())
}

/// The id of a change that a cycle makes: asked for twice, it is journalled once.
pub fn change_id(settings: &AutopilotSettings, cycle: u64, what: &str) -> String {
    format!("autopilot-{}-{cycle}-{what}", settings.policy)
}

fn describe(cycle: &Cycle) -> String {
    let winner = cycle.winner.map(|place| &cycle.candidates[place]);
    let figure = winner.and_then(|winner| winner.evaluation.first());
    let against = figure.and_then(|figure| figure.against.as_ref());
    match (winner, against) {
        (Some(winner), Some(against)) => format!(
            "cycle {}: {}, better by {:.4} ({:.4} to {:.4})",
            cycle.number, winner.name, against.improvement, against.lower, against.upper
        ),
        _ => format!("cycle {}", cycle.number),
    }
}

/// Why the service took the version back, as it journalled that.
fn taken_back(settings: &AutopilotSettings, cycle: &Cycle, service: &Service) -> Result<String, AutopilotError> {
    service.seal()?;
    let mut why = "it was taken back, or its trial never began".to_owned();
    let mut last = None;
    let version = format!("\"version\":{}", cycle.version);
    for path in segments::<RouteChange>(&settings.journal)?.into_iter().flat_map(|date| date.files) {
        for batch in SegmentReader::<RouteChange>::open(&path, 1024)? {
            for change in batch? {
                let ended = change.policy == settings.policy
                    && change.before.contains(&version)
                    && !change.after.contains(&version);
                if ended && change.time >= cycle.begun && last.is_none_or(|time| change.time > time) {
                    last = Some(change.time);
                    why = format!("{}: {}", change.by, change.why);
                }
            }
        }
    }
    Ok(why)
}

/// Waits, unless asked to stop.
pub fn pause(seconds: f64, stop: &AtomicBool) -> Result<(), AutopilotError> {
    let mut left = seconds;
    while left > 0.0 {
        if stop.load(Ordering::Relaxed) {
            return Err(AutopilotError::Stopped);
        }
        let part = left.min(0.1);
        std::thread::sleep(Duration::from_secs_f64(part));
        left -= part;
    }
    if stop.load(Ordering::Relaxed) { Err(AutopilotError::Stopped) } else { Ok(()) }
}
