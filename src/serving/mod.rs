//! From a request to a slate: loaded policies, the model runtime, and the recommender on top of them.

mod ask;
mod candidates;
mod device;
mod engine;
mod explain;
pub mod library;
mod measures;
mod model;
mod policy;
mod recommender;
mod registry;
mod replay;
mod rules;
mod scorer;
pub mod traffic;

pub use ask::{Ask, RecommendError};
pub use device::{ActiveDevice, Device, DeviceKind};
pub use engine::{Engine, EngineError, EngineSettings, Query};
pub use explain::{ExplainError, Explanation, explain};
pub use model::{Batch, Model, ModelError, Output};
pub use policy::{LoadError, LoadedPolicy};
pub use recommender::{Fallback, Pick, Recommender};
pub use registry::{Chosen, PolicyState, PolicyStatus, Registry, RegistryError, RouteState};
pub use replay::{ReplayError, ReplayErrorKind, Rescored};
pub use rules::{Pin, Rule, RuleError, Rules};
pub use scorer::{BundleScorer, ModelScorer};
