//! What was learned, as everything a policy bundle holds.

use std::collections::BTreeMap;

use slated_contract::feature::FeatureSchema;
use slated_contract::policy::{
    Algorithm, Evaluation, FORMAT, Manifest, ManifestError, Parity, SlateLimits, TrainingRecord, sha256_hex,
};
use slated_contract::reward::RewardDefinition;
use slated_contract::session::SessionSettings;
use slated_contract::slate::Exploration;

use super::run::{OnlineError, reads};
use super::settings::OnlineSettings;
use crate::learner::{Exported, Learner};
use crate::onnx::OnnxError;
use crate::rollout::{Lane, Observation, Scored, Summary};

/// Sample items in the manifest.
const SAMPLES: usize = 4;

/// A policy that was learned in an environment.
#[derive(Debug, Clone)]
pub struct Learned {
    /// Its manifest.
    pub manifest: Manifest,
    /// Its model, ONNX.
    pub model: Vec<u8>,
    /// The return of the greedy policy in the episodes of the last evaluation.
    pub returns: Summary,
}

/// What a bundle says of its policy besides what the learner does.
pub(crate) struct Recipe<'a> {
    pub policy: &'a str,
    pub version: u64,
    pub algorithm: &'static str,
    pub settings: serde_json::Value,
    pub discount: f64,
    pub features: FeatureSchema,
    pub session: SessionSettings,
    pub slate: SlateLimits,
    pub exploration: Exploration,
    pub training: TrainingRecord,
    pub evaluation: Vec<Evaluation>,
}

/// The manifest and the model of the policy as it stands, with its scores of a few candidates of `sample` to be reproduced.
pub(crate) fn bundle<E: From<OnnxError> + From<ManifestError>>(
    recipe: Recipe<'_>,
    learner: &mut dyn Learner,
    sample: &Observation,
) -> Result<(Manifest, Vec<u8>), E> {
    let Exported { model, signature } = learner.export()?;
    let manifest = Manifest {
        format: FORMAT,
        name: recipe.policy.to_owned(),
        version: recipe.version,
        algorithm: Algorithm { name: recipe.algorithm.to_owned(), settings: recipe.settings },
        discount: recipe.discount,
        features: recipe.features,
        session: recipe.session,
        slate: recipe.slate,
        exploration: recipe.exploration,
        objective: learner.objective(),
        signature,
        model_sha256: sha256_hex(&model),
        training: Some(recipe.training),
        origin: None,
        evaluation: recipe.evaluation,
        parity: Some(parity(learner, sample)),
    };
    manifest.check()?;
    Ok((manifest, model))
}

/// Writes the policy as it stands; `sample` is a lane at the start of an episode.
pub(super) fn learned(
    settings: &OnlineSettings,
    version: u64,
    learner: &mut dyn Learner,
    sample: &mut Lane,
    returns: Summary,
    mean_reward: f64,
) -> Result<Learned, OnlineError> {
    let spec = sample.environment().spec().clone();
    let (features, session) = reads(settings, &spec);
    let size = spec.slate_size;
    // One step in, so that the sample has a session and a history to read.
    sample.step(&(0..size).collect::<Vec<_>>())?;
    let recipe = Recipe {
        policy: &settings.policy,
        version,
        algorithm: settings.algorithm.name(),
        settings: serde_json::to_value(settings).unwrap_or_default(),
        discount: settings.algorithm.discount(),
        features,
        session,
        slate: settings
            .slate
            .unwrap_or(SlateLimits { max_size: 4 * size, max_candidates: 4 * spec.candidates.max(size) }),
        exploration: settings.exploration,
        training: TrainingRecord {
            data_digest: sha256_hex(serde_json::json!(settings).to_string().as_bytes()),
            decisions: settings.steps,
            feedback: settings.steps,
            mean_reward,
            reward: RewardDefinition {
                weights: BTreeMap::from([(spec.event.to_owned(), 1.0)]),
                ..RewardDefinition::default()
            },
            seed: settings.seed,
            continued_from: None,
            learned_until: None,
        },
        evaluation: vec![simulated_return(&returns)],
    };
    let (manifest, model) = bundle::<OnlineError>(recipe, learner, sample.observation())?;
    Ok(Learned { manifest, model, returns })
}

/// The return in simulated episodes, as the manifest keeps it.
pub(crate) fn simulated_return(returns: &Summary) -> Evaluation {
    Evaluation {
        estimator: "simulated_return".to_owned(),
        value: returns.mean,
        lower: returns.lower,
        upper: returns.upper,
        confidence: 0.95,
        rounds: returns.count as u64,
        ..Evaluation::default()
    }
}

fn parity(learner: &mut dyn Learner, seen: &Observation) -> Parity {
    let candidates = seen.candidates.min(SAMPLES);
    let width = seen.items.len() / seen.candidates.max(1);
    let observation = Observation { candidates, items: seen.items[..candidates * width].to_vec(), ..seen.clone() };
    let Scored { scores, appeal } = learner.score(&[&observation]).pop().unwrap_or_default();
    Parity {
        state: observation.state,
        items: observation.items.chunks_exact(width).map(<[f32]>::to_vec).collect(),
        history: observation.history,
        noise: Vec::new(),
        scores,
        appeal,
        tolerance: 1e-4,
    }
}
