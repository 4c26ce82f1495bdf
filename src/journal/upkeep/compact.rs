//! Putting the small segments of a date together into few big ones.
//!
//! The events stay what they are, in the order of (time, id), those given twice included. The big files are written into
//! a hidden folder beside that of the date, and the two folders change places in one step, so that whoever lists a date
//! finds the small files or the big ones and never both. A reader that had listed the small ones finds them gone, says
//! so, and reads again.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use slated_contract::event::{
    CheckedSegments, DateSegments, Decision, Event, Feedback, ManifestFile, Merged, RouteChange, SegmentError,
    check_segments, count, segments,
};

use super::listing::{list, relative, unlist};
use super::note::Note;
use crate::journal::segment::{sync_folder, write_file};
use crate::journal::tail::Tail;
use crate::journal::{JournalError, SegmentFile};

/// What was put together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CompactionReport {
    /// The dates whose segments changed.
    pub compacted: Vec<Compacted>,
    /// Damaged segments; the other files of their dates were left as they are.
    pub damaged: Vec<String>,
}

/// The segments of one date.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Compacted {
    /// The kind of event.
    pub kind: &'static str,
    /// The date.
    pub date: String,
    /// Events, as many as before.
    pub events: u64,
    /// Files before and after.
    pub files: (u64, u64),
    /// Bytes before and after.
    pub bytes: (u64, u64),
}

/// A compaction, once its files are written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compaction {
    /// The kind of event.
    pub kind: String,
    /// The date.
    pub date: String,
    /// The files that are replaced, by their path in the journal.
    pub replaced: Vec<String>,
    /// The files that take their place.
    pub written: Vec<ManifestFile>,
}

/// Puts the segments of each date together, `most` events in one at most.
pub fn compact(tail: &Tail, most: usize) -> Result<CompactionReport, JournalError> {
    let mut report = CompactionReport::default();
    compact_kind::<Decision>(tail, most, &mut report)?;
    compact_kind::<Feedback>(tail, most, &mut report)?;
    compact_kind::<RouteChange>(tail, most, &mut report)?;
    Ok(report)
}

fn compact_kind<E: Event>(tail: &Tail, most: usize, report: &mut CompactionReport) -> Result<(), JournalError> {
    let journal = tail.folder();
    let CheckedSegments { damaged, .. } = check_segments::<E>(journal, segments::<E>(journal)?)?;
    report.damaged.extend(damaged.iter().map(ToString::to_string));
    for date in segments::<E>(journal)? {
        let folder = journal.join(E::KIND).join(format!("date={}", date.date));
        if damaged.iter().any(|damaged| damaged.path.starts_with(&folder)) {
            continue;
        }
        let Some(compaction) = Compaction::write::<E>(journal, &date, most)? else { continue };
        let bytes = |paths: &mut dyn Iterator<Item = &String>| -> u64 {
            paths.filter_map(|path| Some(journal.join(path).metadata().ok()?.len())).sum()
        };
        let before = bytes(&mut compaction.replaced.iter());
        Note::Compaction(compaction.clone()).write(journal)?;
        compaction.finish::<E>(tail)?;
        report.compacted.push(Compacted {
            kind: E::KIND,
            events: compaction.written.iter().map(|file| file.events).sum(),
            files: (compaction.replaced.len() as u64, compaction.written.len() as u64),
            bytes: (before, compaction.written.iter().map(|file| file.bytes).sum()),
            date: compaction.date,
        });
    }
    Ok(())
}

impl Compaction {
    /// Writes the files that will take the place of a date's; `None` where they would not be fewer.
    fn write<E: Event>(journal: &Path, date: &DateSegments, most: usize) -> Result<Option<Self>, SegmentError> {
        let counts = date.files.iter().map(|path| count(path)).collect::<Result<Vec<_>, _>>()?;
        let (events, most) = (counts.iter().sum::<u64>(), most.max(1) as u64);
        if events.div_ceil(most).max(1) >= date.files.len() as u64 {
            return Ok(None);
        }
        let replaced: Vec<String> = date.files.iter().map(|path| relative(journal, path)).collect();
        let mut compaction = Self { kind: E::KIND.to_owned(), date: date.date.clone(), replaced, written: Vec::new() };
        let staging = compaction.staging(journal);
        let failed = SegmentError::at(&staging);
        // What an earlier attempt left that did not get as far as its note.
        clear(&staging).map_err(|error| failed(error.to_string()))?;
        let name = compaction.name();
        let mut merged = Merged::<E>::open(&date.files)?.peekable();
        while merged.peek().is_some() {
            let file = format!("{name}-{:04}.parquet", compaction.written.len());
            let mut part = merged.by_ref().take(most as usize);
            let path = format!("{}/.compacting-date={}/{file}", E::KIND, date.date);
            let written = write_file(journal, path, &mut part, &thread::yield_now)?;
            let path = format!("{}/date={}/{file}", E::KIND, date.date);
            compaction.written.push(ManifestFile { path, ..written });
        }
        let written: u64 = compaction.written.iter().map(|file| file.events).sum();
        if written != events {
            return Err(failed(format!("{written} events were written where {events} were counted")));
        }
        Ok(Some(compaction))
    }

    /// A name that follows from the files that are replaced.
    fn name(&self) -> String {
        let mut hash = Sha256::new();
        self.replaced.iter().for_each(|path| hash.update(format!("{path}\n")));
        let digest: String = hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("compact-{digest}")
    }

    fn folder(&self, journal: &Path) -> PathBuf {
        journal.join(&self.kind).join(format!("date={}", self.date))
    }

    fn staging(&self, journal: &Path) -> PathBuf {
        journal.join(&self.kind).join(format!(".compacting-date={}", self.date))
    }

    /// Does what was noted, from the first step, or from wherever it was interrupted.
    pub fn finish<E: Event>(&self, tail: &Tail) -> Result<(), JournalError> {
        let journal = tail.folder();
        self.unlist::<E>(journal)?;
        self.change_places(journal)?;
        self.list::<E>(journal)?;
        let written = self.written.iter();
        let written = written.map(|file| SegmentFile { path: file.path.clone(), events: file.events });
        tail.write(|store| store.replace_files::<E>(&self.replaced, &written.clone().collect::<Vec<_>>()))?;
        self.clear(journal)?;
        Ok(Note::done(journal)?)
    }

    /// Whether the written files stand where the date's files are looked for.
    fn in_place(&self, journal: &Path) -> bool {
        self.written.first().is_none_or(|file| journal.join(&file.path).exists())
    }

    /// Manifests no longer list the files that will go: no reader takes them for missing.
    fn unlist<E: Event>(&self, journal: &Path) -> Result<(), SegmentError> {
        unlist::<E>(journal, &self.replaced.iter().map(String::as_str).collect())
    }

    fn change_places(&self, journal: &Path) -> Result<(), SegmentError> {
        let (folder, staging) = (self.folder(journal), self.staging(journal));
        if self.in_place(journal) {
            return Ok(());
        }
        let failed = SegmentError::at(&folder);
        renameat_with(CWD, &staging, CWD, &folder, RenameFlags::EXCHANGE).map_err(|error| {
            failed(format!(
                "it and {} cannot change places, which this file system may not do: {error}",
                staging.display()
            ))
        })?;
        let kind = journal.join(&self.kind);
        sync_folder(&kind).map_err(|error| failed(error.to_string()))
    }

    fn list<E: Event>(&self, journal: &Path) -> Result<(), SegmentError> {
        self.written.iter().try_for_each(|file| list::<E>(journal, file.clone()))
    }

    /// Removes the files that were replaced; what another writer put beside them meanwhile is kept.
    fn clear(&self, journal: &Path) -> Result<(), SegmentError> {
        let (folder, staging) = (self.folder(journal), self.staging(journal));
        let failed = |error: io::Error| SegmentError::at(&staging)(error.to_string());
        if !staging.exists() {
            return Ok(());
        }
        let replaced: HashSet<&str> = self.replaced.iter().filter_map(|path| path.rsplit('/').next()).collect();
        for entry in staging.read_dir().map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if !name.starts_with('.') && !replaced.contains(name.as_ref()) {
                fs::rename(entry.path(), folder.join(name.as_ref())).map_err(failed)?;
            }
        }
        clear(&staging).map_err(failed)
    }
}

fn clear(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl fmt::Display for CompactionReport {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(
            formatter,
            "{:10} {:10} {:>10} {:>7} {:>7} {:>13} {:>13}",
            "kind", "date", "events", "files", "now", "bytes", "now"
        )?;
        for Compacted { kind, date, events, files, bytes } in &self.compacted {
            write!(
                formatter,
                "\n{kind:10} {date:10} {events:>10} {:>7} {:>7} {:>13} {:>13}",
                files.0, files.1, bytes.0, bytes.1
            )?;
        }
        if self.compacted.is_empty() {
            write!(formatter, "\nnothing to put together")?;
        }
        self.damaged.iter().try_for_each(|damaged| write!(formatter, "\n{damaged}"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use chrono::DateTime;

    use super::*;
    use crate::journal::{JournalSettings, write_segment};

    fn feedback(index: i64) -> Feedback {
        let time = DateTime::from_timestamp(1_767_225_600 + index * 600, 0).unwrap();
        Feedback {
            feedback_id: format!("f-{index:05}"),
            decision_id: format!("d-{index}"),
            time,
            occurred: time,
            source: "service".to_owned(),
            event: "click".to_owned(),
            value: index as f64,
            item: None,
            position: None,
        }
    }

    /// 30 segments with 300 events of three dates between them, and one event that stands in two of them.
    fn fill(journal: &Path, name: &str) {
        for part in 0..30 {
            let mut events: Vec<Feedback> = (0..10).map(|index| feedback(index * 30 + part)).collect();
            events.extend((part == 7).then(|| feedback(8)));
            write_segment(journal, &format!("{name}-{part:02}"), &events).unwrap();
        }
    }

    fn read(journal: &Path) -> Result<Vec<Feedback>, SegmentError> {
        let mut events = Vec::new();
        for date in segments::<Feedback>(journal)? {
            for event in Merged::<Feedback>::open(&date.files)? {
                events.push(event?);
            }
        }
        Ok(events)
    }

    fn open(journal: &Path) -> Tail {
        Tail::open(&JournalSettings { folder: journal.to_owned(), ..JournalSettings::default() }).unwrap()
    }

    /// Dies after each step in turn; the next opening finishes.
    #[test]
    fn a_compaction_that_dies_at_any_step_loses_and_doubles_nothing() {
        let place = tempfile::tempdir().unwrap();
        let reference = place.path().join("reference");
        fill(&reference, "a");
        let expected = read(&reference).unwrap();
        assert_eq!(expected.len(), 301);
        for steps in 0..=4 {
            let journal = place.path().join(steps.to_string());
            fill(&journal, "a");
            let tail = open(&journal);
            let date = &segments::<Feedback>(&journal).unwrap()[1];
            let compaction = Compaction::write::<Feedback>(&journal, date, 100).unwrap().unwrap();
            assert!(compaction.written.len() == 2 && compaction.replaced.len() == 30, "{compaction:?}");
            assert_eq!(read(&journal).unwrap(), expected, "before the note nothing has happened");
            if steps > 0 {
                Note::Compaction(compaction.clone()).write(&journal).unwrap();
            }
            let step = |number: usize, step: &dyn Fn() -> Result<(), SegmentError>| {
                if steps > number {
                    step().unwrap();
                    assert_eq!(read(&journal).unwrap(), expected, "after step {number}");
                    let checked = check_segments::<Feedback>(&journal, segments::<Feedback>(&journal).unwrap());
                    assert_eq!(checked.unwrap().damaged, [], "after step {number}");
                }
            };
            step(1, &|| compaction.unlist::<Feedback>(&journal));
            step(2, &|| compaction.change_places(&journal));
            step(3, &|| compaction.list::<Feedback>(&journal));
            // Another writer put a segment there just before the folders changed places.
            if steps > 3 {
                let late = write_segment(&place.path().join("late"), "late", &[feedback(200)]).unwrap();
                let name = "feedback/.compacting-date=2026-01-02/late.parquet";
                fs::copy(place.path().join("late").join(&late[0].path), journal.join(name)).unwrap();
            }
            drop(tail);
            let tail = open(&journal);
            super::super::recover(&tail).unwrap();
            compact(&tail, 100).unwrap();
            let mut found = read(&journal).unwrap();
            if steps > 3 {
                let late = found.iter().position(|event| event.feedback_id == "f-00200").unwrap();
                assert_eq!(found.remove(late), feedback(200), "what came late is kept");
            }
            assert_eq!(found, expected, "after {steps} steps");
            assert_eq!(Note::read(&journal).unwrap(), None);
            let staging = fs::read_dir(journal.join("feedback")).unwrap().map(|entry| entry.unwrap().file_name());
            assert!(staging.into_iter().all(|name| !name.to_string_lossy().starts_with('.')));
            let checked = check_segments::<Feedback>(&journal, segments::<Feedback>(&journal).unwrap()).unwrap();
            assert_eq!((checked.damaged, checked.unlisted), (Vec::new(), 0));
            assert!(checked.sound.iter().all(|date| date.files.len() <= 3), "{:?}", checked.sound);
        }
    }

    #[test]
    fn whoever_reads_meanwhile_sees_every_event_and_none_twice() {
        let place = tempfile::tempdir().unwrap();
        let journal = place.path();
        fill(journal, "0");
        let expected: HashSet<String> = read(journal).unwrap().into_iter().map(|event| event.feedback_id).collect();
        let tail = open(journal);
        let done = AtomicBool::new(false);
        let (readings, missed) = std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let (mut readings, mut missed) = (0, 0);
                while !done.load(Ordering::Relaxed) || readings == 0 {
                    // Files that went after they were listed are an error that says so, and not a gap.
                    let Ok(events) = read(journal) else {
                        missed += 1;
                        continue;
                    };
                    let ids: HashSet<String> = events.iter().map(|event| event.feedback_id.clone()).collect();
                    assert_eq!((ids.len(), events.len()), (300, 301), "the one that stands twice from the beginning");
                    assert_eq!(ids, expected);
                    readings += 1;
                }
                (readings, missed)
            });
            // Each round makes the files fewer.
            for most in [12, 16, 20, 30, 40, 60, 80, 100, 200, 1000] {
                compact(&tail, most).unwrap();
            }
            done.store(true, Ordering::Relaxed);
            reader.join().unwrap()
        });
        assert!(readings > 0, "{readings} readings, {missed} had to be repeated");
        let files: usize = segments::<Feedback>(journal).unwrap().iter().map(|date| date.files.len()).sum();
        assert_eq!(files, 3);
    }
}
