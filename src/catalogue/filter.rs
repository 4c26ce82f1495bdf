//! Candidates by what they are rather than by id.

use serde::{Deserialize, Serialize};
use slated_contract::feature::{FeatureRef, FeatureValue};
use utoipa::ToSchema;

use crate::schema;

/// Which items of the catalogue are candidates.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Conditions that must all hold; every item passes where there is none.
    #[serde(default)]
    pub all: Vec<Condition>,
}

/// A condition on one feature; an item without the feature does not pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// The feature's name.
    #[schema(example = "category")]
    pub feature: String,
    /// The value is one of these.
    #[schema(value_type = Option<Vec<schema::FeatureValue>>, example = json!(["shoes", "boots"]))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub any_of: Option<Vec<FeatureValue>>,
    /// The number is at least this.
    #[schema(example = 10.0)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// The number is at most this.
    #[schema(example = 50.0)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
}

impl Condition {
    /// Whether a value passes; with no bound at all, being there is enough.
    #[must_use]
    pub fn holds(&self, value: FeatureRef) -> bool {
        let number = match value {
            FeatureRef::Number(number) => Some(number),
            _ => None,
        };
        self.any_of.as_ref().is_none_or(|values| values.iter().any(|one| FeatureRef::from(one) == value))
            && self.at_least.is_none_or(|least| number.is_some_and(|number| number >= least))
            && self.at_most.is_none_or(|most| number.is_some_and(|number| number <= most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_together_and_only_of_numbers() -> Result<(), serde_json::Error> {
        let condition: Condition = serde_json::from_str(r#"{"feature": "price", "at_least": 1, "at_most": 2}"#)?;
        assert!(condition.holds(1.0.into()) && condition.holds(2.0.into()));
        assert!(!condition.holds(2.5.into()) && !condition.holds("1.5".into()));
        let condition: Condition = serde_json::from_str(r#"{"feature": "kind", "any_of": ["a", 3]}"#)?;
        assert!(condition.holds("a".into()) && condition.holds(3.0.into()) && !condition.holds("b".into()));
        Ok(())
    }
}
