//! What becomes of closed segments: small ones are put together, those of a person who must be forgotten are written
//! without their events, and old ones are removed. Nothing else ever changes a segment.
//!
//! Each change of a file goes in steps, of which the first notes what is about to be done. Whatever the step at which
//! the process dies, doing the noted steps again leads to the same files; opening the journal does that.

mod compact;
mod forget;
mod listing;
mod note;
mod retain;

pub use compact::{Compacted, CompactionReport};
pub use forget::{Forgetting, ForgotEvents, ForgotSegment, ForgottenRecord, forgotten};
pub use retain::{Removed, Retention, RetentionReport};

pub(super) use compact::compact;
pub(super) use forget::forget;
pub(super) use note::recover;
pub(super) use retain::retain;
