//! One training run.

use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};
use slated_contract::feature::FeatureSchema;
use slated_contract::policy::{Manifest, sha256_hex};

use super::learning::Learning;
use super::{TrainError, TrainSettings};
use crate::bandit::{LearnerNotes, LearnerState};
use crate::dataset::{Dataset, DatasetError, DatasetSettings, DatasetSummary, SchemaInference};
use crate::progress::Progress;

/// Where a run starts.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// The version of the bundle to make.
    pub version: u64,
    /// The version to continue from with its learner's state: only what was decided after it is learned.
    pub continue_from: Option<(u64, Vec<u8>)>,
    /// The checkpoint of an interrupted run of the same settings.
    pub checkpoint: Option<Vec<u8>>,
}

/// How a run ended.
#[derive(Debug)]
pub enum Outcome {
    /// It is done.
    Finished(Box<Trained>),
    /// It was stopped; the checkpoint leads on.
    Interrupted {
        /// For [`Start::checkpoint`].
        checkpoint: Vec<u8>,
        /// Decisions it holds.
        decisions: u64,
    },
}

/// A trained policy.
#[derive(Debug)]
pub struct Trained {
    /// Its manifest.
    pub manifest: Manifest,
    /// Its model, ONNX.
    pub model: Vec<u8>,
    /// Its learner's state.
    pub learner: Vec<u8>,
    /// What it was learned from.
    pub summary: DatasetSummary,
}

/// Trains a policy. `stop` is looked at between blocks of examples; a stopped run gives a checkpoint from which the
/// same settings lead to the same bytes as a run that was never stopped.
///
/// # Errors
/// A setting, a journal, or a state that cannot be used; each says what to do.
pub fn train(
    settings: &TrainSettings,
    start: Start,
    progress: &mut dyn Progress,
    stop: &AtomicBool,
) -> Result<Outcome, TrainError> {
    check(settings)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(TrainError::Runtime)?;
    runtime.block_on(run(settings, start, progress, stop))
}

/// A policy of these settings that has learned nothing, as version `version`, for a service to begin with: what it shows is
/// journalled, and the next version is learned from that.
///
/// # Errors
/// A setting that cannot be used.
pub fn untrained(settings: &TrainSettings, version: u64) -> Result<Trained, TrainError> {
    check(settings)?;
    let start = Start { version, ..Start::default() };
    let features = settings.features.clone().unwrap_or_default();
    let learning = Learning::new(settings, features, None, digest_of(settings, &start))?;
    let summary = DatasetSummary::default();
    let state = learning.state(&summary);
    learning.finish(&start, state, summary)
}

fn check(settings: &TrainSettings) -> Result<(), TrainError> {
    let bandit = settings.algorithm.bandit();
    if let Some(problem) = bandit.problem() {
        return Err(TrainError::Setting(problem));
    }
    if settings.features.is_some() && !bandit.reads_features() {
        let name = settings.algorithm.name();
        return Err(TrainError::Setting(format!(
            "`features` cannot be given: `algorithm.name` = \"{name}\" knows items by their id alone"
        )));
    }
    if let Some(feature) = settings.features.as_ref().and_then(FeatureSchema::index) {
        return Err(TrainError::Setting(format!(
            "`features`: `{feature}` is of kind `index`, a place in a list, which is no number to regress on; use \
             `categorical` or `hashed`"
        )));
    }
    Ok(())
}

async fn run(
    settings: &TrainSettings,
    start: Start,
    progress: &mut dyn Progress,
    stop: &AtomicBool,
) -> Result<Outcome, TrainError> {
    let base = start.continue_from.as_ref().map(|(_, bytes)| LearnerState::decode(bytes)).transpose()?;
    let settings_digest = digest_of(settings, &start);
    let mut data = settings.data.clone();
    if let Some(base) = &base {
        check_kept(settings, &base.notes)?;
        data.after.clone_from(&base.notes.until);
    }
    let checkpoint = start.checkpoint.as_deref().map(LearnerState::decode).transpose()?;
    if checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.notes.settings != settings_digest) {
        return Err(TrainError::Checkpoint("settings"));
    }
    let known = checkpoint.as_ref().or(base.as_ref()).map(|state| state.notes.features.clone());
    let features = match known.or_else(|| settings.features.clone()) {
        Some(features) => features,
        None if !settings.algorithm.bandit().reads_features() => FeatureSchema::default(),
        None => infer(&data, progress).await?,
    };
    let mut learning = Learning::new(settings, features, base, settings_digest)?;
    let mut rounds = open(&data, start.continue_from.as_ref()).await?;
    progress.stage("learning", Some(rounds.total()));
    let skip = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.notes.decisions - learning.notes.decisions);
    let mut resume = checkpoint;
    let mut seen = 0;
    while let Some(batch) = rounds.next().await? {
        progress.advance(batch.len() as u64);
        for round in &batch {
            seen += 1;
            learning.sample(round);
            if seen <= skip {
                learning.pass(round);
                if seen == skip
                    && let Some(checkpoint) = resume.take()
                {
                    learning.resume(&checkpoint)?;
                }
                continue;
            }
            let may_stop = learning.learn(round)?;
            if may_stop && stop.load(Ordering::Relaxed) {
                let state = learning.state(rounds.summary());
                let decisions = state.notes.decisions;
                return Ok(Outcome::Interrupted { checkpoint: state.encode()?, decisions });
            }
        }
    }
    if resume.is_some() {
        return Err(TrainError::Checkpoint("the journal is shorter than it was"));
    }
    let state = learning.state(rounds.summary());
    learning.finish(&start, state, rounds.summary().clone()).map(|trained| Outcome::Finished(Box::new(trained)))
}

/// Checks that the learner's state of a version is one that this algorithm goes on from.
fn check_kept(settings: &TrainSettings, base: &LearnerNotes) -> Result<(), TrainError> {
    let (ours, theirs) = (settings.algorithm.bandit().kept(), &base.kept);
    if ours["state"] != theirs["state"] {
        return Err(TrainError::Setting(format!(
            "`algorithm.name` is \"{}\", which keeps a state of kind {}; the version to continue from has one of kind {}",
            settings.algorithm.name(),
            ours["state"],
            theirs["state"],
        )));
    }
    let differs = ours.as_object().into_iter().flatten().find(|(key, value)| theirs.get(key) != Some(value));
    differs.map_or(Ok(()), |(key, value)| {
        let kept = &theirs[key];
        Err(TrainError::Setting(format!(
            "`algorithm.{key}` is {value}, the version to continue from was learned with {kept}; it cannot change on the way"
        )))
    })
}

async fn open(data: &DatasetSettings, continue_from: Option<&(u64, Vec<u8>)>) -> Result<Dataset, TrainError> {
    Dataset::open(data).await.map_err(|error| match (error, continue_from) {
        (DatasetError::Empty(_), Some((version, _))) => TrainError::NothingNew(*version),
        (error, _) => error.into(),
    })
}

async fn infer(data: &DatasetSettings, progress: &mut dyn Progress) -> Result<FeatureSchema, TrainError> {
    let mut rounds = Dataset::open(data).await?;
    progress.stage("finding features", Some(rounds.total()));
    let mut inference = SchemaInference::default();
    while let Some(batch) = rounds.next().await? {
        progress.advance(batch.len() as u64);
        batch.iter().try_for_each(|round| inference.add(round))?;
    }
    Ok(inference.schema())
}

/// Names the run: what it is asked to do, and from where.
fn digest_of(settings: &TrainSettings, start: &Start) -> String {
    let base = start.continue_from.as_ref().map(|(version, state)| (version, sha256_hex(state)));
    let text = serde_json::json!([settings, start.version, base]).to_string();
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}
