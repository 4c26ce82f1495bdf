//! `slated train` over the sessions of a log.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use slated_contract::policy::versions;
use slated_trainer::offline::{
    Experience, LearnedOffline, OfflineError, OfflineOutcome, OfflineSettings, train_offline,
};
use slated_trainer::report::{Evaluation, Line, RunFolder, RunReport, RunSteps, peak_memory};

use super::super::exit::Interrupted;
use super::online::{Watch, estimate, resumed};
use super::{checkpoint_of, publish, save};
use crate::serving::library;

/// A policy in its place.
pub struct PublishedOffline {
    /// What was learned.
    pub learned: LearnedOffline,
    /// Where the bundle lies.
    pub folder: PathBuf,
    /// How long it took to learn, evaluations included, in seconds.
    pub seconds: f64,
}

/// Learns the next version of a policy from a log, proves it in ONNX Runtime, publishes it, and writes the run's folder.
pub fn train_and_publish_offline(
    settings: &OfflineSettings,
    experience: &Experience,
    models: &Path,
    run: &Path,
    watched: bool,
    stop: &AtomicBool,
) -> anyhow::Result<PublishedOffline> {
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
    let mut watch = Watch::new(&mut folder, settings.updates, watched);
    let outcome = train_offline(settings, experience, version, kept.as_deref(), &mut watch, stop);
    let seconds = watch.finish()?;
    let describe = |learned| describe(settings, experience, version, learned, seconds);
    match outcome {
        Err(OfflineError::Diverged { source, update, checkpoint: bytes }) => {
            let kept = checkpoint.with_extension("diverged.safetensors");
            save(&kept, &bytes)?;
            folder.write_report(&describe(None))?;
            let message = format!(
                "policy `{}` was not trained; the state at update {update} is in {}",
                settings.policy,
                kept.display()
            );
            Err(anyhow::Error::new(source).context(message))
        }
        Err(error) => Err(anyhow::Error::new(error).context(format!("policy `{}` was not trained", settings.policy))),
        Ok(OfflineOutcome::Interrupted { checkpoint: bytes, updates }) => {
            save(&checkpoint, &bytes)?;
            folder.write_report(&describe(None))?;
            let message = format!("{updates} updates are done; the same command goes on from {}", checkpoint.display());
            Err(Interrupted(message).into())
        }
        Ok(OfflineOutcome::Finished(learned)) => {
            folder.write_report(&describe(Some(&learned)))?;
            let place = publish(models, &learned.manifest, &learned.model, None, &checkpoint)?;
            Ok(PublishedOffline { learned: *learned, folder: place, seconds })
        }
    }
}

/// What the report says besides the curves.
fn describe(
    settings: &OfflineSettings,
    experience: &Experience,
    version: u64,
    learned: Option<&LearnedOffline>,
    seconds: f64,
) -> RunReport {
    let returns = learned.and_then(|learned| learned.returns);
    let mut facts = vec![
        ("training time".to_owned(), format!("{seconds:.1} s")),
        ("discount".to_owned(), settings.algorithm.discount().to_string()),
        ("decisions".to_owned(), experience.steps().to_string()),
        ("sessions".to_owned(), experience.episodes.len().to_string()),
        ("SHA-256 of the log".to_owned(), experience.digest()),
    ];
    let validation = learned.and_then(|learned| learned.validation_loss);
    facts.extend(validation.map(|loss| ("validation loss".to_owned(), format!("{loss:.6}"))));
    let environment = settings.evaluation.environment.as_ref();
    let optimum = environment.and_then(|environment| environment.build().ok()).and_then(|one| one.spec().optimum);
    RunReport {
        title: format!("{} version {version}", settings.policy),
        algorithm: settings.algorithm.name().to_owned(),
        environment: match environment {
            Some(environment) => format!("a log, measured in {}", environment.name()),
            None => "a log".to_owned(),
        },
        steps: RunSteps::Gradient,
        seed: settings.seed,
        settings: toml::to_string_pretty(settings).unwrap_or_default(),
        baselines: vec![Line { name: "as logged".to_owned(), value: experience.mean_return() }],
        optimum,
        evaluation: returns.map(|returns| Evaluation {
            episodes: returns.count as u64,
            mean_return: estimate(&returns),
            confidence: 0.95,
        }),
        peak_memory: peak_memory(),
        facts,
    }
}
