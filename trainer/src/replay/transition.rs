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
    /// What else a log says; absent where the transition is of no log.
    pub logged: Option<Arc<Logged>>,
}

/// What a log says of a slate beside what followed it.
#[derive(Debug, Clone, PartialEq)]
pub struct Logged {
    /// The reward of each item, by position.
    pub rewards: Vec<f32>,
    /// How likely it was shown; absent where the propensities say nothing of what was shown.
    pub propensity: Option<Propensity>,
    /// Which half of the users this one is of, 0 or 1: for models that may not predict what they have learned from.
    pub half: u8,
}

/// How likely the policy that decided was to show what it showed.
#[derive(Debug, Clone, PartialEq)]
pub struct Propensity {
    /// The probability of the whole slate, above 0.
    pub slate: f32,
    /// The probability that the item stands at its position, whatever stands elsewhere; above 0, by position.
    pub marginal: Vec<f32>,
}

impl Transition {
    /// The reward of the item at a position: its own where the log has it, else that of the slate for the item consumed.
    #[must_use]
    pub fn earned(&self, position: usize) -> f32 {
        match &self.logged {
            Some(logged) => logged.rewards[position],
            None if self.consumed == Some(position) => self.reward,
            None => 0.0,
        }
    }

    /// How likely it was shown, where that is known.
    #[must_use]
    pub fn propensity(&self) -> Option<&Propensity> {
        self.logged.as_ref().and_then(|logged| logged.propensity.as_ref())
    }

    /// The candidate that the user consumed.
    #[must_use]
    pub fn taken(&self) -> Option<usize> {
        self.consumed.map(|position| self.slate[position])
    }
}
