//! The segments that can be relied upon.

use std::path::Path;

use slated_contract::event::{CheckedSegments, DateSegments, Event, SegmentError, check_segments, segments};

/// The segments of a kind, from a date `YYYY-MM-DD` on, that are as they were written, and how many are not. Each of
/// those is named in the log.
///
/// # Errors
/// A folder or a manifest that cannot be read.
pub fn sound_segments<E: Event>(journal: &Path, from: Option<&str>) -> Result<(Vec<DateSegments>, u64), SegmentError> {
    let mut dates = segments::<E>(journal)?;
    dates.retain(|segments| from.is_none_or(|from| segments.date.as_str() >= from));
    let CheckedSegments { sound, damaged, .. } = check_segments::<E>(journal, dates)?;
    damaged.iter().for_each(|damaged| tracing::warn!("{damaged}"));
    Ok((sound, damaged.len() as u64))
}
