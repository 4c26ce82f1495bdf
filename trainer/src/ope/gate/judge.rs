//! The gate's tests.

use serde::{Deserialize, Serialize};

use super::super::slate::Dependence;
use super::super::{Contributions, Diagnostics, Estimate, Estimator, IntervalSettings, OpeError, estimate};
use super::evidence::Judged;
use super::{Comparison, Evidence, Figure, GateTest, Pair, TestOutcome, Verdict};

/// What must hold for a policy to be promoted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GateSettings {
    /// How the uncertainty is told.
    pub interval: IntervalSettings,
    /// What the lower bound of the improvement must exceed, in reward a decision.
    pub threshold: f64,
    /// The least effective sample size of the candidate's weights.
    pub min_effective_sample_size: f64,
    /// The least effective number of users, where there are users.
    pub min_effective_users: f64,
    /// The least effective number of rewards.
    pub min_effective_rewards: f64,
    /// How much of what the candidate would show may lie where the log never goes, from 0 to 1.
    pub max_unsupported: f64,
    /// The probability below which logged propensities are not believed.
    pub min_p_value: f64,
    /// For slates: what the reward of an item may depend on.
    pub dependence: Dependence,
}

impl Default for GateSettings {
    fn default() -> Self {
        Self {
            interval: IntervalSettings::default(),
            threshold: 0.0,
            min_effective_sample_size: 100.0,
            min_effective_users: 30.0,
            min_effective_rewards: 20.0,
            max_unsupported: 0.01,
            min_p_value: 0.001,
            dependence: Dependence::Slate,
        }
    }
}

/// Whether the log's decisions could be made again from their bundles.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// Decisions that came out as they were logged.
    pub reproduced: u64,
    /// Decisions that did not.
    pub mismatched: u64,
    /// Decisions of bundles that are not at hand, or that need what the log does not hold.
    pub unknown: u64,
    /// Decisions that no bundle of ours made.
    pub foreign: u64,
}

/// Judges a candidate against a baseline.
///
/// # Errors
/// No evidence at all, settings outside their range, a log that lacks what the deciding estimator needs. What merely
/// does not suffice is a failed test of the verdict.
pub fn judge(
    evidence: &Evidence,
    replay: Option<Replay>,
    names: (&str, &str),
    settings: &GateSettings,
) -> Result<Verdict, OpeError> {
    settings.interval.check()?;
    match evidence {
        Evidence::Single(pair) => judge_pair(pair, replay, names, settings),
        Evidence::Slates(pair) => judge_pair(pair, replay, names, settings),
        Evidence::Sessions(pair) => judge_pair(pair, replay, names, settings),
    }
}

fn judge_pair<L: Judged>(
    pair: &Pair<L>,
    replay: Option<Replay>,
    (candidate, baseline): (&str, &str),
    settings: &GateSettings,
) -> Result<Verdict, OpeError> {
    let log = &pair.candidate;
    if log.rows() == 0 {
        return Err(OpeError::Empty(L::ROW));
    }
    if let Some(baseline) = &pair.baseline
        && baseline.rows() != log.rows()
    {
        let (of, parameter, value) = ("the baseline's log".to_owned(), "rows", baseline.rows() as f64);
        return Err(OpeError::Parameter { of, parameter, value, allowed: "it must hold the candidate's rows" });
    }
    let diagnostics = log.diagnose(settings.dependence)?;
    let baseline_diagnostics = pair.baseline.as_ref().map(|log| log.diagnose(settings.dependence)).transpose()?;
    let estimators = L::estimators(settings.dependence, log);
    let comparisons: Vec<Comparison> =
        estimators.iter().map(|estimator| compare(&**estimator, pair, &settings.interval)).collect();
    let mut tests = Vec::new();
    tests.extend(comparisons.first().map(|decisive| improvement(decisive, settings)));
    tests.push(sample_size(&diagnostics, log.rows(), settings));
    tests.push(support(&diagnostics, settings));
    tests.push(calibration(&diagnostics, baseline_diagnostics.as_ref(), settings));
    tests.push(reproduction(replay));
    Ok(Verdict {
        candidate: candidate.to_owned(),
        baseline: baseline.to_owned(),
        row: L::ROW,
        rows: log.rows(),
        users: log.clusters().and_then(|clusters| clusters.iter().max()).map(|last| *last as usize + 1),
        settings: *settings,
        logged: figure(estimate("logged".to_owned(), &log.logged(), log, &settings.interval)),
        comparisons,
        diagnostics,
        baseline_diagnostics,
        tests,
    })
}

fn figure(result: Result<Estimate, OpeError>) -> Figure {
    match result {
        Ok(estimate) => Figure::Estimate(estimate),
        Err(error) => Figure::Undefined { reason: error.to_string() },
    }
}

fn compare<L: Judged>(estimator: &dyn Estimator<L>, pair: &Pair<L>, interval: &IntervalSettings) -> Comparison {
    let log = &pair.candidate;
    let candidate = estimator.contributions(log);
    let baseline = match &pair.baseline {
        Some(baseline) => estimator.contributions(baseline),
        None => Ok(log.logged()),
    };
    let difference = match (&candidate, &baseline) {
        (Ok(candidate), Ok(baseline)) => Ok(candidate.clone().minus(baseline.clone())),
        (Err(error), _) | (_, Err(error)) => Err(error.clone()),
    };
    let of = |contributions: &Result<Contributions, OpeError>| {
        let contributions = contributions.as_ref().map_err(Clone::clone);
        figure(contributions.and_then(|found| estimate(estimator.name(), found, log, interval)))
    };
    Comparison {
        estimator: estimator.name(),
        candidate: of(&candidate),
        baseline: of(&baseline),
        improvement: of(&difference),
    }
}

fn test(name: &'static str, holds: bool, finding: String, remedy: Option<String>) -> GateTest {
    let outcome = if holds { TestOutcome::Passed } else { TestOutcome::Failed };
    GateTest { name, outcome, finding, remedy: remedy.filter(|_| !holds) }
}

/// The standard normal's 80% quantile: the power that a repetition is planned for.
const POWER: f64 = 0.8416;

fn improvement(decisive: &Comparison, settings: &GateSettings) -> GateTest {
    let name = "improvement";
    let threshold = settings.threshold;
    let estimate = match &decisive.improvement {
        Figure::Estimate(estimate) => estimate,
        Figure::Undefined { reason } => {
            return test(name, false, format!("{} says nothing: {reason}", decisive.estimator), None);
        }
    };
    let (value, lower) = (estimate.value, estimate.interval.lower);
    let finding = format!("its lower bound is {lower:.6}, it must exceed {threshold} ({})", estimate.name);
    // How wide the interval is, in standard errors, carries over to a larger log.
    let margin = value - threshold;
    let needed = (value - lower) + POWER * estimate.standard_error;
    let remedy = if margin > 0.0 {
        let factor = (needed / margin).powi(2).max(1.0);
        format!(
            "if the estimate of {value:.6} is the truth, a log {factor:.1} times as large ({}) would show it, with a chance \
             of 80%",
            counted(factor * estimate.units as f64)
        )
    } else {
        format!(
            "the estimate itself, {value:.6}, is not above {threshold}: more data of this kind is not expected to help"
        )
    };
    test(name, lower > threshold, finding, Some(remedy))
}

/// A number of rows or users that is a forecast, and not more precise than that.
fn counted(number: f64) -> String {
    let magnitude = 10_f64.powf((number.log10().floor() - 1.0).max(0.0));
    format!("about {:.0}", (number / magnitude).ceil() * magnitude)
}

fn sample_size(diagnostics: &Diagnostics, rows: usize, settings: &GateSettings) -> GateTest {
    let weights = &diagnostics.weights;
    let mut least = vec![
        ("sample size", weights.effective_sample_size, settings.min_effective_sample_size),
        ("rewards", diagnostics.effective_rewards, settings.min_effective_rewards),
    ];
    least.extend(weights.effective_users.map(|users| ("users", users, settings.min_effective_users)));
    let finding: Vec<String> =
        least.iter().map(|(name, found, needed)| format!("effective {name} {found:.1} of at least {needed}")).collect();
    let factor = least.iter().map(|(_, found, needed)| needed / found).fold(0.0, f64::max);
    let remedy = if factor.is_finite() {
        format!("a log {factor:.1} times as large would have it: {} rows", counted(factor * rows as f64))
    } else {
        "the log holds nothing that the candidate would do and that earned anything".to_owned()
    };
    test("effective sample size", factor <= 1.0, finding.join(", "), Some(remedy))
}

fn support(diagnostics: &Diagnostics, settings: &GateSettings) -> GateTest {
    let (support, name) = (&diagnostics.support, "support");
    if support.judged == 0 {
        let finding = "the log does not say what else could have been shown; the mean weight stands in for it";
        return GateTest { name, outcome: TestOutcome::NotApplicable, finding: finding.to_owned(), remedy: None };
    }
    let (found, most) = (100.0 * support.unsupported, 100.0 * settings.max_unsupported);
    let finding = format!(
        "{found:.3}% of what the candidate would show is never shown by the log, at most {most}% may be ({} of {} rows)",
        support.violations, support.judged
    );
    let remedy =
        "no amount of this log tells what it never shows: log with a policy that explores (epsilon-greedy, softmax)";
    test(name, support.unsupported <= settings.max_unsupported, finding, Some(remedy.to_owned()))
}

fn calibration(diagnostics: &Diagnostics, baseline: Option<&Diagnostics>, settings: &GateSettings) -> GateTest {
    let mut values = vec![("mean weight", diagnostics.weights.p_value)];
    values.extend(baseline.map(|baseline| ("baseline's mean weight", baseline.weights.p_value)));
    values.extend(diagnostics.uniform.map(|uniform| ("uniform policy's mean weight", uniform.p_value)));
    values.extend(diagnostics.reliability.as_ref().map(|test| ("shown against expected", test.p_value)));
    let finding: Vec<String> = values.iter().map(|(name, p)| format!("{name} p = {p:.4}")).collect();
    let holds = values.iter().all(|(_, p)| *p >= settings.min_p_value);
    let remedy = format!(
        "such weights have a probability below {} where propensities and support are as they should be: check that the \
         logged propensities are those of what users saw",
        settings.min_p_value
    );
    test("propensity calibration", holds, finding.join(", "), Some(remedy))
}

fn reproduction(replay: Option<Replay>) -> GateTest {
    let name = "replay";
    let Some(Replay { reproduced, mismatched, unknown, foreign }) = replay else {
        let finding = "left out, as asked".to_owned();
        return GateTest { name, outcome: TestOutcome::NotApplicable, finding, remedy: None };
    };
    let finding = format!(
        "{reproduced} decisions reproduced, {mismatched} not, {unknown} whose bundle is not at hand, {foreign} of other systems"
    );
    if reproduced + mismatched + unknown == 0 {
        return GateTest { name, outcome: TestOutcome::NotApplicable, finding, remedy: None };
    }
    let remedy = if mismatched > 0 {
        "`slated journal verify` names each mismatch"
    } else {
        "put the bundles that made these decisions into the folder of models"
    };
    test(name, mismatched + unknown == 0, finding, Some(remedy.to_owned()))
}
