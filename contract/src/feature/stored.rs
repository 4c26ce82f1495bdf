//! Features as the journal's tail holds them: names once, values as they lie in memory, without loss.
//!
//! For `#[serde(with = "stored")]`, and `stored::candidates` for a decision's, in a format that tells types apart. Older
//! tails hold a map of values by name, still older ones each value as a struct of three, and both still read.

use std::fmt;
use std::sync::Arc;

use compact_str::CompactString;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::{ByteBuf, Bytes};

use super::builder::FeaturesBuilder;
use super::features::{Features, span};
use super::shape::{Column, Kind, Shape};
use super::value::FeatureValue;

/// Names, and a byte for the kind of each.
type Written<'a> = (Vec<&'a str>, ByteBuf);

/// What [`Written`] reads as.
type Read<'a> = (Vec<&'a str>, &'a Bytes);

fn written(columns: &[Column]) -> Written<'_> {
    let kinds: Vec<u8> = columns.iter().map(|column| column.kind as u8).collect();
    (columns.iter().map(|column| column.name.as_str()).collect(), ByteBuf::from(kinds))
}

fn shape((names, kinds): &Read) -> Result<Arc<Shape>, &'static str> {
    if names.len() != kinds.len() {
        return Err("names and kinds of features differ in number");
    }
    let columns = names.iter().zip(kinds.iter()).map(|(name, &kind)| {
        let kind = Kind::from_byte(kind).ok_or("a feature is of an unknown kind")?;
        Ok(Column { name: CompactString::new(name), kind })
    });
    Ok(Shape::of(&columns.collect::<Result<Vec<_>, &'static str>>()?))
}

/// Takes the features of a shape from the front of `cells`, the words of features one behind the other.
fn take(shape: &Arc<Shape>, cells: &mut &[u8]) -> Result<Features, &'static str> {
    const SHORT: &str = "the values of features are cut short";
    let columns = shape.columns();
    let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
    let (all, _) = cells.as_chunks::<8>();
    let (slots, behind) = all.split_at_checked(columns.len()).ok_or(SHORT)?;
    let mut end = 0;
    for (column, slot_of) in columns.iter().zip(slots) {
        let in_a_word = match column.kind {
            Kind::Number => continue,
            Kind::Text => 8,
            Kind::Vector => 2,
        };
        let span = span(word(slot_of), in_a_word);
        if span.words.start != end {
            return Err("the values of features lie elsewhere than where they should");
        }
        end = span.words.end;
        let bytes = behind.get(span.words).ok_or(SHORT)?.as_flattened();
        if column.kind == Kind::Text && std::str::from_utf8(&bytes[..span.length]).is_err() {
            return Err("a feature's text is no UTF-8");
        }
    }
    let words: Vec<u64> = all[..columns.len() + end].iter().map(word).collect();
    *cells = &cells[words.len() * 8..];
    Ok(Features::from_words(Arc::clone(shape), &words))
}

/// Writes names, kinds and values.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(features: &Features, serializer: S) -> Result<S::Ok, S::Error> {
    let cells = Bytes::new(bytemuck::cast_slice(features.words()));
    (written(features.columns()), cells).serialize(serializer)
}

/// Reads what [`serialize`] wrote, now or in an older version.
///
/// # Errors
/// Those of the deserializer, and what holds no features.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Features, D::Error> {
    struct FeaturesVisitor;

    impl<'de> Visitor<'de> for FeaturesVisitor {
        type Value = Features;

        fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
            formatter.write_str("features")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, sequence: A) -> Result<Features, A::Error> {
            let (names, cells) = <(Read, &Bytes)>::deserialize(SeqAccessDeserializer::new(sequence))?;
            shape(&names).and_then(|shape| take(&shape, &mut &**cells)).map_err(A::Error::custom)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Features, A::Error> {
            let mut builder = FeaturesBuilder::default();
            while let Some((name, Older(value))) = map.next_entry::<CompactString, Older>()? {
                builder.push(&name, &value).map_err(A::Error::custom)?;
            }
            Ok(builder.finish())
        }
    }

    deserializer.deserialize_any(FeaturesVisitor)
}

/// A decision's candidates: the names that many of them share once.
pub mod candidates {
    use super::*;
    use crate::event::Candidate;

    #[derive(Serialize)]
    struct WrittenAll<'a> {
        shapes: Vec<Written<'a>>,
        /// Which of the shapes each candidate's features have, four bytes each; empty where all have the first.
        of: ByteBuf,
        items: Vec<&'a str>,
        scores: Vec<Option<f32>>,
        cells: ByteBuf,
    }

    #[derive(Deserialize)]
    struct ReadAll<'a> {
        #[serde(borrow)]
        shapes: Vec<Read<'a>>,
        of: &'a Bytes,
        items: Vec<String>,
        scores: Vec<Option<f32>>,
        cells: &'a Bytes,
    }

    /// Writes candidates.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(candidates: &[Candidate], serializer: S) -> Result<S::Ok, S::Error> {
        let mut shapes: Vec<&[Column]> = Vec::new();
        let mut of = Vec::new();
        let words = candidates.iter().map(|candidate| candidate.features.words().len()).sum::<usize>();
        let mut cells = Vec::with_capacity(words * 8);
        for (place, Candidate { features, .. }) in candidates.iter().enumerate() {
            let columns = features.columns();
            // Mostly the last one's, which is the very same.
            let same = |known: &&[Column]| std::ptr::eq(*known, columns) || *known == columns;
            let at = shapes.iter().rposition(same).unwrap_or_else(|| {
                shapes.push(columns);
                shapes.len() - 1
            });
            if at > 0 && of.is_empty() {
                of.resize(place * 4, 0);
            }
            if at > 0 || !of.is_empty() {
                of.extend_from_slice(&(at as u32).to_le_bytes());
            }
            cells.extend_from_slice(bytemuck::cast_slice(features.words()));
        }
        let written = WrittenAll {
            shapes: shapes.into_iter().map(written).collect(),
            of: of.into(),
            items: candidates.iter().map(|candidate| candidate.item.as_str()).collect(),
            scores: candidates.iter().map(|candidate| candidate.score).collect(),
            cells: cells.into(),
        };
        written.serialize(serializer)
    }

    /// Reads what [`serialize`] wrote, now or in an older version.
    ///
    /// # Errors
    /// Those of the deserializer, and what holds no candidates.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Candidate>, D::Error> {
        struct CandidatesVisitor;

        impl<'de> Visitor<'de> for CandidatesVisitor {
            type Value = Vec<Candidate>;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("candidates")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, sequence: A) -> Result<Vec<Candidate>, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(sequence))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Vec<Candidate>, A::Error> {
                let all = ReadAll::deserialize(MapAccessDeserializer::new(map))?;
                unpack(all).map_err(A::Error::custom)
            }
        }

        deserializer.deserialize_any(CandidatesVisitor)
    }

    fn unpack(all: ReadAll) -> Result<Vec<Candidate>, &'static str> {
        const DIFFER: &str = "parts of candidates differ in number";
        let ReadAll { shapes, of, items, scores, cells } = all;
        let shapes = shapes.iter().map(shape).collect::<Result<Vec<_>, _>>()?;
        let (of, _) = of.as_chunks::<4>();
        if scores.len() != items.len() || !(of.is_empty() || of.len() == items.len()) {
            return Err(DIFFER);
        }
        let mut cells: &[u8] = cells;
        let candidate = |(place, (item, score)): (usize, (String, Option<f32>))| {
            let at = of.get(place).map_or(0, |at| u32::from_le_bytes(*at) as usize);
            let features = take(shapes.get(at).ok_or(DIFFER)?, &mut cells)?;
            Ok(Candidate { item, features, score })
        };
        items.into_iter().zip(scores).enumerate().map(candidate).collect()
    }
}

/// A value as older tails have it.
struct Older(FeatureValue);

impl<'de> Deserialize<'de> for Older {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OlderVisitor;

        impl<'de> Visitor<'de> for OlderVisitor {
            type Value = Older;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("a feature")
            }

            fn visit_f64<E>(self, value: f64) -> Result<Older, E> {
                Ok(Older(FeatureValue::Number(value)))
            }

            fn visit_str<E>(self, value: &str) -> Result<Older, E> {
                Ok(Older(FeatureValue::Text(value.into())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, sequence: A) -> Result<Older, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(sequence)).map(FeatureValue::Vector).map(Older)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Older, A::Error> {
                /// Exactly one field is set.
                #[derive(Deserialize)]
                struct Cell {
                    number: Option<f64>,
                    text: Option<CompactString>,
                    vector: Option<Vec<f32>>,
                }

                match Cell::deserialize(MapAccessDeserializer::new(map))? {
                    Cell { number: Some(number), text: None, vector: None } => Ok(FeatureValue::Number(number)),
                    Cell { number: None, text: Some(text), vector: None } => Ok(FeatureValue::Text(text)),
                    Cell { number: None, text: None, vector: Some(vector) } => Ok(FeatureValue::Vector(vector)),
                    _ => Err(A::Error::custom("a feature must have exactly one of number, text and vector")),
                }
                .map(Older)
            }
        }

        deserializer.deserialize_any(OlderVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Candidate;
    use crate::feature::FeatureRef;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Kept {
        #[serde(with = "super")]
        user: Features,
        #[serde(with = "super::candidates")]
        candidates: Vec<Candidate>,
    }

    fn bits(features: &Features) -> Vec<String> {
        let bits = |(name, value): (&str, FeatureRef)| match value {
            FeatureRef::Number(number) => format!("{name} {:x}", number.to_bits()),
            other => format!("{name} {other:?}"),
        };
        features.iter().map(bits).collect()
    }

    fn kept() -> Kept {
        let numbers = [0.0, -0.0, 0.1, 41.0, 16_777_217.0, f64::MAX, f64::MIN_POSITIVE, f64::NAN, f64::INFINITY];
        let mut user: Features = numbers.iter().enumerate().map(|(at, &number)| (format!("f{at}"), number)).collect();
        user.insert("city", "Oslo");
        user.insert("taste", &[0.25, f32::INFINITY, -1.0][..]);
        user.insert("long", "longer than the eight bytes of a word, ø");
        let candidate = |item: &str, features: &Features, score| Candidate {
            item: item.to_owned(),
            features: features.clone(),
            score,
        };
        let other: Features = [("size", 1.0), ("age", 2.0)].into_iter().collect();
        let candidates = vec![
            candidate("a", &other, Some(0.5)),
            candidate("b", &Features::new(), None),
            candidate("c", &user, Some(-1.0)),
            candidate("d", &other, None),
        ];
        Kept { user, candidates }
    }

    #[test]
    fn stored_values_come_back_to_the_bit() {
        let all = kept();
        for count in [0, 1, 4] {
            let kept = Kept { user: all.user.clone(), candidates: all.candidates[..count].to_vec() };
            let read: Kept = rmp_serde::from_slice(&rmp_serde::to_vec_named(&kept).unwrap()).unwrap();
            assert_eq!(bits(&read.user), bits(&kept.user));
            assert_eq!(read.candidates.len(), count);
            for (read, kept) in read.candidates.iter().zip(&kept.candidates) {
                assert_eq!((&read.item, read.score), (&kept.item, kept.score));
                assert_eq!(bits(&read.features), bits(&kept.features));
            }
        }
    }

    #[test]
    fn damaged_values_are_refused_and_never_read_beyond() {
        let bytes = rmp_serde::to_vec_named(&kept()).unwrap();
        for at in 0..bytes.len() {
            for flip in [1, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] ^= flip;
                // Whatever reads must be fit to be looked at.
                if let Ok(read) = rmp_serde::from_slice::<Kept>(&damaged) {
                    bits(&read.user);
                    read.candidates.iter().for_each(|candidate| drop(bits(&candidate.features)));
                }
            }
            assert!(rmp_serde::from_slice::<Kept>(&bytes[..at]).is_err());
        }
    }

    #[test]
    fn older_tails_still_read() {
        let named = serde_json::json!({"age": 41.5, "city": "Oslo", "taste": [0.5, 1.0]});
        let cells = serde_json::json!({
            "age": {"number": 41.5, "text": null, "vector": null},
            "city": {"number": null, "text": "Oslo", "vector": null},
            "taste": {"number": null, "text": null, "vector": [0.5, 1.0]},
        });
        let expected: Features =
            [("age", FeatureValue::Number(41.5)), ("city", "Oslo".into()), ("taste", vec![0.5, 1.0].into())]
                .into_iter()
                .collect();
        for features in [named, cells] {
            let candidates = serde_json::json!([{"item": "a", "features": features, "score": 0.5}]);
            let kept = serde_json::json!({"user": features, "candidates": candidates});
            let read: Kept = rmp_serde::from_slice(&rmp_serde::to_vec_named(&kept).unwrap()).unwrap();
            let candidates = vec![Candidate { item: "a".to_owned(), features: expected.clone(), score: Some(0.5) }];
            assert_eq!(read, Kept { user: expected.clone(), candidates });
        }
        let two = serde_json::json!({"user": {"age": {"number": 1.5, "text": "1", "vector": null}}, "candidates": []});
        assert!(rmp_serde::from_slice::<Kept>(&rmp_serde::to_vec_named(&two).unwrap()).is_err());
    }
}
