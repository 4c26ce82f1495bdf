//! How journalled feedback becomes a reward: a setting of training, not of logging.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The reward of one shown item, from the feedback events that name it.
///
/// `reward = aggregate over its events of weight(event type) x value`, over the events that occurred within
/// `wait_seconds` of the decision; `default` where there is none. Event types without a weight do not count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RewardDefinition {
    /// Weight by event type.
    pub weights: BTreeMap<String, f64>,
    /// How several events of one item combine.
    #[serde(default)]
    pub aggregation: Aggregation,
    /// How long after the decision an event still counts, in seconds; without end where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_seconds: Option<f64>,
    /// The reward of an item without any counting event.
    #[serde(default)]
    pub default: f64,
}

/// How several events of one item combine into its reward.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Aggregation {
    /// Their sum.
    #[default]
    Sum,
    /// The earliest.
    First,
    /// The latest.
    Last,
    /// The greatest.
    Max,
}

/// A definition that cannot be used.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("reward definition: {0}")]
pub struct RewardError(String);

impl Default for RewardDefinition {
    /// A click is worth 1, nothing else counts.
    fn default() -> Self {
        Self {
            weights: BTreeMap::from([("click".to_owned(), 1.0)]),
            aggregation: Aggregation::default(),
            wait_seconds: None,
            default: 0.0,
        }
    }
}

impl RewardDefinition {
    /// Checks the definition.
    ///
    /// # Errors
    /// No weight at all, a number that is not finite, a waiting time that is not above zero.
    pub fn check(&self) -> Result<(), RewardError> {
        if self.weights.is_empty() {
            return Err(RewardError("`weights` names no event type; name at least one, such as click = 1".to_owned()));
        }
        if let Some((event, weight)) = self.weights.iter().find(|(_, weight)| !weight.is_finite()) {
            return Err(RewardError(format!("the weight of `{event}` is {weight}, it must be finite")));
        }
        if !self.default.is_finite() {
            return Err(RewardError(format!("`default` is {}, it must be finite", self.default)));
        }
        match self.wait_seconds {
            Some(wait) if !(wait.is_finite() && wait > 0.0) => {
                Err(RewardError(format!("`wait_seconds` is {wait}, it must be finite and above zero")))
            }
            _ => Ok(()),
        }
    }

    /// What one event is worth; `None` where it does not count.
    #[must_use]
    pub fn worth(&self, event: &str, value: f64, decided: DateTime<Utc>, occurred: DateTime<Utc>) -> Option<f64> {
        let in_time = self.wait_seconds.is_none_or(|wait| (occurred - decided).as_seconds_f64() <= wait);
        let weight = self.weights.get(event)?;
        in_time.then_some(weight * value)
    }

    /// The reward of one item from what its counting events are worth, in the order in which they occurred.
    #[must_use]
    pub fn aggregate(&self, worths: &[f64]) -> f64 {
        let aggregate = match self.aggregation {
            Aggregation::Sum => (!worths.is_empty()).then(|| worths.iter().sum()),
            Aggregation::First => worths.first().copied(),
            Aggregation::Last => worths.last().copied(),
            Aggregation::Max => worths.iter().copied().reduce(f64::max),
        };
        aggregate.unwrap_or(self.default)
    }

    /// The moment until which feedback on a decision counts; `None` where it counts without end.
    #[must_use]
    pub fn deadline(&self, decided: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.wait_seconds.map(|wait| decided + TimeDelta::microseconds((wait * 1e6) as i64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aggregations_differ() {
        let mut definition = RewardDefinition { default: -1.0, ..RewardDefinition::default() };
        let worths = [1.0, 5.0, 2.0];
        for (aggregation, expected) in
            [(Aggregation::Sum, 8.0), (Aggregation::First, 1.0), (Aggregation::Last, 2.0), (Aggregation::Max, 5.0)]
        {
            definition.aggregation = aggregation;
            assert_eq!(definition.aggregate(&worths), expected);
            assert_eq!(definition.aggregate(&[]), -1.0);
        }
    }

    #[test]
    fn late_and_unweighted_events_do_not_count() {
        let definition = RewardDefinition { wait_seconds: Some(60.0), ..RewardDefinition::default() };
        let decided = DateTime::from_timestamp(1_600_000_000, 0).unwrap();
        let after = |seconds| decided + TimeDelta::seconds(seconds);
        assert_eq!(definition.worth("click", 2.0, decided, after(60)), Some(2.0));
        assert_eq!(definition.worth("click", 2.0, decided, after(61)), None);
        assert_eq!(definition.worth("view", 2.0, decided, after(1)), None);
    }

    #[test]
    fn an_infinite_weight_is_refused() {
        let definition = RewardDefinition {
            weights: BTreeMap::from([("click".to_owned(), f64::INFINITY)]),
            ..RewardDefinition::default()
        };
        assert!(definition.check().unwrap_err().to_string().contains("`click`"));
    }
}
