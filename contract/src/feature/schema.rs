//! What a policy declares about the features it reads.

use std::collections::HashSet;
use std::fmt;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use super::FeatureValue;

/// The features that a policy reads, by the group in which a request carries them.
///
/// `state` is the concatenation of the encoded `user`, `context` and `session` features, in that order and each in
/// the order declared here; `items` rows are the encoded `item` features, and the item's id where `item_id` declares it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FeatureSchema {
    /// What is known of the user.
    #[serde(default)]
    pub user: Vec<Feature>,
    /// What is known of the request: device, hour, page.
    #[serde(default)]
    pub context: Vec<Feature>,
    /// What the session accumulator yields; the names it offers are listed at `SessionSettings`.
    #[serde(default)]
    pub session: Vec<Feature>,
    /// What is known of each candidate.
    #[serde(default)]
    pub item: Vec<Feature>,
    /// How the item's id is encoded, behind the item features: `categorical`, `hashed` or `index`; absent where the
    /// policy does not read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item_id: Option<FeatureKind>,
    /// What to do with a feature that no declaration names.
    #[serde(default)]
    pub extra: Extra,
}

/// One declared feature.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Feature {
    /// The name under which requests carry the value.
    pub name: String,
    /// How the value is encoded.
    #[serde(flatten)]
    pub kind: FeatureKind,
    /// What to do when a request does not carry it.
    #[serde(default)]
    pub missing: Missing,
}

/// How a value becomes numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum FeatureKind {
    /// A quantity; one number wide.
    Numeric {
        /// The transformation applied after the range was checked.
        #[serde(default)]
        normalisation: Normalisation,
        /// The raw values the policy was trained for. Absent means every finite number.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        range: Option<Range>,
        /// What to do with a value outside `range`.
        #[serde(default)]
        out_of_range: OutOfRange,
    },
    /// A category out of a list, one-hot; as wide as the list, plus one where `unknown` is `bucket`.
    Categorical {
        /// The categories, in the order of their columns.
        vocabulary: Vec<String>,
        /// What to do with a category that is not in the list.
        #[serde(default)]
        unknown: Unknown,
    },
    /// A category out of an open set, one-hot over hash buckets: column `xxh3_64(text, seed = salt) mod buckets`.
    Hashed {
        /// How many buckets, and so the width.
        buckets: u32,
        /// Seeds the hash, so that two features do not collide alike.
        #[serde(default)]
        salt: u64,
    },
    /// A category out of a list, as its place in the list, counted from 1: one number, for models that look it up in a
    /// table.
    Index {
        /// The categories, in the order of their places.
        vocabulary: Vec<String>,
        /// How many places follow for categories that are not in the list; each takes one of them by its hash.
        spare: u32,
    },
    /// A vector, taken as it is.
    Embedding {
        /// Its length.
        dimensions: u32,
    },
    /// Every feature of the group that no other declaration names, hashed into one vector (Weinberger et al. 2009,
    /// arXiv:0902.2206): a text adds a one in the column of `name=text`, a number adds itself in that of `name`, each
    /// element of an array adds itself in that of `name[place]`. With `h = xxh3_64(key, seed = salt)` the column is the
    /// lower 63 bits of h modulo `buckets`, and what is added counts negative where the highest bit is set, so that keys
    /// that share a column cancel on average. The feature's own name is none that a request carries.
    Rest {
        /// How many buckets, and so the width.
        buckets: u32,
        /// Seeds the hash.
        #[serde(default)]
        salt: u64,
        /// The transformation of numbers.
        #[serde(default)]
        normalisation: Normalisation,
    },
}

/// `y = (x - offset) / scale`, in its usual forms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "method", rename_all = "snake_case", deny_unknown_fields)]
pub enum Normalisation {
    /// `y = x`.
    #[default]
    Identity,
    /// `y = (x - mean) / deviation`.
    Standard {
        /// Subtracted.
        mean: f64,
        /// Divided by; above zero.
        deviation: f64,
    },
    /// `y = (x - min) / (max - min)`.
    MinMax {
        /// Maps to 0.
        min: f64,
        /// Maps to 1; above `min`.
        max: f64,
    },
    /// `y = sign(x) ln(1 + |x|)`, for counts and other long tails.
    Log,
}

/// A closed interval of raw values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// The least allowed value.
    pub min: f64,
    /// The greatest allowed value.
    pub max: f64,
}

/// What to do with a number outside the declared range.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutOfRange {
    /// Refuse the request.
    #[default]
    Error,
    /// Take the nearest bound.
    Clip,
}

/// What to do with a category that the vocabulary lacks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unknown {
    /// Refuse the request.
    #[default]
    Error,
    /// Encode as all zeros.
    Zeros,
    /// Encode into one more column, kept for all unknown categories.
    Bucket,
}

/// What to do with a feature that the request does not carry.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// Refuse the request.
    #[default]
    Error,
    /// Encode as all zeros.
    Zeros,
    /// Encode this raw value instead.
    Default(FeatureValue),
}

/// What to do with a feature that the schema does not name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Extra {
    /// Journal it, do not encode it: the next policy may use it.
    #[default]
    Ignore,
    /// Refuse the request.
    Error,
}

/// The four groups of features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Group {
    /// `FeatureSchema::user`.
    User,
    /// `FeatureSchema::context`.
    Context,
    /// `FeatureSchema::session`.
    Session,
    /// `FeatureSchema::item`.
    Item,
}

impl fmt::Display for Group {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(match self {
            Self::User => "user",
            Self::Context => "context",
            Self::Session => "session",
            Self::Item => "item",
        })
    }
}

/// A schema that cannot be used.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("feature schema: {group} feature `{feature}`: {problem}")]
pub struct SchemaError {
    /// The group of the feature.
    pub group: Group,
    /// Its name.
    pub feature: String,
    /// What is wrong and what is allowed.
    pub problem: String,
}

impl<'de> Deserialize<'de> for Feature {
    /// By hand, because serde's `flatten` would let a misspelt key pass.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut keys = serde_json::Map::deserialize(deserializer)?;
        let name = keys.remove("name").ok_or_else(|| D::Error::missing_field("name"))?;
        let missing = keys.remove("missing").map_or_else(|| Ok(Missing::default()), serde_json::from_value);
        let name: String = serde_json::from_value(name).map_err(D::Error::custom)?;
        let named = |error: serde_json::Error| D::Error::custom(format_args!("feature `{name}`: {error}"));
        let missing = missing.map_err(named)?;
        let kind = serde_json::from_value(keys.into()).map_err(named)?;
        Ok(Self { name, kind, missing })
    }
}

impl FeatureSchema {
    /// The name of the item's id in messages and columns.
    pub const ITEM_ID: &str = "item_id";

    /// The first feature that is read as a place in a list, which only a table makes sense of.
    #[must_use]
    pub fn index(&self) -> Option<&str> {
        let features = self.user.iter().chain(&self.context).chain(&self.session).chain(&self.item);
        let named = features.map(|feature| (feature.name.as_str(), &feature.kind));
        let mut named = named.chain(self.item_id.iter().map(|kind| (Self::ITEM_ID, kind)));
        named.find(|(_, kind)| matches!(kind, FeatureKind::Index { .. })).map(|(name, _)| name)
    }

    /// Whether a policy of this schema reads a feature of this name in a group: one that it names, or any where it hashes
    /// the rest of the group.
    #[must_use]
    pub fn reads(&self, group: Group, name: &str) -> bool {
        self.group(group).iter().any(|feature| feature.name == name || matches!(feature.kind, FeatureKind::Rest { .. }))
    }

    /// Whether any group's undeclared features are hashed.
    #[must_use]
    pub fn reads_rest(&self) -> bool {
        let groups = [&self.user, &self.context, &self.session, &self.item];
        groups.into_iter().flatten().any(|feature| matches!(feature.kind, FeatureKind::Rest { .. }))
    }

    /// The declarations of one group, in order.
    #[must_use]
    pub fn group(&self, group: Group) -> &[Feature] {
        match group {
            Group::User => &self.user,
            Group::Context => &self.context,
            Group::Session => &self.session,
            Group::Item => &self.item,
        }
    }

    /// Checks every declaration.
    ///
    /// # Errors
    /// The first declaration that cannot be used: an empty or repeated name, an empty or repeated category, a scale
    /// that is not above zero, a number that is not finite, a width of zero or above 65,536.
    pub fn check(&self) -> Result<(), SchemaError> {
        for group in [Group::User, Group::Context, Group::Session, Group::Item] {
            let mut names = HashSet::new();
            let mut rest = false;
            for feature in self.group(group) {
                let is_rest = matches!(feature.kind, FeatureKind::Rest { .. });
                let problem = if feature.name.is_empty() {
                    Some("its name is empty".to_owned())
                } else if !names.insert(&feature.name) {
                    Some("it is declared twice".to_owned())
                } else if is_rest && std::mem::replace(&mut rest, true) {
                    Some("a group has one feature of kind `rest` at most".to_owned())
                } else {
                    feature.kind.problem()
                };
                if let Some(problem) = problem {
                    return Err(SchemaError { group, feature: feature.name.clone(), problem });
                }
            }
        }
        let problem = self.item_id.as_ref().and_then(|kind| match kind {
            FeatureKind::Numeric { .. } | FeatureKind::Embedding { .. } | FeatureKind::Rest { .. } => {
                Some("an id is a text: its kind must be `categorical`, `hashed` or `index`".to_owned())
            }
            kind => kind.problem(),
        });
        problem.map_or(Ok(()), |problem| {
            Err(SchemaError { group: Group::Item, feature: Self::ITEM_ID.to_owned(), problem })
        })
    }
}

impl FeatureKind {
    /// The widest feature that a schema may declare.
    pub const MAX_WIDTH: usize = 65_536;
    /// The most places of an index: beyond it, a 32-bit float does not hold every one.
    pub const MAX_PLACES: usize = 1 << 24;

    /// How many numbers the encoded feature takes.
    #[must_use]
    pub fn width(&self) -> usize {
        match self {
            Self::Numeric { .. } | Self::Index { .. } => 1,
            Self::Categorical { vocabulary, unknown } => vocabulary.len() + usize::from(*unknown == Unknown::Bucket),
            Self::Hashed { buckets, .. } | Self::Rest { buckets, .. } => *buckets as usize,
            Self::Embedding { dimensions } => *dimensions as usize,
        }
    }

    fn problem(&self) -> Option<String> {
        if self.width() == 0 || self.width() > Self::MAX_WIDTH {
            return Some(format!("its width is {}, allowed are 1 to {}", self.width(), Self::MAX_WIDTH));
        }
        match self {
            Self::Numeric { normalisation, range, .. } => normalisation.problem().or_else(|| {
                let range = (*range)?;
                let ordered = range.min.is_finite() && range.max.is_finite() && range.min <= range.max;
                (!ordered).then(|| format!("its range {} to {} must be finite and ascending", range.min, range.max))
            }),
            Self::Index { vocabulary, spare }
                if *spare == 0 || vocabulary.len() + *spare as usize > Self::MAX_PLACES =>
            {
                let most = Self::MAX_PLACES;
                Some(format!(
                    "it has {} + {spare} places, allowed are up to {most}, `spare` at least 1",
                    vocabulary.len()
                ))
            }
            Self::Categorical { vocabulary, .. } | Self::Index { vocabulary, .. } => {
                let mut seen = HashSet::new();
                vocabulary
                    .iter()
                    .find(|category| !seen.insert(*category))
                    .map(|twice| format!("`{twice}` stands twice in its vocabulary"))
            }
            Self::Rest { normalisation, .. } => normalisation.problem(),
            Self::Hashed { .. } | Self::Embedding { .. } => None,
        }
    }
}

impl Normalisation {
    /// The normalised value; finite whenever `value` and the parameters are and the result fits.
    #[must_use]
    pub fn apply(&self, value: f64) -> f64 {
        match *self {
            Self::Identity => value,
            Self::Standard { mean, deviation } => (value - mean) / deviation,
            Self::MinMax { min, max } => (value - min) / (max - min),
            Self::Log => value.signum() * value.abs().ln_1p(),
        }
    }

    fn problem(&self) -> Option<String> {
        match *self {
            Self::Standard { mean, deviation } if !(mean.is_finite() && deviation.is_finite() && deviation > 0.0) => {
                Some(format!("mean {mean} must be finite and deviation {deviation} above zero"))
            }
            Self::MinMax { min, max } if !(min.is_finite() && max.is_finite() && max > min) => {
                Some(format!("max {max} must be above min {min}, both finite"))
            }
            _ => None,
        }
    }
}
