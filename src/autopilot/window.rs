//! What a cycle reads of the journal, and what has changed in it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use slated_contract::event::{Decision, Event, Feedback, count, segments};
use slated_contract::policy::read_manifest;
use slated_contract::reward::RewardDefinition;
use slated_trainer::dataset::{Dataset, DatasetError, DatasetSettings};
use slated_trainer::drift::{Drift, DriftWindow, compare};

use super::settings::Horizon;
use super::{AutopilotError, AutopilotSettings, Cycle, State};

/// Counts the events of closed segments, each of which is opened once.
#[derive(Debug, Default)]
pub struct Closed(HashMap<PathBuf, u64>);

impl Closed {
    /// Decisions and feedback in closed segments.
    ///
    /// # Errors
    /// A folder or segment that does not read.
    pub fn count(&mut self, journal: &Path) -> Result<u64, AutopilotError> {
        Ok(self.of::<Decision>(journal)? + self.of::<Feedback>(journal)?)
    }

    fn of<E: Event>(&mut self, journal: &Path) -> Result<u64, AutopilotError> {
        let mut sum = 0;
        for path in segments::<E>(journal)?.into_iter().flat_map(|date| date.files) {
            sum += match self.0.get(&path) {
                Some(known) => *known,
                None => {
                    let rows = count(&path)?;
                    self.0.insert(path, rows);
                    rows
                }
            };
        }
        Ok(sum)
    }
}

/// What a cycle learns from and evaluates on: fixed by the cycle, whatever comes to the journal meanwhile.
pub fn data(settings: &AutopilotSettings, cycle: &Cycle, reward: &RewardDefinition) -> DatasetSettings {
    DatasetSettings {
        journal: settings.journal.clone(),
        cache: None,
        reward: reward.clone(),
        policy: Some(settings.policy.clone()),
        source: None,
        after: cycle.learn_from.map(|time| (time, String::new())),
        until: Some(cycle.cut),
        memory_limit_mib: settings.limits.memory_limit_mib,
    }
}

/// How feedback becomes reward: as the settings say, else as the Personalizer's routes do, else as the live version was
/// trained.
pub fn reward(settings: &AutopilotSettings, cycle: &Cycle) -> Result<RewardDefinition, AutopilotError> {
    if let Some(reward) = &settings.data.reward {
        return Ok(reward.clone());
    }
    #[cfg(feature = "compat")]
    if let Some(kept) = personalizer(settings)? {
        return Ok(kept.reward());
    }
    let manifest = read_manifest(&settings.models.join(&settings.policy).join(cycle.live.to_string()))?;
    Ok(manifest.training.map(|training| training.reward).unwrap_or_default())
}

/// What the Personalizer's routes say of this policy's training, where they were used to change it.
#[cfg(feature = "compat")]
pub fn personalizer(settings: &AutopilotSettings) -> Result<Option<crate::compat::Kept>, AutopilotError> {
    let kept =
        crate::compat::Kept::read(&settings.journal).map_err(|error| AutopilotError::Settings(error.to_string()))?;
    Ok(kept.filter(|kept| kept.policy == settings.policy))
}

/// Reads the cycle's data once: counts them, measures drift, and decides from when on to learn.
///
/// Features and propensities since the last cycle are compared with those that the live version learned from; rewards of each
/// version with what the same version earned before the last cycle's end.
pub fn look(settings: &AutopilotSettings, state: &State, cycle: &mut Cycle) -> Result<(), AutopilotError> {
    let window =
        settings.data.window_seconds.map(|seconds| cycle.cut - TimeDelta::milliseconds((1e3 * seconds) as i64));
    cycle.learn_from = state.learn_from.max(window);
    let manifest = read_manifest(&settings.models.join(&settings.policy).join(cycle.live.to_string()))?;
    let learned = manifest.training.and_then(|training| training.learned_until).map(|until| until.time);
    let reward = reward(settings, cycle)?;
    let runtime = tokio::runtime::Runtime::new().map_err(AutopilotError::Runtime)?;
    let data = data(settings, cycle, &reward);
    let mut times: Vec<i64> = Vec::new();
    let [mut learned_window, mut before, mut current] = [(); 3].map(|()| DriftWindow::default());
    let summary = runtime.block_on(async {
        let mut dataset = Dataset::open(&data).await?;
        while let Some(rounds) = dataset.next().await? {
            for round in &rounds {
                let time = round.decision.time;
                if settings.evaluation.horizon == Horizon::Decision {
                    times.push(time.timestamp_micros());
                }
                let Some(last) = state.last_cut else { continue };
                if time <= learned.unwrap_or(last) {
                    learned_window.add(round, &settings.drift);
                }
                let window = if time <= last { &mut before } else { &mut current };
                window.add(round, &settings.drift);
            }
        }
        Ok::<_, DatasetError>(dataset.summary().clone())
    })?;
    cycle.dataset = Some(summary);
    cycle.split = split(&times, settings.evaluation.share);
    if !before.is_empty() && !current.is_empty() {
        let learned = if learned_window.is_empty() { &before } else { &learned_window };
        let drift = compare(learned, &before, &current, settings.data.settle_seconds, &settings.drift);
        if drift.of_rewards() && settings.data.forget_on_drift {
            tracing::warn!(
                cycle = cycle.number,
                "the rewards have drifted: what is older than the last cycle is forgotten"
            );
            cycle.learn_from = state.last_cut.max(cycle.learn_from);
            if settings.evaluation.horizon == Horizon::Decision {
                let since = cycle.learn_from.map_or(i64::MIN, |time| time.timestamp_micros());
                times.retain(|time| *time > since);
                cycle.split = split(&times, settings.evaluation.share);
            }
        }
        cycle.drift = Some(drift);
    }
    let drifted = cycle.drift.as_ref().is_some_and(Drift::of_rewards);
    let begun_after = if drifted { cycle.number - 1 } else { state.begun_after };
    cycle.explores = drifted && settings.beginning.is_some_and(|it| it.after_drift.is_some());
    cycle.beginning = settings.beginning.is_some_and(|it| cycle.number - begun_after <= it.cycles);
    Ok(())
}

/// Where the last `share` of the decisions begins; they come in the order of time.
fn split(times: &[i64], share: f64) -> Option<DateTime<Utc>> {
    let place = (times.len() as f64 * (1.0 - share)) as usize;
    times.get(place.saturating_sub(1)).and_then(|time| DateTime::from_timestamp_micros(*time))
}
