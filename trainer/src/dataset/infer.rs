//! A feature schema from what the journal holds.

use std::collections::{BTreeMap, BTreeSet};

use slated_contract::feature::{
    Extra, Feature, FeatureKind, FeatureRef, FeatureSchema, FeatureValue, Features, Group, Missing, Normalisation,
    OutOfRange, Unknown,
};
use thiserror::Error;

use super::Round;

/// Categories up to which a text feature becomes a vocabulary; beyond it, hash buckets.
const VOCABULARY: usize = 100;
/// Hash buckets of a text feature with more categories.
const BUCKETS: u32 = 256;

/// Collects what a schema needs to know, one pass over the rounds.
///
/// Numbers become numeric features with standard normalisation, missing ones the mean; texts become categories, in
/// alphabetical order, unknown and missing ones zeros; vectors become embeddings.
#[derive(Debug, Clone, Default)]
pub struct SchemaInference {
    user: BTreeMap<String, Seen>,
    context: BTreeMap<String, Seen>,
    item: BTreeMap<String, Seen>,
    session: BTreeMap<String, Seen>,
    /// The session features to look at.
    kept: BTreeSet<String>,
}

/// A feature that cannot be declared from the data.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{group} feature `{feature}` {problem}; declare it in `features`, or leave it out there")]
pub struct InferError {
    group: Group,
    feature: String,
    problem: String,
}

#[derive(Debug, Clone)]
enum Seen {
    Numbers {
        count: u64,
        mean: f64,
        squares: f64,
    },
    Texts(BTreeSet<String>),
    /// More categories than a vocabulary holds.
    Many,
    Vectors(usize),
}

impl SchemaInference {
    /// Looks at the session features of these names as well; otherwise at none.
    #[must_use]
    pub fn with_session(kept: BTreeSet<String>) -> Self {
        Self { kept, ..Self::default() }
    }

    /// Looks at one round: its user, its context, and all its candidates.
    ///
    /// # Errors
    /// A feature that changes its kind or its length.
    pub fn add(&mut self, round: &Round) -> Result<(), InferError> {
        let decision = &round.decision;
        look(Group::User, &mut self.user, &decision.user)?;
        look(Group::Context, &mut self.context, &decision.context)?;
        if !self.kept.is_empty() {
            let kept = decision.session.iter().filter(|(name, _)| self.kept.contains(*name)).collect();
            look(Group::Session, &mut self.session, &kept)?;
        }
        decision.candidates.iter().try_for_each(|candidate| look(Group::Item, &mut self.item, &candidate.features))
    }

    /// The schema of what was seen.
    #[must_use]
    pub fn schema(&self) -> FeatureSchema {
        let declare = |seen: &BTreeMap<String, Seen>| seen.iter().map(|(name, seen)| seen.declare(name)).collect();
        FeatureSchema {
            user: declare(&self.user),
            context: declare(&self.context),
            session: declare(&self.session),
            item: declare(&self.item),
            item_id: None,
            extra: Extra::Ignore,
        }
    }
}

fn look(group: Group, known: &mut BTreeMap<String, Seen>, features: &Features) -> Result<(), InferError> {
    for (name, value) in features.iter() {
        match known.get_mut(name) {
            Some(seen) => seen.add(value).map_err(|problem| InferError { group, feature: name.to_owned(), problem })?,
            None => {
                known.insert(name.to_owned(), Seen::new(value));
            }
        }
    }
    Ok(())
}

impl Seen {
    fn new(value: FeatureRef) -> Self {
        match value {
            FeatureRef::Number(number) => Self::Numbers { count: 1, mean: number, squares: 0.0 },
            FeatureRef::Text(text) => Self::Texts(BTreeSet::from([text.to_string()])),
            FeatureRef::Vector(vector) => Self::Vectors(vector.len()),
        }
    }

    fn add(&mut self, value: FeatureRef) -> Result<(), String> {
        match (self, value) {
            // Welford's update.
            (Self::Numbers { count, mean, squares }, FeatureRef::Number(number)) => {
                *count += 1;
                let delta = number - *mean;
                *mean += delta / *count as f64;
                *squares += delta * (number - *mean);
            }
            (Self::Many, FeatureRef::Text(_)) => {}
            (seen @ Self::Texts(_), FeatureRef::Text(text)) => {
                if let Self::Texts(categories) = seen {
                    if !categories.contains(text) {
                        categories.insert(text.to_string());
                    }
                    if categories.len() > VOCABULARY {
                        *seen = Self::Many;
                    }
                }
            }
            (Self::Vectors(length), FeatureRef::Vector(vector)) if *length == vector.len() => {}
            (Self::Vectors(length), FeatureRef::Vector(vector)) => {
                return Err(format!("has {length} elements in one decision and {} in another", vector.len()));
            }
            _ => return Err("is of another kind in one decision than in another".to_owned()),
        }
        Ok(())
    }

    fn declare(&self, name: &str) -> Feature {
        let (kind, missing) = match self {
            Self::Numbers { count, mean, squares } => {
                let deviation = (squares / *count as f64).sqrt();
                let constant = !(deviation.is_finite() && deviation > 1e-9 * mean.abs().max(1e-9));
                let normalisation =
                    if constant { Normalisation::Identity } else { Normalisation::Standard { mean: *mean, deviation } };
                (
                    FeatureKind::Numeric { normalisation, range: None, out_of_range: OutOfRange::Error },
                    Missing::Default(FeatureValue::Number(*mean)),
                )
            }
            Self::Texts(categories) => {
                let vocabulary = categories.iter().cloned().collect();
                (FeatureKind::Categorical { vocabulary, unknown: Unknown::Zeros }, Missing::Zeros)
            }
            Self::Many => (FeatureKind::Hashed { buckets: BUCKETS, salt: 0 }, Missing::Zeros),
            Self::Vectors(length) => (FeatureKind::Embedding { dimensions: *length as u32 }, Missing::Zeros),
        };
        Feature { name: name.to_owned(), kind, missing }
    }
}
