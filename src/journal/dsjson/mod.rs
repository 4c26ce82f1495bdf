//! Vowpal Wabbit's logs, dsjson: a line is a request with what was chosen, with which probability, and what came of it.
//!
//! Three problems have lines of their own. A **contextual bandit's** line is a decision with a slate of one. In a
//! **conditional contextual bandit's** each slot shows one of the actions that those before it have left: each becomes a
//! decision of one page. In the **slates** problem the slots' actions are apart, and the reward is that of all together: a
//! slate under rules that keep each position to its own candidates.

mod context;
mod export;
mod import;
mod line;
mod page;
mod write;

pub use export::{DsjsonExport, DsjsonReport, export};
pub use import::{DsjsonSettings, import};

/// What wrote the imported events.
const SOURCE: &str = "import:dsjson";
/// The event type of a line's reward, the negated `_label_cost`.
const CHOSEN: &str = "reward";
/// The event type of a reward that came too late to be joined; no learner of Vowpal Wabbit's sees it.
const DANGLING: &str = "dangling";
