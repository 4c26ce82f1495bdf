//! What can be wrong with an environment or with the slate it is shown.

use thiserror::Error;

/// An environment that cannot be made, or a slate that cannot be shown.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum EnvironmentError {
    /// No environment of this name.
    #[error("there is no environment `{name}`; there are: {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names that are.
        known: String,
    },
    /// A setting outside its range.
    #[error("environment setting `{key}` is {value}, {allowed}")]
    Setting {
        /// The setting.
        key: &'static str,
        /// Its value, as text.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// A slate of another size than the environment shows.
    #[error("a slate of {given} items was shown, the environment shows {expected}")]
    Size {
        /// The size of the slate.
        given: usize,
        /// The environment's slate size.
        expected: usize,
    },
    /// A slate that names a candidate twice, or one that does not exist.
    #[error("the slate names candidate {candidate}, which is not one of the {candidates} candidates or stands twice")]
    Item {
        /// The index.
        candidate: usize,
        /// How many candidates there are.
        candidates: usize,
    },
    /// A step after the end of the episode.
    #[error("the episode is over; reset the environment")]
    Over,
}
