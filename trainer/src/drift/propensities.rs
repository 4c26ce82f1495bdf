//! With which probabilities slates were drawn: what a log can say of other policies.

use serde::{Deserialize, Serialize};
use slated_contract::event::Decision;

/// The propensities of one window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct PropensityFigures {
    /// Decisions.
    pub decisions: u64,
    /// Of these, those whose propensities say nothing.
    pub not_evaluable: u64,
    /// The least propensity of a slate; 1 where there is none.
    pub least: f64,
    /// The mean.
    pub mean: f64,
    /// The effective sample size, as a share of the decisions, for the policy that shows every candidate alike:
    /// `(sum w)^2 / (n sum w^2)` with `w = 1 / (m p)`, m the candidates and p the propensity of the item on top (Kish 1965).
    /// It falls towards 0 as the log stops exploring.
    pub uniform_share: f64,
}

/// Both windows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct PropensityDrift {
    /// The reference.
    pub reference: PropensityFigures,
    /// Today.
    pub current: PropensityFigures,
}

/// Running sums.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    decisions: u64,
    not_evaluable: u64,
    least: Option<f64>,
    sum: f64,
    weights: f64,
    squares: f64,
}

impl Sums {
    pub fn add(&mut self, decision: &Decision) {
        self.decisions += 1;
        if decision.not_evaluable.is_some() {
            self.not_evaluable += 1;
            return;
        }
        let propensity = decision.propensity;
        self.least = Some(self.least.map_or(propensity, |least| least.min(propensity)));
        self.sum += propensity;
        if let Some(top) = decision.slate.first() {
            let weight = 1.0 / (decision.candidates.len().max(1) as f64 * top.marginal_propensity);
            self.weights += weight;
            self.squares += weight * weight;
        }
    }

    pub fn figures(&self) -> PropensityFigures {
        let evaluable = (self.decisions - self.not_evaluable) as f64;
        let share = if self.squares > 0.0 { self.weights * self.weights / (evaluable * self.squares) } else { 0.0 };
        PropensityFigures {
            decisions: self.decisions,
            not_evaluable: self.not_evaluable,
            least: self.least.unwrap_or(1.0),
            mean: if evaluable > 0.0 { self.sum / evaluable } else { 0.0 },
            uniform_share: share,
        }
    }
}
