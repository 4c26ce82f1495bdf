//! Removing closed segments that are too old, or too much.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};

use chrono::{Days, NaiveDate};
use serde::Serialize;
use slated_contract::event::{Decision, Event, Feedback, SegmentError, count, segments};

use super::listing::unlist;
use crate::journal::segment::remove;
use crate::journal::upload::was_sent;

/// How much of a journal is kept: whole dates of decisions and feedback go, the oldest first. Changes of routes, which
/// are few and no person's, stay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// Dates that ended longer than so many days ago go; none for that reason where absent.
    pub days: Option<u32>,
    /// As many dates go as it takes to be at most so many bytes; none for that reason where absent. The latest date stays.
    pub bytes: Option<u64>,
    /// Whether segments that have not been sent to the object store stay, whatever their age.
    pub only_sent: bool,
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RetentionReport {
    /// By kind and date.
    pub removed: Vec<Removed>,
    /// The size of what is left, in bytes.
    pub left_bytes: u64,
}

/// The segments of one kind and date.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// The kind of event.
    pub kind: &'static str,
    /// The date.
    pub date: String,
    /// Events.
    pub events: u64,
    /// Files.
    pub files: u64,
    /// Bytes.
    pub bytes: u64,
}

/// The files of one date: kind, path and size.
type Files = Vec<(&'static str, PathBuf, u64)>;

impl Retention {
    /// Whether anything is ever removed.
    #[must_use]
    pub const fn keeps_all(&self) -> bool {
        self.days.is_none() && self.bytes.is_none()
    }

    /// The dates that go, as it is `today`.
    fn expired(&self, dates: &BTreeMap<String, Files>, today: NaiveDate) -> Vec<String> {
        let size = |files: &Files| files.iter().map(|(_, _, bytes)| bytes).sum::<u64>();
        let mut left: u64 = dates.values().map(size).sum();
        let first = self.days.and_then(|days| today.checked_sub_days(Days::new(days.into())));
        let mut expired = Vec::new();
        for (index, (date, files)) in dates.iter().enumerate() {
            // A folder that is no date is none of ours.
            let Ok(day) = date.parse::<NaiveDate>() else { continue };
            let too_old = first.is_some_and(|first| day < first);
            let too_much = self.bytes.is_some_and(|bytes| left > bytes) && index + 1 < dates.len();
            if too_old || too_much {
                left -= size(files);
                expired.push(date.clone());
            }
        }
        expired
    }
}

/// Removes closed segments. Interrupted anywhere, a repetition goes on where it ended; with `dry` it only says what it
/// would remove.
pub fn retain(
    journal: &Path,
    retention: &Retention,
    today: NaiveDate,
    dry: bool,
) -> Result<RetentionReport, SegmentError> {
    let mut dates: BTreeMap<String, Files> = BTreeMap::new();
    add::<Decision>(journal, retention.only_sent, &mut dates)?;
    add::<Feedback>(journal, retention.only_sent, &mut dates)?;
    let mut report = RetentionReport::default();
    let expired = retention.expired(&dates, today);
    for date in expired {
        let files = dates.remove(&date).unwrap_or_default();
        report.removed.extend(remove_date::<Decision>(journal, &date, &files, dry)?);
        report.removed.extend(remove_date::<Feedback>(journal, &date, &files, dry)?);
    }
    report.left_bytes = dates.values().flatten().map(|(_, _, bytes)| bytes).sum();
    Ok(report)
}

fn add<E: Event>(journal: &Path, only_sent: bool, dates: &mut BTreeMap<String, Files>) -> Result<(), SegmentError> {
    for date in segments::<E>(journal)? {
        for path in date.files {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            if only_sent && !was_sent(journal, E::KIND, &name) {
                continue;
            }
            let bytes = path.metadata().map_err(|error| SegmentError::at(&path)(error.to_string()))?.len();
            dates.entry(date.date.clone()).or_default().push((E::KIND, path, bytes));
        }
    }
    Ok(())
}

fn remove_date<E: Event>(
    journal: &Path,
    date: &str,
    files: &Files,
    dry: bool,
) -> Result<Option<Removed>, SegmentError> {
    let own: Vec<&(&str, PathBuf, u64)> = files.iter().filter(|(kind, _, _)| *kind == E::KIND).collect();
    if own.is_empty() {
        return Ok(None);
    }
    // A damaged file goes as well; how many events it held is not known.
    let events = own.iter().map(|(_, path, _)| count(path).unwrap_or(0)).sum();
    let removed = Removed {
        kind: E::KIND,
        date: date.to_owned(),
        events,
        files: own.len() as u64,
        bytes: own.iter().map(|(_, _, bytes)| bytes).sum(),
    };
    if !dry {
        let names: Vec<String> = own
            .iter()
            .filter_map(|(_, path, _)| Some(format!("{}/date={date}/{}", E::KIND, path.file_name()?.to_str()?)))
            .collect();
        // Manifests first: no reader takes the files for missing.
        unlist::<E>(journal, &names.iter().map(String::as_str).collect::<HashSet<_>>())?;
        own.iter().try_for_each(|(_, path, _)| remove(path))?;
        // Another writer may have put a file there meanwhile; then the folder stays.
        let _ = std::fs::remove_dir(journal.join(E::KIND).join(format!("date={date}")));
    }
    Ok(Some(removed))
}

impl fmt::Display for RetentionReport {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        for Removed { kind, date, events, files, bytes } in &self.removed {
            writeln!(formatter, "{kind:10} {date:10} {events:>10} events {files:>6} files {bytes:>13} bytes removed")?;
        }
        write!(formatter, "{} bytes of decisions and feedback are left", self.left_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_dates_go_and_the_latest_stays() {
        let sizes = [("2026-01-01", 10), ("2026-01-02", 20), ("2026-01-05", 30), ("2026-01-06", 40), ("other", 5)];
        let dates: BTreeMap<String, Files> = sizes
            .iter()
            .map(|(date, bytes)| ((*date).to_owned(), vec![(Decision::KIND, PathBuf::new(), *bytes)]))
            .collect();
        let today = NaiveDate::from_ymd_opt(2026, 1, 6).unwrap();
        let expired = |days, bytes| Retention { days, bytes, only_sent: false }.expired(&dates, today);
        assert_eq!(expired(None, None), Vec::<String>::new());
        assert_eq!(expired(Some(4), None), ["2026-01-01"]);
        assert_eq!(expired(Some(1), None), ["2026-01-01", "2026-01-02"]);
        assert_eq!(expired(None, Some(95)), ["2026-01-01"]);
        assert_eq!(expired(None, Some(94)), ["2026-01-01", "2026-01-02"]);
        assert_eq!(expired(Some(4), Some(75)), ["2026-01-01", "2026-01-02"]);
    }
}
