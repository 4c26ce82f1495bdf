//! The gate: whether the evidence supports a policy over the one it would replace.

mod evidence;
mod html;
mod judge;
mod table;

pub use evidence::{Evidence, Pair};
pub use judge::{GateSettings, Replay, judge};
pub use table::{Comparison, Figure, GateTest, TestOutcome, Verdict};
