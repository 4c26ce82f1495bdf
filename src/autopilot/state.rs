//! Where the autopilot stands, kept in one file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use slated_contract::policy::Evaluation;
use slated_trainer::dataset::DatasetSummary;
use slated_trainer::drift::Drift;

use super::{AutopilotError, write_whole};
use crate::serving::traffic::Figures;

/// The format that is written and read.
const FORMAT: u32 = 1;

/// Everything that the next start needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The file's format, 1.
    pub format: u32,
    /// Cycles that have ended.
    pub cycles: u64,
    /// Nothing before this is learned from: the rewards have drifted since.
    pub learn_from: Option<DateTime<Utc>>,
    /// The last cycle before the current beginning: 0, or the one before the rewards drifted.
    pub begun_after: u64,
    /// Where the last cycle's data ended.
    pub last_cut: Option<DateTime<Utc>>,
    /// When the last cycle began.
    pub last_begin: Option<DateTime<Utc>>,
    /// Closed events of the journal at that time.
    pub events: u64,
    /// The greatest version that there ever was: numbers are not given twice.
    pub newest: u64,
    /// Versions that it published and did not remove, ascending.
    pub published: Vec<u64>,
    /// The cycle that is running.
    pub running: Option<Cycle>,
}

/// What is to be done next in a cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Measure drift, and decide from when on to learn.
    Drift,
    /// Train the candidates.
    Train,
    /// Evaluate them, and choose one.
    Evaluate,
    /// Put it into the folder of models.
    Publish,
    /// Let a share of the users have it.
    Canary,
    /// Let everyone have it.
    Promote,
    /// Remove what is not needed any more.
    Prune,
    /// Write the report, and the event into the journal.
    Report,
}

impl Step {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drift => "drift",
            Self::Train => "train",
            Self::Evaluate => "evaluate",
            Self::Publish => "publish",
            Self::Canary => "canary",
            Self::Promote => "promote",
            Self::Prune => "prune",
            Self::Report => "report",
        }
    }
}

/// A cycle under way: its inputs, which do not change once they are here, and what the steps so far came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cycle {
    /// Its number, from 1.
    pub number: u64,
    /// What is to be done next.
    pub step: Step,
    /// When it began.
    pub begun: DateTime<Utc>,
    /// Its data end here.
    pub cut: DateTime<Utc>,
    /// They begin here; everything where absent.
    pub learn_from: Option<DateTime<Utc>>,
    /// Where learning ends and evaluation begins, where decisions are evaluated one by one.
    pub split: Option<DateTime<Utc>>,
    /// The version that was live.
    pub live: u64,
    /// The version that its candidate is to be.
    pub version: u64,
    /// Closed events of the journal.
    pub events: u64,
    /// What was read.
    pub dataset: Option<DatasetSummary>,
    /// What has changed.
    pub drift: Option<Drift>,
    /// Whether its candidates explore as at a beginning.
    pub beginning: bool,
    /// Whether all it does is to make the live version explore more, because the rewards have drifted.
    #[serde(default)]
    pub explores: bool,
    /// Its candidates, as far as they have come.
    pub candidates: Vec<CandidateState>,
    /// The place of the one that the gate chose.
    pub winner: Option<usize>,
    /// When its trial began.
    pub canary_begun: Option<DateTime<Utc>>,
    /// What the service said of the trial last, by version.
    pub figures: BTreeMap<u64, Figures>,
    /// What came of it.
    pub outcome: Option<Outcome>,
    /// Versions that were removed.
    pub pruned: Vec<u64>,
    /// The steps that were done, with how long each took in seconds: of a step that was done again, the last time.
    pub seconds: Vec<(Step, f64)>,
}

/// A candidate.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CandidateState {
    /// Its name with its seed.
    pub name: String,
    /// What learned it.
    pub algorithm: String,
    /// SHA-256 of its model; absent where it was not trained.
    pub model_sha256: Option<String>,
    /// Why it was not trained or not evaluated.
    pub problem: Option<String>,
    /// The gate's figures, the deciding one first.
    pub evaluation: Vec<Evaluation>,
    /// The gate's tests that failed; absent where it was not judged.
    pub failed: Option<Vec<String>>,
}

impl CandidateState {
    /// Whether the gate lets it through.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failed.as_ref().is_some_and(Vec::is_empty)
    }
}

/// What came of a cycle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", content = "why", rename_all = "snake_case")]
pub enum Outcome {
    /// The candidate serves everyone.
    Promoted,
    /// The gate let none through; the live version stays.
    Kept(String),
    /// The candidate's trial ended badly; the live version stays.
    RolledBack(String),
    /// A step could not be done.
    Failed(String),
}

impl Outcome {
    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Promoted => "promoted",
            Self::Kept(_) => "kept",
            Self::RolledBack(_) => "rolled back",
            Self::Failed(_) => "failed",
        }
    }

    /// Why, where it is not what was hoped for.
    #[must_use]
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Promoted => None,
            Self::Kept(why) | Self::RolledBack(why) | Self::Failed(why) => Some(why),
        }
    }
}

impl State {
    /// Where it is kept.
    #[must_use]
    pub fn path(folder: &Path) -> PathBuf {
        folder.join("state.json")
    }

    /// What an earlier run left, or a beginning.
    ///
    /// # Errors
    /// A file that does not read, or of another format.
    pub fn read(folder: &Path) -> Result<Self, AutopilotError> {
        let path = Self::path(folder);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::beginning()),
            Err(source) => return Err(AutopilotError::Io { path, source }),
        };
        let unusable = |reason: String| AutopilotError::State { path: path.clone(), reason };
        let state: Self = serde_json::from_slice(&text).map_err(|error| unusable(error.to_string()))?;
        if state.format != FORMAT {
            return Err(unusable(format!("its format is {}, this slated reads {FORMAT}", state.format)));
        }
        Ok(state)
    }

    const fn beginning() -> Self {
        Self {
            format: FORMAT,
            cycles: 0,
            learn_from: None,
            begun_after: 0,
            last_cut: None,
            last_begin: None,
            events: 0,
            newest: 0,
            published: Vec::new(),
            running: None,
        }
    }

    /// Writes it: after a crash there is the state of before or of after.
    ///
    /// # Errors
    /// The disk.
    pub fn write(&self, folder: &Path) -> Result<(), AutopilotError> {
        let path = Self::path(folder);
        let unusable =
            |error: serde_json::Error| AutopilotError::State { path: path.clone(), reason: error.to_string() };
        write_whole(&path, &serde_json::to_vec_pretty(self).map_err(unusable)?)
    }
}
