//! Drift: whether what a policy meets today is still what it learned from.
//!
//! Two windows of the same log are compared: how raw features are distributed ([`FeatureDrift`]), with which propensities
//! slates were drawn ([`PropensityDrift`]), and what the same version of a policy earned in either ([`RewardDrift`]).

mod distance;
mod features;
mod propensities;
mod rewards;
mod settings;
mod window;

pub use distance::{jensen_shannon, kolmogorov_smirnov, population_stability};
pub use features::{FeatureDrift, FeaturePart};
pub use propensities::{PropensityDrift, PropensityFigures};
pub use rewards::{RewardDrift, RewardFigures};
pub use settings::DriftSettings;
pub use window::{Drift, DriftWindow, compare};
