//! Versions that the Personalizer's routes make: of a policy that has learned nothing yet, and of the live one exploring
//! otherwise.

use std::path::Path;

use slated_contract::feature::{Feature, FeatureKind, FeatureSchema, Missing, Normalisation};
use slated_contract::policy::{Bundle, BundleWriter, Manifest, SlateLimits, versions};
use slated_contract::reward::RewardDefinition;
use slated_contract::session::SessionSettings;
use slated_contract::slate::Exploration;
use slated_trainer::dataset::DatasetSettings;
use slated_trainer::train::{AlgorithmSettings, TrainSettings, Trained, untrained};

use super::CompatError;
use crate::serving::{EngineSettings, LoadedPolicy};

/// What a policy that has learned nothing yet is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Begin {
    /// Its name.
    pub policy: String,
    /// What will learn.
    pub algorithm: AlgorithmSettings,
    /// What it reads.
    pub features: FeatureSchema,
    /// How it explores.
    pub exploration: Exploration,
    /// How feedback will become reward.
    pub reward: RewardDefinition,
    /// The most candidates.
    pub max_candidates: usize,
}

impl Begin {
    /// A schema that names nothing: the context and each item are hashed into so many buckets.
    #[must_use]
    pub fn hashed(context: u32, item: u32) -> FeatureSchema {
        let rest = |buckets, salt| {
            let kind = FeatureKind::Rest { buckets, salt, normalisation: Normalisation::Log };
            vec![Feature { name: "rest".to_owned(), kind, missing: Missing::Zeros }]
        };
        FeatureSchema { context: rest(context, 1), item: rest(item, 2), ..FeatureSchema::default() }
    }
}

/// Publishes the next version of the policy: a model that scores everything alike, so that what is shown is the caller's first
/// candidate but for exploration. Blocking.
///
/// # Errors
/// Features or settings that cannot be used, or the disk.
pub fn begin(models: &Path, begin: &Begin) -> Result<Manifest, CompatError> {
    let settings = TrainSettings {
        policy: begin.policy.clone(),
        data: DatasetSettings {
            journal: "journal".into(),
            cache: None,
            reward: begin.reward.clone(),
            policy: None,
            source: None,
            after: None,
            until: None,
            memory_limit_mib: 64,
        },
        algorithm: begin.algorithm.clone(),
        seed: 1,
        features: Some(begin.features.clone()),
        session: SessionSettings::default(),
        slate: Some(SlateLimits { max_size: 50, max_candidates: begin.max_candidates.max(50) }),
        exploration: Some(begin.exploration),
    };
    let Trained { manifest, model, learner, .. } = untrained(&settings, next_version(models, &begin.policy)?)?;
    publish(models, &manifest, &model, Some(&learner))
}

/// Publishes a version again with another exploration, as the next one. Blocking.
pub(super) fn explore(
    models: &Path,
    policy: &str,
    version: u64,
    exploration: Exploration,
) -> Result<Manifest, CompatError> {
    let bundle = Bundle::open(models, policy, Some(version))?;
    let learner = bundle.learner()?;
    let manifest =
        Manifest { version: next_version(models, policy)?, exploration, evaluation: Vec::new(), ..bundle.manifest };
    publish(models, &manifest, &bundle.model, learner.as_deref())
}

/// The model of a version, ONNX. Blocking.
///
/// # Errors
/// A bundle that is not there or is damaged.
pub fn model_of(models: &Path, policy: &str, version: u64) -> Result<Vec<u8>, CompatError> {
    Ok(Bundle::open(models, policy, Some(version))?.model)
}

fn next_version(models: &Path, policy: &str) -> Result<u64, CompatError> {
    Ok(versions(models, policy)?.last().map_or(1, |latest| latest + 1))
}

fn publish(models: &Path, manifest: &Manifest, model: &[u8], learner: Option<&[u8]>) -> Result<Manifest, CompatError> {
    let writer = BundleWriter::stage(models, manifest, model, learner)?;
    LoadedPolicy::load_folder(&writer.folder(), &EngineSettings::default())?;
    writer.publish()?;
    Ok(manifest.clone())
}
