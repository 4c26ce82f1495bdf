//! Between the protocol's tensors and a model's batch.

use std::collections::HashMap;
use std::fmt;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::de::{DeserializeSeed, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use slated_contract::policy::Manifest;
use slated_contract::tensor::{
    APPEAL, Axis, ElementType, HISTORY, HISTORY_LENGTH, ITEMS, MASK, NOISE, STATE, Signature, TensorSpec,
};

use super::super::Problem;
use super::body::JSON_LENGTH;
use super::message::{BinarySize, InferenceRequest, InferenceResponse, InputTensor, OutputTensor, datatype};
use crate::serving::{Batch, Output};

/// The most rows of one request: the data does not limit those of a model whose tensors have no width.
const MOST_ROWS: usize = 4096;

/// The batch that a request's tensors are, of at most so many candidates.
///
/// # Errors
/// What is wrong, with the name of the tensor and what is expected of it.
pub fn read(inputs: &[InputTensor], binary: &[u8], signature: &Signature, candidates: usize) -> Result<Batch, String> {
    let specs = signature.inputs();
    let mut sources = locate(inputs, binary, &specs)?;
    let mut lengths =
        Lengths { most: HashMap::from([("batch", MOST_ROWS), ("candidates", candidates)]), known: HashMap::new() };
    let mut batch = Batch::default();
    for spec in &specs {
        let (input, source) = sources.remove(spec.name).ok_or_else(|| {
            let expected = specs.iter().map(|spec| format!("`{}` {}", spec.name, shape_of(spec))).collect::<Vec<_>>();
            format!("input `{}` is missing; the model takes {}", spec.name, expected.join(", "))
        })?;
        if input.datatype != datatype(spec.element) {
            return Err(format!("input `{}` is {}, expected {}", spec.name, input.datatype, datatype(spec.element)));
        }
        let count = lengths.count(input, spec)?;
        let values = source.values(spec, count).map_err(|error| format!("input `{}` {error}", spec.name))?;
        match (spec.name, values) {
            (STATE, Values::Floats(values)) => batch.state = values,
            (ITEMS, Values::Floats(values)) => batch.items = values,
            (MASK, Values::Booleans(values)) => batch.mask = values,
            (HISTORY, Values::Floats(values)) => batch.history = values,
            (HISTORY_LENGTH, Values::Integers(values)) => batch.history_length = values,
            (NOISE, Values::Floats(values)) => batch.noise = values,
            (name, _) => return Err(format!("input `{name}` is not one that requests carry")),
        }
    }
    if let Some(window) = signature.history {
        let outside = batch.history_length.iter().find(|length| !(0..=window as i64).contains(*length));
        if let Some(length) = outside {
            return Err(format!("input `{HISTORY_LENGTH}` holds {length}, allowed are 0 to {window}"));
        }
    }
    batch.rows = lengths.known.get("batch").map_or(0, |(length, _)| *length);
    batch.candidates = lengths.known.get("candidates").map_or(0, |(length, _)| *length);
    Ok(batch)
}

/// Each input with where its values are, by name.
fn locate<'a>(
    inputs: &'a [InputTensor],
    mut binary: &'a [u8],
    specs: &[TensorSpec],
) -> Result<HashMap<&'a str, (&'a InputTensor, Source<'a>)>, String> {
    let mut sources = HashMap::new();
    for input in inputs {
        let name = input.name.as_str();
        if !specs.iter().any(|spec| spec.name == name) {
            let known = specs.iter().map(|spec| spec.name).collect::<Vec<_>>().join(", ");
            return Err(format!("the model has no input `{name}`; it takes {known}"));
        }
        if input.parameters.shared_memory_region.is_some() {
            return Err(format!("input `{name}` is in shared memory, which is not to be had here; send its values"));
        }
        let source = match (&input.data, input.parameters.binary_data_size) {
            (Some(_), Some(_)) => return Err(format!("input `{name}` has both `data` and `binary_data_size`")),
            (None, None) => return Err(format!("input `{name}` has neither `data` nor `binary_data_size`")),
            (Some(data), None) => Source::Json(data),
            (None, Some(size)) => {
                let (own, rest) = binary.split_at_checked(size).ok_or_else(|| {
                    format!("input `{name}` has {size} binary bytes, but only {} are left of the body", binary.len())
                })?;
                binary = rest;
                Source::Binary(own)
            }
        };
        if sources.insert(name, (input, source)).is_some() {
            return Err(format!("input `{name}` is given twice"));
        }
    }
    if binary.is_empty() { Ok(sources) } else { Err(format!("{} binary bytes belong to no input", binary.len())) }
}

fn shape_of(spec: &TensorSpec) -> String {
    let axes: Vec<String> = spec.axes.iter().map(ToString::to_string).collect();
    format!("{} [{}]", datatype(spec.element), axes.join(", "))
}

/// The lengths of the axes that a request chooses.
struct Lengths {
    most: HashMap<&'static str, usize>,
    /// With the first tensor that had it.
    known: HashMap<&'static str, (usize, &'static str)>,
}

impl Lengths {
    /// How many values an input's shape holds.
    fn count(&mut self, input: &InputTensor, spec: &TensorSpec) -> Result<usize, String> {
        let wrong = || format!("input `{}` has shape {:?}, expected {}", spec.name, input.shape, shape_of(spec));
        if input.shape.len() != spec.axes.len() {
            return Err(wrong());
        }
        let mut count = 1_usize;
        for (&length, axis) in input.shape.iter().zip(&spec.axes) {
            let length = usize::try_from(length).map_err(|_| wrong())?;
            match *axis {
                Axis::Fixed(expected) if length != expected => return Err(wrong()),
                Axis::Fixed(_) => {}
                Axis::Dynamic(axis) => self.agree(axis, length, spec.name)?,
            }
            count = count.checked_mul(length).ok_or_else(wrong)?;
        }
        Ok(count)
    }

    fn agree(&mut self, axis: &'static str, length: usize, tensor: &'static str) -> Result<(), String> {
        let most = self.most.get(axis).copied().unwrap_or(usize::MAX);
        if length == 0 || length > most {
            return Err(format!("input `{tensor}` has {length} for its axis `{axis}`, allowed are 1 to {most}"));
        }
        let (known, first) = *self.known.entry(axis).or_insert((length, tensor));
        if known == length {
            return Ok(());
        }
        Err(format!("input `{tensor}` has {length} for its axis `{axis}`, but `{first}` has {known}"))
    }
}

/// Where an input's values are.
enum Source<'a> {
    Json(&'a RawValue),
    Binary(&'a [u8]),
}

enum Values {
    Floats(Vec<f32>),
    Integers(Vec<i64>),
    Booleans(Vec<bool>),
}

impl Source<'_> {
    /// Exactly `count` values; every float is finite, as the service's own are.
    fn values(&self, spec: &TensorSpec, count: usize) -> Result<Values, String> {
        let depth = spec.axes.len();
        match spec.element {
            ElementType::Float32 => {
                let floats: Vec<f32> = match self {
                    Self::Json(_) => self.listed::<f64>(count, depth)?.into_iter().map(|value| value as f32).collect(),
                    Self::Binary(_) => self.bytes::<4>(count)?.map(f32::from_le_bytes).collect(),
                };
                match floats.iter().position(|value| !value.is_finite()) {
                    Some(index) => Err(format!("is not finite as a 32-bit float at index {index}")),
                    None => Ok(Values::Floats(floats)),
                }
            }
            ElementType::Int64 => Ok(Values::Integers(match self {
                Self::Json(_) => self.listed(count, depth)?,
                Self::Binary(_) => self.bytes::<8>(count)?.map(i64::from_le_bytes).collect(),
            })),
            ElementType::Bool => Ok(Values::Booleans(match self {
                Self::Json(_) => self.listed(count, depth)?,
                Self::Binary(_) => {
                    let truth = |[byte]: [u8; 1]| match byte {
                        0 => Ok(false),
                        1 => Ok(true),
                        byte => Err(format!("holds the byte {byte}; a BOOL is 0 or 1")),
                    };
                    self.bytes::<1>(count)?.map(truth).collect::<Result<_, _>>()?
                }
            })),
        }
    }

    fn listed<T: for<'de> Deserialize<'de>>(&self, count: usize, depth: usize) -> Result<Vec<T>, String> {
        let Self::Json(text) = self else { return Ok(Vec::new()) };
        let mut values = Vec::new();
        let mut reader = serde_json::Deserializer::from_str(text.get());
        Flat { values: &mut values, most: count, depth }
            .deserialize(&mut reader)
            .map_err(|error| format!("cannot be read: {error}"))?;
        if values.len() == count {
            return Ok(values);
        }
        Err(format!("has {} values, its shape {count}", values.len()))
    }

    fn bytes<const N: usize>(&self, count: usize) -> Result<impl Iterator<Item = [u8; N]> + '_, String> {
        let Self::Binary(bytes) = self else { return Err("is not binary".to_owned()) };
        let (values, rest) = bytes.as_chunks::<N>();
        if values.len() == count && rest.is_empty() {
            return Ok(values.iter().copied());
        }
        Err(format!("has {} binary bytes, its shape {count} values of {N} bytes", bytes.len()))
    }
}

/// Reads an array, flat or nested as deep as the tensor, into one list; stops at the first value too many.
struct Flat<'a, T> {
    values: &'a mut Vec<T>,
    most: usize,
    /// How many brackets an array may begin with: whoever sends a million of them must not exhaust the stack.
    depth: usize,
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Flat<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Flat<'_, T> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("an array, flat or nested")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        while let Some(element) = array.next_element::<&RawValue>()? {
            let text = element.get();
            let inner = |error: serde_json::Error| -> A::Error { serde::de::Error::custom(error) };
            if text.starts_with('[') {
                let depth = self.depth - 1;
                if depth == 0 {
                    return Err(serde::de::Error::custom("its arrays are nested deeper than its shape"));
                }
                let mut reader = serde_json::Deserializer::from_str(text);
                Flat { values: self.values, most: self.most, depth }.deserialize(&mut reader).map_err(inner)?;
            } else if self.values.len() < self.most {
                self.values.push(serde_json::from_str(text).map_err(inner)?);
            } else {
                return Err(serde::de::Error::custom(format_args!(
                    "there are more values than its shape's {}",
                    self.most
                )));
            }
        }
        Ok(())
    }
}

/// The outputs that a request asks for.
pub struct Asked(Vec<(TensorSpec, bool)>);

impl Asked {
    /// Reads what a request asks for.
    ///
    /// # Errors
    /// What is wrong, with the name of the output.
    pub fn new(request: &InferenceRequest, signature: &Signature) -> Result<Self, String> {
        if request.parameters.sequence_id.is_some() {
            return Err("`parameters.sequence_id`: models here keep no state between requests".to_owned());
        }
        let binary = request.parameters.binary_data_output;
        let mut specs = signature.outputs();
        if request.outputs.is_empty() {
            return Ok(Self(specs.into_iter().map(|spec| (spec, binary)).collect()));
        }
        let known = specs.iter().map(|spec| spec.name).collect::<Vec<_>>().join(", ");
        let mut asked = Vec::new();
        for wanted in &request.outputs {
            let (name, parameters) = (&wanted.name, &wanted.parameters);
            if parameters.classification.is_some() || parameters.shared_memory_region.is_some() {
                return Err(format!("output `{name}`: classes and shared memory are not to be had here"));
            }
            let place = specs.iter().position(|spec| spec.name == name).ok_or_else(|| {
                format!("the model has no output `{name}`, or it is asked for twice; it gives {known}")
            })?;
            asked.push((specs.remove(place), parameters.binary_data.unwrap_or(binary)));
        }
        Ok(Self(asked))
    }

    /// The answer with those outputs, of `shape` each.
    pub fn answer(
        self,
        manifest: &Manifest,
        id: Option<String>,
        shape: &[usize],
        output: &Output,
    ) -> Result<Response, Problem> {
        let mut binary = Vec::new();
        let mut any_binary = false;
        let mut outputs = Vec::new();
        for (spec, as_binary) in self.0 {
            let values = if spec.name == APPEAL { &output.appeal } else { &output.scores };
            any_binary |= as_binary;
            let mut tensor = OutputTensor {
                name: spec.name,
                datatype: datatype(spec.element),
                shape: shape.to_vec(),
                parameters: None,
                data: None,
            };
            if as_binary {
                binary.extend(values.iter().flat_map(|value| value.to_le_bytes()));
                tensor.parameters = Some(BinarySize { binary_data_size: values.len() * size_of::<f32>() });
            } else if values.iter().all(|value| value.is_finite()) {
                tensor.data = Some(values.clone());
            } else {
                let name = spec.name;
                return Err(Problem::internal(format!(
                    "output `{name}` of the model holds a number that JSON has not"
                )));
            }
            outputs.push(tensor);
        }
        let (model_name, model_version) = (manifest.name.clone(), manifest.version.to_string());
        let response = InferenceResponse { model_name, model_version, id, outputs };
        if !any_binary {
            return Ok(axum::Json(response).into_response());
        }
        let mut body = serde_json::to_vec(&response).map_err(Problem::internal)?;
        let length = HeaderValue::from(body.len());
        body.append(&mut binary);
        let kind = HeaderValue::from_static("application/octet-stream");
        Ok(([(header::CONTENT_TYPE, kind), (JSON_LENGTH, length)], Body::from(body)).into_response())
    }
}
