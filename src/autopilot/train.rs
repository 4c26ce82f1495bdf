//! Training the candidates, each into a folder of the cycle's.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use slated_contract::policy::{Bundle, BundleWriter, Manifest, read_manifest};
use slated_contract::slate::Exploration;
use slated_trainer::dataset::DatasetSettings;
use slated_trainer::offline::{Experience, OfflineOutcome, OfflineSettings, read_journal, train_offline};
use slated_trainer::online::{Figures, Observer};
use slated_trainer::progress::Progress;
use slated_trainer::train::{Outcome, Start, TrainSettings, train};

use super::settings::{Candidate, Horizon};
use super::window::{data, reward};
use super::{AutopilotError, AutopilotSettings, CandidateState, Cycle};
use crate::serving::{EngineSettings, LoadedPolicy};

/// Progress goes into the log.
#[derive(Debug)]
pub struct Logged;

impl Progress for Logged {
    fn stage(&mut self, name: &str, total: Option<u64>) {
        tracing::debug!(total, "{name}");
    }

    fn advance(&mut self, _: u64) {}
}

impl Observer for Logged {
    fn figures(&mut self, figures: &Figures) {
        tracing::debug!(
            updates = figures.updates,
            loss = figures.loss,
            validation_loss = figures.validation_loss,
            "learning"
        );
    }
}

/// The folder of bundles of one candidate of a cycle.
pub fn models_of(folder: &Path, candidate: &str) -> PathBuf {
    folder.join("candidates").join(candidate)
}

/// Trains every candidate that is not trained yet. One that fails is no candidate any more; the others go on.
pub fn train_all(
    settings: &AutopilotSettings,
    cycle: &mut Cycle,
    folder: &Path,
    stop: &AtomicBool,
    kept: &mut dyn FnMut(&Cycle) -> Result<(), AutopilotError>,
) -> Result<(), AutopilotError> {
    let live = read_manifest(&settings.models.join(&settings.policy).join(cycle.live.to_string()))?;
    let reward = reward(settings, cycle)?;
    let mut data = data(settings, cycle, &reward);
    data.until = cycle.split.or(data.until);
    let candidates = settings.all_candidates()?;
    // Settings that changed while the autopilot was down.
    let known = std::mem::take(&mut cycle.candidates);
    let state = |candidate: &Candidate| {
        let found = known.iter().find(|state| state.name == candidate.name).cloned();
        found.unwrap_or_else(|| CandidateState { name: candidate.name.clone(), ..CandidateState::default() })
    };
    cycle.candidates = candidates.iter().map(state).collect();
    let mut read: Option<(String, Experience)> = None;
    for (place, candidate) in candidates.iter().enumerate() {
        if cycle.candidates[place].model_sha256.is_some() {
            continue;
        }
        let models = models_of(folder, &candidate.name);
        let trained = match Bundle::open(&models, &settings.policy, Some(cycle.version)) {
            // Published before the state could say so.
            Ok(bundle) => Ok(bundle.manifest),
            Err(_) if candidate.offline => {
                learn_sessions(settings, cycle, candidate, &data, &live, &models, &mut read, stop)
            }
            Err(_) => learn_rounds(settings, cycle, candidate, &data, &live, &models, stop),
        };
        let state = &mut cycle.candidates[place];
        match trained {
            Ok(manifest) => {
                state.algorithm = manifest.algorithm.name;
                state.model_sha256 = Some(manifest.model_sha256);
                state.problem = None;
            }
            Err(AutopilotError::Stopped) => return Err(AutopilotError::Stopped),
            Err(error) => {
                tracing::warn!(candidate = candidate.name, %error, "the candidate was not trained");
                state.problem = Some(error.to_string());
            }
        }
        kept(cycle)?;
    }
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "what a candidate is made of")]
fn learn_sessions(
    settings: &AutopilotSettings,
    cycle: &Cycle,
    candidate: &Candidate,
    data: &DatasetSettings,
    live: &Manifest,
    models: &Path,
    read: &mut Option<(String, Experience)>,
    stop: &AtomicBool,
) -> Result<Manifest, AutopilotError> {
    let mut table = candidate.table.clone();
    table.insert("policy".to_owned(), settings.policy.as_str().into());
    let wrong = |error: toml::de::Error| AutopilotError::Settings(format!("candidate `{}`: {error}", candidate.name));
    let mut offline: OfflineSettings = table.try_into().map_err(wrong)?;
    offline.seed = candidate.seed;
    offline.data = Some(data.clone());
    offline.exploration = exploration(settings, cycle)?;
    offline.episodes.open_seconds = settings.data.settle_seconds;
    if settings.evaluation.horizon == Horizon::Session {
        offline.episodes.validation = settings.evaluation.share;
    }
    // A version reads what the live one reads, unless its settings say otherwise: what the service keeps of a session stays.
    if offline.features.is_none() && offline.evaluation.environment.is_none() {
        offline.features = Some(live.features.clone());
        offline.session.get_or_insert_with(|| live.session.clone());
    }
    offline.slate.get_or_insert(live.slate);
    let reading = serde_json::json!([offline.data, offline.features, offline.session, offline.episodes]).to_string();
    if read.as_ref().is_none_or(|(known, _)| *known != reading) {
        *read = Some((reading, read_journal(&offline, &mut Logged)?.0));
    }
    let Some((_, experience)) = read else { return Err(AutopilotError::Stopped) };
    match train_offline(&offline, experience, cycle.version, None, &mut Logged, stop)? {
        OfflineOutcome::Finished(learned) => keep(models, &learned.manifest, &learned.model, None),
        OfflineOutcome::Interrupted { .. } => Err(AutopilotError::Stopped),
    }
}

fn learn_rounds(
    settings: &AutopilotSettings,
    cycle: &Cycle,
    candidate: &Candidate,
    data: &DatasetSettings,
    live: &Manifest,
    models: &Path,
    stop: &AtomicBool,
) -> Result<Manifest, AutopilotError> {
    let mut table = candidate.table.clone();
    table.insert("policy".to_owned(), settings.policy.as_str().into());
    let folder = toml::Table::from_iter([("journal".to_owned(), toml::Value::from("journal"))]);
    table.insert("data".to_owned(), folder.into());
    let wrong = |error: toml::de::Error| AutopilotError::Settings(format!("candidate `{}`: {error}", candidate.name));
    let mut bandit: TrainSettings = table.try_into().map_err(wrong)?;
    bandit.seed = candidate.seed;
    bandit.data = data.clone();
    bandit.exploration = Some(exploration(settings, cycle)?);
    // Where names are not known beforehand, what the journal happens to hold is no schema to go by.
    if bandit.features.is_none() && bandit.algorithm.bandit().reads_features() && live.features.reads_rest() {
        bandit.features = Some(live.features.clone());
        bandit.slate.get_or_insert(live.slate);
    }
    let start = Start { version: cycle.version, continue_from: None, checkpoint: None };
    match train(&bandit, start, &mut Logged, stop)? {
        Outcome::Finished(trained) => keep(models, &trained.manifest, &trained.model, Some(&trained.learner)),
        Outcome::Interrupted { .. } => Err(AutopilotError::Stopped),
    }
}

/// The name of the candidate that is the live version with more exploration.
const EXPLORER: &str = "explorer";

/// Makes the one candidate of a cycle that only explores: the live model again, exploring as after a drift. There is nothing
/// that a gate could ask of it.
pub fn explore(settings: &AutopilotSettings, cycle: &mut Cycle, folder: &Path) -> Result<(), AutopilotError> {
    let Some(exploration) = settings.beginning.and_then(|beginning| beginning.after_drift) else { return Ok(()) };
    let live = Bundle::open(&settings.models, &settings.policy, Some(cycle.live))?;
    let learner = live.learner()?;
    let manifest = Manifest { version: cycle.version, exploration, evaluation: Vec::new(), ..live.manifest };
    let models = models_of(folder, EXPLORER);
    if Bundle::open(&models, &settings.policy, Some(cycle.version)).is_err() {
        BundleWriter::stage(&models, &manifest, &live.model, learner.as_deref())?.publish()?;
    }
    cycle.candidates = vec![CandidateState {
        name: EXPLORER.to_owned(),
        algorithm: manifest.algorithm.name,
        model_sha256: Some(manifest.model_sha256),
        ..CandidateState::default()
    }];
    cycle.winner = Some(0);
    Ok(())
}

/// How the cycle's version explores: more at the beginning, else as the Personalizer's routes say, else as the settings do.
fn exploration(settings: &AutopilotSettings, cycle: &Cycle) -> Result<Exploration, AutopilotError> {
    if let Some(beginning) = settings.beginning.filter(|_| cycle.beginning) {
        return Ok(beginning.exploration);
    }
    #[cfg(feature = "compat")]
    if let Some(exploration) = super::window::personalizer(settings)?.and_then(|kept| kept.exploration()) {
        return Ok(exploration);
    }
    Ok(settings.exploration)
}

/// Puts a candidate into its folder once ONNX Runtime has reproduced the trainer's scores.
fn keep(models: &Path, manifest: &Manifest, model: &[u8], learner: Option<&[u8]>) -> Result<Manifest, AutopilotError> {
    let writer = BundleWriter::stage(models, manifest, model, learner)?;
    LoadedPolicy::load_folder(&writer.folder(), &EngineSettings::default())?;
    writer.publish()?;
    Ok(manifest.clone())
}
