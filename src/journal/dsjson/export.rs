//! A journal as lines that Vowpal Wabbit trains on.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::Serialize;
use slated_contract::event::{Decision, Event, Feedback, check_segments, segments};
use slated_contract::feature::{Reserved, is_reserved};
use slated_contract::reward::RewardDefinition;
use slated_trainer::dataset::{Dataset, DatasetSettings, DatasetSummary, Round, local};

use super::page::Pages;
use super::write::{Written, lines};
use crate::journal::exchange::{Check, ExchangeError, ExportReport, ExportedFile};

/// What to export, and where to.
#[derive(Debug, Clone, PartialEq)]
pub struct DsjsonExport {
    /// A file that ends in `.dsjson` or `.json`; or a folder, empty or absent, which gets a file for each date.
    pub out: PathBuf,
    /// How feedback becomes the reward, whose negative is a line's cost.
    pub reward: RewardDefinition,
    /// Only decisions at this time or later.
    pub after: Option<DateTime<Utc>>,
    /// Only decisions before this time.
    pub before: Option<DateTime<Utc>>,
    /// Only this policy's.
    pub policy: Option<String>,
}

/// What was written.
#[derive(Debug, Serialize)]
pub struct DsjsonReport {
    /// The files; events are lines.
    #[serde(flatten)]
    pub export: ExportReport,
    /// Features that are not in them, because Vowpal Wabbit keeps names that begin with `_` for itself.
    pub left_out: BTreeSet<String>,
    /// What was read, and what became of feedback.
    pub dataset: DatasetSummary,
}

/// Exports the decisions of closed segments with their rewards, in the order of (time, id); the slots of a page stand in
/// one line where the page is a conditional contextual bandit's. Damaged segments are passed over and reported. `advance`
/// is told of every decision.
///
/// # Errors
/// A journal that does not read or holds no decisions, a target that cannot be written or would be mixed with what is
/// there, a decision that no line can hold.
pub async fn export(
    journal: &Path,
    settings: &DsjsonExport,
    advance: &mut dyn FnMut(),
) -> Result<DsjsonReport, ExchangeError> {
    let folder = local(journal, None).await?;
    let mut data: DatasetSettings = serde_json::from_value(serde_json::json!({ "journal": folder }))
        .map_err(|error| ExchangeError::Settings(error.to_string()))?;
    data.reward.clone_from(&settings.reward);
    data.policy.clone_from(&settings.policy);
    let mut dataset = Dataset::open(&data).await?;
    let mut writing = Writing::new(&settings.out)?;
    let mut pages = Pages::default();
    let mut left_out = BTreeSet::new();
    while let Some(rounds) = dataset.next().await? {
        for round in rounds {
            advance();
            let time = round.decision.time;
            if settings.after.is_some_and(|after| time < after) || settings.before.is_some_and(|before| time >= before)
            {
                continue;
            }
            look(&round.decision, &mut left_out)?;
            pages.add(round);
            while let Some(rounds) = pages.take(Some(time)) {
                writing.rounds(&rounds)?;
            }
        }
    }
    while let Some(rounds) = pages.take(None) {
        writing.rounds(&rounds)?;
    }
    writing.close()?;
    if writing.files.is_empty() {
        return Err(ExchangeError::Nothing(journal.to_owned()));
    }
    let mut damaged = check_segments::<Decision>(&folder, segments::<Decision>(&folder)?)?.damaged;
    damaged.extend(check_segments::<Feedback>(&folder, segments::<Feedback>(&folder)?)?.damaged);
    let export = ExportReport { files: writing.files, damaged };
    Ok(DsjsonReport { export, left_out, dataset: dataset.summary().clone() })
}

/// Refuses what JSON cannot hold, and notes what Vowpal Wabbit does not read.
fn look(decision: &Decision, left_out: &mut BTreeSet<String>) -> Result<(), ExchangeError> {
    decision.check_numbers().map_err(|problem| refused(&decision.decision_id, problem))?;
    let items = decision.candidates.iter().map(|candidate| ("item", &candidate.features));
    let groups = [("user", &decision.user), ("context", &decision.context), ("session", &decision.session)];
    for (group, features) in groups.into_iter().chain(items) {
        let reserved = features.iter().filter(|(name, _)| is_reserved(name, Reserved::Underscored));
        // That of the slates problem is written, but not as a feature.
        left_out.extend(
            reserved.filter(|(name, _)| *name != super::context::SLOT_ID).map(|(name, _)| format!("{group}.{name}")),
        );
    }
    Ok(())
}

fn refused(id: &str, problem: String) -> ExchangeError {
    ExchangeError::Event { kind: Decision::KIND, id: id.to_owned(), problem }
}

/// The files, each of which appears whole or not at all.
struct Writing {
    out: PathBuf,
    is_file: bool,
    open: Option<Open>,
    files: Vec<ExportedFile>,
}

struct Open {
    path: PathBuf,
    hidden: PathBuf,
    file: BufWriter<File>,
    lines: u64,
}

impl Writing {
    fn new(out: &Path) -> Result<Self, ExchangeError> {
        let named = out.extension().is_some_and(|extension| extension == "dsjson" || extension == "json");
        let is_file = named && !out.is_dir();
        let failed = |source| ExchangeError::Io { path: out.to_owned(), source };
        if !is_file && out.exists() && out.read_dir().map_err(failed)?.next().is_some() {
            let problem = "is not empty, and an export must not be mixed with what is there; name another".to_owned();
            return Err(ExchangeError::Target { path: out.to_owned(), problem });
        }
        Ok(Self { out: out.to_owned(), is_file, open: None, files: Vec::new() })
    }

    fn rounds(&mut self, rounds: &[Round]) -> Result<(), ExchangeError> {
        let Some(first) = rounds.first() else { return Ok(()) };
        let path = if self.is_file {
            self.out.clone()
        } else {
            self.out.join(format!("date={}.dsjson", first.decision.time.format("%Y-%m-%d")))
        };
        if self.open.as_ref().is_some_and(|open| open.path != path) {
            self.close()?;
        }
        let open = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(Open::create(path)?),
        };
        for line in lines(rounds).map_err(|(id, problem)| refused(&id, problem))? {
            open.write(&line)?;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), ExchangeError> {
        let Some(Open { path, hidden, file, lines }) = self.open.take() else { return Ok(()) };
        let failed = |source| ExchangeError::Io { path: path.clone(), source };
        let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().and_then(|()| fs::rename(&hidden, &path)).map_err(failed)?;
        self.files.push(ExportedFile { file: path, kind: "lines", events: lines });
        Ok(())
    }
}

impl Open {
    fn create(path: PathBuf) -> Result<Self, ExchangeError> {
        let failed = |source| ExchangeError::Io { path: path.clone(), source };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(failed)?;
        let hidden = folder.join(format!(".{}.part", path.file_name().unwrap_or_default().to_string_lossy()));
        let file = BufWriter::new(File::create(&hidden).map_err(failed)?);
        Ok(Self { path, hidden, file, lines: 0 })
    }

    fn write(&mut self, line: &Written) -> Result<(), ExchangeError> {
        let failed = |source| ExchangeError::Io { path: self.path.clone(), source };
        serde_json::to_writer(&mut self.file, line).map_err(|error| failed(error.into()))?;
        self.file.write_all(b"\n").map_err(failed)?;
        self.lines += 1;
        Ok(())
    }
}

impl fmt::Display for DsjsonReport {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{}", self.export)?;
        if !self.left_out.is_empty() {
            let names: Vec<&str> = self.left_out.iter().map(String::as_str).collect();
            write!(
                formatter,
                "\nnot exported, because Vowpal Wabbit reads no name that begins with `_`: {}",
                names.join(", ")
            )?;
        }
        let DatasetSummary { counted_feedback, unweighted_feedback, .. } = self.dataset;
        write!(
            formatter,
            "\n{counted_feedback} feedback events count, {unweighted_feedback} have no weight in the reward"
        )
    }
}
