//! A graph with the contract's tensors as its inputs and outputs, built node by node.

use prost::Message;
use slated_contract::tensor::{Axis, ElementType, Signature, TensorSpec};
use thiserror::Error;

use super::proto::{self, dimension::Length};

/// Old enough that every ONNX Runtime in use reads it.
const OPSET: i64 = 17;
/// The IR version that came with it.
const IR_VERSION: i64 = 8;

const FLOAT: i32 = 1;
const INT64: i32 = 7;
const BOOL: i32 = 9;

/// The name of a tensor in the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value(String);

/// A graph that cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OnnxError {
    /// A constant whose values do not fill its shape.
    #[error("constant of shape {shape:?} with {given} values")]
    Constant {
        /// Its shape.
        shape: Vec<usize>,
        /// How many values it was given.
        given: usize,
    },
    /// An input that the signature does not have, or an output that was not named.
    #[error("the signature has no tensor `{0}` here")]
    Tensor(String),
}

/// Builds one model. Names of nodes are numbered, so the same calls give the same bytes.
#[derive(Debug)]
pub struct GraphBuilder {
    signature: Signature,
    graph: proto::Graph,
    outputs: Vec<String>,
}

impl GraphBuilder {
    /// An empty graph with the inputs and outputs of `signature`.
    #[must_use]
    pub fn new(name: &str, signature: Signature) -> Self {
        let graph = proto::Graph {
            name: name.to_owned(),
            input: signature.inputs().iter().map(value_info).collect(),
            output: signature.outputs().iter().map(value_info).collect(),
            ..proto::Graph::default()
        };
        Self { signature, graph, outputs: Vec::new() }
    }

    /// An input of the signature.
    ///
    /// # Errors
    /// The signature has none of this name.
    pub fn input(&self, name: &str) -> Result<Value, OnnxError> {
        let known = self.signature.inputs().iter().any(|spec| spec.name == name);
        if known { Ok(Value(name.to_owned())) } else { Err(OnnxError::Tensor(name.to_owned())) }
    }

    /// A float32 constant, row-major.
    ///
    /// # Errors
    /// Values that do not fill the shape.
    pub fn constant(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Result<Value, OnnxError> {
        if shape.iter().product::<usize>() != values.len() {
            return Err(OnnxError::Constant { shape: shape.to_vec(), given: values.len() });
        }
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Ok(self.initializer(name, FLOAT, shape, raw))
    }

    /// A constant list of integers, for shapes and axes.
    pub fn integers(&mut self, name: &str, values: &[i64]) -> Value {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(name, INT64, &[values.len()], raw)
    }

    fn initializer(&mut self, name: &str, data_type: i32, shape: &[usize], raw_data: Vec<u8>) -> Value {
        let dims = shape.iter().map(|&length| length as i64).collect();
        self.graph.initializer.push(proto::Tensor { dims, data_type, name: name.to_owned(), raw_data });
        Value(name.to_owned())
    }

    /// Applies an operator of one output.
    pub fn node(&mut self, operator: &str, inputs: &[&Value]) -> Value {
        self.push(operator, inputs, Vec::new())
    }

    /// Applies an operator with one integer attribute.
    pub fn node_with(&mut self, operator: &str, inputs: &[&Value], name: &str, value: i64) -> Value {
        self.push(
            operator,
            inputs,
            vec![proto::Attribute { name: name.to_owned(), i: value, ints: Vec::new(), kind: 2 }],
        )
    }

    /// Reduces over `axes`, dropping them.
    pub fn reduce(&mut self, operator: &str, input: &Value, axes: &[i64]) -> Value {
        let axes = proto::Attribute { name: "axes".to_owned(), i: 0, ints: axes.to_vec(), kind: 7 };
        let drop = proto::Attribute { name: "keepdims".to_owned(), i: 0, ints: Vec::new(), kind: 2 };
        self.push(operator, &[input], vec![axes, drop])
    }

    /// Reorders the axes.
    pub fn transpose(&mut self, input: &Value, axes: &[i64]) -> Value {
        let order = proto::Attribute { name: "perm".to_owned(), i: 0, ints: axes.to_vec(), kind: 7 };
        self.push("Transpose", &[input], vec![order])
    }

    /// Applies an operator of several outputs, some of whose inputs may be left out, with integer attributes.
    pub fn node_of(
        &mut self,
        operator: &str,
        inputs: &[Option<&Value>],
        attributes: &[(&str, i64)],
        outputs: usize,
    ) -> Vec<Value> {
        let name = format!("{}_{}", operator.to_lowercase(), self.graph.node.len());
        let output: Vec<String> = (0..outputs).map(|index| format!("{name}_{index}")).collect();
        let integer =
            |&(name, i): &(&str, i64)| proto::Attribute { name: name.to_owned(), i, ints: Vec::new(), kind: 2 };
        self.graph.node.push(proto::Node {
            // An empty name stands for an input that is left out.
            input: inputs.iter().map(|value| value.map_or_else(String::new, |value| value.0.clone())).collect(),
            output: output.clone(),
            name,
            op_type: operator.to_owned(),
            attribute: attributes.iter().map(integer).collect(),
        });
        output.into_iter().map(Value).collect()
    }

    fn push(&mut self, operator: &str, inputs: &[&Value], attribute: Vec<proto::Attribute>) -> Value {
        let name = format!("{}_{}", operator.to_lowercase(), self.graph.node.len());
        self.graph.node.push(proto::Node {
            input: inputs.iter().map(|value| value.0.clone()).collect(),
            output: vec![name.clone()],
            name: name.clone(),
            op_type: operator.to_owned(),
            attribute,
        });
        Value(name)
    }

    /// Makes `value` the output `name` of the signature.
    ///
    /// # Errors
    /// The signature has none of this name.
    pub fn output(&mut self, name: &str, value: &Value) -> Result<(), OnnxError> {
        if !self.signature.outputs().iter().any(|spec| spec.name == name) {
            return Err(OnnxError::Tensor(name.to_owned()));
        }
        self.graph.node.push(proto::Node {
            input: vec![value.0.clone()],
            output: vec![name.to_owned()],
            name: format!("output_{name}"),
            op_type: "Identity".to_owned(),
            attribute: Vec::new(),
        });
        self.outputs.push(name.to_owned());
        Ok(())
    }

    /// The model's bytes.
    ///
    /// # Errors
    /// An output of the signature that was not given.
    pub fn finish(self) -> Result<Vec<u8>, OnnxError> {
        if let Some(spec) =
            self.signature.outputs().iter().find(|spec| !self.outputs.iter().any(|name| name == spec.name))
        {
            return Err(OnnxError::Tensor(spec.name.to_owned()));
        }
        let model = proto::Model {
            ir_version: IR_VERSION,
            producer_name: "slated".to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            graph: Some(self.graph),
            opset_import: vec![proto::OperatorSetId { domain: String::new(), version: OPSET }],
        };
        Ok(model.encode_to_vec())
    }
}

/// A tensor of the signature as an input or output of a graph.
pub(super) fn value_info(spec: &TensorSpec) -> proto::ValueInfo {
    let element = match spec.element {
        ElementType::Float32 => FLOAT,
        ElementType::Int64 => INT64,
        ElementType::Bool => BOOL,
    };
    let length = |axis: &Axis| match axis {
        Axis::Dynamic(name) => Length::Name((*name).to_owned()),
        Axis::Fixed(length) => Length::Value(*length as i64),
    };
    let dim = spec.axes.iter().map(|axis| proto::Dimension { length: Some(length(axis)) }).collect();
    let tensor = proto::TensorType { element, shape: Some(proto::Shape { dim }) };
    proto::ValueInfo { name: spec.name.to_owned(), kind: Some(proto::Type { tensor: Some(tensor) }) }
}
