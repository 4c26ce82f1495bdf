//! What the Azure AI Personalizer's clients expect, in slated's terms: free JSON as features, service configuration and
//! learning settings. The routes are in `api::compat`.

mod configuration;
mod duration;
mod features;
mod learning;
mod settings;
mod slots;
mod state;
mod versions;

pub use configuration::{ConfigurationError, LearningMode, RewardAggregation, ServiceConfiguration};
pub use features::{FeatureError, Mapped, Mapping};
pub use learning::{ArgumentError, LearningSettings, algorithm_of};
pub use settings::{CompatSettings, UnknownEvents};
pub use slots::later_slots_allow;
pub use state::{Compat, CompatError, KEPT, Kept};
pub use versions::{Begin, begin, model_of};

/// The type of the feedback events that rewards are kept as.
pub const REWARD: &str = "reward";
