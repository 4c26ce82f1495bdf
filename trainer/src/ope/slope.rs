//! SLOPE: choosing how much to shrink, from the data alone.

use super::single::{ClippedIps, OptimisticShrinkage, SubGaussianDoublyRobust, SubGaussianIps, SwitchDoublyRobust};
use super::{Contributions, Estimate, Estimator, IntervalMethod, IntervalSettings, Log, OpeError, estimate};

/// Chooses among estimators of one family that trade bias for variance, and estimates with the choice.
///
/// Ordered from the widest interval to the narrowest, so from the least bias to the most, the last one is taken that
/// still agrees with all before it: `|V_i - V_j| <= width_i + (sqrt(6) - 1) width_j` for all j < i. Its error is within
/// a constant of the best one's (Su, Srinath & Krishnamurthy 2020, arXiv:2006.10460). The widths are those of Student's t.
///
/// The interval is that of the chosen estimator and knows nothing of the choice or of the bias that remains.
#[derive(Debug, Clone, PartialEq)]
pub struct Slope<E> {
    /// The family's name.
    pub family: &'static str,
    /// Its members, in any order.
    pub members: Vec<E>,
    /// The confidence of the widths that are compared, such as 0.95.
    pub confidence: f64,
}

/// Thresholds of weights from 1 to 4,096 by factors of 2, and none.
fn thresholds() -> impl Iterator<Item = f64> {
    (0..=12).map(|power| 2_f64.powi(power)).chain([f64::INFINITY])
}

impl Slope<ClippedIps> {
    /// Clipped IPS with thresholds from 1 to 4,096, and unclipped.
    #[must_use]
    pub fn clipped_ips() -> Self {
        let members = thresholds().map(|threshold| ClippedIps { threshold }).collect();
        Self { family: "clipped_ips", members, confidence: 0.95 }
    }
}

impl Slope<SubGaussianIps> {
    /// Sub-Gaussian IPS with weights bounded by 1 to 4,096, and IPS.
    #[must_use]
    pub fn sub_gaussian_ips() -> Self {
        let members = thresholds().map(|bound| SubGaussianIps { lambda: 1.0 / bound }).collect();
        Self { family: "sub_gaussian_ips", members, confidence: 0.95 }
    }
}

impl Slope<SwitchDoublyRobust> {
    /// Switch with thresholds from 1 to 4,096, and doubly robust.
    #[must_use]
    pub fn switch_dr() -> Self {
        let members = thresholds().map(|threshold| SwitchDoublyRobust { threshold }).collect();
        Self { family: "switch_dr", members, confidence: 0.95 }
    }
}

impl Slope<OptimisticShrinkage> {
    /// Optimistic shrinkage whose weights are halved at weights from 1 to 4,096, and doubly robust.
    #[must_use]
    pub fn optimistic_shrinkage() -> Self {
        let members = thresholds().map(|threshold| OptimisticShrinkage { lambda: threshold * threshold }).collect();
        Self { family: "dr_os", members, confidence: 0.95 }
    }
}

impl Slope<SubGaussianDoublyRobust> {
    /// Sub-Gaussian doubly robust with weights bounded by 1 to 4,096, and doubly robust.
    #[must_use]
    pub fn sub_gaussian_dr() -> Self {
        let members = thresholds().map(|bound| SubGaussianDoublyRobust { lambda: 1.0 / bound }).collect();
        Self { family: "sub_gaussian_dr", members, confidence: 0.95 }
    }
}

impl<E> Slope<E> {
    /// The member that is chosen for a log, with its contributions.
    ///
    /// # Errors
    /// Those of the members; a family without any; a confidence outside 0 to 1.
    pub fn choose<L: Log>(&self, log: &L) -> Result<(&E, Contributions), OpeError>
    where
        E: Estimator<L>,
    {
        let interval = IntervalSettings { confidence: self.confidence, method: IntervalMethod::StudentT };
        let mut members = Vec::with_capacity(self.members.len());
        for member in &self.members {
            let contributions = member.contributions(log)?;
            let estimate = estimate(member.name(), &contributions, log, &interval)?;
            members.push((estimate.interval.upper - estimate.value, estimate.value, member, contributions));
        }
        members.sort_by(|(a, ..), (b, ..)| b.total_cmp(a));
        let factor = 6_f64.sqrt() - 1.0;
        let agrees = |&at: &usize| {
            let (width, value, ..) = members[at];
            members[..at].iter().all(|(wider, other, ..)| (value - other).abs() <= width + factor * wider)
        };
        let chosen = (0..members.len()).take_while(agrees).last();
        let (_, _, member, contributions) =
            chosen.map(|at| members.swap_remove(at)).ok_or(OpeError::Empty("estimator"))?;
        Ok((member, contributions))
    }
}

impl<L: Log, E: Estimator<L>> Estimator<L> for Slope<E> {
    fn name(&self) -> String {
        format!("slope({})", self.family)
    }

    fn contributions(&self, log: &L) -> Result<Contributions, OpeError> {
        Ok(self.choose(log)?.1)
    }

    /// As for any estimator; the name says which member was chosen.
    fn estimate(&self, log: &L, interval: &IntervalSettings) -> Result<Estimate, OpeError> {
        let (member, contributions) = self.choose(log)?;
        estimate(format!("slope: {}", member.name()), &contributions, log, interval)
    }
}
