//! What a request declares about its slate, turned into constraints on the candidates.

use serde::{Deserialize, Serialize};
use slated_contract::feature::{FeatureRef, FeatureValue, Features};
use slated_contract::slate::{AtMost, ConstraintError, Constraints, Diversity, Required};
use thiserror::Error;
use utoipa::ToSchema;

use crate::schema;

/// An item that stands at a position whatever the policy says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// The item's id; it must be one of the candidates.
    #[schema(example = "shirt-2")]
    pub item: String,
    /// The position, from 0.
    #[schema(example = 0)]
    pub position: usize,
}

/// A business constraint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "rule", rename_all = "snake_case", deny_unknown_fields)]
pub enum Rule {
    /// At most so many items with the same value of a feature; or with this one value, where it is given.
    #[schema(title = "AtMostRule")]
    AtMost {
        /// The item feature.
        #[schema(example = "category")]
        feature: String,
        /// The value that is limited; each value of the feature where absent.
        #[schema(value_type = Option<schema::FeatureValue>)]
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<FeatureValue>,
        /// How many, from 1.
        #[schema(example = 2, minimum = 1)]
        most: usize,
    },
    /// A position that only items with this value of a feature may take.
    #[schema(title = "RequiredRule")]
    Required {
        /// The position, from 0.
        #[schema(example = 0)]
        position: usize,
        /// The item feature.
        #[schema(example = "category")]
        feature: String,
        /// Its value.
        #[schema(value_type = schema::FeatureValue)]
        value: FeatureValue,
    },
    /// Maximal marginal relevance over the encoded item features.
    #[schema(title = "DiversityRule")]
    Diversity {
        /// What relevance weighs against likeness to what stands before: above 0, up to 1, which is no diversity.
        #[schema(example = 0.7, exclusive_minimum = 0, maximum = 1)]
        lambda: f64,
    },
}

/// What a request declares.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
// Not by its own name: a field of it has that, and what generates Python clients would take them for one.
#[schema(as = DeclaredRules)]
pub struct Rules {
    /// Pinned items.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pinned: Vec<Pin>,
    /// Business constraints.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

/// A declaration that cannot be kept, by its field.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("`{field}` {reason}")]
pub struct RuleError {
    /// The field.
    pub field: String,
    /// What is wrong.
    pub reason: String,
}

impl Rules {
    /// Whether nothing is declared.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pinned.is_empty() && self.rules.is_empty()
    }

    /// The least slate that has the positions which are named.
    #[must_use]
    pub fn size(&self) -> usize {
        let pinned = self.pinned.iter().map(|pin| pin.position.saturating_add(1));
        let required = self.rules.iter().map(|rule| match rule {
            Rule::Required { position, .. } => position.saturating_add(1),
            Rule::AtMost { .. } | Rule::Diversity { .. } => 0,
        });
        pinned.chain(required).max().unwrap_or(0)
    }

    /// The constraints on a slate of `size` out of candidates (ids and raw features), whose encoded features are
    /// `rows` (`[n, width]`).
    ///
    /// # Errors
    /// A pin of an item that is no candidate, a number out of range, or declarations that contradict each other.
    pub fn constraints<'a>(
        &self,
        candidates: impl ExactSizeIterator<Item = (&'a str, &'a Features)> + Clone,
        size: usize,
        rows: &[f32],
        width: usize,
    ) -> Result<Constraints, RuleError> {
        let mut constraints = Constraints::default();
        for (index, pin) in self.pinned.iter().enumerate() {
            let at = candidates.clone().position(|(id, _)| id == pin.item);
            let at = at.ok_or_else(|| RuleError {
                field: format!("pinned[{index}].item"),
                reason: format!("`{}` is not one of the candidates left after exclusions", pin.item),
            })?;
            constraints.pinned.push((pin.position, at));
        }
        let of = |feature: &str| {
            let feature = feature.to_owned();
            candidates.clone().map(move |(_, features)| features.get(&feature))
        };
        for (index, rule) in self.rules.iter().enumerate() {
            let refused = |key: &str, reason: String| RuleError { field: format!("rules[{index}].{key}"), reason };
            match rule {
                Rule::AtMost { most: 0, .. } => {
                    return Err(refused("most", "is 0, it must be at least 1; `exclude` keeps items out".to_owned()));
                }
                Rule::AtMost { feature, value, most } => {
                    let mut known: Vec<FeatureRef> = Vec::new();
                    let value = value.as_ref().map(FeatureRef::from);
                    let group = of(feature).map(|found| {
                        let found = found.filter(|found| value.is_none_or(|value| value == *found))?;
                        let place = known.iter().position(|known| *known == found).unwrap_or_else(|| {
                            known.push(found);
                            known.len() - 1
                        });
                        Some(place as u32)
                    });
                    let group = group.collect();
                    constraints.at_most.push(AtMost { group, most: *most });
                }
                Rule::Required { position, feature, value } => {
                    let eligible = of(feature).map(|found| found == Some(value.into())).collect();
                    constraints.required.push(Required { position: *position, eligible });
                }
                Rule::Diversity { .. } if constraints.diversity.is_some() => {
                    return Err(refused("rule", "is a second diversity; declare one".to_owned()));
                }
                Rule::Diversity { lambda } => {
                    let diversity = Diversity::new(*lambda, rows, width);
                    constraints.diversity = Some(diversity.map_err(|error| refused("lambda", error.to_string()))?);
                }
            }
        }
        constraints.check(size, candidates.len()).map_err(|error| RuleError {
            field: if matches!(error, ConstraintError::Pin { .. }) { "pinned" } else { "rules" }.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(constraints)
    }
}
