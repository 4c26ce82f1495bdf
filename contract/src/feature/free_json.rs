//! Features that come as free JSON, nested as their sender likes, to and from named features.
//!
//! | JSON | features |
//! |---|---|
//! | object | those of its values, their names behind its own and a dot: `{"user": {"age": 41}}` is `user.age` |
//! | number, string | itself |
//! | boolean | the number 1 or 0 |
//! | `null` | none |
//! | array of numbers and booleans, or without elements | one vector |
//! | array of objects | those of all of them, under the array's name |
//! | array of strings | for each a feature of the value 1, its text behind the array's name and a dot |
//!
//! An array may mix these, as other systems allow; an array within an array is refused.

use std::collections::HashSet;

use serde_json::{Map, Value};
use thiserror::Error;

use super::{FeatureRef, Features, FeaturesBuilder};

/// Which keys of the JSON are no features.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reserved {
    /// None: every key is a feature.
    #[default]
    Nothing,
    /// Those that begin with `_`, wherever they stand, as in Vowpal Wabbit's JSON; but for `_text`, whose value is split
    /// at blanks into features of the value 1.
    Underscored,
}

/// JSON that cannot become features.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum FreeJsonError {
    /// Something other than an object or an array of objects where features are to be.
    #[error("{path} is {found}, expected an object of features")]
    NoObject {
        /// Where.
        path: String,
        /// What is there.
        found: &'static str,
    },
    /// An array in an array.
    #[error("`{0}` holds an array in an array; flatten it, or give each a name of its own")]
    NestedArray(String),
    /// Two values of one name.
    #[error("feature `{0}` is given twice")]
    Twice(String),
    /// A number in an array that the 32 bits of a vector's element cannot hold.
    #[error("`{name}` holds a number beyond what a vector's 32 bits can hold: {number:e}")]
    TooLarge {
        /// The vector.
        name: String,
        /// The number.
        number: f64,
    },
}

/// The features of an object, or of an array of objects; of `null`, none.
///
/// # Errors
/// What is neither, and what no feature can hold, by name.
pub fn flatten(json: &Value, reserved: Reserved) -> Result<Features, FreeJsonError> {
    let mut flat = Flat { reserved, features: FeaturesBuilder::default() };
    match json {
        Value::Null => {}
        Value::Object(object) => flat.object("", object)?,
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                match element {
                    Value::Null => {}
                    Value::Object(object) => flat.object("", object)?,
                    other => return Err(no_object(format!("element {index}"), other)),
                }
            }
        }
        other => return Err(no_object("it".to_owned(), other)),
    }
    Ok(flat.features.finish())
}

fn no_object(path: String, found: &Value) -> FreeJsonError {
    let found = match found {
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        _ => "an array",
    };
    FreeJsonError::NoObject { path, found }
}

struct Flat {
    reserved: Reserved,
    features: FeaturesBuilder,
}

impl Flat {
    fn object(&mut self, path: &str, object: &Map<String, Value>) -> Result<(), FreeJsonError> {
        for (key, value) in object {
            if self.reserved == Reserved::Underscored && key.starts_with('_') {
                if let ("_text", Value::String(text)) = (key.as_str(), value) {
                    text.split([' ', '\t']).filter(|word| !word.is_empty()).for_each(|word| self.present(path, word));
                }
                continue;
            }
            self.value(joined(path, key), value)?;
        }
        Ok(())
    }

    fn value(&mut self, name: String, value: &Value) -> Result<(), FreeJsonError> {
        match value {
            Value::Null => Ok(()),
            Value::Bool(flag) => self.push(name, f64::from(u8::from(*flag)).into()),
            // Without `arbitrary_precision` every number of JSON is one of 64 bits.
            Value::Number(number) => self.push(name, number.as_f64().unwrap_or(f64::NAN).into()),
            Value::String(text) => self.push(name, text.as_str().into()),
            Value::Object(object) => self.object(&name, object),
            Value::Array(elements) => self.array(name, elements),
        }
    }

    fn array(&mut self, name: String, elements: &[Value]) -> Result<(), FreeJsonError> {
        let mut vector = Vec::new();
        for element in elements {
            match element {
                Value::Null => {}
                Value::Bool(flag) => vector.push(f32::from(u8::from(*flag))),
                Value::Number(number) => {
                    let number = number.as_f64().unwrap_or(f64::NAN);
                    let element = number as f32;
                    if !element.is_finite() {
                        return Err(FreeJsonError::TooLarge { name, number });
                    }
                    vector.push(element);
                }
                Value::String(text) => self.present(&name, text),
                Value::Object(object) => self.object(&name, object)?,
                Value::Array(_) => return Err(FreeJsonError::NestedArray(name)),
            }
        }
        if elements.is_empty() || !vector.is_empty() { self.push(name, vector[..].into()) } else { Ok(()) }
    }

    /// One of several texts, which may come more than once.
    fn present(&mut self, path: &str, text: &str) {
        self.features.set(&joined(path, text), 1.0);
    }

    fn push(&mut self, name: String, value: FeatureRef) -> Result<(), FreeJsonError> {
        self.features.push(&name, value).map_err(|_| FreeJsonError::Twice(name))
    }
}

fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Features as JSON, nested at the dots of their names, so that [`flatten`] gives the same features back: where `a` and
/// `a.b` are both features, the second stays a key with a dot. Names that are reserved are left out. A number that is not
/// finite becomes `null`.
#[must_use]
pub fn nest(features: &Features, reserved: Reserved) -> Map<String, Value> {
    let kept = || features.iter().filter(|(name, _)| !is_reserved(name, reserved));
    let names: HashSet<&str> = kept().map(|(name, _)| name).collect();
    let mut root = Map::new();
    for (name, value) in kept() {
        insert(&mut root, &names, name, 0, serde_json::to_value(value).unwrap_or(Value::Null));
    }
    root
}

/// Puts the value of a feature into the object of what stands before `from` in its name.
fn insert(object: &mut Map<String, Value>, names: &HashSet<&str>, name: &str, from: usize, value: Value) {
    // An object cannot stand where a feature does; and behind no name it would be the same object.
    let mut dots = name.match_indices('.').map(|(dot, _)| dot);
    let Some(dot) = dots.find(|&dot| dot >= from && dot > 0 && !names.contains(&name[..dot])) else {
        object.insert(name[from..].to_owned(), value);
        return;
    };
    // Whether what stands before a dot becomes an object depends on that alone, so that what is there is one.
    let inner = object.entry(&name[from..dot]).or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(inner) = inner {
        insert(inner, names, name, dot + 1, value);
    }
}

/// Whether [`nest`] leaves a feature of this name out.
#[must_use]
pub fn is_reserved(name: &str, reserved: Reserved) -> bool {
    reserved == Reserved::Underscored && name.split('.').any(|part| part.starts_with('_'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::feature::FeatureValue;

    fn flat(json: &Value) -> Features {
        flatten(json, Reserved::Nothing).unwrap()
    }

    /// The same features, whatever their order.
    fn sorted(features: &Features) -> Vec<(String, FeatureValue)> {
        let mut pairs: Vec<_> = features.iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        pairs
    }

    #[test]
    fn nesting_becomes_dots_and_each_kind_its_own_value() {
        let found = flat(&json!({
            "user": {"age": 41, "vip": true, "gone": null, "home": {"city": "Oslo"}},
            "taste": [1, 2.5, false],
            "none": [],
            "tags": ["new", "sale", "new"],
            "parts": [{"colour": "red"}, null, {"size": {"cm": 3}}, 7],
        }));
        let expected: Features = [
            ("user.age", FeatureValue::Number(41.0)),
            ("user.vip", FeatureValue::Number(1.0)),
            ("user.home.city", "Oslo".into()),
            ("taste", vec![1.0, 2.5, 0.0].into()),
            ("none", Vec::<f32>::new().into()),
            ("tags.new", FeatureValue::Number(1.0)),
            ("tags.sale", FeatureValue::Number(1.0)),
            ("parts.colour", "red".into()),
            ("parts.size.cm", FeatureValue::Number(3.0)),
            ("parts", vec![7.0].into()),
        ]
        .into_iter()
        .collect();
        assert_eq!(sorted(&found), sorted(&expected));
        assert_eq!(flat(&Value::Null), Features::new());
        let list = flat(&json!([{"a": 1}, null, {"b": 2}]));
        assert_eq!(sorted(&list), sorted(&flat(&json!({"a": 1, "b": 2}))));
    }

    #[test]
    fn reserved_keys_are_no_features_but_for_text() {
        let json = json!({"_tag": "x", "a": {"_x": {"b": 1}, "c": 2}, "title": {"_text": "new  red\tshoes"}});
        let found = flatten(&json, Reserved::Underscored).unwrap();
        let expected = [("a.c", 2.0), ("title.new", 1.0), ("title.red", 1.0), ("title.shoes", 1.0)];
        assert_eq!(sorted(&found), sorted(&expected.into_iter().collect()));
        assert_eq!(flat(&json).len(), 4);
        let named: Features = [("a._x", 1.0), ("_y", 1.0), ("z_", 1.0)].into_iter().collect();
        assert_eq!(Value::Object(nest(&named, Reserved::Underscored)), json!({"z_": 1.0}));
    }

    #[test]
    fn what_no_feature_can_hold_is_refused_by_name() {
        let error = |json: Value| flatten(&json, Reserved::Nothing).unwrap_err().to_string();
        assert!(error(json!({"a": {"b": [[1]]}})).contains("`a.b` holds an array in an array"));
        assert!(error(json!({"a": {"b": 1}, "a.b": 2})).contains("`a.b` is given twice"));
        assert!(error(json!([{"a": 1}, {"a": 1}])).contains("`a` is given twice"));
        assert!(error(json!({"a": [1e39]})).contains("`a` holds a number beyond"));
        assert!(error(json!([{"a": 1}, 3])).contains("element 1 is a number"));
        assert!(error(json!("text")).contains("it is a string"));
    }

    #[test]
    fn a_name_that_is_the_beginning_of_another_keeps_both() {
        for names in [["a", "a.b", "a.b.c"], ["a.b.c", "a.b", "a"], ["a.b.c", "a", "a.b"]] {
            let features: Features = names.iter().map(|name| (*name, 1.0)).collect();
            assert_eq!(
                sorted(&flat(&Value::Object(nest(&features, Reserved::Nothing)))),
                sorted(&features),
                "{names:?}"
            );
        }
    }

    fn value() -> impl Strategy<Value = FeatureValue> {
        prop_oneof![
            any::<f64>()
                .prop_filter("JSON has finite numbers", |number| number.is_finite())
                .prop_map(FeatureValue::Number),
            "[a-z_ .]{0,4}".prop_map(|text| FeatureValue::Text(text.into())),
            prop::collection::vec(any::<f32>().prop_filter("finite", |number| number.is_finite()), 0..3)
                .prop_map(FeatureValue::Vector),
        ]
    }

    proptest! {
        #[test]
        fn features_come_back_from_their_nesting(pairs in prop::collection::vec(("[ab.]{0,5}", value()), 0..8)) {
            let features: Features = pairs.into_iter().collect();
            let nested = Value::Object(nest(&features, Reserved::Nothing));
            let text = serde_json::to_string(&nested).unwrap();
            prop_assert_eq!(sorted(&flat(&serde_json::from_str(&text).unwrap())), sorted(&features));
        }
    }
}
