//! Estimators for decisions of a single action.

mod direct;
mod doubly_robust;
mod embedding;
mod importance;
mod log;

pub use direct::DirectMethod;
pub use doubly_robust::{
    DoublyRobust, OptimisticShrinkage, SelfNormalisedDoublyRobust, SubGaussianDoublyRobust, SwitchDoublyRobust,
};
pub use embedding::{MarginalisedIps, SelfNormalisedMarginalisedIps, embedding_probability};
pub use importance::{ClippedIps, Ips, SelfNormalisedIps, SubGaussianIps};
pub use log::{SingleLog, SingleRound};
