//! Off-policy evaluation: against the Open Bandit Pipeline where it has the estimator, against a known truth elsewhere.
//!
//! Where a test says "population", the log holds every possible row as often as its probability says, so that a mean over
//! the log is an expectation, and an unbiased estimator gives the truth to rounding.
#![allow(clippy::needless_range_loop, reason = "indices name states and actions, in several tables at once")]

mod gate;
mod input;
mod intervals;
mod properties;
mod reference;
mod reward_model;
mod sequence;
mod single;
mod slate;
mod slope;
mod world;
