//! A log from the journal.

use std::collections::BTreeSet;

use slated_contract::event::Decision;
use slated_contract::feature::{Encoder, FeatureSchema};
use slated_contract::policy::LearnedUntil;
use slated_contract::session::{SessionAccumulator, SessionSettings};

use super::episodes::Experience;
use super::error::OfflineError;
use super::gather::{Gatherer, Outcome, Seen};
use super::settings::OfflineSettings;
use crate::dataset::{Dataset, DatasetSettings, DatasetSummary, Round, SchemaInference};
use crate::progress::Progress;
use crate::replay::Propensity;

/// Reads the journal of [`OfflineSettings::data`] into memory: about 350 bytes a decision and four for each encoded number of
/// state and candidates.
///
/// # Errors
/// Settings without a journal, one that does not read, a decision whose features do not fit the schema.
pub fn read_journal(
    settings: &OfflineSettings,
    progress: &mut dyn Progress,
) -> Result<(Experience, DatasetSummary), OfflineError> {
    let Some(data) = &settings.data else {
        return Err(OfflineError::Setting(
            "`data.journal` is missing: the folder of the journal to learn from".to_owned(),
        ));
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(OfflineError::Runtime)?;
    runtime.block_on(async {
        let (features, session) = match settings.known_features()? {
            (Some(features), session) => (features, session),
            (None, session) => (infer(data, &session, progress).await?, session),
        };
        read(settings, data, features, session, progress).await
    })
}

impl OfflineSettings {
    /// What the policy reads, as far as that does not depend on the log, and what the session keeps for it.
    pub(super) fn known_features(&self) -> Result<(Option<FeatureSchema>, SessionSettings), OfflineError> {
        let spec = match &self.evaluation.environment {
            Some(environment) => Some(environment.build()?.spec().clone()),
            None => None,
        };
        let (features, session) = spec.map(|spec| (spec.features, spec.session)).unzip();
        let session = self.session.clone().or(session).unwrap_or_default();
        Ok((self.features.clone().or(features), session))
    }
}

async fn infer(
    data: &DatasetSettings,
    session: &SessionSettings,
    progress: &mut dyn Progress,
) -> Result<FeatureSchema, OfflineError> {
    let kept = SessionAccumulator::new(session, 0)?.features(chrono::DateTime::UNIX_EPOCH);
    let kept: BTreeSet<String> =
        kept.iter().filter(|(name, _)| !name.starts_with("consumed_decay_")).map(|(name, _)| name.to_owned()).collect();
    let mut inference = SchemaInference::with_session(kept);
    let mut rounds = Dataset::open(data).await?;
    progress.stage("finding features", Some(rounds.total()));
    while let Some(batch) = rounds.next().await? {
        progress.advance(batch.len() as u64);
        batch.iter().try_for_each(|round| inference.add(round))?;
    }
    Ok(inference.schema())
}

async fn read(
    settings: &OfflineSettings,
    data: &DatasetSettings,
    features: FeatureSchema,
    session: SessionSettings,
    progress: &mut dyn Progress,
) -> Result<(Experience, DatasetSummary), OfflineError> {
    let mut gatherer = Gatherer::new(Encoder::new(&features)?, &session, settings.episodes.gap_seconds)?;
    let mut rounds = Dataset::open(data).await?;
    progress.stage("reading sessions", Some(rounds.total()));
    let mut until = None;
    while let Some(batch) = rounds.next().await? {
        progress.advance(batch.len() as u64);
        until = batch
            .last()
            .map(|round| LearnedUntil { time: round.decision.time, decision_id: round.decision.decision_id.clone() });
        for round in &batch {
            let decision = &round.decision;
            gatherer
                .add(&seen(decision), outcome(round))
                .map_err(|source| OfflineError::Encode { decision_id: decision.decision_id.clone(), source })?;
        }
    }
    let summary = rounds.summary().clone();
    let episodes = gatherer.finish(settings.episodes.open_seconds);
    let (reward, feedback) = (data.reward.clone(), summary.counted_feedback);
    let experience = Experience { features, session, episodes, reward, feedback, until };
    Ok((experience, summary))
}

fn seen(decision: &Decision) -> Seen<'_> {
    Seen {
        session_id: decision.session_id.as_deref(),
        user_id: decision.user_id.as_deref(),
        time: decision.time,
        user: &decision.user,
        context: &decision.context,
        session: &decision.session,
        candidates: decision
            .candidates
            .iter()
            .map(|candidate| (candidate.item.as_str(), &candidate.features))
            .collect(),
    }
}

fn outcome(round: &Round) -> Outcome {
    let decision = &round.decision;
    // The dataset has checked that what was shown is among the candidates.
    let index = |item: &str| decision.candidates.iter().position(|candidate| candidate.item == item).unwrap_or(0);
    Outcome {
        slate: decision.slate.iter().map(|shown| index(&shown.item)).collect(),
        consumed: round.consumed(),
        rewards: round.rewards.clone(),
        propensity: decision.not_evaluable.is_none().then(|| Propensity {
            slate: decision.propensity as f32,
            marginal: decision.slate.iter().map(|shown| shown.marginal_propensity as f32).collect(),
        }),
    }
}
