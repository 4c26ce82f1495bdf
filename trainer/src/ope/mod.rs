//! Off-policy evaluation: what a policy would earn, told from the log of another one, with honest uncertainty.
//!
//! A log is filled row by row ([`single::SingleLog`], [`slate::SlateLog`], [`sequence::SequenceLog`]), each row checked
//! as it comes; an [`Estimator`] turns it into [`Contributions`], from which the estimate and every kind of interval
//! follow in one way. [`Diagnostics`] say what the log can say at all.

mod column;
mod contributions;
mod diagnostics;
mod error;
mod estimator;
pub mod gate;
mod interval;
pub mod reward_model;
pub mod sequence;
pub mod single;
pub mod slate;
mod slope;

pub use contributions::Contributions;
pub use diagnostics::{Diagnostics, ReliabilityBin, ReliabilityTest, Support, Weights};
pub use error::OpeError;
pub use estimator::{Estimate, Estimator, Log, estimate};
pub use interval::{Interval, IntervalMethod, IntervalSettings};
pub use slope::Slope;
