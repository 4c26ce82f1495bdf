//! A slate that nothing was drawn for.

use super::{DrawnSlate, Propensities};

impl DrawnSlate {
    /// A slate that was shown for certain: every probability is 1.
    #[must_use]
    pub fn certain(items: Vec<usize>) -> Self {
        let ones = vec![1.0; items.len()];
        Self {
            items,
            propensities: Propensities { cascade: ones.clone(), marginal: ones, draws: None, marginal_draws: None },
        }
    }
}
