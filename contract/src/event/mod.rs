//! What is journalled: decisions, feedback and changes of routes, and their Parquet columns.

mod build;
mod cells;
mod change;
mod columns;
mod conform;
mod decision;
mod feedback;
mod identifier;
mod manifest;
mod merged;
mod rows;
mod segment;
mod version;

pub use change::RouteChange;
pub use columns::{ColumnsError, Event, schema};
pub use decision::{Alternative, Candidate, Decision, Mode, Shown};
pub use feedback::Feedback;
pub use identifier::{
    Identifier, IdentifierError, MAX_IDENTIFIER, check_event_type, check_identifier, deterministic_id,
};
pub use manifest::{
    CheckedSegments, DamagedSegment, Digesting, MANIFESTS, ManifestFile, SegmentManifest, check_segments, digest,
    manifests,
};
pub use merged::Merged;
pub use segment::{Columns, DateSegments, SegmentError, SegmentReader, count, segments};
pub use version::{SCHEMA_KEY, schema_version, segment_version};

/// The version of the journal's columns; written into every segment's metadata.
///
/// Version 2 added to decisions `marginal_draws` and every column after it, version 3 `omitted_features`; segments of all
/// earlier versions still read. Whoever
/// raises it keeps a journal of the version before in `tests/data/journals`.
pub const SCHEMA_VERSION: u32 = 3;
