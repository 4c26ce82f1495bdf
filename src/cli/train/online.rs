//! `slated train` in a simulated environment.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use slated_contract::policy::versions;
use slated_trainer::online::{
    Figures, Learned, Observer, OnlineError, OnlineOutcome, OnlineSettings, check_online, train_online,
};
use slated_trainer::progress::{self, Progress};
use slated_trainer::report::{
    Estimate, Evaluation, Line, ProgressRow, ReportError, RunFolder, RunReport, RunSteps, peak_memory,
};
use slated_trainer::rollout::{Actor, Rollout, Summary};

use super::super::exit::Interrupted;
use super::super::progress::Drawn;
use super::{checkpoint_of, publish, save};
use crate::serving::library;

/// Episodes that measure each baseline of a report.
const BASELINE_EPISODES: u64 = 500;

/// A policy in its place.
pub struct PublishedOnline {
    /// What was learned.
    pub learned: Learned,
    /// Where the bundle lies.
    pub folder: PathBuf,
    /// How long it took to learn, without the final evaluation's baselines, in seconds.
    pub seconds: f64,
    /// The learning curve: steps and mean return.
    pub curve: Vec<(f64, f64)>,
}

/// Learns the next version of a policy in its environment, proves it in ONNX Runtime, publishes it, and writes the run's
/// folder. Its progress is drawn where it is the only run, or the one of several that is watched.
pub fn train_and_publish_online(
    settings: &OnlineSettings,
    models: &Path,
    run: &Path,
    watched: bool,
    stop: &AtomicBool,
) -> anyhow::Result<PublishedOnline> {
    check_online(settings)?;
    // The last step needs it; to miss it there would cost the whole run.
    library::environment()?;
    let version = versions(models, &settings.policy)?.last().map_or(1, |latest| latest + 1);
    let checkpoint = checkpoint_of(models, &settings.policy);
    let kept = fs::read(&checkpoint).ok();
    let mut folder = match &kept {
        Some(_) => {
            tracing::info!(path = %checkpoint.display(), "going on from the checkpoint of an interrupted run");
            resumed(run)?
        }
        None => RunFolder::create(run)?,
    };
    let mut watch = Watch::new(&mut folder, settings.steps, watched);
    let outcome = train_online(settings, version, kept.as_deref(), &mut watch, stop);
    let seconds = watch.finish()?;
    let describe = |learned: Option<&Learned>| describe(settings, version, learned, seconds);
    match outcome {
        Err(OnlineError::Diverged { source, step, checkpoint: bytes }) => {
            let kept = checkpoint.with_extension("diverged.safetensors");
            save(&kept, &bytes)?;
            folder.write_report(&describe(None)?)?;
            let message = format!(
                "policy `{}` was not trained; the state at step {step} is in {}",
                settings.policy,
                kept.display()
            );
            Err(anyhow::Error::new(source).context(message))
        }
        Err(error) => Err(anyhow::Error::new(error).context(format!("policy `{}` was not trained", settings.policy))),
        Ok(OnlineOutcome::Interrupted { checkpoint: bytes, steps }) => {
            save(&checkpoint, &bytes)?;
            folder.write_report(&describe(None)?)?;
            let message = format!("{steps} steps are learned; the same command goes on from {}", checkpoint.display());
            Err(Interrupted(message).into())
        }
        Ok(OnlineOutcome::Finished(learned)) => {
            folder.write_report(&describe(Some(&learned))?)?;
            let place = publish(models, &learned.manifest, &learned.model, None, &checkpoint)?;
            let point = |row: &ProgressRow| Some((row.step as f64, row.evaluation?.mean));
            let curve = folder.rows().iter().filter_map(point).collect();
            Ok(PublishedOnline { learned: *learned, folder: place, seconds, curve })
        }
    }
}

/// The run's folder, from the rows that it has; a new one where it was removed.
pub(super) fn resumed(run: &Path) -> Result<RunFolder, ReportError> {
    RunFolder::resume(run, u64::MAX - 1).or_else(|_| RunFolder::create(run))
}

/// Draws a run and writes it down.
pub(super) struct Watch<'a> {
    begun: Instant,
    /// Seconds that earlier parts of the run took.
    before: f64,
    /// Seconds and steps at the latest figures.
    latest: (f64, u64),
    folder: &'a mut RunFolder,
    drawn: Option<Drawn>,
    failed: Option<ReportError>,
}

impl<'a> Watch<'a> {
    /// Goes on where the folder's rows end, drawing where the run is watched.
    pub fn new(folder: &'a mut RunFolder, total: u64, watched: bool) -> Self {
        let (before, steps) = folder.rows().last().map_or((0.0, 0), |row| (row.seconds, row.step));
        let mut drawn = watched.then(Drawn::default);
        if let Some(drawn) = &mut drawn {
            drawn.stage("learning", Some(total));
            drawn.advance(steps);
        }
        Self { begun: Instant::now(), before, latest: (before, steps), folder, drawn, failed: None }
    }

    /// Ends the drawing; how long the run took, all its parts added up, in seconds.
    pub fn finish(mut self) -> Result<f64, ReportError> {
        if let Some(drawn) = &mut self.drawn {
            drawn.finish();
        }
        let seconds = self.seconds();
        self.failed.map_or(Ok(seconds), Err)
    }

    fn seconds(&self) -> f64 {
        self.before + self.begun.elapsed().as_secs_f64()
    }
}

impl Observer for Watch<'_> {
    fn figures(&mut self, figures: &Figures) {
        let seconds = self.seconds();
        let (since, steps) = self.latest;
        self.latest = (seconds, figures.steps);
        let rate = (seconds > since).then(|| (figures.steps - steps) as f64 / (seconds - since));
        let mean_return = figures.evaluation.map_or(figures.mean_return, |evaluation| Some(evaluation.mean));
        if let Some(drawn) = &mut self.drawn {
            drawn.figures(&progress::Figures { mean_return, loss: figures.loss, steps_per_second: rate });
            drawn.advance(figures.steps - steps);
        }
        let row = ProgressRow {
            step: figures.steps,
            episodes: figures.episodes,
            seconds,
            mean_return: figures.mean_return,
            loss: figures.loss,
            validation_loss: figures.validation_loss,
            gradient_norm: figures.gradient_norm,
            epsilon: figures.exploration,
            steps_per_second: rate,
            evaluation: figures.evaluation.as_ref().map(estimate),
        };
        // The run is worth more than its log: a full disk is reported when the run has ended.
        if let Err(error) = self.folder.record(row) {
            self.failed.get_or_insert(error);
        }
    }
}

pub(super) fn estimate(summary: &Summary) -> Estimate {
    Estimate { mean: summary.mean, lower: summary.lower, upper: summary.upper }
}

/// Mean return of a policy that needs no model.
pub(in super::super) fn baseline(settings: &OnlineSettings, actor: Actor, episodes: u64) -> anyhow::Result<Summary> {
    let environment = || settings.environment.build();
    let episodes = Rollout::new(&environment, episodes, settings.seed).run(&[actor.into()])?;
    let returns: Vec<f64> = episodes.iter().map(|episode| episode.total_reward).collect();
    Ok(Summary::of(&returns))
}

/// What the report says besides the curve.
fn describe(
    settings: &OnlineSettings,
    version: u64,
    learned: Option<&Learned>,
    seconds: f64,
) -> anyhow::Result<RunReport> {
    let environment = settings.environment.build()?;
    let spec = environment.spec();
    let actors = [("random", Actor::Random)].into_iter();
    let actors = actors.chain(spec.references.iter().map(|name| (*name, Actor::Reference(name))));
    let baselines = actors
        .map(|(name, actor)| {
            let value = baseline(settings, actor, BASELINE_EPISODES)?.mean;
            Ok(Line { name: name.to_owned(), value })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let evaluation = learned.map(|learned| Evaluation {
        episodes: learned.returns.count as u64,
        mean_return: estimate(&learned.returns),
        confidence: 0.95,
    });
    Ok(RunReport {
        title: format!("{} version {version}", settings.policy),
        algorithm: settings.algorithm.name().to_owned(),
        environment: spec.name.to_owned(),
        steps: RunSteps::Environment,
        seed: settings.seed,
        settings: toml::to_string_pretty(settings).unwrap_or_default(),
        baselines,
        optimum: spec.optimum,
        evaluation,
        peak_memory: peak_memory(),
        facts: vec![
            ("training time".to_owned(), format!("{seconds:.1} s")),
            ("discount".to_owned(), settings.algorithm.discount().to_string()),
        ],
    })
}
