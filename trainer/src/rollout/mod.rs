//! Running policies in environments.

mod actor;
mod lane;
mod observer;
mod policy;
mod run;
mod seed;
mod summary;
mod worker;

pub use actor::{Actor, MakeScorer, Model, Part};
pub use lane::{Lane, LaneError, Observation};
pub use observer::{Decided, MakeObserver, Observer, ObserverError};
pub use policy::{Scored, Scorer, ScorerError};
pub use run::{Episode, MakeEnvironment, Rollout, RolloutError};
pub use seed::{decision_seed, episode_seed};
pub use summary::Summary;
