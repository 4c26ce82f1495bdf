//! What the gate looks at: the same rows of a log, seen with each of both policies in mind.

use super::super::sequence::{DoubleReinforcement, FittedQ, PerDecisionIs, SequenceLog, WeightedPerDecisionIs};
use super::super::single::{DirectMethod, DoublyRobust, Ips, SelfNormalisedDoublyRobust, SelfNormalisedIps, SingleLog};
use super::super::slate::{
    CascadeDoublyRobust, Dependence, IndependentIps, RewardInteractionIps, SelfNormalisedIndependentIps,
    SelfNormalisedRewardInteractionIps, SelfNormalisedStandardIps, SlateLog, StandardIps,
};
use super::super::{Contributions, Diagnostics, Estimator, Log, OpeError, Slope};

/// A log seen with the candidate in mind, and with the baseline.
#[derive(Debug, Clone, Default)]
pub struct Pair<L> {
    /// For the candidate.
    pub candidate: L,
    /// For the baseline: the same rows in the same order. `None` where the baseline is whatever was logged, whose value
    /// is the mean reward.
    pub baseline: Option<L>,
}

/// Decisions of single actions, or of slates.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "there is one of them in a run")]
pub enum Evidence {
    /// Every decision shows one item.
    Single(Pair<SingleLog>),
    /// Decisions show several.
    Slates(Pair<SlateLog>),
    /// Whole sessions, whose value is the return: what a decision leads to counts.
    Sessions(Pair<SequenceLog>),
}

/// The ridge of the linear models of sessions, on sums over their steps: what of a value is left to many features that are
/// nearly the same must not be shrunk away.
const RIDGE: f64 = 0.01;
/// The parts of a log by which a session's value is told by models that have not seen its user.
const FOLDS: usize = 3;

/// A log that the gate can judge.
pub(super) trait Judged: Log + Sized + 'static {
    /// The estimators to show; the first decides.
    fn estimators(dependence: Dependence, candidate: &Self) -> Vec<Box<dyn Estimator<Self>>>;

    /// The value of whatever was logged.
    fn logged(&self) -> Contributions;

    /// What the log can say, by the weights that the deciding estimator uses.
    fn diagnose(&self, dependence: Dependence) -> Result<Diagnostics, OpeError>;
}

impl Judged for SingleLog {
    fn estimators(_: Dependence, _: &Self) -> Vec<Box<dyn Estimator<Self>>> {
        vec![
            Box::new(DoublyRobust),
            Box::new(SelfNormalisedDoublyRobust),
            Box::new(Slope::switch_dr()),
            Box::new(Slope::optimistic_shrinkage()),
            Box::new(SelfNormalisedIps),
            Box::new(Ips),
            Box::new(DirectMethod),
        ]
    }

    fn logged(&self) -> Contributions {
        Contributions::mean(self.rewards().to_vec())
    }

    fn diagnose(&self, _: Dependence) -> Result<Diagnostics, OpeError> {
        self.diagnostics()
    }
}

type Boxed = Vec<Box<dyn Estimator<SlateLog>>>;

impl Judged for SlateLog {
    fn estimators(dependence: Dependence, candidate: &Self) -> Vec<Box<dyn Estimator<Self>>> {
        let joint: Boxed = vec![Box::new(SelfNormalisedStandardIps)];
        let position: Boxed = vec![Box::new(SelfNormalisedIndependentIps)];
        let mut cascade: Boxed = vec![Box::new(SelfNormalisedRewardInteractionIps)];
        // Where the candidate's next choices are not known, the model cannot be averaged over them.
        if CascadeDoublyRobust.contributions(candidate).is_ok() {
            cascade.insert(0, Box::new(CascadeDoublyRobust));
        }
        let order = match dependence {
            Dependence::Slate => [joint, cascade, position],
            Dependence::Cascade => [cascade, joint, position],
            Dependence::Position => [position, cascade, joint],
        };
        let mut estimators: Boxed = order.into_iter().flatten().collect();
        estimators.push(Box::new(StandardIps));
        estimators.push(Box::new(RewardInteractionIps));
        estimators.push(Box::new(IndependentIps));
        estimators
    }

    fn logged(&self) -> Contributions {
        Contributions::mean(self.totals())
    }

    fn diagnose(&self, dependence: Dependence) -> Result<Diagnostics, OpeError> {
        self.diagnostics(dependence)
    }
}

impl Judged for SequenceLog {
    fn estimators(_: Dependence, _: &Self) -> Vec<Box<dyn Estimator<Self>>> {
        vec![
            Box::new(DoubleReinforcement { lambda: RIDGE, folds: FOLDS }),
            Box::new(FittedQ { lambda: RIDGE }),
            Box::new(WeightedPerDecisionIs),
            Box::new(PerDecisionIs),
        ]
    }

    fn logged(&self) -> Contributions {
        Contributions::mean(self.returns())
    }

    fn diagnose(&self, _: Dependence) -> Result<Diagnostics, OpeError> {
        self.visits(&FittedQ { lambda: RIDGE })
    }
}
