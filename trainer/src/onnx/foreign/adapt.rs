//! The nodes before and behind a graph that was carried over.

use prost::Message;
use slated_contract::tensor::{HISTORY, HISTORY_LENGTH, ITEMS, MASK, NOISE, STATE};

use super::super::graph::value_info;
use super::super::proto;
use super::ForeignError;
use super::carry::{self, renamed};
use super::model::{FLOAT, ForeignModel, ForeignTensor, INT64, zip_map};
use super::plan::{Layout, Output, Plan};
use super::source::{Columns, Source};
use super::wire::{fields, put};

/// The least opset in which the nodes of an adaptation mean what they must.
const LEAST_OPSET: i64 = 8;
/// The least one that has `Scan` as it is used here.
const SCAN_OPSET: i64 = 9;
/// What is imported where a model has no operator of ONNX's own.
const OWN_OPSET: i64 = 17;
/// From this IR version on, weights need not be inputs.
const WEIGHTS_ARE_NO_INPUTS: u64 = 4;

/// The model's bytes, made to keep to the plan's signature.
///
/// # Errors
/// A model whose opset is too old, or that is damaged.
pub fn adapted(model: &ForeignModel, plan: &Plan) -> Result<Vec<u8>, ForeignError> {
    if plan.as_is {
        return Ok(model.bytes.clone());
    }
    let needed = if plan.one_by_one { SCAN_OPSET } else { LEAST_OPSET };
    if let Some(found) = model.opset.filter(|found| *found < needed) {
        return Err(ForeignError::Opset { found, needed });
    }
    let mut written = Vec::with_capacity(model.bytes.len() + 4096);
    for field in fields(&model.bytes)? {
        match field.tag {
            1 => {
                prost::encoding::uint64::encode(1, &field.number().max(WEIGHTS_ARE_NO_INPUTS), &mut written);
            }
            7 => put(7, &graph(field.bytes(), plan)?, &mut written),
            _ => written.extend_from_slice(field.whole),
        }
    }
    if model.opset.is_none() {
        let own = proto::OperatorSetId { domain: String::new(), version: OWN_OPSET };
        put(8, &own.encode_to_vec(), &mut written);
    }
    Ok(written)
}

/// The parts of a graph that are carried over.
#[derive(Default)]
struct Carried {
    /// Nodes and weights, as fields of a graph.
    body: Vec<u8>,
    /// Everything else that says something of the graph.
    rest: Vec<u8>,
}

fn carried(graph: &[u8], plan: &Plan) -> Result<Carried, ForeignError> {
    let mut carried = Carried::default();
    for field in fields(graph)? {
        match field.tag {
            1 => {
                // What would put probabilities into a list of maps is left out; the probabilities are read before it.
                let left_out = zip_map(field.bytes())?.is_some_and(|zip| {
                    plan.outputs.iter().any(|output| output.tensor.zipped.as_ref() == Some(&zip.input))
                });
                if !left_out {
                    put(1, &carry::node(field.bytes())?, &mut carried.body);
                }
            }
            5 => put(5, &carry::weight(field.bytes())?, &mut carried.body),
            15 => put(15, &carry::sparse_weight(field.bytes())?, &mut carried.body),
            // Inputs and outputs are the signature's; shapes in between are found again by whoever reads the model.
            11..=14 => {}
            _ => carried.rest.extend_from_slice(field.whole),
        }
    }
    Ok(carried)
}

fn graph(graph: &[u8], plan: &Plan) -> Result<Vec<u8>, ForeignError> {
    let Carried { body, rest } = carried(graph, plan)?;
    let mut before = Nodes::default();
    let fed: Vec<(&ForeignTensor, &Source, String)> =
        plan.inputs.iter().map(|(tensor, source)| (tensor, source, before.feed(tensor, source, plan.layout))).collect();
    let mut written = rest;
    let mut after = Nodes { prefix: "after", ..Nodes::default() };
    if plan.one_by_one {
        let scan = one_by_one(&fed, &body, plan);
        before.write(&mut written);
        put(1, &scan, &mut written);
    } else {
        for (tensor, _, value) in &fed {
            before.identity(value, renamed(&tensor.name));
        }
        before.write(&mut written);
        written.extend_from_slice(&body);
    }
    for output in &plan.outputs {
        after.read(output, &own_name(output), plan.layout);
    }
    after.write(&mut written);
    for spec in plan.signature.inputs() {
        put(11, &value_info(&spec).encode_to_vec(), &mut written);
    }
    for spec in plan.signature.outputs() {
        put(12, &value_info(&spec).encode_to_vec(), &mut written);
    }
    Ok(written)
}

/// The name under which an output of the carried graph is found.
fn own_name(output: &Output) -> String {
    renamed(output.tensor.zipped.as_ref().unwrap_or(&output.tensor.name))
}

/// A `Scan` node that runs the carried graph once for each entry of its inputs' first axis, which it always takes as 1.
fn one_by_one(fed: &[(&ForeignTensor, &Source, String)], body: &[u8], plan: &Plan) -> Vec<u8> {
    let mut before = Nodes { prefix: "one", ..Nodes::default() };
    let mut after = Nodes { prefix: "of-one", ..Nodes::default() };
    let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
    for (index, (tensor, _, _)) in fed.iter().enumerate() {
        let name = format!("one/input-{index}");
        let value = before.in_front(&name);
        before.identity(&value, renamed(&tensor.name));
        inputs.push(untyped_shape(name, tensor.element));
    }
    for (index, output) in plan.outputs.iter().enumerate() {
        let first = after.scalar(0);
        let value = after.node("Gather", &[&own_name(output), &first], &[("axis", 0)]);
        let name = format!("one/output-{index}");
        after.identity(&value, name.clone());
        outputs.push(untyped_shape(name, output.tensor.element));
    }
    let mut graph = Vec::new();
    put(2, b"one", &mut graph);
    before.write(&mut graph);
    graph.extend_from_slice(body);
    after.write(&mut graph);
    inputs.iter().for_each(|input| put(11, &input.encode_to_vec(), &mut graph));
    outputs.iter().for_each(|output| put(12, &output.encode_to_vec(), &mut graph));

    let scan = proto::Node {
        input: fed.iter().map(|(_, _, value)| value.clone()).collect(),
        output: plan.outputs.iter().map(own_name).collect(),
        name: "one-by-one".to_owned(),
        op_type: "Scan".to_owned(),
        attribute: vec![proto::Attribute {
            name: "num_scan_inputs".to_owned(),
            i: fed.len() as i64,
            ints: Vec::new(),
            kind: 2,
        }],
    };
    let mut node = scan.encode_to_vec();
    // `AttributeProto.AttributeType` 5 is GRAPH, and field 6 holds it.
    let mut attribute = proto::Attribute { name: "body".to_owned(), i: 0, ints: Vec::new(), kind: 5 }.encode_to_vec();
    put(6, &graph, &mut attribute);
    put(5, &attribute, &mut node);
    node
}

fn untyped_shape(name: String, element: i32) -> proto::ValueInfo {
    let tensor = proto::TensorType { element, shape: None };
    proto::ValueInfo { name, kind: Some(proto::Type { tensor: Some(tensor) }) }
}

/// Nodes in the order in which they run, with their constants.
struct Nodes {
    prefix: &'static str,
    nodes: Vec<proto::Node>,
    constants: Vec<proto::Tensor>,
    /// `[batch, candidates]`, once it is needed.
    counts: Option<String>,
}

impl Default for Nodes {
    fn default() -> Self {
        Self { prefix: "before", nodes: Vec::new(), constants: Vec::new(), counts: None }
    }
}

impl Nodes {
    fn write(&self, graph: &mut Vec<u8>) {
        self.nodes.iter().for_each(|node| put(1, &node.encode_to_vec(), graph));
        self.constants.iter().for_each(|constant| put(5, &constant.encode_to_vec(), graph));
    }

    fn node(&mut self, operator: &str, inputs: &[&str], attributes: &[(&str, i64)]) -> String {
        let name = format!("{}/{}-{}", self.prefix, operator.to_lowercase(), self.nodes.len());
        self.push(operator, inputs, attributes, name.clone());
        name
    }

    fn push(&mut self, operator: &str, inputs: &[&str], attributes: &[(&str, i64)], output: String) {
        let integer =
            |&(name, i): &(&str, i64)| proto::Attribute { name: name.to_owned(), i, ints: Vec::new(), kind: 2 };
        self.nodes.push(proto::Node {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![output],
            name: format!("{}/{}", self.prefix, self.nodes.len()),
            op_type: operator.to_owned(),
            attribute: attributes.iter().map(integer).collect(),
        });
    }

    fn identity(&mut self, value: &str, name: String) {
        self.push("Identity", &[value], &[], name);
    }

    fn integers(&mut self, values: impl IntoIterator<Item = i64>) -> String {
        let values: Vec<i64> = values.into_iter().collect();
        self.constant(vec![values.len() as i64], &values)
    }

    fn scalar(&mut self, value: i64) -> String {
        self.constant(Vec::new(), &[value])
    }

    fn constant(&mut self, dims: Vec<i64>, values: &[i64]) -> String {
        let name = format!("{}/constant-{}", self.prefix, self.constants.len());
        let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constants.push(proto::Tensor { dims, data_type: INT64, name: name.clone(), raw_data });
        name
    }

    fn reshape(&mut self, value: &str, shape: &[i64]) -> String {
        let shape = self.integers(shape.iter().copied());
        self.node("Reshape", &[value, &shape], &[])
    }

    /// A tensor with an axis of length 1 in front.
    fn in_front(&mut self, value: &str) -> String {
        let one = self.integers([1]);
        let shape = self.node("Shape", &[value], &[]);
        let shape = self.node("Concat", &[&one, &shape], &[("axis", 0)]);
        self.node("Reshape", &[value, &shape], &[])
    }

    fn cast(&mut self, value: String, from: i32, to: i32) -> String {
        if from == to { value } else { self.node("Cast", &[&value], &[("to", i64::from(to))]) }
    }

    fn counts(&mut self) -> String {
        if let Some(counts) = &self.counts {
            return counts.clone();
        }
        let shape = self.node("Shape", &[ITEMS], &[]);
        let axes = self.integers([0, 1]);
        let counts = self.node("Gather", &[&shape, &axes], &[("axis", 0)]);
        self.counts = Some(counts.clone());
        counts
    }

    /// What an input is fed with, of its type and shape.
    fn feed(&mut self, tensor: &ForeignTensor, source: &Source, layout: Layout) -> String {
        let columns = match source {
            Source::Mask => return self.cast(MASK.to_owned(), super::model::BOOL, tensor.element),
            Source::History => return self.cast(HISTORY.to_owned(), FLOAT, tensor.element),
            Source::HistoryLength => return self.cast(HISTORY_LENGTH.to_owned(), INT64, tensor.element),
            Source::Noise => return self.cast(NOISE.to_owned(), FLOAT, tensor.element),
            Source::Columns(columns) => columns,
        };
        let width = source.width().unwrap_or(0) as i64;
        let value = match (layout, tensor.rank()) {
            (Layout::Rows, rank) => {
                let wide = self.of_candidates(columns);
                if rank == Some(1) { self.reshape(&wide, &[-1]) } else { self.reshape(&wide, &[-1, width]) }
            }
            (Layout::Lists, Some(3)) => self.of_candidates(columns),
            (Layout::Lists, rank) if source.of_items() => {
                let wide = self.of_candidates(columns);
                if rank == Some(2) { self.reshape(&wide, &[0, 0]) } else { wide }
            }
            (Layout::Lists, rank) => {
                let state = self.of_state(columns);
                if rank == Some(1) { self.reshape(&state, &[-1]) } else { state }
            }
        };
        self.cast(value, FLOAT, tensor.element)
    }

    /// `[batch, candidates, width]`: those columns of each candidate, what is the state's repeated for each.
    fn of_candidates(&mut self, columns: &[Columns]) -> String {
        let parts: Vec<String> = columns
            .iter()
            .map(|part| {
                if part.of_item {
                    return self.part(ITEMS, part, 2);
                }
                let state = self.part(STATE, part, 1);
                let state = self.reshape(&state, &[0, 1, part.width as i64]);
                let (counts, width) = (self.counts(), self.integers([part.width as i64]));
                let shape = self.node("Concat", &[&counts, &width], &[("axis", 0)]);
                self.node("Expand", &[&state, &shape], &[])
            })
            .collect();
        self.beside(&parts, 2)
    }

    /// `[batch, width]`: those columns of the state.
    fn of_state(&mut self, columns: &[Columns]) -> String {
        let parts: Vec<String> = columns.iter().map(|part| self.part(STATE, part, 1)).collect();
        self.beside(&parts, 1)
    }

    fn part(&mut self, tensor: &str, part: &Columns, axis: i64) -> String {
        let places = self.integers((part.first..part.first + part.width).map(|place| place as i64));
        self.node("Gather", &[tensor, &places], &[("axis", axis)])
    }

    fn beside(&mut self, parts: &[String], axis: i64) -> String {
        match parts {
            [part] => part.clone(),
            parts => {
                let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
                self.node("Concat", &parts, &[("axis", axis)])
            }
        }
    }

    /// Makes an output one of the signature's.
    fn read(&mut self, output: &Output, own: &str, layout: Layout) {
        let mut value = own.to_owned();
        if let Some(column) = output.column {
            let axis = if layout == Layout::Rows { 1 } else { 2 };
            let column = self.scalar(column as i64);
            value = self.node("Gather", &[&value, &column], &[("axis", axis)]);
        }
        value = self.cast(value, output.tensor.element, FLOAT);
        if layout == Layout::Rows {
            let counts = self.counts();
            value = self.node("Reshape", &[&value, &counts], &[]);
        }
        self.identity(&value, output.name.to_owned());
    }
}
