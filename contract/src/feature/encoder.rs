//! The one encoder between raw features and tensors.

use std::collections::{HashMap, HashSet};

use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{
    Extra, Feature, FeatureKind, FeatureSchema, FeatureValue, Features, Group, Missing, OutOfRange, SchemaError,
    Unknown,
};

/// Turns raw features into the rows of the `state` and `items` tensors.
///
/// Encoding is total on valid input and its result is always finite: a value that would not encode to a finite
/// number does what the schema declares, or is an error that names the feature.
#[derive(Debug, Clone)]
pub struct Encoder {
    user: Block,
    context: Block,
    session: Block,
    item: Block,
    item_id: Option<Prepared>,
}

/// A value that the schema does not accept.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("{group} feature `{feature}`: {kind}")]
pub struct EncodeError {
    /// The group of the feature.
    pub group: Group,
    /// Its name.
    pub feature: String,
    /// What is wrong.
    pub kind: EncodeErrorKind,
}

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum EncodeErrorKind {
    /// The request lacks a feature that has no default.
    #[error("is missing, and the policy declares no default for it")]
    Missing,
    /// The request has a feature that the schema does not name, and the schema is strict.
    #[error("is not in the policy's feature schema")]
    Extra,
    /// The category is not in the vocabulary.
    #[error("`{category}` is not one of its {known} known categories")]
    UnknownCategory {
        /// What was sent.
        category: String,
        /// How many categories the vocabulary has.
        known: usize,
    },
    /// The number is outside the declared range, or does not fit a 32-bit float once normalised.
    #[error("{value} is outside its range {min} to {max}")]
    OutOfRange {
        /// What was sent.
        value: f64,
        /// The least allowed value.
        min: f64,
        /// The greatest allowed value.
        max: f64,
    },
    /// A number or an embedding's element is NaN or infinite.
    #[error("must be finite")]
    NotFinite,
    /// The embedding has another length.
    #[error("has {given} elements, expected {expected}")]
    WrongLength {
        /// The length that was sent.
        given: usize,
        /// The declared one.
        expected: usize,
    },
    /// The value is of another kind.
    #[error("is {given}, expected {expected}")]
    WrongKind {
        /// The kind that was sent.
        given: &'static str,
        /// The declared one.
        expected: &'static str,
    },
}

impl Encoder {
    /// Prepares the encoder of a schema.
    ///
    /// # Errors
    /// A schema that fails [`FeatureSchema::check`], or a declared default that its own feature refuses.
    pub fn new(schema: &FeatureSchema) -> Result<Self, SchemaError> {
        schema.check()?;
        let block = |group| Block::new(group, schema.group(group), schema.extra);
        Ok(Self {
            user: block(Group::User)?,
            context: block(Group::Context)?,
            session: block(Group::Session)?,
            item: block(Group::Item)?,
            item_id: schema.item_id.clone().map(Prepared::of_item_id).transpose()?,
        })
    }

    /// S, the width of a `state` row.
    #[must_use]
    pub fn state_width(&self) -> usize {
        self.user.width + self.context.width + self.session.width
    }

    /// D, the width of an `items` row.
    #[must_use]
    pub fn item_width(&self) -> usize {
        self.item.width + self.item_id.as_ref().map_or(0, |id| id.declared.kind.width())
    }

    /// Whether the id of an item is part of its row.
    #[must_use]
    pub const fn reads_item_id(&self) -> bool {
        self.item_id.is_some()
    }

    /// Appends one `state` row, [`Encoder::state_width`] numbers, to `row`.
    ///
    /// # Errors
    /// The first feature that the schema refuses; `row` is then as long as before.
    pub fn encode_state(
        &self,
        user: &Features,
        context: &Features,
        session: &Features,
        row: &mut Vec<f32>,
    ) -> Result<(), EncodeError> {
        let start = row.len();
        self.user
            .encode(user, row)
            .and_then(|()| self.context.encode(context, row))
            .and_then(|()| self.session.encode(session, row))
            .inspect_err(|_| row.truncate(start))
    }

    /// Appends one `items` row, [`Encoder::item_width`] numbers, to `row`. `id` does not matter where
    /// [`Encoder::reads_item_id`] says no.
    ///
    /// # Errors
    /// The first feature that the schema refuses; `row` is then as long as before.
    pub fn encode_item(&self, id: &str, item: &Features, row: &mut Vec<f32>) -> Result<(), EncodeError> {
        let start = row.len();
        self.item
            .encode(item, row)
            .and_then(|()| self.item_id.as_ref().map_or(Ok(()), |prepared| prepared.encode_id(id, row)))
            .inspect_err(|_| row.truncate(start))
    }

    /// What each number of a `state` row means, such as `user.age` or `context.device=phone`.
    #[must_use]
    pub fn state_columns(&self) -> Vec<String> {
        [&self.user, &self.context, &self.session].into_iter().flat_map(Block::columns).collect()
    }

    /// What each number of an `items` row means.
    #[must_use]
    pub fn item_columns(&self) -> Vec<String> {
        self.item.columns().chain(self.item_id.iter().flat_map(|id| id.columns(Group::Item))).collect()
    }
}

/// The prepared features of one group.
#[derive(Debug, Clone)]
struct Block {
    group: Group,
    features: Vec<Prepared>,
    /// The names that declarations other than the rest's name; empty where no rest is declared.
    named: HashSet<String>,
    extra: Extra,
    width: usize,
}

#[derive(Debug, Clone)]
struct Prepared {
    declared: Feature,
    /// The column of each category; empty for other kinds.
    columns: HashMap<String, usize>,
    /// What a missing value encodes to; `None` where it is an error.
    default: Option<Vec<f32>>,
}

impl Block {
    fn new(group: Group, declared: &[Feature], extra: Extra) -> Result<Self, SchemaError> {
        let features = declared.iter().map(|feature| Prepared::new(group, feature)).collect::<Result<Vec<_>, _>>()?;
        let width = declared.iter().map(|feature| feature.kind.width()).sum();
        let is_rest = |feature: &&Feature| matches!(feature.kind, FeatureKind::Rest { .. });
        let named = match declared.iter().any(|feature| is_rest(&feature)) {
            true => declared.iter().filter(|feature| !is_rest(feature)).map(|feature| feature.name.clone()).collect(),
            false => HashSet::new(),
        };
        Ok(Self { group, features, named, extra, width })
    }

    fn encode(&self, raw: &Features, row: &mut Vec<f32>) -> Result<(), EncodeError> {
        let error = |feature: &str, kind| EncodeError { group: self.group, feature: feature.to_owned(), kind };
        let mut found = 0;
        for (place, feature) in self.features.iter().enumerate() {
            let name = &feature.declared.name;
            if let FeatureKind::Rest { .. } = feature.declared.kind {
                let mut rest: Vec<_> = raw.iter().filter(|(name, _)| !self.named.contains(*name)).collect();
                // Sums of floats depend on their order, and a request's must not matter.
                rest.sort_unstable_by_key(|(name, _)| *name);
                hash_rest(&feature.declared.kind, &rest, row).map_err(|(name, kind)| error(&name, kind))?;
                // Whatever there is, it is read.
                found = raw.len();
                continue;
            }
            match (raw.get_near(name, place), &feature.default) {
                (Some(value), _) => {
                    found += 1;
                    feature.encode(value, row).map_err(|kind| error(name, kind))?;
                }
                (None, Some(default)) => row.extend_from_slice(default),
                (None, None) => return Err(error(name, EncodeErrorKind::Missing)),
            }
        }
        if self.extra == Extra::Error && found < raw.len() {
            let known = |name: &str| self.features.iter().any(|feature| feature.declared.name == name);
            if let Some((name, _)) = raw.iter().find(|(name, _)| !known(name)) {
                return Err(error(name, EncodeErrorKind::Extra));
            }
        }
        Ok(())
    }

    fn columns(&self) -> impl Iterator<Item = String> + '_ {
        self.features.iter().flat_map(|feature| feature.columns(self.group))
    }
}

impl Prepared {
    fn new(group: Group, declared: &Feature) -> Result<Self, SchemaError> {
        let columns = match &declared.kind {
            FeatureKind::Categorical { vocabulary, .. } | FeatureKind::Index { vocabulary, .. } => {
                vocabulary.iter().enumerate().map(|(column, category)| (category.clone(), column)).collect()
            }
            _ => HashMap::new(),
        };
        let mut prepared = Self { declared: declared.clone(), columns, default: None };
        prepared.default = match &declared.missing {
            Missing::Error => None,
            Missing::Zeros => Some(vec![0.0; declared.kind.width()]),
            Missing::Default(value) => {
                let mut row = Vec::new();
                prepared.encode(value, &mut row).map_err(|kind| SchemaError {
                    group,
                    feature: declared.name.clone(),
                    problem: format!("its default {kind}"),
                })?;
                Some(row)
            }
        };
        Ok(prepared)
    }

    fn of_item_id(kind: FeatureKind) -> Result<Self, SchemaError> {
        let name = FeatureSchema::ITEM_ID.to_owned();
        Self::new(Group::Item, &Feature { name, kind, missing: Missing::Error })
    }

    fn encode_id(&self, id: &str, row: &mut Vec<f32>) -> Result<(), EncodeError> {
        let refused = |kind| EncodeError { group: Group::Item, feature: FeatureSchema::ITEM_ID.to_owned(), kind };
        self.encode_category(id, row).map_err(refused)
    }

    fn columns(&self, group: Group) -> impl Iterator<Item = String> + '_ {
        let name = format!("{group}.{}", self.declared.name);
        (0..self.declared.kind.width()).map(move |column| match &self.declared.kind {
            FeatureKind::Numeric { .. } | FeatureKind::Index { .. } => name.clone(),
            FeatureKind::Categorical { vocabulary, .. } => match vocabulary.get(column) {
                Some(category) => format!("{name}={category}"),
                None => format!("{name}=(unknown)"),
            },
            FeatureKind::Hashed { .. } | FeatureKind::Rest { .. } => format!("{name}#{column}"),
            FeatureKind::Embedding { .. } => format!("{name}[{column}]"),
        })
    }

    fn encode(&self, value: &FeatureValue, row: &mut Vec<f32>) -> Result<(), EncodeErrorKind> {
        let kind = &self.declared.kind;
        match (kind, value) {
            (FeatureKind::Numeric { .. }, FeatureValue::Number(number)) => {
                row.push(encode_number(kind, *number)?);
                Ok(())
            }
            (
                FeatureKind::Categorical { .. } | FeatureKind::Hashed { .. } | FeatureKind::Index { .. },
                FeatureValue::Text(category),
            ) => self.encode_category(category, row),
            (
                FeatureKind::Categorical { .. } | FeatureKind::Hashed { .. } | FeatureKind::Index { .. },
                FeatureValue::Number(number),
            ) => self.encode_category(&category_of(*number)?, row),
            (FeatureKind::Embedding { dimensions }, FeatureValue::Vector(vector)) => {
                if vector.len() != *dimensions as usize {
                    return Err(EncodeErrorKind::WrongLength { given: vector.len(), expected: *dimensions as usize });
                }
                if vector.iter().any(|element| !element.is_finite()) {
                    return Err(EncodeErrorKind::NotFinite);
                }
                row.extend_from_slice(vector);
                Ok(())
            }
            _ => Err(EncodeErrorKind::WrongKind { given: kind_of(value), expected: expected_by(kind) }),
        }
    }

    fn encode_category(&self, category: &str, row: &mut Vec<f32>) -> Result<(), EncodeErrorKind> {
        let width = self.declared.kind.width();
        let (vocabulary, unknown) = match &self.declared.kind {
            FeatureKind::Categorical { vocabulary, unknown } => (vocabulary, unknown),
            FeatureKind::Hashed { buckets, salt } => {
                one_hot(hash_bucket(category, *buckets, *salt), width, row);
                return Ok(());
            }
            FeatureKind::Index { vocabulary, spare } => {
                let behind = || vocabulary.len() + hash_bucket(category, *spare, 0);
                row.push((self.columns.get(category).copied().unwrap_or_else(behind) + 1) as f32);
                return Ok(());
            }
            FeatureKind::Numeric { .. } | FeatureKind::Embedding { .. } | FeatureKind::Rest { .. } => return Ok(()),
        };
        match (self.columns.get(category), unknown) {
            (Some(column), _) => one_hot(*column, width, row),
            (None, Unknown::Bucket) => one_hot(vocabulary.len(), width, row),
            (None, Unknown::Zeros) => row.resize(row.len() + width, 0.0),
            (None, Unknown::Error) => {
                return Err(EncodeErrorKind::UnknownCategory {
                    category: category.to_owned(),
                    known: vocabulary.len(),
                });
            }
        }
        Ok(())
    }
}

fn encode_number(kind: &FeatureKind, number: f64) -> Result<f32, EncodeErrorKind> {
    let FeatureKind::Numeric { normalisation, range, out_of_range } = kind else {
        return Err(EncodeErrorKind::NotFinite);
    };
    if !number.is_finite() {
        return Err(EncodeErrorKind::NotFinite);
    }
    let (min, max) = range.map_or((f64::MIN, f64::MAX), |range| (range.min, range.max));
    let outside = EncodeErrorKind::OutOfRange { value: number, min, max };
    let inside = match out_of_range {
        OutOfRange::Error if number < min || number > max => return Err(outside),
        _ => number.clamp(min, max),
    };
    let normalised = normalisation.apply(inside);
    let widest = f64::from(f32::MAX);
    match out_of_range {
        // An overflow to infinity has a sign, so clipping is still meaningful; inf - inf does not arise, because the
        // parameters are finite and `inside` is.
        OutOfRange::Clip if !normalised.is_nan() => Ok(normalised.clamp(-widest, widest) as f32),
        _ if normalised.abs() <= widest => Ok(normalised as f32),
        _ => Err(outside),
    }
}

/// The text by which a number names a category: `3`, not `3.0`.
fn category_of(number: f64) -> Result<String, EncodeErrorKind> {
    if number.is_finite() { Ok(format!("{number}")) } else { Err(EncodeErrorKind::NotFinite) }
}

fn hash_bucket(category: &str, buckets: u32, salt: u64) -> usize {
    (xxh3_64_with_seed(category.as_bytes(), salt) % u64::from(buckets)) as usize
}

/// Appends the features of [`FeatureKind::Rest`], hashed; an error names the feature at fault.
fn hash_rest(
    kind: &FeatureKind,
    rest: &[(&str, &FeatureValue)],
    row: &mut Vec<f32>,
) -> Result<(), (String, EncodeErrorKind)> {
    let FeatureKind::Rest { buckets, salt, normalisation } = kind else { return Ok(()) };
    let mut sums = vec![0.0_f64; *buckets as usize];
    let mut add = |key: &str, value: f64| {
        let hash = xxh3_64_with_seed(key.as_bytes(), *salt);
        let column = ((hash & (u64::MAX >> 1)) % u64::from(*buckets)) as usize;
        sums[column] += if hash >> 63 == 0 { value } else { -value };
    };
    let normalised = |value: f64| match normalisation.apply(value) {
        number if number.abs() <= f64::from(f32::MAX) => Ok(number),
        _ if value.is_finite() => {
            Err(EncodeErrorKind::OutOfRange { value, min: f64::from(f32::MIN), max: f64::from(f32::MAX) })
        }
        _ => Err(EncodeErrorKind::NotFinite),
    };
    for &(name, value) in rest {
        let at_fault = |kind| (name.to_owned(), kind);
        match value {
            FeatureValue::Text(text) => add(&format!("{name}={text}"), 1.0),
            FeatureValue::Number(number) => add(name, normalised(*number).map_err(at_fault)?),
            FeatureValue::Vector(vector) => {
                for (place, element) in vector.iter().enumerate() {
                    add(&format!("{name}[{place}]"), normalised(f64::from(*element)).map_err(at_fault)?);
                }
            }
        }
    }
    // Sums of finite numbers may still be too great.
    row.extend(sums.iter().map(|sum| sum.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32));
    Ok(())
}

fn one_hot(column: usize, width: usize, row: &mut Vec<f32>) {
    let start = row.len();
    row.resize(start + width, 0.0);
    row[start + column] = 1.0;
}

fn kind_of(value: &FeatureValue) -> &'static str {
    match value {
        FeatureValue::Number(_) => "a number",
        FeatureValue::Text(_) => "a text",
        FeatureValue::Vector(_) => "an array",
    }
}

fn expected_by(kind: &FeatureKind) -> &'static str {
    match kind {
        FeatureKind::Numeric { .. } => "a number",
        FeatureKind::Categorical { .. } | FeatureKind::Hashed { .. } | FeatureKind::Index { .. } => {
            "a text or a number"
        }
        FeatureKind::Embedding { .. } => "an array of numbers",
        FeatureKind::Rest { .. } => "any value",
    }
}
