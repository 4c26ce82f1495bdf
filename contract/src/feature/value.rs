//! One raw feature value, as a caller sends it.

use std::fmt;

use compact_str::CompactString;
use schemars::JsonSchema;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

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

/// One raw feature value where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
pub enum FeatureRef<'a> {
    /// A quantity.
    Number(f64),
    /// A category.
    Text(&'a str),
    /// An embedding.
    Vector(&'a [f32]),
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

impl From<FeatureRef<'_>> for FeatureValue {
    fn from(value: FeatureRef) -> Self {
        match value {
            FeatureRef::Number(number) => Self::Number(number),
            FeatureRef::Text(text) => Self::Text(text.into()),
            FeatureRef::Vector(vector) => Self::Vector(vector.to_vec()),
        }
    }
}

impl From<f64> for FeatureRef<'_> {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl<'a> From<&'a str> for FeatureRef<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a [f32]> for FeatureRef<'a> {
    fn from(vector: &'a [f32]) -> Self {
        Self::Vector(vector)
    }
}

impl<'a> From<&'a FeatureValue> for FeatureRef<'a> {
    fn from(value: &'a FeatureValue) -> Self {
        match value {
            FeatureValue::Number(number) => Self::Number(*number),
            FeatureValue::Text(text) => Self::Text(text),
            FeatureValue::Vector(vector) => Self::Vector(vector),
        }
    }
}

impl<'de> Deserialize<'de> for FeatureValue {
    /// Written by hand because serde's `untagged` buffers every value, and would take an embedding for any sequence.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

/// What a value is expected to be.
pub(super) const EXPECTED: &str = "a number, a string, a boolean or an array of numbers";

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = FeatureValue;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(EXPECTED)
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
            vector.push(finite(element)?);
        }
        Ok(FeatureValue::Vector(vector))
    }
}

/// An element of an embedding that can be read back: what is infinite would be written as null.
pub(super) fn finite<E: serde::de::Error>(element: f32) -> Result<f32, E> {
    let refuse = || E::custom("an embedding's numbers must fit a 32-bit float");
    element.is_finite().then_some(element).ok_or_else(refuse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_could_not_be_read_back_is_refused() {
        for (text, taken) in [("[3.4e38, -3.4e38]", true), ("[1, 1e39]", false), ("[-1e39]", false)] {
            assert_eq!(serde_json::from_str::<FeatureValue>(text).is_ok(), taken, "{text}");
        }
    }
}
