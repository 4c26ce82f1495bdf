//! What rewards are expected, for the direct method and the doubly robust estimators.

use slated_contract::event::{Candidate, Decision};
use slated_contract::feature::{Encoder, FeatureKind, FeatureSchema, Unknown};
use slated_trainer::bandit::{FeatureMap, Interaction};
use slated_trainer::dataset::{Dataset, DatasetSettings, Round};
use slated_trainer::ope::reward_model::{CrossFit, RewardModelSettings, fold_of};
use slated_trainer::progress::Progress;

use super::{EvidenceError, user};

/// The most features that interact; beyond it state and item add up.
const INTERACTING: usize = 256;
/// Columns of a feature that the policy reads as a place in a list.
const INDEXED: usize = 512;
/// Positions that are told apart; those below count as one.
const POSITIONS: usize = 10;

/// The reward from a position of the slate on, by what is known of user, context and item and by the position:
/// cross-fitted, all decisions of a user in one part.
pub struct RewardModel {
    encoder: Encoder,
    map: FeatureMap,
    fit: CrossFit,
}

/// A place in a list is no quantity that rewards could be linear in: the regression gets a column for each instead.
fn told_apart(features: &FeatureSchema) -> FeatureSchema {
    let mut features = features.clone();
    let declared = features.user.iter_mut().chain(&mut features.context).chain(&mut features.session);
    let kinds = declared.chain(&mut features.item).map(|feature| &mut feature.kind).chain(&mut features.item_id);
    for kind in kinds {
        if let FeatureKind::Index { vocabulary, .. } = kind {
            *kind = if vocabulary.len() <= INDEXED {
                FeatureKind::Categorical { vocabulary: std::mem::take(vocabulary), unknown: Unknown::Bucket }
            } else {
                FeatureKind::Hashed { buckets: INDEXED as u32, salt: 0 }
            };
        }
    }
    features
}

impl RewardModel {
    /// A model of the features that a policy reads, their interactions among them where they are few.
    ///
    /// # Errors
    /// A setting outside its range.
    pub fn new(features: &FeatureSchema, settings: RewardModelSettings) -> Result<Self, EvidenceError> {
        let encoder = Encoder::new(&told_apart(features))?;
        let (state_width, item_width) = (encoder.state_width(), encoder.item_width());
        let mut map = FeatureMap { interaction: Interaction::Outer, state_width, item_width };
        if map.width() > INTERACTING {
            map.interaction = Interaction::Additive;
        }
        let fit = CrossFit::new(settings, POSITIONS + map.width())?;
        Ok(Self { encoder, map, fit })
    }

    /// Fits to the log; the size of its largest slate.
    ///
    /// # Errors
    /// A journal that does not read, a decision whose features the encoder refuses, a regression that fails.
    pub async fn fit(&mut self, data: &DatasetSettings, progress: &mut dyn Progress) -> Result<usize, EvidenceError> {
        let mut largest = 0;
        let mut phi = Vec::new();
        loop {
            let mut dataset = Dataset::open(data).await?;
            progress.stage("fitting the reward model", Some(dataset.total()));
            while let Some(rounds) = dataset.next().await? {
                progress.advance(rounds.len() as u64);
                for round in rounds.iter().filter(|round| round.decision.not_evaluable.is_none()) {
                    let decision = &round.decision;
                    largest = largest.max(decision.slate.len());
                    let state = self.state(decision)?;
                    for (position, shown) in decision.slate.iter().enumerate() {
                        let Some(candidate) = decision.candidates.iter().find(|known| known.item == shown.item) else {
                            continue;
                        };
                        self.features(decision, &state, candidate, position, &mut phi)?;
                        let to_come: f64 = round.rewards[position..].iter().sum();
                        self.fit.add(self.fold(decision), &phi, to_come)?;
                    }
                }
            }
            if largest == 0 {
                return Err(EvidenceError::NoneEvaluable);
            }
            if !self.fit.end_pass()? {
                return Ok(largest);
            }
        }
    }

    /// The reward from each position of the round's slate on, for each candidate there: `[positions][candidates]`.
    ///
    /// # Errors
    /// A feature that the encoder refuses.
    pub fn predict(&self, round: &Round) -> Result<Vec<Vec<f64>>, EvidenceError> {
        let decision = &round.decision;
        let (state, fold) = (self.state(decision)?, self.fold(decision));
        let mut phi = Vec::new();
        let mut predictions = vec![Vec::with_capacity(decision.candidates.len()); decision.slate.len()];
        for candidate in &decision.candidates {
            for (position, predicted) in predictions.iter_mut().enumerate() {
                self.features(decision, &state, candidate, position, &mut phi)?;
                predicted.push(self.fit.predict(fold, &phi));
            }
        }
        Ok(predictions)
    }

    fn fold(&self, decision: &Decision) -> u32 {
        fold_of(user(decision).unwrap_or(&decision.decision_id), self.fit.settings().folds)
    }

    fn state(&self, decision: &Decision) -> Result<Vec<f32>, EvidenceError> {
        let mut row = Vec::with_capacity(self.map.state_width);
        self.encoder
            .encode_state(&decision.user, &decision.context, &decision.session, &mut row)
            .map_err(|source| EvidenceError::Encode { decision_id: decision.decision_id.clone(), source })?;
        Ok(row)
    }

    fn features(
        &self,
        decision: &Decision,
        state: &[f32],
        candidate: &Candidate,
        position: usize,
        phi: &mut Vec<f64>,
    ) -> Result<(), EvidenceError> {
        let mut item = Vec::with_capacity(self.map.item_width);
        self.encoder
            .encode_item(&candidate.item, &candidate.features, &mut item)
            .map_err(|source| EvidenceError::Encode { decision_id: decision.decision_id.clone(), source })?;
        phi.clear();
        phi.resize(POSITIONS, 0.0);
        phi[position.min(POSITIONS - 1)] = 1.0;
        self.map.extend(state, &item, phi);
        Ok(())
    }
}
