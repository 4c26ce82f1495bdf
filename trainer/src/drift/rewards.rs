//! What the same version earned then and earns now.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::settings::DriftSettings;
use crate::dataset::Round;

/// The sessions of one version in one window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct RewardFigures {
    /// Sessions that this version decided alone.
    pub sessions: u64,
    /// Mean over them of the mean reward a decision.
    pub mean: f64,
    /// Variance over them.
    pub variance: f64,
}

/// The reward of one version in both windows. Only the same version is compared with itself: another one earns something
/// else without anything having changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RewardDrift {
    /// The policy.
    pub policy: String,
    /// Its version.
    pub version: i64,
    /// The reference.
    pub reference: RewardFigures,
    /// Today.
    pub current: RewardFigures,
    /// The change of the mean.
    pub change: f64,
    /// The lower bound of its interval, Student's t with Welch's degrees of freedom (Welch 1947,
    /// doi:10.1093/biomet/34.1-2.28) over sessions.
    pub lower: f64,
    /// The upper bound.
    pub upper: f64,
    /// Whether the interval leaves out 0, and the change is as great as one that counts.
    pub drifted: bool,
}

/// Sessions, by what names them.
#[derive(Debug, Clone, Default)]
pub(super) struct Sessions {
    by_name: HashMap<String, Session>,
}

#[derive(Debug, Clone)]
struct Session {
    decider: (String, i64),
    mixed: bool,
    decisions: u64,
    reward: f64,
    last: DateTime<Utc>,
}

impl Sessions {
    pub fn add(&mut self, round: &Round) {
        let decision = &round.decision;
        let name = decision.session_id.as_ref().or(decision.user_id.as_ref()).unwrap_or(&decision.decision_id);
        let decider = (decision.policy.clone(), decision.policy_version);
        let session = self.by_name.entry(name.clone()).or_insert_with(|| Session {
            decider: decider.clone(),
            mixed: false,
            decisions: 0,
            reward: 0.0,
            last: decision.time,
        });
        session.mixed |= session.decider != decider;
        session.decisions += 1;
        session.reward += round.rewards.iter().sum::<f64>();
        session.last = session.last.max(decision.time);
    }

    /// By version, of the sessions that had ended by `until` and that the other window does not hold a part of.
    fn figures(&self, other: &Self, until: DateTime<Utc>) -> BTreeMap<(String, i64), RewardFigures> {
        let mut values: BTreeMap<(String, i64), Vec<f64>> = BTreeMap::new();
        for (name, session) in &self.by_name {
            if !session.mixed && session.last <= until && !other.by_name.contains_key(name) {
                let mean = session.reward / session.decisions as f64;
                values.entry(session.decider.clone()).or_default().push(mean);
            }
        }
        let figures = |mut values: Vec<f64>| {
            // A map's order is not that of another run, and sums depend on the order.
            values.sort_unstable_by(f64::total_cmp);
            let count = values.len() as f64;
            let mean = values.iter().sum::<f64>() / count;
            let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
            RewardFigures { sessions: values.len() as u64, mean, variance: squares / (count - 1.0).max(1.0) }
        };
        values.into_iter().map(|(decider, values)| (decider, figures(values))).collect()
    }
}

/// Every version with enough sessions in both windows.
pub(super) fn compare(
    reference: &Sessions,
    current: &Sessions,
    open: DateTime<Utc>,
    settings: &DriftSettings,
) -> Vec<RewardDrift> {
    let now = current.figures(reference, open);
    let before = reference.figures(current, DateTime::<Utc>::MAX_UTC);
    let enough = |figures: &RewardFigures| figures.sessions >= settings.min_sessions;
    let both = before.into_iter().filter_map(|(decider, before)| Some((now.get(&decider).copied()?, decider, before)));
    both.filter(|(now, _, before)| enough(now) && enough(before))
        .map(|(now, (policy, version), before)| shift(policy, version, before, now, settings))
        .collect()
}

fn shift(
    policy: String,
    version: i64,
    reference: RewardFigures,
    current: RewardFigures,
    settings: &DriftSettings,
) -> RewardDrift {
    let change = current.mean - reference.mean;
    let of = |figures: &RewardFigures| figures.variance / figures.sessions as f64;
    let (a, b) = (of(&reference), of(&current));
    let degrees =
        (a + b).powi(2) / (a.powi(2) / (reference.sessions as f64 - 1.0) + b.powi(2) / (current.sessions as f64 - 1.0));
    // Rewards that are all alike have no deviation, and every change is certain.
    let quantile =
        StudentsT::new(0.0, 1.0, degrees).map_or(0.0, |t| t.inverse_cdf(f64::midpoint(1.0, settings.confidence)));
    let radius = quantile * (a + b).sqrt();
    let (lower, upper) = (change - radius, change + radius);
    let certain = lower > 0.0 || upper < 0.0;
    let drifted = certain && change.abs() >= settings.min_reward_change * reference.mean.abs();
    RewardDrift { policy, version, reference, current, change, lower, upper, drifted }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_welchs() {
        let reference = RewardFigures { sessions: 10, mean: 20.0, variance: 4.0 };
        let current = RewardFigures { sessions: 15, mean: 23.0, variance: 9.0 };
        let settings = DriftSettings { confidence: 0.95, ..DriftSettings::default() };
        let found = shift("p".to_owned(), 3, reference, current, &settings);
        // a = 0.4, b = 0.6; degrees 1 / (0.16 / 9 + 0.36 / 14) = 22.99, whose quantile is 2.0687.
        assert!((found.lower - (3.0 - 2.0687)).abs() < 1e-3 && (found.upper - 5.0687).abs() < 1e-3, "{found:?}");
        assert!(found.drifted);
        let great = DriftSettings { min_reward_change: 0.2, ..settings };
        assert!(!shift("p".to_owned(), 3, reference, current, &great).drifted);
    }
}
