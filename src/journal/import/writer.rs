//! Rows of another system's log, checked and written into closed segments.

use std::collections::HashMap;
use std::path::Path;

use slated_contract::event::{Decision, Feedback, SegmentError};
use xxhash_rust::xxh3::xxh3_128;

use super::FileReport;
use crate::journal::exchange::Check;
use crate::journal::write_segment;

/// Events of one kind in one segment.
const SEGMENT: usize = 5000;

/// What one row of a log says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Logged {
    /// What was shown.
    pub decisions: Vec<Decision>,
    /// What came of it.
    pub feedback: Vec<Feedback>,
}

/// Writes what the rows of one file say. The same file gives the same names and bytes, so importing it again changes
/// nothing; a service may have the journal open meanwhile.
pub struct LogWriter<'a> {
    journal: &'a Path,
    digest: &'a str,
    waiting: Logged,
    segments: usize,
    /// The line of each decision so far, by the hash of its id.
    lines: HashMap<u128, u64>,
    report: FileReport,
    advance: &'a mut dyn FnMut(),
}

impl<'a> LogWriter<'a> {
    /// Begins with the file that the report calls `file`. `digest`, in hex, is that of its content and of whatever else
    /// decides what becomes of its rows. `advance` is told of every row.
    pub fn new(journal: &'a Path, file: String, digest: &'a str, advance: &'a mut dyn FnMut()) -> Self {
        let report = FileReport { file, ..FileReport::default() };
        Self { journal, digest, waiting: Logged::default(), segments: 0, lines: HashMap::new(), report, advance }
    }

    /// How many rows were added so far.
    pub const fn rows(&self) -> u64 {
        self.report.rows
    }

    /// Adds a row: what it says, or nothing where it is to be passed over, or why it is refused. A row whose events the
    /// journal cannot hold, or whose decision was on an earlier line, is refused as well, with all it says.
    ///
    /// # Errors
    /// A journal that cannot be written.
    pub fn add(&mut self, line: u64, row: Result<Option<Logged>, String>) -> Result<(), SegmentError> {
        self.report.rows += 1;
        (self.advance)();
        match row.and_then(|row| row.map(|logged| self.checked(line, logged)).transpose()) {
            Ok(Some(logged)) => {
                self.report.decisions += logged.decisions.len() as u64;
                self.report.feedback += logged.feedback.len() as u64;
                self.waiting.decisions.extend(logged.decisions);
                self.waiting.feedback.extend(logged.feedback);
            }
            Ok(None) => self.report.passed_over += 1,
            Err(reason) => self.report.refuse(line, reason),
        }
        let full = self.waiting.decisions.len() >= SEGMENT || self.waiting.feedback.len() >= SEGMENT;
        if full { self.write() } else { Ok(()) }
    }

    fn checked(&mut self, line: u64, logged: Logged) -> Result<Logged, String> {
        logged.decisions.iter().try_for_each(Check::check)?;
        logged.feedback.iter().try_for_each(Check::check)?;
        let key = |decision: &Decision| xxh3_128(decision.decision_id.as_bytes());
        for decision in &logged.decisions {
            if let Some(before) = self.lines.get(&key(decision)) {
                return Err(format!("decision `{}` is on line {before} already", decision.decision_id));
            }
        }
        self.lines.extend(logged.decisions.iter().map(|decision| (key(decision), line)));
        Ok(logged)
    }

    fn write(&mut self) -> Result<(), SegmentError> {
        let name = format!("import-{:.16}-{:04}", self.digest, self.segments);
        self.segments += 1;
        write_segment(self.journal, &name, &self.waiting.decisions)?;
        write_segment(self.journal, &name, &self.waiting.feedback)?;
        self.waiting = Logged::default();
        Ok(())
    }

    /// Writes what is left; what became of every row.
    ///
    /// # Errors
    /// A journal that cannot be written.
    pub fn finish(mut self) -> Result<FileReport, SegmentError> {
        self.write()?;
        Ok(self.report)
    }
}
