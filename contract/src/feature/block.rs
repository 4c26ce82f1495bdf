//! The declared features of one group, prepared for encoding.

use std::collections::{HashMap, HashSet};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::encoder::{EncodeError, EncodeErrorKind};
use super::shape::Column;
use super::{
    Extra, Feature, FeatureKind, FeatureRef, FeatureSchema, Features, Group, Missing, Normalisation, OutOfRange,
    SchemaError, Unknown,
};

/// The prepared features of one group.
#[derive(Debug, Clone)]
pub struct Block {
    group: Group,
    features: Vec<Prepared>,
    /// The names that declarations other than the rest's name; empty where no rest is declared.
    named: HashSet<String>,
    extra: Extra,
    pub width: usize,
}

/// How a block encodes features of the same names and kinds.
pub struct Plan {
    /// Where each declared feature stands.
    places: Vec<Option<usize>>,
    /// Where each stands and how it is encoded, if all are there and declared to be numbers, and nothing is refused.
    numbers: Option<Vec<(usize, Numeric)>>,
}

#[derive(Debug, Clone)]
pub struct Prepared {
    declared: Feature,
    /// How a number is encoded; absent for other kinds.
    numeric: Option<Numeric>,
    /// The column of each category; empty for other kinds.
    columns: HashMap<String, usize>,
    /// What a missing value encodes to; `None` where it is an error.
    default: Option<Vec<f32>>,
}

impl Block {
    pub fn new(group: Group, declared: &[Feature], extra: Extra) -> Result<Self, SchemaError> {
        let features = declared.iter().map(|feature| Prepared::new(group, feature)).collect::<Result<Vec<_>, _>>()?;
        let width = declared.iter().map(|feature| feature.kind.width()).sum();
        let is_rest = |feature: &&Feature| matches!(feature.kind, FeatureKind::Rest { .. });
        let named = match declared.iter().any(|feature| is_rest(&feature)) {
            true => declared.iter().filter(|feature| !is_rest(feature)).map(|feature| feature.name.clone()).collect(),
            false => HashSet::new(),
        };
        Ok(Self { group, features, named, extra, width })
    }

    /// How to encode features of these names and kinds.
    pub fn plan(&self, columns: &[Column]) -> Plan {
        let place = |feature: &Prepared| columns.iter().position(|column| column.name == feature.declared.name);
        let places: Vec<Option<usize>> = self.features.iter().map(place).collect();
        let number = |(feature, place): (&Prepared, &Option<usize>)| Some(((*place)?, feature.numeric?));
        let numbers = self.features.iter().zip(&places).map(number).collect::<Option<Vec<_>>>();
        let nothing_more = self.extra == Extra::Ignore || columns.len() == self.features.len();
        Plan { numbers: numbers.filter(|_| nothing_more), places }
    }

    /// Encodes features that `plan` was made for.
    pub fn encode_as(&self, plan: &Plan, raw: &Features, row: &mut Vec<f32>) -> Result<(), EncodeError> {
        match (&plan.numbers, raw.numbers()) {
            (Some(declared), Some(numbers)) => self.encode_numbers(declared, numbers, row),
            _ => self.encode(raw, |place, _| plan.places[place].and_then(|at| raw.value(at)), row),
        }
    }

    /// Encodes features of which all are numbers, and declared as such.
    fn encode_numbers(
        &self,
        declared: &[(usize, Numeric)],
        numbers: &[f64],
        row: &mut Vec<f32>,
    ) -> Result<(), EncodeError> {
        for (feature, (place, numeric)) in self.features.iter().zip(declared) {
            let error = |kind| EncodeError { group: self.group, feature: feature.declared.name.clone(), kind };
            row.push(numeric.encode(numbers[*place]).map_err(error)?);
        }
        Ok(())
    }

    /// Encodes features whose names are looked for one by one.
    pub fn find(&self, raw: &Features, row: &mut Vec<f32>) -> Result<(), EncodeError> {
        self.encode(raw, |place, name| raw.get_near(name, place), row)
    }

    /// Encodes features; `find` gives the value of the declared one at a place, by its name.
    fn encode<'a>(
        &self,
        raw: &'a Features,
        find: impl Fn(usize, &str) -> Option<FeatureRef<'a>>,
        row: &mut Vec<f32>,
    ) -> Result<(), EncodeError> {
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
            match (find(place, name), &feature.default) {
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

    pub fn columns(&self) -> impl Iterator<Item = String> + '_ {
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
        let numeric = Numeric::of(&declared.kind);
        let mut prepared = Self { declared: declared.clone(), numeric, columns, default: None };
        prepared.default = match &declared.missing {
            Missing::Error => None,
            Missing::Zeros => Some(vec![0.0; declared.kind.width()]),
            Missing::Default(value) => {
                let mut row = Vec::new();
                prepared.encode(value.into(), &mut row).map_err(|kind| SchemaError {
                    group,
                    feature: declared.name.clone(),
                    problem: format!("its default {kind}"),
                })?;
                Some(row)
            }
        };
        Ok(prepared)
    }

    /// How many numbers a value becomes.
    pub fn width(&self) -> usize {
        self.declared.kind.width()
    }

    /// The id of an item, as a feature.
    pub fn of_item_id(kind: FeatureKind) -> Result<Self, SchemaError> {
        let name = FeatureSchema::ITEM_ID.to_owned();
        Self::new(Group::Item, &Feature { name, kind, missing: Missing::Error })
    }

    pub fn encode_id(&self, id: &str, row: &mut Vec<f32>) -> Result<(), EncodeError> {
        let refused = |kind| EncodeError { group: Group::Item, feature: FeatureSchema::ITEM_ID.to_owned(), kind };
        self.encode_category(id, row).map_err(refused)
    }

    pub fn columns(&self, group: Group) -> impl Iterator<Item = String> + '_ {
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

    #[inline]
    fn encode(&self, value: FeatureRef, row: &mut Vec<f32>) -> Result<(), EncodeErrorKind> {
        if let (Some(numeric), FeatureRef::Number(number)) = (&self.numeric, value) {
            row.push(numeric.encode(number)?);
            return Ok(());
        }
        let kind = &self.declared.kind;
        match (kind, value) {
            (
                FeatureKind::Categorical { .. } | FeatureKind::Hashed { .. } | FeatureKind::Index { .. },
                FeatureRef::Text(category),
            ) => self.encode_category(category, row),
            (
                FeatureKind::Categorical { .. } | FeatureKind::Hashed { .. } | FeatureKind::Index { .. },
                FeatureRef::Number(number),
            ) => self.encode_category(&category_of(number)?, row),
            (FeatureKind::Embedding { dimensions }, FeatureRef::Vector(vector)) => {
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

/// [`FeatureKind::Numeric`], at hand.
#[derive(Debug, Clone, Copy)]
struct Numeric {
    normalisation: Normalisation,
    min: f64,
    max: f64,
    out_of_range: OutOfRange,
}

impl Numeric {
    fn of(kind: &FeatureKind) -> Option<Self> {
        let &FeatureKind::Numeric { normalisation, range, out_of_range } = kind else { return None };
        let (min, max) = range.map_or((f64::MIN, f64::MAX), |range| (range.min, range.max));
        Some(Self { normalisation, min, max, out_of_range })
    }

    fn encode(&self, number: f64) -> Result<f32, EncodeErrorKind> {
        if !number.is_finite() {
            return Err(EncodeErrorKind::NotFinite);
        }
        let &Self { normalisation, min, max, out_of_range } = self;
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
    rest: &[(&str, FeatureRef)],
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
            FeatureRef::Text(text) => add(&format!("{name}={text}"), 1.0),
            FeatureRef::Number(number) => add(name, normalised(number).map_err(at_fault)?),
            FeatureRef::Vector(vector) => {
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

fn kind_of(value: FeatureRef) -> &'static str {
    match value {
        FeatureRef::Number(_) => "a number",
        FeatureRef::Text(_) => "a text",
        FeatureRef::Vector(_) => "an array",
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
