//! The direct method: a reward model takes the place of the evaluation policy's rewards.

use super::super::{Contributions, Estimator, OpeError};
use super::SingleLog;

/// The direct method: `mean(sum_a pi(a | x) q(x, a))`.
///
/// Needs no propensities and has little variance, and is as biased as the reward model: its interval says how sure the
/// average is, not how true (Beygelzimer & Langford 2009, arXiv:0812.4044).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DirectMethod;

impl Estimator<SingleLog> for DirectMethod {
    fn name(&self) -> String {
        "dm".to_owned()
    }

    fn contributions(&self, log: &SingleLog) -> Result<Contributions, OpeError> {
        let predicted = log.predicted(&self.name())?;
        Ok(Contributions::mean(predicted.iter().map(|(_, expected)| *expected).collect()))
    }
}
