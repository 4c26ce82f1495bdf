//! Removing a person's events: the one exception to never rewriting, and itself recorded.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;

use arrow::array::AsArray;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use slated_contract::event::{Columns, Decision, Event, Feedback, Merged, SegmentError, segments};

use super::listing::{describe, list, relative, unlist};
use super::note::Note;
use crate::journal::JournalError;
use crate::journal::elsewhere::Elsewhere;
use crate::journal::segment::write_file;

/// The file in a journal that says what was forgotten, a JSON object a line.
const RECORD: &str = "forgotten.jsonl";
/// Rows of ids read at a time.
const BATCH: usize = 8192;

/// Who asks to forget, and why; kept in the journal. The person is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forgetting {
    /// Who asks.
    pub by: String,
    /// Why.
    pub why: String,
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ForgotEvents {
    /// Decisions for the person.
    pub decisions: u64,
    /// Feedback about them.
    pub feedback: u64,
    /// The segments that were written without them.
    pub segments: Vec<ForgotSegment>,
}

/// A segment that was written without some of its events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ForgotSegment {
    /// The kind of event.
    pub kind: &'static str,
    /// Its path in the journal.
    pub path: String,
    /// How many were removed.
    pub removed: u64,
    /// How many are left.
    pub left: u64,
}

/// One line of the record: that something was forgotten, and not whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgottenRecord {
    /// When.
    pub time: DateTime<Utc>,
    /// Who asked.
    pub by: String,
    /// Why.
    pub why: String,
    /// Decisions that were to be removed.
    pub decisions: u64,
    /// Feedback events that were to be removed.
    pub feedback: u64,
    /// Segments that held them.
    pub segments: u64,
}

/// What was forgotten so far; nothing where there is no record.
///
/// # Errors
/// A record that does not read.
pub fn forgotten(journal: &Path) -> Result<Vec<ForgottenRecord>, SegmentError> {
    let path = journal.join(RECORD);
    let failed = SegmentError::at(&path);
    match fs::read_to_string(&path) {
        Ok(text) => {
            let lines = text.lines().map(serde_json::from_str).collect::<Result<_, _>>();
            lines.map_err(|error| failed(error.to_string()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Removes the decisions of whoever goes by one of `names`, and the feedback about them, from every closed segment, those
/// `elsewhere` included.
///
/// The record is written first, then feedback is removed, then decisions: interrupted anywhere, the decisions that are
/// left lead a repetition to what is left.
pub fn forget(
    journal: &Path,
    elsewhere: Option<&Elsewhere>,
    names: &[String],
    forgetting: &Forgetting,
) -> Result<ForgotEvents, JournalError> {
    if let Some(elsewhere) = elsewhere {
        elsewhere.bring_back::<Decision>(|path| Ok(!decisions_in(path, names)?.is_empty()))?;
    }
    let (ids, decisions) = decisions_of(journal, names)?;
    if ids.is_empty() {
        return Ok(ForgotEvents::default());
    }
    if let Some(elsewhere) = elsewhere {
        elsewhere.bring_back::<Feedback>(|path| Ok(feedback_in(path, &ids)? > 0))?;
    }
    let feedback = feedback_about(journal, &ids)?;
    let sum = |files: &[(PathBuf, u64)]| files.iter().map(|(_, events)| events).sum();
    let mut forgot = ForgotEvents { decisions: sum(&decisions), feedback: sum(&feedback), ..ForgotEvents::default() };
    record(
        journal,
        &ForgottenRecord {
            time: Utc::now(),
            by: forgetting.by.clone(),
            why: forgetting.why.clone(),
            decisions: forgot.decisions,
            feedback: forgot.feedback,
            segments: (decisions.len() + feedback.len()) as u64,
        },
    )?;
    for (path, _) in &feedback {
        forgot.segments.push(rewrite(journal, path, |event: &Feedback| !ids.contains(&event.decision_id))?);
    }
    for (path, _) in &decisions {
        forgot.segments.push(rewrite(journal, path, |event: &Decision| !ids.contains(&event.decision_id))?);
    }
    Ok(forgot)
}

type Holding = Vec<(PathBuf, u64)>;

/// The ids of a person's decisions, and the files that hold them with how many.
fn decisions_of(journal: &Path, names: &[String]) -> Result<(HashSet<String>, Holding), SegmentError> {
    let (mut ids, mut files) = (HashSet::new(), Vec::new());
    for path in segments::<Decision>(journal)?.into_iter().flat_map(|date| date.files) {
        let found = decisions_in(&path, names)?;
        if !found.is_empty() {
            files.push((path, found.len() as u64));
            ids.extend(found);
        }
    }
    Ok((ids, files))
}

/// The ids of a person's decisions in a file.
fn decisions_in(path: &Path, names: &[String]) -> Result<Vec<String>, SegmentError> {
    let mut found = Vec::new();
    for batch in Columns::of::<Decision>(&["decision_id", "user_id"]).read(path, BATCH)? {
        let batch = batch?;
        let [decisions, users] = [0, 1].map(|column| batch.column(column).as_string::<i32>());
        let theirs = decisions.iter().zip(users).filter_map(|(id, user)| {
            let user = user?;
            names.iter().any(|name| name == user).then_some(id?.to_owned())
        });
        found.extend(theirs);
    }
    Ok(found)
}

/// The files that hold feedback about these decisions, with how many.
fn feedback_about(journal: &Path, ids: &HashSet<String>) -> Result<Holding, SegmentError> {
    let mut files = Vec::new();
    for path in segments::<Feedback>(journal)?.into_iter().flat_map(|date| date.files) {
        let found = feedback_in(&path, ids)?;
        if found > 0 {
            files.push((path, found));
        }
    }
    Ok(files)
}

/// How much feedback about these decisions is in a file.
fn feedback_in(path: &Path, ids: &HashSet<String>) -> Result<u64, SegmentError> {
    let mut found = 0;
    for batch in Columns::of::<Feedback>(&["decision_id"]).read(path, BATCH)? {
        let batch = batch?;
        let about = batch.column(0).as_string::<i32>().iter().flatten();
        found += about.filter(|id| ids.contains(*id)).count() as u64;
    }
    Ok(found)
}

fn record(journal: &Path, record: &ForgottenRecord) -> Result<(), SegmentError> {
    let path = journal.join(RECORD);
    let failed = SegmentError::at(&path);
    let line = serde_json::to_string(record).map_err(|error| failed(error.to_string()))?;
    let append = || {
        let mut file = File::options().create(true).append(true).open(&path)?;
        writeln!(file, "{line}")?;
        file.sync_all()
    };
    append().map_err(|error| failed(error.to_string()))
}

/// Writes a segment without some of its events, in one step. One that is left with none stays, empty: its name is known
/// elsewhere, and whoever has a copy replaces it.
fn rewrite<E: Event>(journal: &Path, path: &Path, keep: impl Fn(&E) -> bool) -> Result<ForgotSegment, SegmentError> {
    let name = relative(journal, path);
    Note::Rewrite { kind: E::KIND.to_owned(), path: name.clone() }.write(journal)?;
    unlist::<E>(journal, &HashSet::from([name.as_str()]))?;
    let mut removed = 0;
    let mut left = Merged::<E>::open(&[path.to_owned()])?.filter(|event| match event {
        Ok(event) if !keep(event) => {
            removed += 1;
            false
        }
        _ => true,
    });
    let written = write_file(journal, name.clone(), &mut left, &thread::yield_now)?;
    drop(left);
    finish_rewrite::<E>(journal, &name)?;
    Ok(ForgotSegment { kind: E::KIND, path: name, removed, left: written.events })
}

/// Lists a file that was, or was to be, rewritten, as it is now.
pub fn finish_rewrite<E: Event>(journal: &Path, path: &str) -> Result<(), SegmentError> {
    if journal.join(path).exists() {
        list::<E>(journal, describe(journal, path)?)?;
    }
    Note::done(journal)
}

impl fmt::Display for ForgotEvents {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let Self { decisions, feedback, segments } = self;
        write!(formatter, "removed {decisions} decisions and {feedback} feedback events")?;
        for ForgotSegment { path, removed, left, .. } in segments {
            write!(formatter, "\n{path}: {removed} removed, {left} left")?;
        }
        Ok(())
    }
}
