//! Reading the journal: decisions with what came of them, in the order in which they were decided.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use datafusion::error::DataFusionError;
use serde::{Deserialize, Serialize};
use slated_contract::event::{Decision, Event, Feedback, SegmentError};
use slated_contract::reward::{RewardDefinition, RewardError};
use thiserror::Error;

use super::DatasetSummary;
use super::decisions::Decisions;
use super::join::{Joined, Outcomes, chosen_dates};
use super::mirror::{MirrorError, local};
use super::reward::{Rewarded, rewards};
use super::sound::sound_segments;

/// Rounds handed over at a time.
const BATCH: usize = 256;

/// What to read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetSettings {
    /// The journal: a folder, or an address in an object store, such as `s3://bucket/journal`.
    pub journal: PathBuf,
    /// Where copies of segments from object stores are kept; a folder of the user's cache where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<PathBuf>,
    /// How feedback becomes reward.
    #[serde(default)]
    pub reward: RewardDefinition,
    /// Only decisions of this policy.
    #[serde(default)]
    pub policy: Option<String>,
    /// Only decisions that this wrote, such as `service` or `import:open-bandit`.
    #[serde(default)]
    pub source: Option<String>,
    /// Only decisions after this one, in the order of (time, id).
    #[serde(default)]
    pub after: Option<(DateTime<Utc>, String)>,
    /// Only what was journalled by then, decisions and feedback alike: what is read so today reads the same tomorrow,
    /// however much feedback on these decisions comes meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// Memory for sorting and joining, in MiB; beyond it the query spills to disk.
    #[serde(default = "memory_limit_mib")]
    pub memory_limit_mib: usize,
}

const fn memory_limit_mib() -> usize {
    512
}

/// A decision with the reward of each item it showed.
#[derive(Debug, Clone, PartialEq)]
pub struct Round {
    /// The decision.
    pub decision: Decision,
    /// Rewards, by index in the slate.
    pub rewards: Vec<f64>,
    /// Whether any feedback that counts was about the item itself, by index in the slate.
    pub responded: Vec<bool>,
}

impl Round {
    /// The index in the slate of the item that the user responded to: of several, that of the greatest reward.
    #[must_use]
    pub fn consumed(&self) -> Option<usize> {
        let responded = (0..self.responded.len()).filter(|&index| self.responded[index]);
        responded.reduce(|best, index| if self.rewards[index] > self.rewards[best] { index } else { best })
    }
}

/// A journal that cannot be learned from.
#[derive(Debug, Error)]
pub enum DatasetError {
    /// There is nothing to read.
    #[error(
        "{0} holds no decisions in closed segments; expected {0}/decisions/date=<date>/*.parquet (a running service closes them on POST /journal/seal)"
    )]
    Empty(PathBuf),
    /// The reward definition.
    #[error(transparent)]
    Reward(#[from] RewardError),
    /// The query.
    #[error("the journal does not read: {0}")]
    Query(#[from] DataFusionError),
    /// An object store.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// A segment.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// A column that the join made.
    #[error("the joined feedback does not read: {0}")]
    Joined(String),
    /// Its two readings do not agree.
    #[error(
        "the journal was altered while it was read: {read} decisions where {expected} were counted; segments are never rewritten, so stop what rewrites them and read again"
    )]
    Altered {
        /// Decisions that were read.
        read: u64,
        /// Decisions that were counted before.
        expected: u64,
    },
    /// A decision that nothing can be learned from.
    #[error("decision `{decision_id}`: {problem}")]
    Decision {
        /// Its id.
        decision_id: String,
        /// What is wrong.
        problem: String,
    },
}

/// The journal as a stream of rounds, in the order of (time, decision id).
///
/// Two streams in the same order run side by side: wide decisions, read as they lie, and their narrow outcomes, joined
/// and sorted by DataFusion. Neither is ever held whole.
pub struct Dataset {
    decisions: Decisions,
    outcomes: Outcomes,
    settings: DatasetSettings,
    summary: DatasetSummary,
}

impl Dataset {
    /// Starts reading.
    ///
    /// # Errors
    /// A journal without decisions or that does not read, a reward definition that cannot be used.
    pub async fn open(settings: &DatasetSettings) -> Result<Self, DatasetError> {
        settings.reward.check()?;
        let journal = local(&settings.journal, settings.cache.as_deref()).await?;
        let (decisions, damaged_decisions) = chosen_dates(&journal, settings)?;
        let (feedback, damaged_feedback) = sound_segments::<Feedback>(&journal, None)?;
        let outcomes = Outcomes::of(settings, &decisions, &feedback).await?;
        if outcomes.decisions() == 0 {
            return Err(DatasetError::Empty(settings.journal.clone()));
        }
        let summary = DatasetSummary {
            feedback: outcomes.feedback(),
            damaged_segments: damaged_decisions + damaged_feedback,
            ..DatasetSummary::default()
        };
        let decisions = Decisions::read(decisions);
        Ok(Self { decisions, outcomes, settings: settings.clone(), summary })
    }

    /// How many decisions there are, those given twice included.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.outcomes.decisions()
    }

    /// The next rounds; `None` at the end.
    ///
    /// # Errors
    /// A row that does not read, or a decision that nothing can be learned from, by its id.
    pub async fn next(&mut self) -> Result<Option<Vec<Round>>, DatasetError> {
        let mut rounds = Vec::with_capacity(BATCH);
        while rounds.len() < BATCH {
            let Some(decision) = self.decisions.next().await? else {
                self.end().await?;
                break;
            };
            if !chosen(&decision, &self.settings) {
                continue;
            }
            // Copies of a decision come after its first, which has the outcome.
            let outcome = match self.outcomes.peek().await? {
                Some(next) if (next.time, next.decision_id.as_str()) == decision.order() => {
                    self.outcomes.next().await?
                }
                _ => None,
            };
            let Some(outcome) = outcome else {
                self.summary.duplicate_decisions += 1;
                continue;
            };
            if !was_shown(&decision, &outcome.feedback, &self.settings.reward) {
                self.summary.not_activated += 1;
                continue;
            }
            check(&decision)?;
            let Rewarded { rewards, responded } =
                rewards(&decision, outcome.feedback, &self.settings.reward, &mut self.summary);
            if let Some(reward) = rewards.iter().find(|reward| !reward.is_finite()) {
                return Err(bad(
                    &decision,
                    format!("its reward is {reward}; a feedback value or weight is not finite"),
                ));
            }
            let round = Round { decision, rewards, responded };
            self.summary.add(&round);
            rounds.push(round);
        }
        Ok((!rounds.is_empty()).then_some(rounds))
    }

    /// What is known when the last decision was read.
    async fn end(&mut self) -> Result<(), DatasetError> {
        let summary = &self.summary;
        let read = summary.decisions + summary.duplicate_decisions + summary.not_activated;
        if self.outcomes.peek().await?.is_some() || read != self.total() {
            return Err(DatasetError::Altered { read, expected: self.total() });
        }
        self.summary.orphan_feedback = self.outcomes.orphans();
        Ok(())
    }

    /// What was read so far; how much feedback is without a decision is known at the end.
    #[must_use]
    pub const fn summary(&self) -> &DatasetSummary {
        &self.summary
    }
}

/// Whether a decision is one that the settings ask for; says the same as the join's filter.
fn chosen(decision: &Decision, settings: &DatasetSettings) -> bool {
    let is = |wanted: &Option<String>, value: &str| wanted.as_ref().is_none_or(|wanted| wanted == value);
    let after = settings.after.as_ref().is_none_or(|(time, id)| decision.order() > (*time, id.as_str()));
    let until = settings.until.is_none_or(|until| decision.time <= until);
    is(&settings.policy, &decision.policy) && is(&settings.source, &decision.source) && after && until
}

/// Whether a decision was shown, as far as its feedback says: one that was deferred must have been activated, while its
/// rewards counted.
fn was_shown(decision: &Decision, feedback: &[Joined], reward: &RewardDefinition) -> bool {
    let mut deferred = feedback.iter().filter(|event| event.event == Feedback::DEFERRED);
    let deadline = reward.deadline(decision.time);
    let in_time = |event: &&Joined| deadline.is_none_or(|deadline| event.occurred <= deadline);
    let mut activated = feedback.iter().filter(|event| event.event == Feedback::ACTIVATED).filter(in_time);
    deferred.next().is_none() || activated.next().is_some()
}

fn bad(decision: &Decision, problem: String) -> DatasetError {
    DatasetError::Decision { decision_id: decision.decision_id.clone(), problem }
}

fn check(decision: &Decision) -> Result<(), DatasetError> {
    if decision.slate.is_empty() {
        return Err(bad(decision, "its slate is empty".to_owned()));
    }
    let propensities = decision.slate.iter().flat_map(|shown| [shown.cascade_propensity, shown.marginal_propensity]);
    // Written so that NaN fails.
    if let Some(propensity) =
        propensities.chain([decision.propensity]).find(|propensity| !(*propensity > 0.0 && *propensity <= 1.0))
    {
        return Err(bad(
            decision,
            format!("its propensity {propensity} is outside (0, 1]; what was shown cannot have had it"),
        ));
    }
    for shown in &decision.slate {
        if !decision.candidates.iter().any(|candidate| candidate.item == shown.item) {
            return Err(bad(decision, format!("item `{}` was shown but is not among the candidates", shown.item)));
        }
    }
    Ok(())
}
