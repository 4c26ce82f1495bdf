//! Estimators for decisions of a whole slate. A slate's value is the sum of the rewards of its items.

mod cascade;
mod importance;
mod log;
mod moments;

pub use cascade::CascadeDoublyRobust;
pub use importance::{
    IndependentIps, PseudoInverse, RewardInteractionIps, SelfNormalisedIndependentIps, SelfNormalisedPseudoInverse,
    SelfNormalisedRewardInteractionIps, SelfNormalisedStandardIps, StandardIps,
};
pub use log::{Dependence, SlateLog, SlatePredictions, SlateRound};
pub use moments::{SlateMoments, independent_positions_weight};
