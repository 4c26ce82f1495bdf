//! Estimators for episodes of several decisions: what a policy would earn over a whole session.

mod doubly_robust;
mod fitted_q;
mod fixed_point;
mod importance;
mod log;
mod marginalised;
mod random_features;

pub use doubly_robust::{SequentialDoublyRobust, WeightedDoublyRobust};
pub use fitted_q::FittedQ;
pub use importance::{PerDecisionIs, TrajectoryIs, WeightedPerDecisionIs, WeightedTrajectoryIs};
pub use log::{Episode, SequenceLog, Step};
pub use marginalised::{DoubleReinforcement, StateMarginalisedIs};
pub use random_features::RandomFeatures;
