//! A log from simulated users, in memory: what the journal would hold, without the journal.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use slated_contract::feature::{EncodeError, Encoder, Features};
use slated_contract::reward::RewardDefinition;
use slated_contract::slate::DrawnSlate;

use super::episodes::{Episode, Experience};
use super::error::OfflineError;
use super::gather::{Gatherer, Outcome, Seen};
use super::settings::OfflineSettings;
use crate::env;
use crate::replay::Propensity;
use crate::rollout::{Decided, MakeObserver, Observer, ObserverError, Part, Rollout};

/// Runs a mixture of policies in the environment of [`super::OfflineEvaluation::environment`] and gathers its sessions, as
/// [`super::read_journal`] would from a journal of the same rollout.
///
/// # Errors
/// Settings without an environment, a rollout that fails, features that the schema refuses.
pub fn simulate(
    settings: &OfflineSettings,
    parts: &[Part<'_>],
    episodes: u64,
    seed: u64,
    workers: usize,
) -> Result<Experience, OfflineError> {
    let Some(environment) = &settings.evaluation.environment else {
        return Err(OfflineError::Setting("`evaluation.environment` is missing: where to simulate".to_owned()));
    };
    let make = || environment.build();
    let spec = make()?.spec().clone();
    let (features, session) = settings.known_features()?;
    let features = features.unwrap_or_else(|| spec.features.clone());
    // Proven here, so that the blocks need not.
    Gatherer::new(Encoder::new(&features)?, &session, settings.episodes.gap_seconds)?;
    let gathered = Mutex::new(Vec::new());
    let observe = |block: u64| -> Box<dyn Observer + '_> {
        let gatherer = Encoder::new(&features)
            .map_err(OfflineError::from)
            .and_then(|encoder| Gatherer::new(encoder, &session, settings.episodes.gap_seconds));
        Box::new(Block { block, gatherer: gatherer.ok(), pending: None, order: Vec::new(), gathered: &gathered })
    };
    let observe: &MakeObserver = &observe;
    let rollout = Rollout { workers, observe: Some(observe), ..Rollout::new(&make, episodes, seed) };
    let ended = rollout.run(parts)?;
    let mut gathered = gathered.into_inner().unwrap_or_else(PoisonError::into_inner);
    gathered.sort_unstable_by_key(|(episode, _)| *episode);
    Ok(Experience {
        features,
        session,
        episodes: gathered.into_iter().map(|(_, episode)| episode).collect(),
        reward: RewardDefinition {
            weights: BTreeMap::from([(spec.event.to_owned(), 1.0)]),
            ..RewardDefinition::default()
        },
        feedback: ended.iter().map(|episode| u64::from(episode.responses)).sum(),
        until: None,
    })
}

/// Gathers a block of episodes.
struct Block<'a> {
    block: u64,
    gatherer: Option<Gatherer>,
    pending: Option<Pending>,
    /// The numbers of the episodes, in the order in which they began.
    order: Vec<u64>,
    gathered: &'a Mutex<Vec<(u64, Episode)>>,
}

/// A decision before its response.
struct Pending {
    episode: u64,
    time: chrono::DateTime<chrono::Utc>,
    user: Features,
    session: Features,
    candidates: Vec<(String, Features)>,
    slate: DrawnSlate,
}

impl Observer for Block<'_> {
    fn decided(&mut self, decided: &Decided<'_>) -> Result<(), ObserverError> {
        let Decided { episode, step, lane, slate, .. } = *decided;
        let environment = lane.environment();
        if step == 0 {
            self.order.push(episode);
        }
        self.pending = Some(Pending {
            episode,
            time: lane.now(),
            user: environment.user(),
            session: lane.session_features(),
            candidates: (0..environment.spec().candidates)
                .map(|candidate| (environment.item_id(candidate), environment.item(candidate)))
                .collect(),
            slate: slate.clone(),
        });
        Ok(())
    }

    fn responded(&mut self, outcome: &env::Outcome) -> Result<(), ObserverError> {
        let (Some(pending), Some(gatherer)) = (self.pending.take(), &mut self.gatherer) else {
            return Err("a response came before its decision".into());
        };
        let id = pending.episode.to_string();
        let seen = Seen {
            session_id: Some(&id),
            user_id: Some(&id),
            time: pending.time,
            user: &pending.user,
            context: &Features::new(),
            session: &pending.session,
            candidates: pending.candidates.iter().map(|(id, features)| (id.as_str(), features)).collect(),
        };
        let consumed = outcome.consumed;
        // Without a response there is no feedback event, and so no reward.
        let reward = if consumed.is_some() { outcome.reward } else { 0.0 };
        let DrawnSlate { items, propensities } = pending.slate;
        let rewards = (0..items.len()).map(|position| if consumed == Some(position) { reward } else { 0.0 }).collect();
        let propensity = Some(Propensity {
            slate: propensities.joint() as f32,
            marginal: propensities.marginal.iter().map(|&probability| probability as f32).collect(),
        });
        let added = gatherer.add(&seen, Outcome { slate: items, consumed, rewards, propensity });
        added.map_err(|error: EncodeError| format!("block {}, episode {id}: {error}", self.block).into())
    }

    fn finish(&mut self) -> Result<(), ObserverError> {
        let episodes = self.gatherer.take().map(|gatherer| gatherer.finish(0.0)).unwrap_or_default();
        let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        gathered.extend(self.order.drain(..).zip(episodes));
        Ok(())
    }
}
