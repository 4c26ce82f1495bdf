//! Writing ONNX models, and adapting those that others wrote.

pub mod foreign;
mod graph;
mod proto;

pub use graph::{GraphBuilder, OnnxError, Value};
