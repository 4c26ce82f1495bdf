//! Learning by interaction: a learner in a simulated environment, from settings to a policy bundle.

mod actor;
mod bundle;
mod evaluate;
mod run;
mod settings;
mod trial;

pub(crate) use actor::seed_of;
pub use bundle::Learned;
pub(crate) use bundle::{Recipe, bundle, simulated_return};
pub(crate) use evaluate::Measure;
pub(crate) use run::RunningMean;
pub use run::{Figures, Observer, OnlineError, OnlineOutcome, Unobserved, check_online, train_online};
pub(crate) use settings::preset_or_table;
pub use settings::{EvaluationSettings, ExplorationSchedule, OnlineAlgorithm, OnlineSettings};
pub use trial::OnlineTrial;
