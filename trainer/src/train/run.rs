//! One training run.

use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};
use slated_contract::feature::{EncodeError, Encoder, FeatureSchema, SchemaError};
use slated_contract::policy::{
    Algorithm, FORMAT, Manifest, ManifestError, Parity, SlateLimits, TrainingRecord, sha256_hex,
};
use slated_contract::slate::{DecisionSeed, standard_normal};
use slated_contract::tensor::Signature;
use thiserror::Error;

use super::{AlgorithmSettings, TrainSettings};
use crate::bandit::{
    FeatureMap, LearnerNotes, LearnerState, LinUcb, LinearError, LinearStatistics, LinearThompson, StateError,
};
use crate::dataset::{
    Dataset, DatasetError, DatasetSettings, DatasetSummary, InferError, Round, RoundDigest, SchemaInference,
};
use crate::onnx::OnnxError;
use crate::progress::Progress;

/// The most features a linear bandit may have: its statistics are their square.
const MAX_WIDTH: usize = 4096;
/// Sample items in the manifest.
const SAMPLES: usize = 4;

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

/// A run that failed.
#[derive(Debug, Error)]
pub enum TrainError {
    /// A setting.
    #[error("{0}")]
    Setting(String),
    /// The journal.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// There is nothing after the version to continue from.
    #[error("the journal holds no decision after the last one that version {0} learned from")]
    NothingNew(u64),
    /// A feature that no schema can be found for.
    #[error(transparent)]
    Infer(#[from] InferError),
    /// The feature schema.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// A decision's features.
    #[error("decision `{decision_id}`: {source}")]
    Encode {
        /// Its id.
        decision_id: String,
        /// What is wrong.
        source: EncodeError,
    },
    /// The learner's statistics.
    #[error(transparent)]
    Linear(#[from] LinearError),
    /// A learner's state or a checkpoint.
    #[error(transparent)]
    State(#[from] StateError),
    /// A checkpoint of another run.
    #[error("the checkpoint is of other settings or another journal; remove it to start again ({0})")]
    Checkpoint(&'static str),
    /// The model.
    #[error("the model cannot be written: {0}")]
    Onnx(#[from] OnnxError),
    /// The manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The async runtime that reads the journal.
    #[error("cannot start the reader: {0}")]
    Runtime(std::io::Error),
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
    if let Some(problem) = settings.algorithm.problem() {
        return Err(TrainError::Setting(problem));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(TrainError::Runtime)?;
    runtime.block_on(run(settings, start, progress, stop))
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
        if base.notes.interaction != settings.algorithm.interaction() {
            let kept = base.notes.interaction;
            return Err(TrainError::Setting(format!(
                "`algorithm.interaction` is not {kept:?}, that of the version to continue from"
            )));
        }
        data.after.clone_from(&base.notes.until);
    }
    let checkpoint = start.checkpoint.as_deref().map(LearnerState::decode).transpose()?;
    if checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.notes.settings != settings_digest) {
        return Err(TrainError::Checkpoint("settings"));
    }
    let known = checkpoint.as_ref().or(base.as_ref()).map(|state| state.notes.features.clone());
    let features = match known.or_else(|| settings.features.clone()) {
        Some(features) => features,
        None => infer(&data, progress).await?,
    };
    let mut learning = Learning::new(settings, features, base.as_ref(), settings_digest)?;
    let mut rounds = open(&data, start.continue_from.as_ref()).await?;
    progress.stage("learning", Some(rounds.total()));
    let skip = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.notes.decisions - learning.state.notes.decisions);
    let mut resume = checkpoint;
    let mut seen = 0;
    while let Some(batch) = rounds.next().await? {
        progress.advance(batch.len() as u64);
        for round in &batch {
            seen += 1;
            learning.sample(round)?;
            if seen <= skip {
                learning.digest.add(round);
                if seen == skip
                    && let Some(checkpoint) = resume.take()
                {
                    learning.resume(checkpoint)?;
                }
                continue;
            }
            let full = learning.learn(round)?;
            if full && stop.load(Ordering::Relaxed) {
                learning.note(rounds.summary(), base.as_ref());
                let decisions = learning.state.notes.decisions;
                return Ok(Outcome::Interrupted { checkpoint: learning.state.encode()?, decisions });
            }
        }
    }
    if resume.is_some() {
        return Err(TrainError::Checkpoint("the journal is shorter than it was"));
    }
    learning.note(rounds.summary(), base.as_ref());
    learning.finish(&start, rounds.summary().clone()).map(|trained| Outcome::Finished(Box::new(trained)))
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

/// The learner at work.
struct Learning<'a> {
    settings: &'a TrainSettings,
    encoder: Encoder,
    map: FeatureMap,
    state: LearnerState,
    digest: RoundDigest,
    last: Option<(chrono::DateTime<chrono::Utc>, String)>,
    /// Decisions of this run.
    decisions: u64,
    sample: Option<(Vec<f32>, Vec<Vec<f32>>)>,
}

impl<'a> Learning<'a> {
    fn new(
        settings: &'a TrainSettings,
        features: FeatureSchema,
        base: Option<&LearnerState>,
        digest: String,
    ) -> Result<Self, TrainError> {
        let encoder = Encoder::new(&features)?;
        let interaction = settings.algorithm.interaction();
        let map = FeatureMap { interaction, state_width: encoder.state_width(), item_width: encoder.item_width() };
        if map.width() > MAX_WIDTH {
            return Err(TrainError::Setting(format!(
                "{} state and {} item columns make {} features, at most {MAX_WIDTH} are allowed; use `algorithm.interaction` = \
                 \"additive\", or declare fewer `features`",
                map.state_width,
                map.item_width,
                map.width()
            )));
        }
        let state = match base {
            Some(base) => {
                LearnerState { notes: LearnerNotes { settings: digest, ..base.notes.clone() }, ..base.clone() }
            }
            None => LearnerState {
                statistics: LinearStatistics::new(map.width()),
                notes: LearnerNotes {
                    interaction,
                    features,
                    examples: 0,
                    decisions: 0,
                    reward: 0.0,
                    feedback: 0,
                    until: None,
                    digest: String::new(),
                    settings: digest,
                    largest: (0, 0),
                },
            },
        };
        if state.statistics.width() != map.width() {
            return Err(TrainError::State(StateError::Shape("its statistics do not fit its features".to_owned())));
        }
        Ok(Self {
            settings,
            encoder,
            map,
            state,
            digest: RoundDigest::default(),
            last: None,
            decisions: 0,
            sample: None,
        })
    }

    /// Goes on from a checkpoint, if the rounds before it are those it was made from.
    fn resume(&mut self, checkpoint: LearnerState) -> Result<(), TrainError> {
        if checkpoint.notes.digest != self.digest.hex() {
            return Err(TrainError::Checkpoint("the journal's earlier decisions or feedback have changed"));
        }
        self.decisions = checkpoint.notes.decisions - self.state.notes.decisions;
        self.state.statistics = checkpoint.statistics;
        self.state.notes.largest = checkpoint.notes.largest;
        Ok(())
    }

    /// Keeps the first round as the manifest's sample.
    fn sample(&mut self, round: &Round) -> Result<(), TrainError> {
        if self.sample.is_none() {
            let items = round.decision.candidates.iter().take(SAMPLES);
            let items =
                items.map(|candidate| self.encode_item(round, &candidate.features)).collect::<Result<_, _>>()?;
            self.sample = Some((self.encode_state(round)?, items));
        }
        Ok(())
    }

    /// Learns one round; whether a block of examples was just completed, where a run may be stopped.
    fn learn(&mut self, round: &Round) -> Result<bool, TrainError> {
        let state = self.encode_state(round)?;
        let decision = &round.decision;
        for (shown, &reward) in decision.slate.iter().zip(&round.rewards) {
            let Some(candidate) = decision.candidates.iter().find(|candidate| candidate.item == shown.item) else {
                continue;
            };
            let item = self.encode_item(round, &candidate.features)?;
            self.state.statistics.add(reward, |phi| self.map.extend(&state, &item, phi));
        }
        self.digest.add(round);
        self.decisions += 1;
        self.last = Some((decision.time, decision.decision_id.clone()));
        let largest = &mut self.state.notes.largest;
        *largest = (largest.0.max(decision.slate.len()), largest.1.max(decision.candidates.len()));
        Ok(self.state.statistics.flush_full())
    }

    fn encode_state(&self, round: &Round) -> Result<Vec<f32>, TrainError> {
        let decision = &round.decision;
        let mut row = Vec::with_capacity(self.map.state_width);
        self.encoder
            .encode_state(&decision.user, &decision.context, &decision.session, &mut row)
            .map_err(refused(round))?;
        Ok(row)
    }

    fn encode_item(
        &self,
        round: &Round,
        features: &slated_contract::feature::Features,
    ) -> Result<Vec<f32>, TrainError> {
        let mut row = Vec::with_capacity(self.map.item_width);
        self.encoder.encode_item(features, &mut row).map_err(refused(round))?;
        Ok(row)
    }

    /// Brings the notes up to date with what this run has learned, on top of what it started from.
    fn note(&mut self, summary: &DatasetSummary, base: Option<&LearnerState>) {
        let before = base.map(|base| &base.notes);
        let notes = &mut self.state.notes;
        notes.examples = self.state.statistics.examples();
        notes.decisions = before.map_or(0, |notes| notes.decisions) + self.decisions;
        notes.reward = before.map_or(0.0, |notes| notes.reward) + summary.reward;
        notes.feedback = before.map_or(0, |notes| notes.feedback) + summary.counted_feedback;
        notes.digest = self.digest.hex();
        if self.last.is_some() {
            notes.until.clone_from(&self.last);
        }
    }

    fn finish(mut self, start: &Start, summary: DatasetSummary) -> Result<Trained, TrainError> {
        let posterior = self.state.statistics.posterior(self.settings.algorithm.lambda())?;
        let (state, items) = self.sample.take().unwrap_or_default();
        let (model, signature, scores, noise): (Vec<u8>, Signature, Vec<f64>, Vec<f32>) = match self.settings.algorithm
        {
            AlgorithmSettings::Linucb { alpha, .. } => {
                let learned = LinUcb { map: self.map, posterior, alpha };
                let scores = items.iter().map(|item| learned.score(&state, item)).collect();
                (learned.onnx()?, learned.signature(), scores, Vec::new())
            }
            AlgorithmSettings::LinearThompson { scale, .. } => {
                let learned = LinearThompson { map: self.map, posterior, scale };
                let mut generator = DecisionSeed::from_value(self.settings.seed).noise_generator();
                let noise = standard_normal(&mut generator, self.map.width());
                let scores = learned.scores(&state, &items, &noise);
                (learned.onnx()?, learned.signature(), scores, noise)
            }
        };
        let scores = scores.into_iter().map(|score| score as f32).collect();
        let notes = &self.state.notes;
        let manifest = Manifest {
            format: FORMAT,
            name: self.settings.policy.clone(),
            version: start.version,
            algorithm: Algorithm {
                name: self.settings.algorithm.name().to_owned(),
                settings: serde_json::to_value(self.settings.algorithm).unwrap_or_default(),
            },
            discount: 0.0,
            features: notes.features.clone(),
            session: self.settings.session.clone(),
            slate: self.settings.slate.unwrap_or_else(|| limits(notes.largest)),
            exploration: self.settings.exploration.unwrap_or_else(|| self.settings.algorithm.exploration()),
            objective: None,
            signature,
            model_sha256: sha256_hex(&model),
            training: Some(TrainingRecord {
                data_digest: notes.digest.clone(),
                decisions: notes.decisions,
                feedback: notes.feedback,
                mean_reward: if notes.examples == 0 { 0.0 } else { notes.reward / notes.examples as f64 },
                reward: self.settings.data.reward.clone(),
                seed: self.settings.seed,
                continued_from: start.continue_from.as_ref().map(|(version, _)| *version),
            }),
            evaluation: Vec::new(),
            parity: Some(Parity {
                state,
                items,
                history: Vec::new(),
                noise,
                scores,
                appeal: Vec::new(),
                tolerance: 1e-5,
            }),
        };
        manifest.check()?;
        let learner = self.state.encode()?;
        Ok(Trained { manifest, model, learner, summary })
    }
}

fn refused(round: &Round) -> impl FnOnce(EncodeError) -> TrainError + '_ {
    |source| TrainError::Encode { decision_id: round.decision.decision_id.clone(), source }
}

/// Generous enough that the next season's catalogue still fits, small enough to refuse nonsense.
fn limits((slate, candidates): (usize, usize)) -> SlateLimits {
    let max_size = (4 * slate).max(10);
    SlateLimits { max_size, max_candidates: (4 * candidates).max(max_size) }
}
