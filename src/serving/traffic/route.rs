//! Which versions of a policy answer which requests.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;
use utoipa::ToSchema;
use xxhash_rust::xxh3::xxh3_64;

use super::guardrail::Guardrails;
use crate::schema;

/// The route of one policy's requests.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Route {
    /// The share of the requests by version; they sum to 1. A user stays with a version as long as they do.
    #[schema(value_type = schema::Shares)]
    pub shares: BTreeMap<u64, f64>,
    /// The version on trial among them, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// Versions that are computed and journalled, and not shown.
    #[schema(example = json!([3]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shadow: Vec<u64>,
    /// Whether the caller's own order is shown, and the policy's choice journalled beside it.
    #[schema(example = false)]
    #[serde(default)]
    pub apprentice: bool,
}

/// A version on trial: it goes back to nothing where it breaks a guardrail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Canary {
    /// The version.
    #[schema(example = 2)]
    pub version: u64,
    /// What it must keep to.
    pub guardrails: Guardrails,
}

/// A change of a route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// One version answers every request; ends a split, a canary and the apprentice mode.
    #[schema(title = "Promote")]
    Promote {
        /// The version.
        #[schema(example = 2)]
        version: u64,
    },
    /// The route becomes again what it was before the last change.
    #[schema(title = "Rollback")]
    Rollback {},
    /// Versions share the requests.
    #[schema(title = "Split")]
    Split {
        /// Their shares; they must sum to 1.
        #[schema(value_type = schema::Shares)]
        #[serde(deserialize_with = "by_version")]
        shares: BTreeMap<u64, f64>,
    },
    /// A version gets a share on trial, the version that has the most keeps the rest.
    #[schema(title = "Trial")]
    Canary {
        /// The version on trial.
        #[schema(example = 2)]
        version: u64,
        /// Its share, between 0 and 1.
        #[schema(example = 0.05, exclusive_minimum = 0, exclusive_maximum = 1)]
        share: f64,
        /// What it must keep to.
        #[serde(default)]
        guardrails: Guardrails,
    },
    /// Versions are computed and journalled beside what is shown; none ends it.
    #[schema(title = "Shadow")]
    Shadow {
        /// The versions.
        #[schema(example = json!([3]))]
        versions: Vec<u64>,
    },
    /// The caller's own order is shown, the policy's choice journalled beside it.
    #[schema(title = "Apprentice")]
    Apprentice {
        /// Whether it is.
        #[schema(example = true)]
        enabled: bool,
    },
    /// The route stays as it is: a cycle of the autopilot ended, and the journal keeps what came of it.
    #[schema(title = "Cycle")]
    Cycle {
        /// Its number.
        #[schema(example = 12, format = "uint64")]
        cycle: u64,
    },
}

/// Reads versions from the keys of an object; inside a tagged enum serde hands them over as the texts that they are.
fn by_version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<u64, f64>, D::Error> {
    let shares = BTreeMap::<String, f64>::deserialize(deserializer)?;
    let parse = |(version, share): (String, f64)| match version.parse() {
        Ok(version) => Ok((version, share)),
        Err(_) => Err(D::Error::custom(format_args!("`{version}` is no version"))),
    };
    shares.into_iter().map(parse).collect()
}

/// A change that cannot be made.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum RouteError {
    /// Shares that are none.
    #[error("shares must each be above 0 and sum to 1; they sum to {0}")]
    Shares(f64),
    /// A canary's share.
    #[error("a canary's share is {0}, allowed is what lies between 0 and 1")]
    Share(f64),
    /// A canary of the version that serves already.
    #[error("version {0} serves already; a canary is another version")]
    Same(u64),
    /// Guardrails out of range.
    #[error("{0}")]
    Guardrails(String),
    /// Nothing to go back to.
    #[error("there is no earlier route to go back to")]
    NoEarlier,
}

impl Action {
    /// Its name, as the journal keeps it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Promote { .. } => "promote",
            Self::Rollback {} => "rollback",
            Self::Split { .. } => "split",
            Self::Canary { .. } => "canary",
            Self::Shadow { .. } => "shadow",
            Self::Apprentice { .. } => "apprentice",
            Self::Cycle { .. } => "cycle",
        }
    }
}

impl Route {
    /// The route on which one version answers everything.
    #[must_use]
    pub fn to(version: u64) -> Self {
        Self { shares: BTreeMap::from([(version, 1.0)]), ..Self::default() }
    }

    /// The version with the greatest share; of equal ones the lowest.
    #[must_use]
    pub fn main(&self) -> Option<u64> {
        let greater = |best: (u64, f64), next: (u64, f64)| if next.1 > best.1 { next } else { best };
        self.shares.iter().map(|(&version, &share)| (version, share)).reduce(greater).map(|(version, _)| version)
    }

    /// Every version that must be loaded.
    pub fn versions(&self) -> impl Iterator<Item = u64> + '_ {
        self.shares.keys().chain(&self.shadow).copied()
    }

    /// The version that answers whoever is known by `key`: a point in [0, 1) by the key's hash, laid over the shares.
    #[must_use]
    pub fn pick(&self, policy: &str, key: &str) -> Option<u64> {
        if self.shares.len() < 2 {
            return self.main();
        }
        // The policy is part of what is hashed, so that two splits do not divide the users alike.
        let hash = xxh3_64(format!("{policy}\0{key}").as_bytes());
        let mut point = (hash >> 11) as f64 / (1_u64 << 53) as f64;
        for (&version, &share) in &self.shares {
            point -= share;
            if point < 0.0 {
                return Some(version);
            }
        }
        self.shares.keys().next_back().copied()
    }

    /// The route after a change; `earlier` is what a rollback goes back to.
    ///
    /// # Errors
    /// Shares or guardrails out of range, or nothing to go back to.
    pub fn after(&self, action: &Action, earlier: Option<&Self>) -> Result<Self, RouteError> {
        match action {
            Action::Promote { version } => Ok(Self { shadow: self.without(&[*version]), ..Self::to(*version) }),
            Action::Rollback {} => earlier.cloned().ok_or(RouteError::NoEarlier),
            Action::Split { shares } => {
                let sum: f64 = shares.values().sum();
                let whole = (sum - 1.0).abs() < 1e-9 && shares.values().all(|&share| share > 0.0);
                if !whole {
                    return Err(RouteError::Shares(sum));
                }
                let shadow = self.without(&shares.keys().copied().collect::<Vec<_>>());
                Ok(Self { shares: shares.clone(), canary: None, shadow, apprentice: self.apprentice })
            }
            Action::Canary { version, share, guardrails } => {
                if !(*share > 0.0 && *share < 1.0) {
                    return Err(RouteError::Share(*share));
                }
                guardrails.check().map_err(RouteError::Guardrails)?;
                let main = self.main().filter(|main| main != version).ok_or(RouteError::Same(*version))?;
                Ok(Self {
                    shares: BTreeMap::from([(main, 1.0 - share), (*version, *share)]),
                    canary: Some(Canary { version: *version, guardrails: *guardrails }),
                    shadow: self.without(&[*version]),
                    apprentice: self.apprentice,
                })
            }
            Action::Shadow { versions } => {
                let mut shadow = versions.clone();
                shadow.sort_unstable();
                shadow.dedup();
                Ok(Self { shadow, ..self.clone() })
            }
            Action::Apprentice { enabled } => Ok(Self { apprentice: *enabled, ..self.clone() }),
            Action::Cycle { .. } => Ok(self.clone()),
        }
    }

    /// The route without versions that cannot be had; the others share what those had by their own proportions.
    #[must_use]
    pub fn less(&self, versions: &[u64]) -> Self {
        let mut shares = self.shares.clone();
        shares.retain(|version, _| !versions.contains(version));
        let total: f64 = shares.values().sum();
        shares.values_mut().for_each(|share| *share /= total);
        let canary = self.canary.clone().filter(|canary| shares.len() > 1 && shares.contains_key(&canary.version));
        Self { shares, canary, shadow: self.without(versions), apprentice: self.apprentice }
    }

    fn without(&self, versions: &[u64]) -> Vec<u64> {
        self.shadow.iter().copied().filter(|version| !versions.contains(version)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(shares: &[(u64, f64)]) -> Route {
        Route { shares: shares.iter().copied().collect(), ..Route::default() }
    }

    #[test]
    fn users_stay_with_their_version_and_shares_are_kept() {
        let route = split(&[(1, 0.9), (4, 0.1)]);
        let users: Vec<String> = (0..20_000).map(|user| format!("user-{user}")).collect();
        let on_4 = users.iter().filter(|user| route.pick("p", user) == Some(4)).count();
        // 2,000 expected, with a standard deviation of 42.
        assert!((1_800..2_200).contains(&on_4), "{on_4}");
        assert!(users.iter().all(|user| route.pick("p", user) == route.pick("p", user)));
        // A greater share keeps whom it had.
        let more = split(&[(1, 0.7), (4, 0.3)]);
        assert!(users.iter().all(|user| route.pick("p", user) != Some(4) || more.pick("p", user) == Some(4)));
        assert_eq!(Route::to(3).pick("p", "anyone"), Some(3));
    }

    #[test]
    fn changes_lead_where_they_say() {
        let start = Route::to(1);
        let shares = BTreeMap::from([(1, 0.5), (2, 0.5)]);
        assert_eq!(start.after(&Action::Split { shares: shares.clone() }, None).map(|route| route.shares), Ok(shares));
        let canary = Action::Canary { version: 2, share: 0.25, guardrails: Guardrails::default() };
        let trial = start.after(&canary, None).unwrap();
        assert_eq!((trial.main(), trial.shares[&2]), (Some(1), 0.25));
        assert_eq!(trial.after(&Action::Rollback {}, Some(&start)), Ok(start.clone()));
        assert_eq!(start.after(&Action::Rollback {}, None), Err(RouteError::NoEarlier));
        let shadow = start.after(&Action::Shadow { versions: vec![3, 2, 3] }, None).unwrap();
        assert_eq!((&shadow.shadow[..], shadow.main()), (&[2, 3][..], Some(1)));
        // What is promoted needs no shadow any more.
        assert_eq!(shadow.after(&Action::Promote { version: 2 }, None).unwrap().shadow, [3]);
        let bad = [
            Action::Split { shares: BTreeMap::from([(1, 0.5)]) },
            Action::Split { shares: BTreeMap::from([(1, 1.5), (2, -0.5)]) },
            Action::Canary { version: 2, share: 1.0, guardrails: Guardrails::default() },
            Action::Canary { version: 1, share: 0.5, guardrails: Guardrails::default() },
            Action::Canary {
                version: 2,
                share: 0.5,
                guardrails: Guardrails { max_error_rate: Some(2.0), ..Guardrails::default() },
            },
        ];
        for action in bad {
            assert!(start.after(&action, None).is_err(), "{action:?}");
        }
    }
}
