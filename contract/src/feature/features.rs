//! Named features in one allocation, whose names and kinds are shared by all that look alike.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use compact_str::CompactString;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use triomphe::ThinArc;

use super::builder::FeaturesBuilder;
use super::shape::{Column, Kind, Shape};
use super::value::{FeatureRef, FeatureValue};

#[cfg(target_endian = "big")]
compile_error!("features are read where they lie, in the order of little-endian machines");

/// Named raw features, in the order the caller gave them. Names are unique.
///
/// One allocation, shared by clones. A request's candidates, the items of a catalogue and the decisions of a journal have the
/// same names over and over, so that names and kinds lie apart, once for all, and features are their values alone: a word
/// for each, which is the number, or where the text or the vector lies in the words behind.
#[derive(Clone, Default)]
pub struct Features(Option<ThinArc<Arc<Shape>, u64>>);

/// Shapes of many features, each held once.
#[derive(Debug, Default)]
pub struct Shapes(HashSet<Arc<Shape>>);

impl Features {
    /// No features.
    #[must_use]
    pub const fn new() -> Self {
        Self(None)
    }

    /// `words` must hold what `shape` says.
    pub(super) fn from_words(shape: Arc<Shape>, words: &[u64]) -> Self {
        if shape.columns().is_empty() { Self(None) } else { Self(Some(ThinArc::from_header_and_slice(shape, words))) }
    }

    pub(super) fn shape(&self) -> Option<&Arc<Shape>> {
        match &self.0 {
            Some(row) => Some(&row.header.header),
            None => None,
        }
    }

    /// A word for each feature, and the words behind them.
    pub(super) fn words(&self) -> &[u64] {
        self.0.as_ref().map_or(&[], |row| &row.slice)
    }

    /// Names and kinds.
    pub(crate) fn columns(&self) -> &[Column] {
        self.shape().map_or(&[], |shape| shape.columns())
    }

    /// The values, where all are numbers.
    pub(crate) fn numbers(&self) -> Option<&[f64]> {
        self.shape().is_none_or(|shape| shape.is_numbers()).then(|| bytemuck::cast_slice(self.words()))
    }

    /// The value at a place in their order.
    #[inline]
    #[must_use]
    pub fn value(&self, place: usize) -> Option<FeatureRef<'_>> {
        let columns = self.columns();
        let (slots, behind) = self.words().split_at(columns.len());
        Some(read(columns.get(place)?.kind, slots[place], behind))
    }

    /// These features under a name list that is shared with all others that went through `shapes`.
    #[must_use]
    pub fn sharing(&self, shapes: &mut Shapes) -> Self {
        let Some(own) = self.shape() else { return Self(None) };
        match shapes.0.get(own) {
            Some(known) if Arc::ptr_eq(known, own) => self.clone(),
            Some(known) => Self::from_words(Arc::clone(known), self.words()),
            None => {
                shapes.0.insert(Arc::clone(own));
                self.clone()
            }
        }
    }

    /// Whether both share their names, so that each name stands at the same place; features that went through the same
    /// [`Shapes`] do if they have the same names and kinds.
    #[must_use]
    pub fn shares_names_with(&self, other: &Self) -> bool {
        std::ptr::eq(self.columns(), other.columns())
    }

    /// Sets `name`, replacing the value it had. Whoever sets many takes a [`FeaturesBuilder`].
    pub fn insert<'a>(&mut self, name: &str, value: impl Into<FeatureRef<'a>>) {
        let mut builder = FeaturesBuilder::of(self);
        builder.set(name, value);
        *self = builder.finish();
    }

    /// The value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<FeatureRef<'_>> {
        self.place(name).and_then(|place| self.value(place))
    }

    /// The value of `name`, looked for first at the place `hint` where it is expected to stand.
    #[must_use]
    pub(crate) fn get_near(&self, name: &str, hint: usize) -> Option<FeatureRef<'_>> {
        match self.columns().get(hint) {
            Some(known) if known.name == name => self.value(hint),
            _ => self.get(name),
        }
    }

    /// The place of `name` in their order.
    #[must_use]
    pub fn place(&self, name: &str) -> Option<usize> {
        self.columns().iter().position(|known| known.name == name)
    }

    /// All features, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, FeatureRef<'_>)> + Clone {
        let columns = self.columns();
        let (slots, behind) = self.words().split_at(columns.len());
        columns.iter().zip(slots).map(move |(column, &slot)| (column.name.as_str(), read(column.kind, slot, behind)))
    }

    /// How many features there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.columns().len()
    }

    /// Whether there is no feature.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// These features with those of `other` laid over them; a name in both takes the value of `other`.
    #[must_use]
    pub fn overlaid_with(&self, other: &Self) -> Self {
        // Who sends the same features sends them in the same order, mostly.
        if self.is_empty() || self.shape() == other.shape() {
            return other.clone();
        }
        if other.is_empty() {
            return self.clone();
        }
        let mut builder = FeaturesBuilder::default();
        for (place, (name, own)) in self.iter().enumerate() {
            builder.set(name, other.get_near(name, place).unwrap_or(own));
        }
        other.iter().filter(|(name, _)| self.place(name).is_none()).for_each(|(name, value)| builder.set(name, value));
        builder.finish()
    }
}

/// The value in a slot; texts and vectors lie in the words `behind` the slots.
#[inline]
fn read(kind: Kind, slot: u64, behind: &[u64]) -> FeatureRef<'_> {
    match kind {
        Kind::Number => FeatureRef::Number(f64::from_bits(slot)),
        Kind::Text => {
            let span = span(slot, 8);
            let bytes = &bytemuck::cast_slice(&behind[span.words])[..span.length];
            // Only what is a text was written.
            FeatureRef::Text(std::str::from_utf8(bytes).unwrap_or_default())
        }
        Kind::Vector => {
            let span = span(slot, 2);
            FeatureRef::Vector(&bytemuck::cast_slice(&behind[span.words])[..span.length])
        }
    }
}

/// Where the elements of a text or a vector lie.
pub(super) struct Span {
    /// Among the words behind the slots.
    pub words: Range<usize>,
    /// In elements.
    pub length: usize,
}

/// What [`slot`] wrote, of elements of which a word holds so many.
pub(super) const fn span(slot: u64, in_a_word: usize) -> Span {
    let (start, length) = ((slot >> 32) as usize, slot as u32 as usize);
    Span { words: start..start + length.div_ceil(in_a_word), length }
}

/// A slot that says where elements begin, in words behind the slots, and how many there are.
pub(super) const fn slot(start: usize, length: usize) -> u64 {
    (start as u64) << 32 | length as u64
}

impl PartialEq for Features {
    fn eq(&self, other: &Self) -> bool {
        self.shape() == other.shape() && self.iter().eq(other.iter())
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.debug_map().entries(self.iter()).finish()
    }
}

impl<N: Into<CompactString>, V: Into<FeatureValue>> FromIterator<(N, V)> for Features {
    /// Of a name that comes again, the last value stays.
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut builder = FeaturesBuilder::default();
        for (name, value) in pairs {
            builder.set(&name.into(), &value.into());
        }
        builder.finish()
    }
}

impl Serialize for Features {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (name, value) in self.iter() {
            map.serialize_entry(name, &value)?;
        }
        map.end()
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, f64)]) -> Features {
        pairs.iter().copied().collect()
    }

    #[test]
    fn what_is_laid_over_wins_wherever_it_stands() {
        let below = of(&[("a", 1.0), ("b", 2.0), ("c", 3.0)]);
        assert_eq!(below.overlaid_with(&of(&[("a", 4.0), ("b", 5.0)])), of(&[("a", 4.0), ("b", 5.0), ("c", 3.0)]));
        let moved = of(&[("c", 4.0), ("d", 5.0), ("a", 6.0)]);
        assert_eq!(below.overlaid_with(&moved), of(&[("a", 6.0), ("b", 2.0), ("c", 4.0), ("d", 5.0)]));
        assert_eq!(Features::new().overlaid_with(&moved), moved);
        assert_eq!(moved.overlaid_with(&Features::new()), moved);
        let alike = of(&[("a", 7.0), ("b", 8.0), ("c", 9.0)]);
        assert_eq!(below.overlaid_with(&alike), alike);
    }

    #[test]
    fn a_value_is_set_whatever_its_kind_was() {
        let mut features = of(&[("a", 1.0), ("b", 2.0)]);
        features.insert("a", "a longer text than a word");
        features.insert("c", &[0.5, 1.5, 2.5][..]);
        features.insert("b", "");
        features.insert("d", "ø");
        let expected: Features = [
            ("a", FeatureValue::from("a longer text than a word")),
            ("b", "".into()),
            ("c", vec![0.5, 1.5, 2.5].into()),
            ("d", "ø".into()),
        ]
        .into_iter()
        .collect();
        assert_eq!(features, expected);
        assert_eq!(features.get("c"), Some(FeatureRef::Vector(&[0.5, 1.5, 2.5])));
        assert_eq!((features.get("e"), features.len()), (None, 4));
        features.insert("a", 3.0);
        assert_eq!(features.get("a"), Some(3.0.into()));
        assert_eq!(features.get("d"), Some("ø".into()));
    }

    #[test]
    fn features_that_look_alike_hold_their_names_once() {
        let mut shapes = Shapes::default();
        // Made by two threads, they are alike, and not the same.
        let make = || std::thread::spawn(|| of(&[("a", 1.0), ("b", 2.0)])).join().unwrap();
        let (one, other) = (make(), make());
        assert!(!Arc::ptr_eq(one.shape().unwrap(), other.shape().unwrap()));
        let shared = [one.sharing(&mut shapes), other.sharing(&mut shapes)];
        assert!(Arc::ptr_eq(shared[0].shape().unwrap(), shared[1].shape().unwrap()));
        assert!(shared[0].shares_names_with(&shared[1]) && !one.shares_names_with(&other));
        assert_eq!(shared, [one, other]);
        assert_eq!(Features::new().sharing(&mut shapes), Features::new());
        assert_eq!(shapes.0.len(), 1);
    }
}
