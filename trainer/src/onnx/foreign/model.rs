//! What a foreign model says of itself.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use prost::Message;

use super::super::proto;
use super::carry::inlined;
use super::wire::fields;
use super::{ForeignError, wire};

/// An ONNX model that someone else wrote.
#[derive(Debug, Clone)]
pub struct ForeignModel {
    /// Its bytes, with weights that stood in other files.
    pub(super) bytes: Vec<u8>,
    /// What wrote it, such as `pytorch 2.15.0`; empty where it does not say.
    pub producer: String,
    /// Its opset of ONNX's own operators; `None` where it uses none of them.
    pub opset: Option<i64>,
    /// What it takes.
    pub inputs: Vec<ForeignTensor>,
    /// What it gives.
    pub outputs: Vec<ForeignTensor>,
}

/// An input or output of a foreign model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignTensor {
    /// Its name.
    pub name: String,
    /// `TensorProto.DataType`; 0 for what is no tensor.
    pub(super) element: i32,
    /// Its axes; `None` where the model does not say how many.
    pub shape: Option<Vec<Dimension>>,
    /// The tensor inside, for an output of scikit-learn's that puts a tensor into a list of maps.
    pub(super) zipped: Option<String>,
}

/// The length of an axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dimension {
    /// Always this.
    Fixed(usize),
    /// Any.
    Free,
}

pub(super) const FLOAT: i32 = 1;
pub(super) const INT32: i32 = 6;
pub(super) const INT64: i32 = 7;
pub(super) const STRING: i32 = 8;
pub(super) const BOOL: i32 = 9;
pub(super) const FLOAT16: i32 = 10;
pub(super) const DOUBLE: i32 = 11;

/// The published names of the element types, by number.
const ELEMENTS: [&str; 17] = [
    "no tensor",
    "float32",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "int32",
    "int64",
    "string",
    "bool",
    "float16",
    "float64",
    "uint32",
    "uint64",
    "complex64",
    "complex128",
    "bfloat16",
];

impl ForeignTensor {
    /// Its element type's name.
    #[must_use]
    pub fn element_name(&self) -> &'static str {
        usize::try_from(self.element).ok().and_then(|element| ELEMENTS.get(element)).copied().unwrap_or("unknown")
    }

    /// How many axes it has, where the model says so.
    #[must_use]
    pub fn rank(&self) -> Option<usize> {
        self.shape.as_ref().map(Vec::len)
    }

    /// The fixed length of an axis; `None` where it is free or unknown.
    #[must_use]
    pub fn length(&self, axis: usize) -> Option<usize> {
        match self.shape.as_ref()?.get(axis)? {
            Dimension::Fixed(length) => Some(*length),
            Dimension::Free => None,
        }
    }
}

impl fmt::Display for ForeignTensor {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        if self.zipped.is_some() {
            return write!(formatter, "a list of maps");
        }
        let Some(shape) = &self.shape else { return write!(formatter, "{}", self.element_name()) };
        let axes: Vec<String> = shape.iter().map(ToString::to_string).collect();
        write!(formatter, "{}[{}]", self.element_name(), axes.join(", "))
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Fixed(length) => write!(formatter, "{length}"),
            Self::Free => formatter.write_str("?"),
        }
    }
}

impl ForeignModel {
    /// Reads a model. `folder` is where weights lie that the model keeps in files beside it.
    ///
    /// # Errors
    /// Bytes that are no model, weights that are not there.
    pub fn read(bytes: &[u8], folder: &Path) -> Result<Self, ForeignError> {
        let bytes = inlined(bytes, folder)?;
        let (mut producer, mut producer_version, mut opset) = (String::new(), String::new(), None);
        let (mut graph, mut imports): (&[u8], usize) = (&[], 0);
        for field in fields(&bytes)? {
            match field.tag {
                2 => producer = field.text()?.to_owned(),
                3 => producer_version = field.text()?.to_owned(),
                7 => graph = field.bytes(),
                8 => {
                    imports += 1;
                    let import: proto::OperatorSetId = decode(field.bytes())?;
                    if import.domain.is_empty() || import.domain == "ai.onnx" {
                        opset = Some(import.version);
                    }
                }
                _ => {}
            }
        }
        if graph.is_empty() {
            return Err(ForeignError::Damaged("it has no graph".to_owned()));
        }
        if imports == 0 {
            return Err(ForeignError::Damaged("it does not say which operators it uses".to_owned()));
        }
        let graph = Graph::read(graph)?;
        let inputs = graph.inputs.into_iter().filter(|input| !graph.weights.contains(&input.name)).collect();
        let outputs = graph.outputs.into_iter().map(|output| unzipped(output, &graph.zipped)).collect();
        let producer = format!("{producer} {producer_version}").trim().to_owned();
        Ok(Self { producer, opset, inputs, outputs, bytes })
    }

    /// Its bytes, with weights that stood in other files.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A `ZipMap` node: what it takes, what it gives, and for how many classes.
pub(super) struct Zipped {
    pub input: String,
    pub output: String,
    pub classes: usize,
}

struct Graph {
    inputs: Vec<ForeignTensor>,
    outputs: Vec<ForeignTensor>,
    weights: HashSet<String>,
    zipped: Vec<Zipped>,
}

impl Graph {
    fn read(graph: &[u8]) -> Result<Self, ForeignError> {
        let mut read = Self { inputs: Vec::new(), outputs: Vec::new(), weights: HashSet::new(), zipped: Vec::new() };
        for field in fields(graph)? {
            match field.tag {
                1 => read.zipped.extend(zip_map(field.bytes())?),
                5 => {
                    let name = fields(field.bytes())?.into_iter().find(|field| field.tag == 8);
                    read.weights.extend(name.map(|name| name.text().map(str::to_owned)).transpose()?);
                }
                11 => read.inputs.push(tensor(field.bytes())?),
                12 => read.outputs.push(tensor(field.bytes())?),
                _ => {}
            }
        }
        Ok(read)
    }
}

/// The node, if it is a `ZipMap`: skl2onnx puts one behind a classifier's probabilities unless told otherwise.
pub(super) fn zip_map(node: &[u8]) -> Result<Option<Zipped>, ForeignError> {
    let parts = fields(node)?;
    let text = |tag: u32| parts.iter().find(|field| field.tag == tag).map(wire::Field::text).transpose();
    if text(4)? != Some("ZipMap") {
        return Ok(None);
    }
    // `classlabels_int64s` or `classlabels_strings`: the numbers of an attribute are field 8, packed or not, its texts 9.
    let mut classes = 0;
    for attribute in parts.iter().filter(|field| field.tag == 5) {
        for field in fields(attribute.bytes())? {
            classes += match (field.tag, field.content) {
                (8, wire::Content::Number(_)) | (9, _) => 1,
                (8, _) => field.bytes().iter().filter(|byte| **byte < 0x80).count(),
                _ => 0,
            };
        }
    }
    let (input, output) = (text(1)?.unwrap_or_default().to_owned(), text(2)?.unwrap_or_default().to_owned());
    Ok(Some(Zipped { input, output, classes }))
}

fn unzipped(output: ForeignTensor, zipped: &[Zipped]) -> ForeignTensor {
    let Some(zip) = zipped.iter().find(|zip| zip.output == output.name) else { return output };
    let shape = Some(vec![Dimension::Free, Dimension::Fixed(zip.classes)]);
    ForeignTensor { name: output.name, element: FLOAT, shape, zipped: Some(zip.input.clone()) }
}

fn tensor(value_info: &[u8]) -> Result<ForeignTensor, ForeignError> {
    let info: proto::ValueInfo = decode(value_info)?;
    let tensor = info.kind.and_then(|kind| kind.tensor);
    let length = |dimension: &proto::Dimension| match dimension.length {
        Some(proto::dimension::Length::Value(length)) => {
            usize::try_from(length).map_or(Dimension::Free, Dimension::Fixed)
        }
        _ => Dimension::Free,
    };
    let shape = tensor.as_ref().and_then(|tensor| tensor.shape.as_ref());
    let shape = shape.map(|shape| shape.dim.iter().map(length).collect());
    Ok(ForeignTensor { name: info.name, element: tensor.map_or(0, |tensor| tensor.element), shape, zipped: None })
}

fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, ForeignError> {
    M::decode(bytes).map_err(|error| ForeignError::Damaged(error.to_string()))
}
