//! The protocol's messages.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use slated_contract::policy::Manifest;
use slated_contract::tensor::{Axis, ElementType, TensorSpec};
use utoipa::ToSchema;

use crate::schema;

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
pub struct InferenceError {
    /// What is wrong with the request, and what to do.
    #[schema(example = "input `items` is FP64, expected FP32")]
    pub error: String,
}

/// What the service is.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServerMetadata {
    /// Always `slated`.
    #[schema(example = "slated")]
    pub name: &'static str,
    /// The version of slated.
    #[schema(example = "0.1.0")]
    pub version: &'static str,
    /// The extensions of the protocol that it has.
    #[schema(value_type = Vec<String>, example = json!(["binary_tensor_data"]))]
    pub extensions: [&'static str; 1],
}

/// The process lives.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServerLive {
    /// Always true.
    #[schema(example = true)]
    pub live: bool,
}

/// The service can answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServerReady {
    /// Always true.
    #[schema(example = true)]
    pub ready: bool,
}

/// A policy answers.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelReady {
    /// Its name.
    #[schema(example = "open-bandit")]
    pub name: String,
    /// Always true.
    #[schema(example = true)]
    pub ready: bool,
}

/// A model's tensors.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelMetadata {
    /// The policy's name.
    #[schema(example = "open-bandit")]
    pub name: String,
    /// The versions that its route names.
    #[schema(example = json!(["1"]))]
    pub versions: Vec<String>,
    /// Always `onnxruntime_onnx`.
    #[schema(example = "onnxruntime_onnx")]
    pub platform: &'static str,
    /// What it takes.
    pub inputs: Vec<TensorMetadata>,
    /// What it gives.
    pub outputs: Vec<TensorMetadata>,
}

/// One tensor of a model.
#[derive(Debug, Serialize, ToSchema)]
pub struct TensorMetadata {
    /// Its name.
    #[schema(example = "items")]
    pub name: &'static str,
    /// What it holds: FP32, INT64 or BOOL.
    #[schema(example = "FP32")]
    pub datatype: &'static str,
    /// Its shape; -1 is any length: the batch, or the candidates.
    #[schema(example = json!([-1, -1, 8]))]
    pub shape: Vec<i64>,
}

/// Tensors to run a model on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InferenceRequest {
    /// The caller's id for this request; it comes back with the answer.
    #[schema(example = "42")]
    #[serde(default)]
    pub id: Option<String>,
    /// How to answer.
    #[serde(default)]
    pub parameters: RequestParameters,
    /// The model's inputs, each once, in any order.
    #[schema(example = json!([
        {"name": "state", "datatype": "FP32", "shape": [1, 2], "data": [0.5, 1.0]},
        {"name": "items", "datatype": "FP32", "shape": [1, 2, 1], "data": [0.1, 0.9]},
    ]))]
    pub inputs: Vec<InputTensor>,
    /// The outputs wanted; all of them where absent.
    #[schema(example = json!([{"name": "scores"}]))]
    #[serde(default)]
    pub outputs: Vec<WantedTensor>,
}

/// How to answer. Other parameters are ignored, but for those of sequences, which are an error.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct RequestParameters {
    /// Whether outputs come as binary tensors, where they do not say so themselves.
    #[schema(example = false)]
    pub binary_data_output: bool,
    /// Not to be had: a model here keeps no state between requests.
    #[schema(value_type = Option<u64>, example = json!(null))]
    pub sequence_id: Option<Value>,
}

/// One input.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InputTensor {
    /// Its name.
    #[schema(example = "state")]
    pub name: String,
    /// What it holds: FP32, INT64 or BOOL, as the model has it.
    #[schema(example = "FP32")]
    pub datatype: String,
    /// Its shape.
    #[schema(value_type = Vec<u64>, example = json!([1, 2]))]
    pub shape: Vec<u64>,
    /// Where its values are.
    #[serde(default)]
    pub parameters: InputParameters,
    /// Its values, row-major, flat or nested; absent where they are binary.
    #[schema(value_type = Option<Vec<schema::TensorPart>>, example = json!([0.5, 1.0]))]
    #[serde(default)]
    pub data: Option<Box<RawValue>>,
}

/// Where an input's values are. Other parameters are ignored, but for those of shared memory, which are an error.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct InputParameters {
    /// How many bytes of the binary part are this input's: little-endian, row-major, in the order of the inputs.
    #[schema(example = 8)]
    pub binary_data_size: Option<usize>,
    /// Not to be had.
    #[schema(value_type = Option<String>, example = json!(null))]
    pub shared_memory_region: Option<Value>,
}

/// An output that is wanted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WantedTensor {
    /// Its name.
    #[schema(example = "scores")]
    pub name: String,
    /// How it is wanted.
    #[serde(default)]
    pub parameters: OutputParameters,
}

/// How an output is wanted. Other parameters are ignored, but for those of classes and shared memory, which are an error.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct OutputParameters {
    /// Whether it comes as a binary tensor.
    #[schema(example = false)]
    pub binary_data: Option<bool>,
    /// Not to be had.
    #[schema(value_type = Option<u64>, example = json!(null))]
    pub classification: Option<Value>,
    /// Not to be had.
    #[schema(value_type = Option<String>, example = json!(null))]
    pub shared_memory_region: Option<Value>,
}

/// What the model says.
#[derive(Debug, Serialize, ToSchema)]
pub struct InferenceResponse {
    /// The policy's name.
    #[schema(example = "open-bandit")]
    pub model_name: String,
    /// The version that answered.
    #[schema(example = "1")]
    pub model_version: String,
    /// The request's id.
    #[schema(example = "42")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The outputs, in the order in which they were asked for.
    pub outputs: Vec<OutputTensor>,
}

/// One output.
#[derive(Debug, Serialize, ToSchema)]
pub struct OutputTensor {
    /// Its name.
    #[schema(example = "scores")]
    pub name: &'static str,
    /// What it holds.
    #[schema(example = "FP32")]
    pub datatype: &'static str,
    /// Its shape, \[batch, candidates\].
    #[schema(value_type = Vec<u64>, example = json!([1, 2]))]
    pub shape: Vec<usize>,
    /// Where its values are; absent where they are here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<BinarySize>,
    /// Its values, row-major; absent where they are binary.
    #[schema(example = json!([0.2, 0.7]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Vec<f32>>,
}

/// How long a binary tensor is.
#[derive(Debug, Serialize, ToSchema)]
pub struct BinarySize {
    /// How many bytes of the binary part are this output's: little-endian, row-major, in the order of the outputs.
    #[schema(example = 8)]
    pub binary_data_size: usize,
}

impl ModelMetadata {
    /// The tensors of a manifest's signature.
    pub fn new(manifest: &Manifest, versions: Vec<String>) -> Self {
        let tensors = |specs: Vec<TensorSpec>| specs.iter().map(TensorMetadata::from).collect();
        Self {
            name: manifest.name.clone(),
            versions,
            platform: "onnxruntime_onnx",
            inputs: tensors(manifest.signature.inputs()),
            outputs: tensors(manifest.signature.outputs()),
        }
    }
}

impl From<&TensorSpec> for TensorMetadata {
    fn from(spec: &TensorSpec) -> Self {
        let length = |axis: &Axis| match *axis {
            Axis::Dynamic(_) => -1,
            Axis::Fixed(length) => length as i64,
        };
        Self { name: spec.name, datatype: datatype(spec.element), shape: spec.axes.iter().map(length).collect() }
    }
}

/// The protocol's name of an element type.
pub const fn datatype(element: ElementType) -> &'static str {
    match element {
        ElementType::Float32 => "FP32",
        ElementType::Int64 => "INT64",
        ElementType::Bool => "BOOL",
    }
}
