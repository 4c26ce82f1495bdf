//! Learning by interaction: a learner in a simulated environment, from settings to a policy bundle.

mod actor;
mod bundle;
mod evaluate;
mod run;
mod settings;
mod trial;

pub use bundle::Learned;
pub use run::{Figures, Observer, OnlineError, OnlineOutcome, Unobserved, check_online, train_online};
pub use settings::{EvaluationSettings, ExplorationSchedule, OnlineAlgorithm, OnlineSettings};
pub use trial::OnlineTrial;
