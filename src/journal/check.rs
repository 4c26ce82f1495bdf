//! Whether a journal is as it was written.

use std::fmt;
use std::path::Path;

use serde::Serialize;
use slated_contract::event::{
    CheckedSegments, DamagedSegment, Decision, Event, Feedback, RouteChange, SegmentError, check_segments, segments,
};

use super::{JournalError, LostEvents, lost_events};

/// What checking found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct JournalCheck {
    /// Segment files that are as they were written.
    pub sound: u64,
    /// Of these, those that no manifest lists; of them it is only known that they can be opened.
    pub unlisted: u64,
    /// Segment files that are damaged or missing.
    pub damaged: Vec<DamagedSegment>,
    /// What was lost from the tail, by all starts of the service so far.
    pub lost: Vec<LostEvents>,
}

impl JournalCheck {
    /// Whether nothing is damaged and nothing was lost.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.damaged.is_empty() && self.lost.is_empty()
    }

    fn add<E: Event>(&mut self, journal: &Path) -> Result<(), SegmentError> {
        let CheckedSegments { sound, damaged, unlisted } = check_segments::<E>(journal, segments::<E>(journal)?)?;
        self.sound += sound.iter().map(|date| date.files.len() as u64).sum::<u64>();
        self.unlisted += unlisted;
        self.damaged.extend(damaged);
        Ok(())
    }
}

/// Reads every byte of the closed segments of a journal and compares them with their manifests. A service may have the
/// journal open meanwhile.
///
/// # Errors
/// Folders and manifests that cannot be read; damage is no error.
pub fn check(journal: &Path) -> Result<JournalCheck, JournalError> {
    let mut check = JournalCheck { lost: lost_events(journal)?, ..JournalCheck::default() };
    check.add::<Decision>(journal)?;
    check.add::<Feedback>(journal)?;
    check.add::<RouteChange>(journal)?;
    Ok(check)
}

impl fmt::Display for JournalCheck {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let Self { sound, unlisted, damaged, lost } = self;
        write!(formatter, "segments             {sound:>10}  as they were written")?;
        if *unlisted > 0 {
            write!(formatter, "; {unlisted} of them without a manifest, so unchecked")?;
        }
        write!(formatter, "\n  damaged            {:>10}", damaged.len())?;
        for damaged in damaged {
            write!(formatter, "\n{damaged}")?;
        }
        for LostEvents { found, kind, first, last, events } in lost {
            write!(formatter, "\nlost from the tail: {events} {kind}, numbers {first} to {last}, found {found}")?;
        }
        Ok(())
    }
}
