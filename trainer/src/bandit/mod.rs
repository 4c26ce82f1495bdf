//! Bandits: of one reward for one item shown, learned from the journal in one pass. One file an algorithm, with its
//! settings, its learner and its model.
//!
//! | file | what it learns |
//! |---|---|
//! | `epsilon_greedy`, `ucb1`, `bernoulli_thompson` | a row of a table for each item |
//! | `linucb`, `linear_thompson`, `square_cb`, `ensemble` | ridge regression over [`FeatureMap`] |
//! | `neural_linear` | a network, with a linear posterior over its last layer |

mod bernoulli_thompson;
mod beta;
mod ensemble;
mod epsilon_greedy;
mod features;
mod learner;
mod linear;
mod linear_learner;
mod linear_thompson;
mod linucb;
mod neural_linear;
mod reservoir;
mod square_cb;
mod state;
mod table;
mod ucb1;

pub use bernoulli_thompson::{BernoulliThompson, BernoulliThompsonSettings};
pub use ensemble::{BootstrapEnsemble, BootstrapEnsembleSettings};
pub use epsilon_greedy::EpsilonGreedySettings;
pub use features::{FeatureMap, Interaction};
pub use learner::{BanditError, BanditLearner, BanditModel, BanditSettings, Example, Widths};
pub use linear::{LinearError, LinearPosterior, LinearStatistics};
pub use linear_thompson::{LinearThompson, LinearThompsonSettings};
pub use linucb::{LinUcb, LinUcbSettings};
pub use neural_linear::{NeuralLinear, NeuralLinearSettings};
pub use square_cb::{LinearMean, SquareCbSettings};
pub use state::{LearnerNotes, LearnerState, StateError};
pub use table::TableScores;
pub use ucb1::Ucb1Settings;
