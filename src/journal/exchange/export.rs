//! Exporting: closed segments into files of another form, in the order of (time, id).

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use arrow::array::AsArray;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use slated_contract::event::{
    CheckedSegments, Columns, DamagedSegment, DateSegments, Decision, Feedback, Merged, RouteChange, SegmentError,
    check_segments, segments,
};
use slated_trainer::dataset::local;
use xxhash_rust::xxh3::xxh3_128;

use super::check::Check;
use super::line::Line;
use super::write::FileWriter;
use super::{ExchangeError, Format};

/// Rows of ids read at a time.
const BATCH: usize = 8192;

/// A kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Decisions.
    Decisions,
    /// Feedback.
    Feedback,
    /// Changes of routes.
    Changes,
}

/// What to export, and where to.
#[derive(Debug, Clone, PartialEq)]
pub struct ExportSettings {
    /// The form.
    pub format: Format,
    /// A folder, which must be empty or absent, or, where one kind is exported, a file with the format's ending.
    pub out: PathBuf,
    /// The kind; all where absent.
    pub kind: Option<Kind>,
    /// Only events at this time or later.
    pub after: Option<DateTime<Utc>>,
    /// Only events before this time.
    pub before: Option<DateTime<Utc>>,
    /// Only this policy's: its decisions, feedback about them whenever they were made, and changes of its route.
    pub policy: Option<String>,
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ExportReport {
    /// The files.
    pub files: Vec<ExportedFile>,
    /// Segments that are damaged; what they hold is not in the files.
    pub damaged: Vec<DamagedSegment>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExportedFile {
    /// Where it is.
    pub file: PathBuf,
    /// The kind of its events.
    pub kind: &'static str,
    /// How many.
    pub events: u64,
}

/// Exports closed segments of a journal, a folder or an address in an object store. Into a folder, each kind goes to a
/// folder of its own, one file a date. Damaged segments are passed over and reported. `advance` is told of every event.
///
/// # Errors
/// A journal that does not read or has no such events, a target that cannot be written or would be mixed with what is
/// there, a number that is not finite in an export as JSON lines or CSV.
pub async fn export(
    journal: &Path,
    settings: &ExportSettings,
    advance: &mut dyn FnMut(),
) -> Result<ExportReport, ExchangeError> {
    let folder = local(journal, None).await?;
    let target = Target::of(settings)?;
    let mut report = ExportReport::default();
    let mut exporting = Exporting { settings, target, report: &mut report, advance };
    let wanted = |kind| settings.kind.is_none_or(|wanted| wanted == kind);
    if wanted(Kind::Decisions) {
        exporting.kind(&folder, |decision: &Decision| {
            settings.policy.as_ref().is_none_or(|policy| *policy == decision.policy)
        })?;
    }
    if wanted(Kind::Feedback) {
        let about = settings.policy.as_ref().map(|policy| decisions_of(&folder, policy)).transpose()?;
        exporting.kind(&folder, |feedback: &Feedback| {
            about.as_ref().is_none_or(|about| about.contains(&xxh3_128(feedback.decision_id.as_bytes())))
        })?;
    }
    if wanted(Kind::Changes) {
        exporting.kind(&folder, |change: &RouteChange| {
            settings.policy.as_ref().is_none_or(|policy| *policy == change.policy)
        })?;
    }
    if report.files.is_empty() { Err(ExchangeError::Nothing(journal.to_owned())) } else { Ok(report) }
}

enum Target {
    Folder(PathBuf),
    File(PathBuf),
}

impl Target {
    fn of(settings: &ExportSettings) -> Result<Self, ExchangeError> {
        let ExportSettings { out, format, kind, .. } = settings;
        let wrong = |problem: String| Err(ExchangeError::Target { path: out.clone(), problem });
        if out.extension().is_some_and(|extension| extension == format.extension()) && !out.is_dir() {
            if kind.is_none() {
                return wrong("a file holds one kind of event; name it with `--kind`, or name a folder".to_owned());
            }
            return Ok(Self::File(out.clone()));
        }
        let failed = |source| ExchangeError::Io { path: out.clone(), source };
        if out.exists() && out.read_dir().map_err(failed)?.next().is_some() {
            return wrong("is not empty, and an export must not be mixed with what is there; name another".to_owned());
        }
        Ok(Self::Folder(out.clone()))
    }
}

struct Exporting<'a> {
    settings: &'a ExportSettings,
    target: Target,
    report: &'a mut ExportReport,
    advance: &'a mut dyn FnMut(),
}

impl Exporting<'_> {
    fn kind<E: Line + Check>(&mut self, journal: &Path, wanted: impl Fn(&E) -> bool) -> Result<(), ExchangeError> {
        let ExportSettings { format, after, before, .. } = self.settings;
        let CheckedSegments { sound, damaged, .. } = check_segments::<E>(journal, segments::<E>(journal)?)?;
        self.report.damaged.extend(damaged);
        let mut whole: Option<(PathBuf, FileWriter<E>)> = None;
        for DateSegments { date, files } in &sound {
            let outside = |limit: &Option<DateTime<Utc>>, beyond: fn(&str, &str) -> bool| {
                limit.is_some_and(|limit| beyond(date, &limit.format("%Y-%m-%d").to_string()))
            };
            if outside(after, |date, limit| date < limit) || outside(before, |date, limit| date > limit) {
                continue;
            }
            for event in Merged::<E>::open(files)? {
                let event = event?;
                let time = event.time();
                let in_time = after.is_none_or(|after| time >= after) && before.is_none_or(|before| time < before);
                if !in_time || !wanted(&event) {
                    continue;
                }
                let (_, writer) = match &mut whole {
                    Some(open) => open,
                    None => {
                        let path = match &self.target {
                            Target::File(path) => path.clone(),
                            Target::Folder(folder) => {
                                folder.join(E::KIND).join(format!("date={date}.{}", format.extension()))
                            }
                        };
                        let writer = FileWriter::create(&path, *format)?;
                        whole.insert((path, writer))
                    }
                };
                writer.write(event)?;
                (self.advance)();
            }
            if matches!(self.target, Target::Folder(_)) {
                self.close(whole.take())?;
            }
        }
        self.close(whole)
    }

    fn close<E: Line + Check>(&mut self, open: Option<(PathBuf, FileWriter<E>)>) -> Result<(), ExchangeError> {
        let Some((file, writer)) = open else { return Ok(()) };
        let events = writer.finish()?;
        self.report.files.push(ExportedFile { file, kind: E::KIND, events });
        Ok(())
    }
}

/// The ids of a policy's decisions, hashed: 16 bytes each.
fn decisions_of(journal: &Path, policy: &str) -> Result<HashSet<u128>, SegmentError> {
    let columns = Columns::of::<Decision>(&["decision_id", "policy"]);
    let mut ids = HashSet::new();
    for path in segments::<Decision>(journal)?.iter().flat_map(|date| &date.files) {
        for batch in columns.read(path, BATCH)? {
            let batch = batch?;
            let [decisions, policies] = [0, 1].map(|column| batch.column(column).as_string::<i32>());
            let of_policy = decisions.iter().zip(policies).filter(|(_, of)| *of == Some(policy));
            ids.extend(of_policy.filter_map(|(id, _)| Some(xxh3_128(id?.as_bytes()))));
        }
    }
    Ok(ids)
}

impl fmt::Display for ExportReport {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let width = self.files.iter().map(|file| file.file.display().to_string().len()).max().unwrap_or(0).max(5);
        write!(formatter, "{:width$} {:>10}", "file", "events")?;
        for ExportedFile { file, events, .. } in &self.files {
            write!(formatter, "\n{:width$} {events:>10}", file.display().to_string())?;
        }
        let total: u64 = self.files.iter().map(|file| file.events).sum();
        write!(formatter, "\n{:width$} {total:>10}", "total")?;
        self.damaged.iter().try_for_each(|damaged| write!(formatter, "\n{damaged}"))
    }
}
