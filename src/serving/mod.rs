//! From a request to a slate: loaded policies, the model runtime, and the recommender on top of them.

mod engine;
pub mod library;
mod model;
mod policy;
mod recommender;
mod registry;
mod replay;

pub use engine::{Engine, EngineError, EngineSettings, Query};
pub use model::{Model, ModelError};
pub use policy::{LoadError, LoadedPolicy};
pub use recommender::{Ask, Pick, RecommendError, Recommender};
pub use registry::{PolicyState, PolicyStatus, Registry, RegistryError};
pub use replay::{ReplayError, ReplayErrorKind, Rescored};
