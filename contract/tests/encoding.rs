//! Encoding is total on valid input, always finite, and does what the schema declares.

use proptest::prelude::*;
use slated_contract::feature::{
    EncodeErrorKind, Encoder, Extra, Feature, FeatureKind, FeatureSchema, FeatureValue, Features, Group, Missing,
    Normalisation, OutOfRange, Range, Unknown,
};

fn feature(name: &str, kind: FeatureKind, missing: Missing) -> Feature {
    Feature { name: name.to_owned(), kind, missing }
}

fn numeric(normalisation: Normalisation, range: Option<(f64, f64)>, out_of_range: OutOfRange) -> FeatureKind {
    FeatureKind::Numeric { normalisation, range: range.map(|(min, max)| Range { min, max }), out_of_range }
}

fn normalisation() -> impl Strategy<Value = Normalisation> {
    let number = prop_oneof![-1e6..1e6, Just(0.0), Just(1e300), Just(-1e300), Just(f64::MIN_POSITIVE)];
    prop_oneof![
        Just(Normalisation::Identity),
        Just(Normalisation::Log),
        (number.clone(), prop_oneof![1e-300..1e-3, 1e-3..1e6])
            .prop_map(|(mean, deviation)| Normalisation::Standard { mean, deviation }),
        (number, 1e-6..1e6).prop_filter_map("ascending", |(min, width)| {
            let max = min + width;
            (max > min).then_some(Normalisation::MinMax { min, max })
        }),
    ]
}

fn kind() -> impl Strategy<Value = FeatureKind> {
    let range = proptest::option::of((-1e3..1e3, 0.0..1e3).prop_map(|(min, width)| (min, min + width)));
    let out_of_range = prop_oneof![Just(OutOfRange::Error), Just(OutOfRange::Clip)];
    let unknown = prop_oneof![Just(Unknown::Error), Just(Unknown::Zeros), Just(Unknown::Bucket)];
    prop_oneof![
        (normalisation(), range, out_of_range).prop_map(|(normalisation, range, out)| numeric(
            normalisation,
            range,
            out
        )),
        (proptest::collection::btree_set("\\PC{0,6}", 1..20), unknown)
            .prop_map(|(words, unknown)| FeatureKind::Categorical { vocabulary: words.into_iter().collect(), unknown }),
        (1_u32..64, any::<u64>()).prop_map(|(buckets, salt)| FeatureKind::Hashed { buckets, salt }),
        (proptest::collection::btree_set("\\PC{0,6}", 0..20), 1_u32..4)
            .prop_map(|(words, spare)| FeatureKind::Index { vocabulary: words.into_iter().collect(), spare }),
        (1_u32..8).prop_map(|dimensions| FeatureKind::Embedding { dimensions }),
    ]
}

/// Any value at all, hostile ones included.
fn value() -> impl Strategy<Value = FeatureValue> {
    prop_oneof![
        proptest::num::f64::ANY.prop_map(FeatureValue::Number),
        (-1e3..1e3).prop_map(FeatureValue::Number),
        "\\PC{0,6}".prop_map(|text: String| FeatureValue::Text(text.as_str().into())),
        proptest::collection::vec(proptest::num::f32::ANY, 0..8).prop_map(FeatureValue::Vector),
    ]
}

fn schema() -> impl Strategy<Value = FeatureSchema> {
    let missing = prop_oneof![Just(Missing::Error), Just(Missing::Zeros)];
    let rest = (1_u32..64, any::<u64>(), normalisation())
        .prop_map(|(buckets, salt, normalisation)| FeatureKind::Rest { buckets, salt, normalisation });
    let rest = proptest::option::of((rest, 0_usize..5));
    let features = (proptest::collection::vec((kind(), missing), 0..5), rest).prop_map(|(mut features, rest)| {
        if let Some((rest, place)) = rest {
            features.insert(place.min(features.len()), (rest, Missing::Error));
        }
        features
            .into_iter()
            .enumerate()
            .map(|(at, (kind, missing))| feature(&format!("f{at}"), kind, missing))
            .collect::<Vec<_>>()
    });
    (features, prop_oneof![Just(Extra::Ignore), Just(Extra::Error)]).prop_map(|(item, extra)| FeatureSchema {
        item,
        extra,
        ..FeatureSchema::default()
    })
}

proptest! {
    #[test]
    fn whatever_is_accepted_is_finite_and_of_the_declared_width(
        schema in schema(),
        values in proptest::collection::vec((0_usize..7, value()), 0..8),
    ) {
        let encoder = Encoder::new(&schema).unwrap();
        let raw: Features = values.into_iter().map(|(at, value)| (format!("f{at}"), value)).collect();
        let mut row = vec![7.0];
        match encoder.encode_item("id", &raw, &mut row) {
            Ok(()) => {
                prop_assert_eq!(row.len(), 1 + encoder.item_width());
                prop_assert_eq!(encoder.item_columns().len(), encoder.item_width());
                prop_assert!(row.iter().all(|number| number.is_finite()), "{:?}", row);
                // The order in which a request names its features does not matter.
                let reversed: Features = raw.iter().collect::<Vec<_>>().into_iter().rev().collect();
                let mut again = vec![7.0];
                encoder.encode_item("id", &reversed, &mut again).unwrap();
                prop_assert_eq!(row, again);
            }
            Err(error) => {
                prop_assert_eq!(row, vec![7.0], "an error leaves the row as it was");
                prop_assert_eq!(error.group, Group::Item);
                let named = error.to_string().contains(&error.feature);
                prop_assert!(named, "{}", error);
            }
        }
    }

    #[test]
    fn many_items_encode_as_each_does(
        schema in schema(),
        all in proptest::collection::vec(proptest::collection::vec((0_usize..3, value()), 0..4), 0..6),
    ) {
        let encoder = Encoder::new(&schema).unwrap();
        let features = |values: Vec<(usize, FeatureValue)>| {
            values.into_iter().map(|(at, value)| (format!("f{at}"), value)).collect::<Features>()
        };
        // Twice, so that names come again.
        let all: Vec<Features> = all.into_iter().map(features).flat_map(|features| [features.clone(), features]).collect();
        let mut rows = vec![7.0];
        let result = encoder.encode_items(all.iter().map(|features| ("id", features)), &mut rows);
        let mut expected = vec![7.0];
        let refused = all.iter().enumerate().find_map(|(index, features)| {
            encoder.encode_item("id", features, &mut expected).err().map(|error| (index, error))
        });
        match refused {
            Some(refused) => {
                prop_assert_eq!(rows, vec![7.0]);
                // What is not a number is not equal to itself.
                prop_assert_eq!(format!("{result:?}"), format!("{:?}", Err::<(), _>(refused)));
            }
            None => {
                prop_assert!(result.is_ok());
                prop_assert_eq!(rows, expected);
            }
        }
    }

    #[test]
    fn values_of_the_declared_kind_and_range_are_always_accepted(
        schema in schema(),
        number in -1e3..1e3_f64,
        word in "\\PC{0,6}",
    ) {
        let encoder = Encoder::new(&schema).unwrap();
        let valid = |kind: &FeatureKind| match kind {
            FeatureKind::Numeric { range, normalisation, .. } => {
                let inside = range.map_or(number, |range| number.clamp(range.min, range.max));
                // A normalisation may carry a valid number beyond 32 bits, which is an error by design.
                let fits = normalisation.apply(inside).abs() <= f64::from(f32::MAX);
                fits.then_some(FeatureValue::Number(inside))
            }
            FeatureKind::Categorical { vocabulary, .. } => Some(vocabulary[0].as_str().into()),
            FeatureKind::Hashed { .. } | FeatureKind::Index { .. } => Some(word.as_str().into()),
            FeatureKind::Embedding { dimensions } => Some(vec![number as f32; *dimensions as usize].into()),
            FeatureKind::Rest { normalisation, .. } => {
                let fits = normalisation.apply(number).abs() <= f64::from(f32::MAX);
                fits.then_some(FeatureValue::Number(number))
            }
        };
        let values: Option<Vec<_>> = schema.item.iter().map(|feature| Some((feature.name.as_str(), valid(&feature.kind)?))).collect();
        if let Some(values) = values {
            let raw: Features = values.into_iter().collect();
            prop_assert!(encoder.encode_item("id", &raw, &mut Vec::new()).is_ok());
        }
    }

    #[test]
    fn a_schema_survives_json(schema in schema()) {
        let json = serde_json::to_string(&schema).unwrap();
        prop_assert_eq!(&serde_json::from_str::<FeatureSchema>(&json).unwrap(), &schema);
    }
}

/// A schema with one item feature, and what it makes of a value.
fn encode(kind: FeatureKind, missing: Missing, value: Option<FeatureValue>) -> Result<Vec<f32>, EncodeErrorKind> {
    let schema = FeatureSchema { item: vec![feature("x", kind, missing)], ..FeatureSchema::default() };
    let raw: Features = value.map(|value| ("x", value)).into_iter().collect();
    let mut row = Vec::new();
    Encoder::new(&schema).unwrap().encode_item("id", &raw, &mut row).map(|()| row).map_err(|error| error.kind)
}

#[test]
fn a_missing_feature_does_what_is_declared() {
    let kind = || numeric(Normalisation::Standard { mean: 2.0, deviation: 4.0 }, None, OutOfRange::Error);
    assert_eq!(encode(kind(), Missing::Error, None), Err(EncodeErrorKind::Missing));
    assert_eq!(encode(kind(), Missing::Zeros, None), Ok(vec![0.0]));
    assert_eq!(encode(kind(), Missing::Default(10.0.into()), None), Ok(vec![2.0]));
}

#[test]
fn an_out_of_range_feature_does_what_is_declared() {
    let kind = |out| numeric(Normalisation::MinMax { min: 0.0, max: 10.0 }, Some((0.0, 10.0)), out);
    let value = || Some(FeatureValue::Number(20.0));
    let error = EncodeErrorKind::OutOfRange { value: 20.0, min: 0.0, max: 10.0 };
    assert_eq!(encode(kind(OutOfRange::Error), Missing::Error, value()), Err(error));
    assert_eq!(encode(kind(OutOfRange::Clip), Missing::Error, value()), Ok(vec![1.0]));
    let unlimited = |out| numeric(Normalisation::Identity, None, out);
    assert!(encode(unlimited(OutOfRange::Error), Missing::Error, Some(1e300.into())).is_err());
    assert_eq!(encode(unlimited(OutOfRange::Clip), Missing::Error, Some(1e300.into())), Ok(vec![f32::MAX]));
    for hostile in [f64::NAN, f64::INFINITY] {
        assert_eq!(
            encode(unlimited(OutOfRange::Clip), Missing::Error, Some(hostile.into())),
            Err(EncodeErrorKind::NotFinite)
        );
    }
}

#[test]
fn an_unknown_category_does_what_is_declared() {
    let kind = |unknown| FeatureKind::Categorical { vocabulary: vec!["a".to_owned(), "7".to_owned()], unknown };
    let error = EncodeErrorKind::UnknownCategory { category: "b".to_owned(), known: 2 };
    assert_eq!(encode(kind(Unknown::Error), Missing::Error, Some("b".into())), Err(error));
    assert_eq!(encode(kind(Unknown::Zeros), Missing::Error, Some("b".into())), Ok(vec![0.0, 0.0]));
    assert_eq!(encode(kind(Unknown::Bucket), Missing::Error, Some("b".into())), Ok(vec![0.0, 0.0, 1.0]));
    assert_eq!(
        encode(kind(Unknown::Error), Missing::Error, Some(7.0.into())),
        Ok(vec![0.0, 1.0]),
        "numbers name categories"
    );
}

#[test]
fn hashing_is_fixed_for_ever() {
    let row = encode(FeatureKind::Hashed { buckets: 10, salt: 3 }, Missing::Error, Some("Oslo".into())).unwrap();
    assert_eq!(row.iter().sum::<f32>(), 1.0);
    // A model trained today must find the same column tomorrow.
    assert_eq!(row.iter().position(|&x| x == 1.0), Some(HASH_OF_OSLO));
}

const HASH_OF_OSLO: usize = 2;

/// The rest of a group is what no other declaration names, whatever its kind; each key has its own column and sign.
#[test]
fn the_rest_is_hashed() {
    let rest = FeatureKind::Rest { buckets: 64, salt: 3, normalisation: Normalisation::Log };
    let declared = numeric(Normalisation::Identity, None, OutOfRange::Error);
    let schema = FeatureSchema {
        item: vec![feature("rest", rest, Missing::Error), feature("x", declared, Missing::Error)],
        extra: Extra::Error,
        ..FeatureSchema::default()
    };
    let encoder = Encoder::new(&schema).unwrap();
    let encode = |features: &[(&str, FeatureValue)]| {
        let raw: Features = features.iter().cloned().chain([("x", 7.0.into())]).collect();
        let mut row = Vec::new();
        encoder.encode_item("id", &raw, &mut row).map(|()| row)
    };
    let nothing = encode(&[]).unwrap();
    assert!(nothing[..64].iter().all(|&x| x == 0.0) && nothing[64] == 7.0, "{nothing:?}");
    let set = |row: &[f32]| -> Vec<(usize, f32)> {
        row[..64].iter().copied().enumerate().filter(|(_, x)| *x != 0.0).collect()
    };
    let city = set(&encode(&[("city", "Oslo".into())]).unwrap());
    // A model trained today must find the same columns and signs tomorrow.
    assert_eq!(city, CITY_OF_OSLO);
    let price = set(&encode(&[("price", (std::f64::consts::E - 1.0).into())]).unwrap());
    assert_eq!(price, [(PRICE.0, PRICE.1)]);
    assert_eq!(set(&encode(&[("vector", vec![0.0, 1.0, -1.0].into())]).unwrap()).len(), 2);
    let both = encode(&[("price", (std::f64::consts::E - 1.0).into()), ("city", "Oslo".into())]).unwrap();
    assert_eq!(set(&both).len(), 2, "they add up");
    let error = encode(&[("city", f64::NAN.into())]).unwrap_err();
    assert_eq!((error.feature.as_str(), error.kind), ("city", EncodeErrorKind::NotFinite));
    // Its own name is none that a request carries, so a feature of that name is part of the rest.
    assert_eq!(set(&encode(&[("rest", "a".into())]).unwrap()).len(), 1);
    assert!(schema.reads(Group::Item, "anything") && !schema.reads(Group::Context, "anything"));
}

const CITY_OF_OSLO: [(usize, f32); 1] = [(42, 1.0)];
const PRICE: (usize, f32) = (19, 1.0);

#[test]
fn an_undeclared_feature_is_ignored_or_refused() {
    for (extra, accepted) in [(Extra::Ignore, true), (Extra::Error, false)] {
        let schema = FeatureSchema { extra, ..FeatureSchema::default() };
        let raw: Features = [("surprise", 1.0)].into_iter().collect();
        let result = Encoder::new(&schema).unwrap().encode_item("id", &raw, &mut Vec::new());
        assert_eq!(result.is_ok(), accepted, "{result:?}");
    }
}

#[test]
fn schemas_that_cannot_be_used_name_the_feature() {
    let cases = [
        (numeric(Normalisation::Standard { mean: 0.0, deviation: 0.0 }, None, OutOfRange::Error), "deviation"),
        (numeric(Normalisation::Identity, Some((2.0, 1.0)), OutOfRange::Error), "range"),
        (
            FeatureKind::Categorical { vocabulary: vec!["a".to_owned(), "a".to_owned()], unknown: Unknown::Error },
            "twice",
        ),
        (FeatureKind::Hashed { buckets: 0, salt: 0 }, "width"),
    ];
    for (kind, word) in cases {
        let schema = FeatureSchema { user: vec![feature("x", kind, Missing::Error)], ..FeatureSchema::default() };
        let error = Encoder::new(&schema).unwrap_err().to_string();
        assert!(error.contains("user feature `x`") && error.contains(word), "{error}");
    }
    let rest = |name| {
        feature(name, FeatureKind::Rest { buckets: 8, salt: 0, normalisation: Normalisation::Identity }, Missing::Error)
    };
    let twice = FeatureSchema { user: vec![rest("a"), rest("x")], ..FeatureSchema::default() };
    let error = Encoder::new(&twice).unwrap_err().to_string();
    assert!(error.contains("user feature `x`") && error.contains("at most"), "{error}");
    let bad_default =
        feature("x", numeric(Normalisation::Identity, None, OutOfRange::Error), Missing::Default("a".into()));
    let error = Encoder::new(&FeatureSchema { item: vec![bad_default], ..FeatureSchema::default() }).unwrap_err();
    assert!(error.to_string().contains("default"), "{error}");
}

#[test]
fn an_items_id_is_encoded_behind_its_features() {
    let x = feature("x", numeric(Normalisation::Identity, None, OutOfRange::Error), Missing::Error);
    let ids = vec!["b".to_owned(), "a".to_owned()];
    let encode = |kind: FeatureKind, id: &str| {
        let schema = FeatureSchema { item: vec![x.clone()], item_id: Some(kind), ..FeatureSchema::default() };
        let encoder = Encoder::new(&schema)?;
        let mut row = Vec::new();
        encoder.encode_item(id, &[("x", 7.0)].into_iter().collect(), &mut row).unwrap();
        assert_eq!((row.len(), row.len()), (encoder.item_width(), encoder.item_columns().len()));
        Ok::<_, slated_contract::feature::SchemaError>(row)
    };
    let index = || FeatureKind::Index { vocabulary: ids.clone(), spare: 2 };
    assert_eq!(encode(index(), "b").unwrap(), [7.0, 1.0]);
    assert_eq!(encode(index(), "a").unwrap(), [7.0, 2.0]);
    let unknown: Vec<f32> = (0..50).map(|id| encode(index(), &format!("new-{id}")).unwrap()[1]).collect();
    assert!(
        unknown.contains(&3.0) && unknown.contains(&4.0) && unknown.iter().all(|&place| place == 3.0 || place == 4.0)
    );
    let one_hot = FeatureKind::Categorical { vocabulary: ids.clone(), unknown: Unknown::Bucket };
    assert_eq!(encode(one_hot.clone(), "a").unwrap(), [7.0, 0.0, 1.0, 0.0]);
    assert_eq!(encode(one_hot, "c").unwrap(), [7.0, 0.0, 0.0, 1.0]);
    let error = encode(numeric(Normalisation::Identity, None, OutOfRange::Error), "a").unwrap_err().to_string();
    assert!(error.contains("`item_id`") && error.contains("hashed"), "{error}");
    let error = encode(FeatureKind::Index { vocabulary: ids.clone(), spare: 0 }, "a").unwrap_err().to_string();
    assert!(error.contains("`spare` at least 1"), "{error}");
}

#[test]
fn a_misspelt_key_is_an_error() {
    for text in [
        r#"{"item": [{"name": "x", "kind": "numeric", "rnage": {"min": 0, "max": 1}}]}"#,
        r#"{"items": []}"#,
        r#"{"item": [{"name": "x", "kind": "hashed", "buckets": 8, "missing": "zeroes"}]}"#,
    ] {
        assert!(serde_json::from_str::<FeatureSchema>(text).is_err(), "{text}");
    }
}
