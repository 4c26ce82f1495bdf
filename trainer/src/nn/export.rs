//! The network as an ONNX graph.

use super::CandidateNetwork;
use super::dense::Dense;
use super::gru::Gru;
use crate::onnx::{GraphBuilder, OnnxError, Value};
use slated_contract::tensor::{HISTORY, HISTORY_LENGTH, ITEMS, MASK, STATE};

impl CandidateNetwork {
    /// Adds the network to a graph: \[batch, candidates, O\] from the contract's inputs, or \[batch, 1, O\] where it reads
    /// no items. A dueling network reads `mask`.
    ///
    /// # Errors
    /// A signature that lacks an input.
    pub fn graph(&self, graph: &mut GraphBuilder, name: &str, parameters: &[f32]) -> Result<Value, OnnxError> {
        let mut writer = Writer { graph, name, parameters };
        let (context, middle, rows) = self.scorer_graph(&mut writer, self.scorer.layers.len())?;
        let Some(value) = &self.value else { return Ok(rows) };
        let mut stream = context;
        for (index, layer) in value.layers.iter().enumerate() {
            stream = writer.dense(layer, &format!("value.{index}"), &stream)?;
        }
        let stream = writer.graph.node("Unsqueeze", &[&stream, &middle]);
        let mask = writer.graph.input(MASK)?;
        let mask = writer.graph.node_with("Cast", &[&mask], "to", 1);
        let last = writer.integers("last_axis", &[2]);
        let mask = writer.graph.node("Unsqueeze", &[&mask, &last]);
        let masked = writer.graph.node("Mul", &[&rows, &mask]);
        let sum = writer.graph.node_with("ReduceSum", &[&masked, &middle], "keepdims", 1);
        let count = writer.graph.node_with("ReduceSum", &[&mask, &middle], "keepdims", 1);
        let mean = writer.graph.node("Div", &[&sum, &count]);
        let shift = writer.graph.node("Sub", &[&stream, &mean]);
        Ok(writer.graph.node("Add", &[&rows, &shift]))
    }

    /// Adds the network up to its last hidden layer, \[batch, candidates, width\], without a value stream.
    ///
    /// # Errors
    /// As for [`CandidateNetwork::graph`].
    pub fn features_graph(&self, graph: &mut GraphBuilder, name: &str, parameters: &[f32]) -> Result<Value, OnnxError> {
        let mut writer = Writer { graph, name, parameters };
        let (.., rows) = self.scorer_graph(&mut writer, self.scorer.layers.len().saturating_sub(1))?;
        Ok(rows)
    }

    /// The first `layers` layers of the scorer: the state with its history, the axis of candidates, and their rows.
    fn scorer_graph(&self, writer: &mut Writer, layers: usize) -> Result<(Value, Value, Value), OnnxError> {
        let state = writer.graph.input(STATE)?;
        let context = match &self.gru {
            None => state,
            Some(gru) => {
                let hidden = writer.gru(gru)?;
                writer.graph.node_with("Concat", &[&state, &hidden], "axis", 1)
            }
        };
        let first = &self.scorer.layers[0];
        let values = &writer.parameters[self.state_weight.clone()];
        let state_weight = writer.constant("state.weight", &[self.context, first.output], values)?;
        let part = writer.graph.node("MatMul", &[&context, &state_weight]);
        let part = writer.bias(first, "scorer.0", &part)?;
        let middle = writer.integers("middle_axis", &[1]);
        let part = writer.graph.node("Unsqueeze", &[&part, &middle]);
        let mut rows = part;
        if first.input > 0 {
            let items = writer.graph.input(ITEMS)?;
            let weight = writer.weight(first, "scorer.0")?;
            let own = writer.graph.node("MatMul", &[&items, &weight]);
            rows = writer.graph.node("Add", &[&own, &rows]);
        }
        if first.relu {
            rows = writer.graph.node("Relu", &[&rows]);
        }
        for (index, layer) in self.scorer.layers.iter().enumerate().take(layers).skip(1) {
            rows = writer.dense(layer, &format!("scorer.{index}"), &rows)?;
        }
        Ok((context, middle, rows))
    }
}

/// Writes constants under the network's name.
struct Writer<'a> {
    graph: &'a mut GraphBuilder,
    name: &'a str,
    parameters: &'a [f32],
}

impl Writer<'_> {
    fn constant(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Result<Value, OnnxError> {
        self.graph.constant(&format!("{}.{name}", self.name), shape, values)
    }

    fn integers(&mut self, name: &str, values: &[i64]) -> Value {
        self.graph.integers(&format!("{}.{name}", self.name), values)
    }

    fn weight(&mut self, layer: &Dense, name: &str) -> Result<Value, OnnxError> {
        let values = &self.parameters[layer.weight.clone()];
        self.constant(&format!("{name}.weight"), &[layer.input, layer.output], values)
    }

    fn bias(&mut self, layer: &Dense, name: &str, input: &Value) -> Result<Value, OnnxError> {
        let bias = self.constant(&format!("{name}.bias"), &[layer.output], &self.parameters[layer.bias.clone()])?;
        Ok(self.graph.node("Add", &[input, &bias]))
    }

    fn dense(&mut self, layer: &Dense, name: &str, input: &Value) -> Result<Value, OnnxError> {
        let weight = self.weight(layer, name)?;
        let product = self.graph.node("MatMul", &[input, &weight]);
        let sum = self.bias(layer, name, &product)?;
        Ok(if layer.relu { self.graph.node("Relu", &[&sum]) } else { sum })
    }

    /// The hidden state after the last interaction, \[batch, G\]; zeros where there is none.
    fn gru(&mut self, gru: &Gru) -> Result<Value, OnnxError> {
        let (g, f) = (gru.units, gru.input);
        let transposed = |values: &[f32], rows: usize| -> Vec<f32> {
            (0..values.len()).map(|at| values[at % rows * 3 * g + at / rows]).collect()
        };
        let weight = transposed(&self.parameters[gru.weight.clone()], f);
        let recurrence = transposed(&self.parameters[gru.recurrence.clone()], g);
        let biases = [&self.parameters[gru.bias.clone()], &self.parameters[gru.recurrence_bias.clone()]].concat();
        let weight = self.constant("history.weight", &[1, 3 * g, f], &weight)?;
        let recurrence = self.constant("history.recurrence", &[1, 3 * g, g], &recurrence)?;
        let biases = self.constant("history.bias", &[1, 6 * g], &biases)?;
        let history = self.graph.input(HISTORY)?;
        let steps_first = self.graph.transpose(&history, &[1, 0, 2]);
        let length = self.graph.input(HISTORY_LENGTH)?;
        // Not every runtime takes a length of zero: such a row runs one step over zeros, and its result is cut.
        let one = self.integers("one", &[1]);
        let at_least_one = self.graph.node("Max", &[&length, &one]);
        let steps = self.graph.node_with("Cast", &[&at_least_one], "to", 6);
        let inputs = [Some(&steps_first), Some(&weight), Some(&recurrence), Some(&biases), Some(&steps)];
        let attributes = [("hidden_size", g as i64), ("linear_before_reset", 1)];
        let outputs = self.graph.node_of("GRU", &inputs, &attributes, 2);
        let first_axis = self.integers("first_axis", &[0]);
        let hidden = self.graph.node("Squeeze", &[&outputs[1], &first_axis]);
        let zero = self.integers("zero", &[0]);
        let any = self.graph.node("Greater", &[&length, &zero]);
        let any = self.graph.node_with("Cast", &[&any], "to", 1);
        let column = self.integers("column_axis", &[1]);
        let any = self.graph.node("Unsqueeze", &[&any, &column]);
        Ok(self.graph.node("Mul", &[&hidden, &any]))
    }
}
