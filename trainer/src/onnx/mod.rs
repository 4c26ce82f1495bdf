//! Writing ONNX models.

mod graph;
mod proto;

pub use graph::{GraphBuilder, OnnxError, Value};
