//! Raw feature values as a caller sends them and as the journal keeps them.

use std::borrow::Cow;
use std::fmt;

use compact_str::CompactString;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One raw feature value.
///
/// In JSON a value is a number, a string, an array of numbers, or a boolean (read as the number 1 or 0).
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum FeatureValue {
    /// A quantity, for numeric features; for categorical ones, an integer stands for its decimal text.
    Number(f64),
    /// A category.
    Text(#[schemars(with = "String")] CompactString),
    /// An embedding.
    Vector(Vec<f32>),
}

impl From<f64> for FeatureValue {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for FeatureValue {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<Vec<f32>> for FeatureValue {
    fn from(vector: Vec<f32>) -> Self {
        Self::Vector(vector)
    }
}

impl<'de> Deserialize<'de> for FeatureValue {
    /// Written by hand because serde's `untagged` buffers every value, which doubles the cost of a request.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor { stored: false })
    }
}

struct ValueVisitor {
    /// Whether it is our own tail that is read, in which a value may be a [`stored::Cell`] as well.
    stored: bool,
}

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = FeatureValue;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a number, a string, a boolean or an array of numbers")
    }

    fn visit_bool<E>(self, value: bool) -> Result<FeatureValue, E> {
        Ok(FeatureValue::Number(f64::from(u8::from(value))))
    }

    fn visit_i64<E>(self, value: i64) -> Result<FeatureValue, E> {
        Ok(FeatureValue::Number(value as f64))
    }

    fn visit_u64<E>(self, value: u64) -> Result<FeatureValue, E> {
        Ok(FeatureValue::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<FeatureValue, E> {
        Ok(FeatureValue::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<FeatureValue, E> {
        Ok(FeatureValue::Text(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<FeatureValue, A::Error> {
        let mut vector = Vec::with_capacity(sequence.size_hint().unwrap_or(0).min(4096));
        while let Some(element) = sequence.next_element::<f32>()? {
            // What is infinite would be written as null, and could not be read back.
            if !self.stored && !element.is_finite() {
                return Err(A::Error::custom("an embedding's numbers must fit a 32-bit float"));
            }
            vector.push(element);
        }
        Ok(FeatureValue::Vector(vector))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<FeatureValue, A::Error> {
        if !self.stored {
            return Err(A::Error::invalid_type(Unexpected::Map, &self));
        }
        let cell = stored::Cell::deserialize(MapAccessDeserializer::new(map))?;
        cell.try_into().map_err(A::Error::custom)
    }
}

/// Named raw features, in the order the caller gave them. Names are unique.
///
/// A small vector rather than a map: requests carry tens of features a candidate, names fit inline without an
/// allocation, and the encoder finds each name at the place where the previous request had it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Features(Vec<(CompactString, FeatureValue)>);

impl Features {
    /// No features.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// Features by names of which none stands twice, as whoever kept them knows; they are not compared.
    pub fn from_unique<'a>(pairs: impl ExactSizeIterator<Item = (&'a str, FeatureValue)>) -> Self {
        Self(pairs.map(|(name, value)| (name.into(), value)).collect())
    }

    /// Adds a feature; a name that stands twice is an error.
    pub(crate) fn push(&mut self, name: CompactString, value: FeatureValue) -> Result<(), String> {
        if self.get(&name).is_some() {
            return Err(format!("feature `{name}` is given twice"));
        }
        self.0.push((name, value));
        Ok(())
    }

    /// Sets `name`, replacing the value it had.
    pub fn insert(&mut self, name: impl Into<CompactString>, value: impl Into<FeatureValue>) {
        let (name, value) = (name.into(), value.into());
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, slot)) => *slot = value,
            None => self.0.push((name, value)),
        }
    }

    /// The value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&FeatureValue> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// The value of `name`, looked for first at the place `hint` where it is expected to stand.
    #[must_use]
    pub(crate) fn get_near(&self, name: &str, hint: usize) -> Option<&FeatureValue> {
        match self.0.get(hint) {
            Some((known, value)) if known == name => Some(value),
            _ => self.get(name),
        }
    }

    /// All features, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &FeatureValue)> + Clone {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// How many features there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no feature.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These features with those of `other` laid over them; a name in both takes the value of `other`.
    #[must_use]
    pub fn overlaid_with(&self, other: &Self) -> Self {
        let mut merged = self.clone();
        for (place, (name, value)) in other.0.iter().enumerate() {
            // Who sends the same features sends them in the same order, mostly.
            match merged.0.get_mut(place) {
                Some((known, slot)) if known == name => slot.clone_from(value),
                _ => merged.insert(name.clone(), value.clone()),
            }
        }
        merged
    }
}

impl<N: Into<CompactString>, V: Into<FeatureValue>> FromIterator<(N, V)> for Features {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut features = Self::new();
        for (name, value) in pairs {
            features.insert(name, value);
        }
        features
    }
}

impl Serialize for Features {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
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
                let mut features = Features::with_capacity(map.size_hint().unwrap_or(8).min(1024));
                let mut seen = 0;
                while let Some((name, value)) = map.next_entry::<CompactString, FeatureValue>()? {
                    // Only a name that shares its bit with an earlier one can be one of them.
                    let bit = bit(&name);
                    if seen & bit == 0 {
                        features.0.push((name, value));
                    } else {
                        features.push(name, value).map_err(A::Error::custom)?;
                    }
                    seen |= bit;
                }
                Ok(features)
            }
        }

        deserializer.deserialize_map(MapVisitor)
    }
}

/// One bit of 64, by the name.
fn bit(name: &str) -> u64 {
    let hash = |hash: u64, &byte| (hash.rotate_left(5) ^ u64::from(byte)).wrapping_mul(0x517c_c1b7_2722_0a95);
    1 << (name.as_bytes().iter().fold(0, hash) >> 58)
}

impl JsonSchema for Features {
    fn schema_name() -> Cow<'static, str> {
        "Features".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<FeatureValue>();
        json_schema!({ "type": "object", "additionalProperties": value })
    }
}

/// Features as the journal's tail holds them: compact, and without loss.
///
/// For `#[serde(with = "stored")]` in a format that tells types apart. A number that 32 bits hold exactly takes no more.
/// Older tails hold each value as a struct of three, and still read.
pub mod stored {
    use super::*;

    /// A value as older tails have it: exactly one field is set.
    #[derive(Deserialize)]
    pub(super) struct Cell {
        number: Option<f64>,
        text: Option<CompactString>,
        vector: Option<Vec<f32>>,
    }

    impl TryFrom<Cell> for FeatureValue {
        type Error = &'static str;

        fn try_from(cell: Cell) -> Result<Self, Self::Error> {
            match cell {
                Cell { number: Some(number), text: None, vector: None } => Ok(Self::Number(number)),
                Cell { number: None, text: Some(text), vector: None } => Ok(Self::Text(text)),
                Cell { number: None, text: None, vector: Some(vector) } => Ok(Self::Vector(vector)),
                _ => Err("a feature cell must have exactly one of number, text and vector"),
            }
        }
    }

    struct Stored<T>(T);

    impl Serialize for Stored<&FeatureValue> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self.0 {
                FeatureValue::Number(number) => {
                    let short = *number as f32;
                    if f64::from(short).to_bits() == number.to_bits() {
                        serializer.serialize_f32(short)
                    } else {
                        serializer.serialize_f64(*number)
                    }
                }
                FeatureValue::Text(text) => serializer.serialize_str(text),
                FeatureValue::Vector(vector) => vector.serialize(serializer),
            }
        }
    }

    impl<'de> Deserialize<'de> for Stored<FeatureValue> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(ValueVisitor { stored: true }).map(Self)
        }
    }

    /// Writes a map of values by name.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(features: &Features, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(features.0.len()))?;
        for (name, value) in &features.0 {
            map.serialize_entry(name.as_str(), &Stored(value))?;
        }
        map.end()
    }

    /// Reads what [`serialize`] wrote, now or in an older version.
    ///
    /// # Errors
    /// Those of the deserializer, and old cells that do not hold exactly one value.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Features, D::Error> {
        struct MapVisitor;

        impl<'de> Visitor<'de> for MapVisitor {
            type Value = Features;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("a map of features by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Features, A::Error> {
                let mut features = Features::with_capacity(map.size_hint().unwrap_or(8).min(1024));
                // Names were unique when they were written.
                while let Some((name, Stored(value))) = map.next_entry::<CompactString, Stored<FeatureValue>>()? {
                    features.0.push((name, value));
                }
                Ok(features)
            }
        }

        deserializer.deserialize_map(MapVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_values_keep_their_kind() {
        let features: Features =
            serde_json::from_str(r#"{"age": 41, "vip": true, "city": "Oslo", "e": [1, 2.5]}"#).unwrap();
        assert_eq!(features.get("age"), Some(&FeatureValue::Number(41.0)));
        assert_eq!(features.get("vip"), Some(&FeatureValue::Number(1.0)));
        assert_eq!(features.get("city"), Some(&"Oslo".into()));
        assert_eq!(features.get("e"), Some(&vec![1.0, 2.5].into()));
        let text = serde_json::to_string(&features).unwrap();
        assert_eq!(serde_json::from_str::<Features>(&text).unwrap(), features);
    }

    #[test]
    fn a_name_given_twice_is_refused() {
        let names: Vec<String> = (0..100).map(|index| format!("\"f{index}\": 1")).collect();
        let all = |names: &[String]| serde_json::from_str::<Features>(&format!("{{{}}}", names.join(", ")));
        assert_eq!(all(&names).unwrap().len(), 100);
        for twice in [0, 57, 99] {
            let error = all(&[&names[..], &names[twice..=twice]].concat()).unwrap_err();
            assert!(error.to_string().contains(&format!("`f{twice}` is given twice")), "{error}");
        }
    }

    #[test]
    fn what_is_laid_over_wins_wherever_it_stands() {
        let of = |pairs: &[(&str, f64)]| pairs.iter().copied().collect::<Features>();
        let below = of(&[("a", 1.0), ("b", 2.0), ("c", 3.0)]);
        assert_eq!(below.overlaid_with(&of(&[("a", 4.0), ("b", 5.0)])), of(&[("a", 4.0), ("b", 5.0), ("c", 3.0)]));
        let moved = of(&[("c", 4.0), ("d", 5.0), ("a", 6.0)]);
        assert_eq!(below.overlaid_with(&moved), of(&[("a", 6.0), ("b", 2.0), ("c", 4.0), ("d", 5.0)]));
        assert_eq!(Features::new().overlaid_with(&moved), moved);
        assert_eq!(moved.overlaid_with(&Features::new()), moved);
    }

    #[test]
    fn stored_values_come_back_to_the_bit() {
        #[derive(Serialize, Deserialize)]
        struct Kept(#[serde(with = "stored")] Features);

        let numbers = [0.0, -0.0, 0.1, 0.5, 41.0, 16_777_217.0, f64::MAX, f64::MIN_POSITIVE, f64::from(f32::MAX)];
        let mut features: Features =
            numbers.iter().enumerate().map(|(index, &number)| (format!("f{index}"), number)).collect();
        features.insert("city", "Oslo");
        features.insert("taste", vec![0.25, -1.0]);
        let bits = |features: &Features| {
            let bits = |(name, value): (&str, &FeatureValue)| match value {
                FeatureValue::Number(number) => format!("{name} {:x}", number.to_bits()),
                other => format!("{name} {other:?}"),
            };
            features.iter().map(bits).collect::<Vec<_>>()
        };
        let bytes = rmp_serde::to_vec_named(&Kept(features.clone())).unwrap();
        let Kept(read) = rmp_serde::from_slice(&bytes).unwrap();
        assert_eq!(bits(&read), bits(&features));
    }

    #[test]
    fn cells_of_older_tails_still_read() {
        #[derive(Deserialize)]
        struct Kept {
            #[serde(with = "stored")]
            user: Features,
        }

        let user = serde_json::json!({
            "age": {"number": 41.0, "text": null, "vector": null},
            "city": {"number": null, "text": "Oslo", "vector": null},
            "taste": {"number": null, "text": null, "vector": [0.5, 1.0]},
        });
        let bytes = rmp_serde::to_vec_named(&serde_json::json!({ "user": user })).unwrap();
        let expected: Features =
            [("age", FeatureValue::Number(41.0)), ("city", "Oslo".into()), ("taste", vec![0.5, 1.0].into())]
                .into_iter()
                .collect();
        assert_eq!(rmp_serde::from_slice::<Kept>(&bytes).unwrap().user, expected);
        let two = serde_json::json!({"user": {"age": {"number": 1.0, "text": "1", "vector": null}}});
        assert!(rmp_serde::from_slice::<Kept>(&rmp_serde::to_vec_named(&two).unwrap()).is_err());
        let object = serde_json::from_str::<Features>(r#"{"age": {"number": 1}}"#).unwrap_err();
        assert!(object.to_string().contains("expected a number"), "{object}");
    }

    #[test]
    fn a_number_that_could_not_be_read_back_is_refused() {
        for (text, taken) in [("[3.4e38, -3.4e38]", true), ("[1, 1e39]", false), ("[-1e39]", false)] {
            assert_eq!(serde_json::from_str::<FeatureValue>(text).is_ok(), taken, "{text}");
        }
    }

    #[test]
    fn overlaying_replaces_by_name() {
        let base: Features = [("a", 1.0), ("b", 2.0)].into_iter().collect();
        let over: Features = [("b", 3.0), ("c", 4.0)].into_iter().collect();
        let expected: Features = [("a", 1.0), ("b", 3.0), ("c", 4.0)].into_iter().collect();
        assert_eq!(base.overlaid_with(&over), expected);
    }
}
