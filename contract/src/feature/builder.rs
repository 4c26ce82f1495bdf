//! Features, one after the other: from code, and from JSON without a step between.

use std::fmt;
use std::sync::Arc;

use compact_str::CompactString;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use smallvec::SmallVec;

use super::features::{Features, slot};
use super::shape::{Column, Kind, Shape};
use super::value::{EXPECTED, FeatureRef, finite};

/// Builds [`Features`]. As long as names and kinds come as they came before, none of them is copied.
#[derive(Debug, Default)]
pub struct FeaturesBuilder {
    names: Names,
    /// Mostly few, which need no allocation of their own.
    slots: SmallVec<[u64; 32]>,
    behind: Vec<u64>,
}

/// The names and kinds so far.
#[derive(Debug, Default)]
enum Names {
    #[default]
    None,
    /// Those of a shape, up to a name for each slot.
    Known(Arc<Shape>),
    /// Those of no shape that is remembered.
    New {
        columns: Vec<Column>,
        /// A bit for each name.
        seen: u64,
    },
}

/// A name that waits for its value.
enum Named {
    /// The next of the shape that is followed.
    Next,
    New(CompactString),
}

impl FeaturesBuilder {
    /// Goes on from `features`.
    pub(super) fn of(features: &Features) -> Self {
        let mut builder = Self::default();
        features.iter().for_each(|(name, value)| builder.set(name, value));
        builder
    }

    /// Adds a feature.
    ///
    /// # Errors
    /// A name that stands there already.
    pub fn push<'a>(&mut self, name: &str, value: impl Into<FeatureRef<'a>>) -> Result<(), String> {
        let named = self.name(name)?;
        self.write(named, value.into());
        Ok(())
    }

    /// Adds a feature, or replaces its value.
    pub fn set<'a>(&mut self, name: &str, value: impl Into<FeatureRef<'a>>) {
        let value = value.into();
        match self.name(name) {
            Ok(named) => self.write(named, value),
            Err(_) => {
                // Texts and vectors lie one behind the other, and this one may be longer than the old one.
                let old = std::mem::take(self).finish();
                for (known, old) in old.iter() {
                    if let Ok(named) = self.name(known) {
                        self.write(named, if known == name { value } else { old });
                    }
                }
            }
        }
    }

    /// The features.
    #[must_use]
    pub fn finish(mut self) -> Features {
        let shape = match self.names {
            Names::None => return Features::new(),
            Names::Known(shape) if shape.columns().len() == self.slots.len() => shape,
            Names::Known(shape) => Shape::of(&shape.columns()[..self.slots.len()]),
            Names::New { columns, .. } => Shape::of(&columns),
        };
        self.slots.extend_from_slice(&self.behind);
        Features::from_words(shape, &self.slots)
    }

    fn name(&mut self, name: &str) -> Result<Named, String> {
        let at = self.slots.len();
        match &self.names {
            Names::Known(shape) if shape.columns().get(at).is_some_and(|next| next.name == name) => {
                return Ok(Named::Next);
            }
            Names::New { columns, seen } => {
                if seen & bit(name) != 0 && columns.iter().any(|known| known.name == name) {
                    return Err(format!("feature `{name}` is given twice"));
                }
                return Ok(Named::New(name.into()));
            }
            Names::Known(_) | Names::None => {}
        }
        if self.follow(name, None) {
            return Ok(Named::Next);
        }
        self.leave();
        self.name(name)
    }

    /// Follows a shape that has what there is so far, and `name` next; whether there is one.
    fn follow(&mut self, name: &str, kind: Option<Kind>) -> bool {
        let so_far = match &self.names {
            Names::None => &[][..],
            Names::Known(shape) => &shape.columns()[..self.slots.len()],
            Names::New { .. } => return false,
        };
        let found = Shape::going_on(so_far, name, kind);
        let follows = found.is_some();
        if let Some(shape) = found {
            if self.slots.is_empty() {
                self.slots.reserve(shape.columns().len());
            }
            self.names = Names::Known(shape);
        }
        follows
    }

    /// Follows no shape any longer.
    fn leave(&mut self) {
        let columns = match &self.names {
            Names::None => Vec::new(),
            Names::Known(shape) => shape.columns()[..self.slots.len()].to_vec(),
            Names::New { .. } => return,
        };
        let seen = columns.iter().fold(0, |seen, column| seen | bit(&column.name));
        self.names = Names::New { columns, seen };
    }

    fn write(&mut self, named: Named, value: FeatureRef) {
        match value {
            FeatureRef::Number(number) => self.end(named, Kind::Number, number.to_bits()),
            FeatureRef::Text(text) => {
                let start = self.behind.len();
                let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
                self.behind.extend(text.as_bytes().chunks(8).map(word));
                self.end(named, Kind::Text, slot(start, text.len()));
            }
            FeatureRef::Vector(vector) => {
                let start = self.behind.len();
                vector.iter().enumerate().for_each(|(place, &element)| self.element(place, element));
                self.end(named, Kind::Vector, slot(start, vector.len()));
            }
        }
    }

    /// One element of the vector that is written.
    fn element(&mut self, place: usize, element: f32) {
        let bits = u64::from(element.to_bits());
        match self.behind.last_mut() {
            Some(word) if place % 2 == 1 => *word |= bits << 32,
            _ => self.behind.push(bits),
        }
    }

    /// A value was written, to which this slot leads.
    fn end(&mut self, named: Named, kind: Kind, slot: u64) {
        let name = match (&self.names, named) {
            (Names::Known(shape), Named::Next) => {
                let next = &shape.columns()[self.slots.len()];
                if next.kind == kind {
                    self.slots.push(slot);
                    return;
                }
                next.name.clone()
            }
            (_, Named::New(name)) => name,
            // A name is the next of a shape only while one is followed.
            (Names::None | Names::New { .. }, Named::Next) => return,
        };
        if !self.follow(&name, Some(kind)) {
            self.leave();
            if let Names::New { columns, seen } = &mut self.names {
                *seen |= bit(&name);
                columns.push(Column { name, kind });
            }
        }
        self.slots.push(slot);
    }
}

/// One bit of 64, by the name.
fn bit(name: &str) -> u64 {
    let hash = |hash: u64, &byte| (hash.rotate_left(5) ^ u64::from(byte)).wrapping_mul(0x517c_c1b7_2722_0a95);
    1 << (name.as_bytes().iter().fold(0, hash) >> 58)
}

impl<'de> Deserialize<'de> for Features {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MapVisitor;

        impl<'de> Visitor<'de> for MapVisitor {
            type Value = Features;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("an object of features by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Features, A::Error> {
                let mut builder = FeaturesBuilder::default();
                while let Some(named) = map.next_key_seed(Name(&mut builder))? {
                    let named = named.map_err(A::Error::custom)?;
                    map.next_value_seed(Value { builder: &mut builder, named })?;
                }
                Ok(builder.finish())
            }
        }

        deserializer.deserialize_map(MapVisitor)
    }
}

/// A name as it is read.
struct Name<'a>(&'a mut FeaturesBuilder);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Result<Named, String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Result<Named, String>;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a feature's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.name(name))
    }
}

/// A value as it is read.
struct Value<'a> {
    builder: &'a mut FeaturesBuilder,
    named: Named,
}

impl Value<'_> {
    fn number<E>(self, number: f64) -> Result<(), E> {
        self.builder.write(self.named, FeatureRef::Number(number));
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(EXPECTED)
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.number(f64::from(u8::from(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.number(value as f64)
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.number(value as f64)
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.number(value)
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.builder.write(self.named, FeatureRef::Text(value));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        let (start, mut length) = (self.builder.behind.len(), 0);
        while let Some(element) = sequence.next_element::<f32>()? {
            self.builder.element(length, finite(element)?);
            length += 1;
        }
        self.builder.end(self.named, Kind::Vector, slot(start, length));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feature::FeatureValue;

    #[test]
    fn json_values_keep_their_kind() {
        let features: Features =
            serde_json::from_str(r#"{"age": 41, "vip": true, "city": "Oslo", "e": [1, 2.5]}"#).unwrap();
        assert_eq!(features.get("age"), Some(41.0.into()));
        assert_eq!(features.get("vip"), Some(1.0.into()));
        assert_eq!(features.get("city"), Some("Oslo".into()));
        assert_eq!(features.get("e"), Some(FeatureRef::Vector(&[1.0, 2.5])));
        let text = serde_json::to_string(&features).unwrap();
        assert_eq!(serde_json::from_str::<Features>(&text).unwrap(), features);
    }

    #[test]
    fn a_name_given_twice_is_refused() {
        let names: Vec<String> = (0..100).map(|index| format!("\"f{index}\": 1")).collect();
        let all = |names: &[String]| serde_json::from_str::<Features>(&format!("{{{}}}", names.join(", ")));
        // A second time, the names are known.
        for _ in 0..2 {
            assert_eq!(all(&names).unwrap().len(), 100);
            for twice in [0, 57, 99] {
                let error = all(&[&names[..], &names[twice..=twice]].concat()).unwrap_err();
                assert!(error.to_string().contains(&format!("`f{twice}` is given twice")), "{error}");
            }
        }
    }

    #[test]
    fn names_may_part_from_those_before_at_any_place() {
        let all = [
            r#"{"a": 1, "b": 2, "c": "x"}"#,
            r#"{"a": 1, "b": 2}"#,
            r#"{"a": 1, "b": "longer than a word", "c": [1, 2, 3]}"#,
            r#"{"a": 1, "b": 2, "c": 3, "d": 4}"#,
            r#"{"a": 1, "c": "x", "b": 2}"#,
            r#"{"b": 1}"#,
            "{}",
            r#"{"a": [], "b": ""}"#,
        ];
        // Each behind each, so that each begins as another that is remembered.
        for (before, text) in all.iter().flat_map(|before| all.iter().map(move |text| (before, text))) {
            serde_json::from_str::<Features>(before).unwrap();
            let features: Features = serde_json::from_str(text).unwrap();
            let expected: serde_json::Value = serde_json::from_str(text).unwrap();
            let same =
                |value: &serde_json::Value| serde_json::to_value(FeatureValue::deserialize(value).unwrap()).unwrap();
            let expected = expected.as_object().unwrap().iter().map(|(name, value)| (name.as_str(), same(value)));
            let read = features.iter().map(|(name, value)| (name, serde_json::to_value(value).unwrap()));
            let (mut expected, mut read): (Vec<_>, Vec<_>) = (expected.collect(), read.collect());
            expected.sort_by_key(|(name, _)| *name);
            read.sort_by_key(|(name, _)| *name);
            assert_eq!(read, expected, "{text} behind {before}");
        }
    }
}
