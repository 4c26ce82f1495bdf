//! Whole episodes, as the new API stack records them: MessagePack, arrays in `msgpack_numpy`'s form.

use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::numpy::array;

/// The state of an episode, arrays as lists.
///
/// # Errors
/// What is no MessagePack, and arrays that hold no numbers.
pub fn unpack(bytes: &[u8]) -> Result<Value, String> {
    let packed: Packed = rmp_serde::from_slice(bytes).map_err(|error| format!("it is no MessagePack: {error}"))?;
    packed.json()
}

/// What MessagePack holds, of which JSON has no bytes.
#[derive(Debug, Clone, PartialEq)]
enum Packed {
    Json(Value),
    Bytes(Vec<u8>),
    List(Vec<Self>),
    Pairs(Vec<(Self, Self)>),
}

impl Packed {
    fn json(self) -> Result<Value, String> {
        match self {
            Self::Json(value) => Ok(value),
            Self::Bytes(bytes) => Ok(Value::String(String::from_utf8_lossy(&bytes).into_owned())),
            Self::List(elements) => elements.into_iter().map(Self::json).collect(),
            Self::Pairs(pairs) => {
                let is = |key: &Self, name: &str| *key == Self::Bytes(name.into()) || *key == Self::Json(name.into());
                let of = |name: &str| pairs.iter().find(|(key, _)| is(key, name)).map(|(_, value)| value);
                if let (Some(_), Some(Self::Bytes(data))) = (of("nd"), of("data")) {
                    let Some(Self::Json(Value::String(dtype))) = of("type") else {
                        return Err("it holds an array whose type is no number's".to_owned());
                    };
                    let shape = of("shape").cloned().map_or(Ok(Value::Array(Vec::new())), Self::json)?;
                    let shape: Vec<usize> = serde_json::from_value(shape).map_err(|error| error.to_string())?;
                    return array(dtype, &shape, false, data);
                }
                let pair = |(key, value): (Self, Self)| {
                    let key = match key.json()? {
                        Value::String(key) => key,
                        other => other.to_string(),
                    };
                    Ok((key, value.json()?))
                };
                Ok(Value::Object(pairs.into_iter().map(pair).collect::<Result<Map<_, _>, String>>()?))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Packed;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("MessagePack")
            }

            fn visit_unit<E>(self) -> Result<Packed, E> {
                Ok(Packed::Json(Value::Null))
            }

            fn visit_none<E>(self) -> Result<Packed, E> {
                Ok(Packed::Json(Value::Null))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Packed, E> {
                Ok(Packed::Json(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Packed, E> {
                Ok(Packed::Json(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Packed, E> {
                Ok(Packed::Json(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Packed, E> {
                Ok(Packed::Json(value.into()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Packed, E> {
                Ok(Packed::Json(value.into()))
            }

            fn visit_bytes<E>(self, value: &[u8]) -> Result<Packed, E> {
                Ok(Packed::Bytes(value.to_vec()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Packed, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = sequence.next_element()? {
                    elements.push(element);
                }
                Ok(Packed::List(elements))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Packed, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Packed::Pairs(pairs))
            }
        }

        deserializer.deserialize_any(Any)
    }
}
