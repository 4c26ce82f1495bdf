//! One step of a session, or several steps taken together.

use std::sync::Arc;

use crate::rollout::Observation;

/// From one decision to the state `n` steps later.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    /// What the policy saw.
    pub observation: Arc<Observation>,
    /// The slate it showed, by position: indices of candidates.
    pub slate: Vec<usize>,
    /// The position of the item that the user consumed, if any.
    pub consumed: Option<usize>,
    /// `r_t + g r_{t+1} + ... + g^(n-1) r_{t+n-1}`, discounted by g.
    pub reward: f32,
    /// `g^n`; 0 where the session ended within the n steps, and then nothing follows.
    pub discount: f32,
    /// What the policy saw n steps later.
    pub next: Arc<Observation>,
    /// The slate it then showed; empty where the session had ended or was cut short.
    pub next_slate: Vec<usize>,
}

impl Transition {
    /// The candidate that the user consumed.
    #[must_use]
    pub fn taken(&self) -> Option<usize> {
        self.consumed.map(|position| self.slate[position])
    }
}
