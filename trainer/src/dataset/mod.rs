//! From the journal to rounds: decisions joined with what came of them.

mod decisions;
mod infer;
mod join;
mod mirror;
mod query;
mod reader;
mod reward;
mod scan;
mod sound;
mod summary;

pub use infer::{InferError, SchemaInference};
pub use join::{Joined, Outcome, Outcomes};
pub use mirror::{MirrorError, RemoteJournal, is_url, local};
pub use query::{JournalQuery, QueryError, Rows, TABLES};
pub use reader::{Dataset, DatasetError, DatasetSettings, Round};
pub use sound::sound_segments;
pub use summary::{DatasetSummary, RoundDigest};
