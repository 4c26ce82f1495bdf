//! A run's learner at work, from rounds to the bundle.

use chrono::{DateTime, Utc};
use slated_contract::event::Decision;
use slated_contract::feature::{EncodeError, Encoder, FeatureSchema};
use slated_contract::policy::{Algorithm, FORMAT, Manifest, Parity, SlateLimits, TrainingRecord, sha256_hex};
use slated_contract::slate::{DecisionSeed, standard_normal};

use super::run::{Start, Trained};
use super::{TrainError, TrainSettings};
use crate::bandit::{BanditLearner, Example, LearnerNotes, LearnerState, Widths};
use crate::dataset::{DatasetSummary, Round, RoundDigest};
use crate::learner::Checkpoint;

/// Sample items in the manifest.
const SAMPLES: usize = 4;
/// Examples after which a run may be stopped.
const BLOCK: usize = 256;

/// The learner at work.
pub(super) struct Learning<'a> {
    settings: &'a TrainSettings,
    encoder: Encoder,
    learner: Box<dyn BanditLearner>,
    /// What the run started from, but for the greatest slate and the most candidates, which are up to date.
    pub notes: LearnerNotes,
    digest: RoundDigest,
    last: Option<(DateTime<Utc>, String)>,
    /// Decisions and examples of this run.
    decisions: u64,
    examples: u64,
    /// Examples since the run was last offered to be stopped.
    block: usize,
    /// The first decision, for the manifest's sample.
    sample: Option<Decision>,
}

impl<'a> Learning<'a> {
    pub fn new(
        settings: &'a TrainSettings,
        features: FeatureSchema,
        base: Option<LearnerState>,
        digest: String,
    ) -> Result<Self, TrainError> {
        let encoder = Encoder::new(&features)?;
        let widths = Widths { state: encoder.state_width(), item: encoder.item_width() };
        let bandit = settings.algorithm.bandit();
        let mut learner = bandit.learner(widths, settings.seed)?;
        let notes = match base {
            Some(base) => {
                learner.restore(&base.learner)?;
                LearnerNotes { settings: digest, kept: bandit.kept(), ..base.notes }
            }
            None => LearnerNotes {
                kept: bandit.kept(),
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
        };
        Ok(Self {
            settings,
            encoder,
            learner,
            notes,
            digest: RoundDigest::default(),
            last: None,
            decisions: 0,
            examples: 0,
            block: 0,
            sample: None,
        })
    }

    /// Takes in a round that the checkpoint to go on from has learned already.
    pub fn pass(&mut self, round: &Round) {
        self.digest.add(round);
    }

    /// Goes on from a checkpoint, if the rounds before it are those it was made from.
    pub fn resume(&mut self, checkpoint: &LearnerState) -> Result<(), TrainError> {
        if checkpoint.notes.digest != self.digest.hex() {
            return Err(TrainError::Checkpoint("the journal's earlier decisions or feedback have changed"));
        }
        self.decisions = checkpoint.notes.decisions - self.notes.decisions;
        self.examples = checkpoint.notes.examples - self.notes.examples;
        self.notes.largest = checkpoint.notes.largest;
        Ok(self.learner.restore(&checkpoint.learner)?)
    }

    /// Keeps the first round as the manifest's sample.
    pub fn sample(&mut self, round: &Round) {
        if self.sample.is_none() {
            let candidates = round.decision.candidates.iter().take(SAMPLES).cloned().collect();
            self.sample = Some(Decision { candidates, ..round.decision.clone() });
        }
    }

    /// Learns one round; whether the run may be stopped behind it.
    pub fn learn(&mut self, round: &Round) -> Result<bool, TrainError> {
        let decision = &round.decision;
        let state = encode_state(&self.encoder, decision)?;
        let mut item = Vec::with_capacity(self.encoder.item_width());
        for (shown, &reward) in decision.slate.iter().zip(&round.rewards) {
            let Some(candidate) = decision.candidates.iter().find(|candidate| candidate.item == shown.item) else {
                continue;
            };
            item.clear();
            self.encoder.encode_item(&shown.item, &candidate.features, &mut item).map_err(refused(decision))?;
            let (position, item_id) = (shown.position, &shown.item);
            let decision_id = &decision.decision_id;
            self.learner.add(&Example { decision_id, position, item_id, state: &state, item: &item, reward })?;
            self.examples += 1;
            self.block += 1;
        }
        self.learner.settle()?;
        self.digest.add(round);
        self.decisions += 1;
        self.last = Some((decision.time, decision.decision_id.clone()));
        let largest = &mut self.notes.largest;
        *largest = (largest.0.max(decision.slate.len()), largest.1.max(decision.candidates.len()));
        let may_stop = self.block >= BLOCK;
        if may_stop {
            self.block = 0;
        }
        Ok(may_stop)
    }

    /// What was learned so far, on top of what the run started from.
    pub fn state(&self, summary: &DatasetSummary) -> LearnerState {
        let before = &self.notes;
        let mut learner = Checkpoint::default();
        self.learner.save(&mut learner);
        let notes = LearnerNotes {
            examples: before.examples + self.examples,
            decisions: before.decisions + self.decisions,
            reward: before.reward + summary.reward,
            feedback: before.feedback + summary.counted_feedback,
            digest: self.digest.hex(),
            until: self.last.clone().or_else(|| before.until.clone()),
            ..before.clone()
        };
        LearnerState { learner, notes }
    }

    /// The bundle of what `state` holds.
    pub fn finish(
        mut self,
        start: &Start,
        mut state: LearnerState,
        summary: DatasetSummary,
    ) -> Result<Trained, TrainError> {
        let (settings, algorithm) = (self.settings, &self.settings.algorithm);
        if let Some(features) = self.learner.features() {
            self.encoder = Encoder::new(&features)?;
            state.notes.features = features;
        }
        let learned = self.learner.finish()?;
        let (model, signature) = (learned.onnx()?, learned.signature());
        let parity = self.sample.as_ref().map(|decision| {
            let row = encode_state(&self.encoder, decision)?;
            let items = encode_items(&self.encoder, decision)?;
            let mut generator = DecisionSeed::from_value(settings.seed).noise_generator();
            let noise = standard_normal(&mut generator, signature.noise.unwrap_or(0));
            let scores: Vec<f32> = learned.scores(&row, &items, &noise).iter().map(|&score| score as f32).collect();
            if scores.iter().any(|score| !score.is_finite()) {
                return Err(TrainError::NotFinite);
            }
            let (history, appeal) = (Vec::new(), Vec::new());
            Ok(Parity { state: row, items, history, noise, scores, appeal, tolerance: 1e-5 })
        });
        let notes = &state.notes;
        let manifest = Manifest {
            format: FORMAT,
            name: settings.policy.clone(),
            version: start.version,
            algorithm: Algorithm {
                name: algorithm.name().to_owned(),
                settings: serde_json::to_value(algorithm).unwrap_or_default(),
            },
            discount: 0.0,
            features: notes.features.clone(),
            session: settings.session.clone(),
            slate: settings.slate.unwrap_or_else(|| limits(notes.largest)),
            exploration: settings.exploration.unwrap_or_else(|| algorithm.bandit().exploration()),
            objective: None,
            signature,
            model_sha256: sha256_hex(&model),
            training: Some(TrainingRecord {
                data_digest: notes.digest.clone(),
                decisions: notes.decisions,
                feedback: notes.feedback,
                mean_reward: if notes.examples == 0 { 0.0 } else { notes.reward / notes.examples as f64 },
                reward: settings.data.reward.clone(),
                seed: settings.seed,
                continued_from: start.continue_from.as_ref().map(|(version, _)| *version),
                // The learner's state goes with the bundle.
                learned_until: None,
            }),
            origin: None,
            evaluation: Vec::new(),
            parity: parity.transpose()?,
        };
        manifest.check()?;
        Ok(Trained { manifest, model, learner: state.encode()?, summary })
    }
}

fn encode_state(encoder: &Encoder, decision: &Decision) -> Result<Vec<f32>, TrainError> {
    let mut row = Vec::with_capacity(encoder.state_width());
    encoder.encode_state(&decision.user, &decision.context, &decision.session, &mut row).map_err(refused(decision))?;
    Ok(row)
}

fn encode_items(encoder: &Encoder, decision: &Decision) -> Result<Vec<Vec<f32>>, TrainError> {
    let encode = |candidate: &slated_contract::event::Candidate| {
        let mut row = Vec::with_capacity(encoder.item_width());
        encoder.encode_item(&candidate.item, &candidate.features, &mut row).map_err(refused(decision))?;
        Ok(row)
    };
    decision.candidates.iter().map(encode).collect()
}

fn refused(decision: &Decision) -> impl FnOnce(EncodeError) -> TrainError + '_ {
    |source| TrainError::Encode { decision_id: decision.decision_id.clone(), source }
}

/// Generous enough that the next season's catalogue still fits, small enough to refuse nonsense.
fn limits((slate, candidates): (usize, usize)) -> SlateLimits {
    let max_size = (4 * slate).max(10);
    SlateLimits { max_size, max_candidates: (4 * candidates).max(max_size) }
}
