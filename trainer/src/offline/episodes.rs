//! Sessions as they were logged, and their transitions.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use slated_contract::feature::FeatureSchema;
use slated_contract::policy::LearnedUntil;
use slated_contract::reward::RewardDefinition;
use slated_contract::session::SessionSettings;

use xxhash_rust::xxh3::xxh3_64;

use crate::replay::{Logged, NStep, Replay, ReplaySettings, Step, Transition};
use crate::rollout::Observation;

/// What the last decision of a session means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionEnd {
    /// The session ended there: nothing follows, and what was left of it is worth nothing more.
    #[default]
    Terminal,
    /// The log was cut there: the last decision is what the one before it led to, and nothing is learned of what came of it.
    Cut,
}

/// A decision of a session with what came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct LoggedStep {
    /// What there was to see.
    pub observation: Arc<Observation>,
    /// The slate, by position: indices of candidates.
    pub slate: Vec<usize>,
    /// The position of the item that the user responded to, the one of the greatest reward where there are several.
    pub consumed: Option<usize>,
    /// The reward of the whole slate.
    pub reward: f64,
    /// What else the log says.
    pub logged: Arc<Logged>,
}

/// A session.
#[derive(Debug, Clone, PartialEq)]
pub struct Episode {
    /// Names the user: a hash of the user's id, or of the session's where no user is named.
    pub user: u64,
    /// Its decisions, in order; at least one.
    pub steps: Vec<LoggedStep>,
}

/// A log as it is learned from, in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Experience {
    /// The features by which it is encoded.
    pub features: FeatureSchema,
    /// What the session accumulator keeps.
    pub session: SessionSettings,
    /// The sessions, in the order in which they began.
    pub episodes: Vec<Episode>,
    /// How feedback became reward.
    pub reward: RewardDefinition,
    /// How many feedback events counted.
    pub feedback: u64,
    /// The last decision of the journal; absent where the log is of none.
    pub until: Option<LearnedUntil>,
}

impl Experience {
    /// Decisions in all.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.episodes.iter().map(|episode| episode.steps.len()).sum()
    }

    /// Items shown in the largest slate.
    #[must_use]
    pub fn slate_size(&self) -> usize {
        self.all().map(|step| step.slate.len()).max().unwrap_or(0)
    }

    /// Candidates of the largest request.
    #[must_use]
    pub fn candidates(&self) -> usize {
        self.all().map(|step| step.observation.candidates).max().unwrap_or(0)
    }

    /// Decisions whose propensities can be weighed by.
    #[must_use]
    pub fn weighable(&self) -> usize {
        self.all().filter(|step| step.logged.propensity.is_some()).count()
    }

    /// Mean reward of a shown item.
    #[must_use]
    pub fn mean_reward(&self) -> f64 {
        let shown: usize = self.all().map(|step| step.slate.len()).sum();
        self.all().map(|step| step.reward).sum::<f64>() / shown.max(1) as f64
    }

    /// Mean return of a session, undiscounted: that of the policies that wrote the log.
    #[must_use]
    pub fn mean_return(&self) -> f64 {
        self.all().map(|step| step.reward).sum::<f64>() / self.episodes.len().max(1) as f64
    }

    fn all(&self) -> impl Iterator<Item = &LoggedStep> {
        self.episodes.iter().flat_map(|episode| &episode.steps)
    }

    /// SHA-256 over everything that is learned from, session by session, in hex; ids are no part of it.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for episode in &self.episodes {
            hash.update((episode.steps.len() as u64).to_le_bytes());
            for LoggedStep { observation, slate, consumed, reward, logged } in &episode.steps {
                for numbers in [&observation.state, &observation.items, &observation.history] {
                    hash.update((numbers.len() as u64).to_le_bytes());
                    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
                    hash.update(bytes);
                }
                let consumed = consumed.map_or(u64::MAX, |position| position as u64);
                let whole = [observation.candidates as u64, consumed, slate.len() as u64];
                let numbers = whole.into_iter().chain(slate.iter().map(|&item| item as u64));
                numbers.for_each(|number| hash.update(number.to_le_bytes()));
                hash.update(reward.to_le_bytes());
                let propensities =
                    logged.propensity.iter().flat_map(|known| known.marginal.iter().chain([&known.slate]));
                logged.rewards.iter().chain(propensities).for_each(|number| hash.update(number.to_le_bytes()));
            }
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The transitions of those who are learned from, and of the share `validation` of users who are kept out. With
    /// `weighed`, only those whose propensities can be weighed by.
    #[must_use]
    pub fn replays(&self, gathering: &NStep, end: SessionEnd, validation: f64, weighed: bool) -> (Replay, Replay) {
        let [mut learned, mut kept_out] = [(); 2].map(|()| {
            Replay::new(ReplaySettings { capacity: ReplaySettings::MAX_CAPACITY, ..ReplaySettings::default() })
        });
        for episode in &self.episodes {
            let replay = if episode.is_kept_out(validation) { &mut kept_out } else { &mut learned };
            episode.transitions(gathering, end, |transition| {
                if transition.propensity().is_some() || !weighed {
                    replay.push(transition);
                }
            });
        }
        (learned, kept_out)
    }
}

/// The number of a user, or of the session where no user is named, by the id.
#[must_use]
pub fn user_number(id: &str) -> u64 {
    xxh3_64(id.as_bytes())
}

/// Whether the user of this number is among the share of users who are kept out of learning, for the validation loss or for
/// whoever evaluates what was learned.
#[must_use]
pub fn is_kept_out(user: u64, share: f64) -> bool {
    ((user >> 11) as f64 / (1_u64 << 53) as f64) < share
}

impl Episode {
    /// Whether the user is among the share `validation` of users who are kept out of learning.
    #[must_use]
    pub fn is_kept_out(&self, validation: f64) -> bool {
        is_kept_out(self.user, validation)
    }

    /// Hands over its transitions, each beginning one step after the one before.
    pub fn transitions(&self, gathering: &NStep, end: SessionEnd, mut emit: impl FnMut(Transition)) {
        let Some((last, before)) = self.steps.split_last() else { return };
        let mut gathering = gathering.clone();
        let mut push = |gathering: &mut NStep, step: &LoggedStep| {
            let LoggedStep { observation, slate, consumed, reward, logged } = step.clone();
            gathering.push(Step { observation, slate, consumed, reward, logged: Some(logged) }, &mut emit);
        };
        before.iter().for_each(|step| push(&mut gathering, step));
        match end {
            SessionEnd::Terminal => {
                push(&mut gathering, last);
                gathering.end(&last.observation, emit);
            }
            SessionEnd::Cut => gathering.cut(&last.observation, emit),
        }
    }
}
