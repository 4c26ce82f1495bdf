//! Features that are never journalled.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use slated_contract::event::Decision;
use slated_contract::feature::{Features, Group};

/// A feature by its group and name, as `user.age`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(into = "String", try_from = "String")]
#[schemars(with = "String")]
pub struct OmittedFeature {
    group: Group,
    name: String,
}

impl fmt::Display for OmittedFeature {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "{}.{}", self.group, self.name)
    }
}

impl From<OmittedFeature> for String {
    fn from(feature: OmittedFeature) -> Self {
        feature.to_string()
    }
}

impl TryFrom<String> for OmittedFeature {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let groups = [Group::User, Group::Context, Group::Session, Group::Item];
        let parts = text.split_once('.').filter(|(_, name)| !name.is_empty());
        let known = parts.and_then(|(group, name)| {
            let group = groups.into_iter().find(|known| known.to_string() == group)?;
            Some(Self { group, name: name.to_owned() })
        });
        known.ok_or_else(|| {
            format!("`{text}` is no feature; expected `user.`, `context.`, `session.` or `item.` and its name")
        })
    }
}

/// Takes these features out of a decision, and notes which it had.
pub fn omit(decision: &mut Decision, omitted: &[OmittedFeature]) {
    for feature in omitted {
        let had = match feature.group {
            Group::User => take(&mut decision.user, &feature.name),
            Group::Context => take(&mut decision.context, &feature.name),
            Group::Session => take(&mut decision.session, &feature.name),
            Group::Item => {
                let mut had = false;
                for candidate in &mut decision.candidates {
                    had |= take(&mut candidate.features, &feature.name);
                }
                had
            }
        };
        if had {
            decision.omitted_features.push(feature.to_string());
        }
    }
}

fn take(features: &mut Features, name: &str) -> bool {
    if features.get(name).is_none() {
        return false;
    }
    *features = std::mem::take(features).iter().filter(|(known, _)| *known != name).collect();
    true
}

#[cfg(test)]
mod tests {
    use slated_contract::event::Candidate;

    use super::*;

    #[test]
    fn features_leave_their_own_group_alone() {
        let features: Features = [("age", 41.0), ("size", 2.0)].into_iter().collect();
        let candidate = |item: &str, features: &Features| Candidate {
            item: item.to_owned(),
            features: features.clone(),
            score: None,
        };
        let mut decision = Decision {
            user: features.clone(),
            context: features.clone(),
            candidates: vec![candidate("a", &features), candidate("b", &Features::new())],
            ..Decision::default()
        };
        let names = ["user.age", "item.size", "session.age", "context.other"];
        let omitted: Vec<OmittedFeature> = names.map(|name| name.to_owned().try_into().unwrap()).into();
        omit(&mut decision, &omitted);
        let left = |features: &Features| features.iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(
            (left(&decision.user), left(&decision.context)),
            (vec!["size".into()], vec!["age".into(), "size".into()])
        );
        assert_eq!(left(&decision.candidates[0].features), ["age"]);
        assert_eq!(decision.omitted_features, ["user.age", "item.size"]);
        for wrong in ["age", "users.age", "user.", ""] {
            assert!(OmittedFeature::try_from(wrong.to_owned()).unwrap_err().contains("`context.`"), "{wrong}");
        }
    }
}
