//! Evaluating the candidates off policy, and choosing one.

use std::path::Path;

use slated_trainer::ope::gate::{Replay, judge};

use super::settings::Horizon;
use super::train::{Logged, models_of};
use super::window::{data, reward};
use super::{AutopilotError, AutopilotSettings, Cycle, write_whole};
use crate::evaluation::{EvidenceSettings, Gathered, SessionEvidenceSettings, evaluations, gather, gather_sessions};
use crate::journal::verify::{Verifier, VerifySettings};
use crate::serving::{EngineSettings, LoadedPolicy};

/// Judges every candidate that was trained against the live version, writes each verdict into the cycle's folder, and chooses
/// the one that passes with the greatest lower bound of its improvement.
pub fn evaluate_all(settings: &AutopilotSettings, cycle: &mut Cycle, folder: &Path) -> Result<(), AutopilotError> {
    let runtime = tokio::runtime::Runtime::new().map_err(AutopilotError::Runtime)?;
    let engine = EngineSettings { max_batch: 64, ..EngineSettings::default() };
    let live = LoadedPolicy::load(&settings.models, &settings.policy, Some(cycle.live), &engine)?;
    let mut candidates = Vec::new();
    for (place, candidate) in cycle.candidates.iter().enumerate().filter(|(_, state)| state.model_sha256.is_some()) {
        let models = models_of(folder, &candidate.name);
        candidates.push((place, LoadedPolicy::load(&models, &settings.policy, Some(cycle.version), &engine)?));
    }
    for state in &mut cycle.candidates {
        (state.failed, state.evaluation) = (None, Vec::new());
    }
    cycle.winner = None;
    if candidates.is_empty() {
        return Ok(());
    }
    let gathered = runtime.block_on(gather_all(settings, cycle, &candidates, &live))?;
    let mut best: Option<(f64, usize)> = None;
    for ((place, _), gathered) in candidates.iter().zip(&gathered) {
        let state = &mut cycle.candidates[*place];
        let baseline = format!("{}:{}", settings.policy, cycle.live);
        // Versions that were pruned have left decisions that nobody can make again.
        let replay = gathered.replay.as_ref().map(crate::journal::verify::Verification::counts);
        let replay = replay.map(|found| Replay { foreign: found.foreign + found.unknown, unknown: 0, ..found });
        let verdict = judge(&gathered.evidence, replay, (&state.name, &baseline), &settings.evaluation.gate)?;
        write_whole(&folder.join(format!("{}.html", state.name)), verdict.html().as_bytes())?;
        state.evaluation = evaluations(&verdict, &gathered.digest);
        let failed = verdict.failed();
        tracing::info!(candidate = state.name, ?failed, "evaluated");
        state.failed = Some(failed.into_iter().map(str::to_owned).collect());
        let lower = state.evaluation.first().and_then(|first| first.against.as_ref()).map(|against| against.lower);
        if let Some(lower) = lower.filter(|_| verdict.passed())
            && best.is_none_or(|(most, _)| lower > most)
        {
            best = Some((lower, *place));
        }
    }
    cycle.winner = best.map(|(_, place)| place);
    Ok(())
}

/// The evidence on each candidate against the live version, from the same decisions.
async fn gather_all(
    settings: &AutopilotSettings,
    cycle: &Cycle,
    candidates: &[(usize, LoadedPolicy)],
    live: &LoadedPolicy,
) -> Result<Vec<Gathered>, AutopilotError> {
    let evaluation = &settings.evaluation;
    let reward = reward(settings, cycle)?;
    let mut data = data(settings, cycle, &reward);
    let verifier = || {
        let verify = VerifySettings { models: settings.models.clone(), tolerance: 1e-6, service_seed: None };
        evaluation.replay.then(|| Verifier::new(verify)).transpose().map_err(crate::evaluation::EvidenceError::from)
    };
    if evaluation.horizon == Horizon::Session {
        let sessions = SessionEvidenceSettings {
            kept_out: evaluation.share,
            open_seconds: settings.data.settle_seconds,
            most: evaluation.sessions,
            features: evaluation.features,
            ..SessionEvidenceSettings::of(data, evaluation.seed)
        };
        let mut policies: Vec<&LoadedPolicy> = candidates.iter().map(|(_, policy)| policy).collect();
        policies.push(live);
        let gathered = gather_sessions(&policies, &sessions, verifier()?, &mut Logged).await?;
        return Ok((0..candidates.len()).map(|place| gathered.pair(place, Some(candidates.len()))).collect());
    }
    // The last decision that was learned from may be at the split itself; no id is greater than this one.
    data.after = cycle.split.map(|time| (time, char::MAX.to_string())).or(data.after);
    let settings = EvidenceSettings { data, reward_model: evaluation.reward_model, seed: evaluation.seed };
    let mut all = Vec::new();
    for (_, candidate) in candidates {
        all.push(gather(candidate, Some(live), &settings, verifier()?, &mut Logged).await?);
    }
    Ok(all)
}
