//! What was learned from a log, as everything a policy bundle holds.

use slated_contract::policy::{Manifest, SlateLimits, TrainingRecord};

use super::episodes::Experience;
use super::error::OfflineError;
use super::settings::OfflineSettings;
use crate::learner::Learner;
use crate::online::{Recipe, bundle, simulated_return};
use crate::rollout::Summary;

/// A policy that was learned from a log.
#[derive(Debug, Clone)]
pub struct LearnedOffline {
    /// Its manifest.
    pub manifest: Manifest,
    /// Its model, ONNX.
    pub model: Vec<u8>,
    /// The return of the greedy policy, where there is an environment to measure it in.
    pub returns: Option<Summary>,
    /// The loss over those who were kept out, where there are any.
    pub validation_loss: Option<f64>,
}

pub(super) fn learned(
    settings: &OfflineSettings,
    experience: &Experience,
    version: u64,
    learner: &mut dyn Learner,
    returns: Option<Summary>,
    validation_loss: Option<f64>,
) -> Result<LearnedOffline, OfflineError> {
    let size = experience.slate_size();
    let max_size = (4 * size).max(10);
    // The end of the first session, so that there is a session and a history to read.
    let sample = experience.episodes.first().and_then(|episode| episode.steps.last());
    let sample = sample.map(|step| step.observation.clone()).unwrap_or_default();
    let recipe = Recipe {
        policy: &settings.policy,
        version,
        algorithm: settings.algorithm.name(),
        settings: serde_json::to_value(settings).unwrap_or_default(),
        discount: settings.algorithm.discount(),
        features: experience.features.clone(),
        session: experience.session.clone(),
        slate: settings
            .slate
            .unwrap_or_else(|| SlateLimits { max_size, max_candidates: (4 * experience.candidates()).max(max_size) }),
        exploration: settings.exploration,
        training: TrainingRecord {
            data_digest: experience.digest(),
            decisions: experience.steps() as u64,
            feedback: experience.feedback,
            mean_reward: experience.mean_reward(),
            reward: experience.reward.clone(),
            seed: settings.seed,
            continued_from: None,
            learned_until: experience.until.clone(),
        },
        evaluation: returns.iter().map(simulated_return).collect(),
    };
    let (manifest, model) = bundle::<OfflineError>(recipe, learner, &sample)?;
    Ok(LearnedOffline { manifest, model, returns, validation_loss })
}
