//! What each logged decision says of a policy.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use slated_contract::event::Decision;
use slated_contract::slate::{DecisionSeed, DrawError, Propensities, next_choice, target_propensities};
use slated_trainer::dataset::{Dataset, DatasetSettings, DatasetSummary, Round, RoundDigest};
use slated_trainer::ope::gate::{Evidence, Pair};
use slated_trainer::ope::reward_model::RewardModelSettings;
use slated_trainer::ope::single::{SingleLog, SingleRound};
use slated_trainer::ope::slate::{SlateLog, SlatePredictions, SlateRound};
use slated_trainer::progress::Progress;

use super::{EvidenceError, RewardModel, user};
use crate::journal::verify::{Verification, Verifier};
use crate::serving::{LoadedPolicy, ReplayError, ReplayErrorKind, Rescored};

/// Decisions that wait for the model at a time.
const IN_FLIGHT: usize = 64;

/// What to evaluate on, and how.
#[derive(Debug, Clone)]
pub struct EvidenceSettings {
    /// The log.
    pub data: DatasetSettings,
    /// The reward model of the direct method and the doubly robust estimators.
    pub reward_model: RewardModelSettings,
    /// Seeds the draws of policies that sample their posterior.
    pub seed: u64,
}

/// Everything that was gathered.
#[derive(Debug)]
pub struct Gathered {
    /// What the gate judges.
    pub evidence: Evidence,
    /// What was read.
    pub summary: DatasetSummary,
    /// Decisions left out, by why their propensities say nothing.
    pub excluded: BTreeMap<String, u64>,
    /// SHA-256 over the decisions and rewards that were used, in order, in hex.
    pub digest: String,
    /// How replaying the log went; absent where that was not asked for.
    pub replay: Option<Verification>,
}

/// Gathers evidence on a candidate, and on a baseline unless that is whatever was logged. A `verifier` replays the log on
/// the way.
///
/// # Errors
/// A journal that does not read or is empty, a decision that a policy does not accept, a model that fails.
pub async fn gather(
    candidate: &LoadedPolicy,
    baseline: Option<&LoadedPolicy>,
    settings: &EvidenceSettings,
    mut verifier: Option<Verifier>,
    progress: &mut dyn Progress,
) -> Result<Gathered, EvidenceError> {
    let mut model = RewardModel::new(&candidate.manifest.features, settings.reward_model)?;
    let slates = model.fit(&settings.data, progress).await? > 1;
    let mut dataset = Dataset::open(&settings.data).await?;
    let mut evidence = if slates {
        Evidence::Slates(Pair { candidate: SlateLog::new(), baseline: baseline.map(|_| SlateLog::new()) })
    } else {
        Evidence::Single(Pair { candidate: SingleLog::new(), baseline: baseline.map(|_| SingleLog::new()) })
    };
    let mut digest = RoundDigest::default();
    progress.stage("scoring decisions", Some(dataset.total()));
    let mut excluded: BTreeMap<String, u64> = BTreeMap::new();
    while let Some(mut rounds) = dataset.next().await? {
        progress.advance(rounds.len() as u64);
        rounds.retain(|round| match &round.decision.not_evaluable {
            Some(why) => {
                *excluded.entry(why.clone()).or_default() += 1;
                false
            }
            None => true,
        });
        let decisions: Vec<&Decision> = rounds.iter().map(|round| &round.decision).collect();
        let of_candidate = rescore(candidate, &decisions, settings.seed).await?;
        let of_baseline = match baseline {
            Some(baseline) => Some(rescore(baseline, &decisions, settings.seed).await?),
            None => None,
        };
        let reproduced = match &mut verifier {
            Some(verifier) => verifier.check(&decisions).await?,
            None => vec![None; rounds.len()],
        };
        for (index, round) in rounds.iter().enumerate() {
            digest.add(round);
            let row = Row { round, predictions: model.predict(round)?, logged: reproduced[index].as_ref() };
            let candidate = row.seen(&of_candidate[index], settings.seed)?;
            let baseline = of_baseline.as_ref().map(|of| row.seen(&of[index], settings.seed)).transpose()?;
            match &mut evidence {
                Evidence::Single(pair) => {
                    row.push_single(&candidate, &mut pair.candidate)?;
                    if let Some((seen, log)) = baseline.zip(pair.baseline.as_mut()) {
                        row.push_single(&seen, log)?;
                    }
                }
                Evidence::Slates(pair) => {
                    row.push_slate(&candidate, &mut pair.candidate)?;
                    if let Some((seen, log)) = baseline.zip(pair.baseline.as_mut()) {
                        row.push_slate(&seen, log)?;
                    }
                }
                // Whole sessions are what `gather_sessions` gathers.
                Evidence::Sessions(_) => {}
            }
        }
    }
    let replay = verifier.map(|verifier| verifier.report().clone());
    Ok(Gathered { evidence, summary: dataset.summary().clone(), excluded, digest: digest.hex(), replay })
}

/// What a policy makes of the decisions, each with noise of its own. Two policies that sample get the same noise, so that
/// their difference is not that of their luck.
pub(super) async fn rescore(
    policy: &LoadedPolicy,
    decisions: &[&Decision],
    seed: u64,
) -> Result<Vec<Rescored>, ReplayError> {
    let exploration = policy.manifest.exploration;
    stream::iter(decisions)
        .map(|decision| policy.rescore(decision, exploration, DecisionSeed::derive(seed, &decision.decision_id)))
        .buffered(IN_FLIGHT)
        .try_collect()
        .await
}

/// A logged round on its way into the evaluation.
struct Row<'a> {
    round: &'a Round,
    /// The reward from each position on, by candidate.
    predictions: Vec<Vec<f64>>,
    /// What it was drawn by, where that is known.
    logged: Option<&'a Rescored>,
}

/// A round with a policy in mind.
struct Seen {
    shown: Vec<usize>,
    /// The policy's probabilities of what was shown.
    target: Propensities,
    /// By position, the policy's probability of each candidate after those shown before; `None` where not known.
    choices: Option<Vec<Vec<f64>>>,
}

impl Row<'_> {
    fn seen(&self, rescored: &Rescored, seed: u64) -> Result<Seen, EvidenceError> {
        let decision = &self.round.decision;
        let refused = |error: DrawError| ReplayError {
            decision_id: decision.decision_id.clone(),
            source: ReplayErrorKind::Draw(error),
        };
        let Rescored { exploration, shown, constraints, size, .. } = rescored;
        let scores = rescored.scores(decision.candidates.len()).map_err(refused)?;
        let seed = DecisionSeed::derive(seed, &decision.decision_id);
        let target = target_propensities(exploration, &scores, shown, *size, constraints, seed).map_err(refused)?;
        let after = |position| next_choice(exploration, &scores, &shown[..position], constraints);
        Ok(Seen { shown: shown.clone(), target, choices: (0..shown.len()).map(after).collect() })
    }

    fn push_single(&self, seen: &Seen, log: &mut SingleLog) -> Result<(), EvidenceError> {
        let decision = &self.round.decision;
        // Every exploration knows what it does at the first position.
        let evaluation = seen.choices.as_ref().and_then(|choices| choices.first()).map_or(&[][..], Vec::as_slice);
        Ok(log.push(&SingleRound {
            id: &decision.decision_id,
            reward: self.round.rewards[0],
            propensity: decision.propensity,
            shown: seen.shown[0],
            evaluation,
            behaviour: self.behaviour().as_deref(),
            predictions: Some(&self.predictions[0]),
            embedding: None,
            user: user(decision),
        })?)
    }

    fn push_slate(&self, seen: &Seen, log: &mut SlateLog) -> Result<(), EvidenceError> {
        let decision = &self.round.decision;
        let slate = &decision.slate;
        let behaviour = Propensities {
            cascade: slate.iter().map(|shown| shown.cascade_propensity).collect(),
            marginal: slate.iter().map(|shown| shown.marginal_propensity).collect(),
            draws: decision.propensity_draws.map(i32::unsigned_abs),
            marginal_draws: decision.marginal_draws.map(i32::unsigned_abs),
        };
        let (mut taken, mut expected) = (Vec::new(), Vec::new());
        for (position, chances) in seen.choices.iter().flatten().enumerate() {
            let q = &self.predictions[position];
            taken.push(q[seen.shown[position]]);
            expected.push(chances.iter().zip(q).map(|(chance, q)| chance * q).sum());
        }
        let predictions = seen.choices.is_some().then_some(SlatePredictions { shown: &taken, expected: &expected });
        Ok(log.push(&SlateRound {
            id: &decision.decision_id,
            rewards: &self.round.rewards,
            behaviour: &behaviour,
            evaluation: &seen.target,
            predictions,
            pseudo_inverse: None,
            user: user(decision),
        })?)
    }

    /// The logging policy's probability of each candidate, where that is known exactly.
    fn behaviour(&self) -> Option<Vec<f64>> {
        let Rescored { exploration, constraints, .. } = self.logged?;
        let scores = self.logged?.scores(self.round.decision.candidates.len()).ok()?;
        let exact = self.round.decision.propensity_draws.is_none();
        exact.then(|| next_choice(exploration, &scores, &[], constraints))?
    }
}
