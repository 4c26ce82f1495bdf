//! How a foreign model is made to keep to the signature.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use slated_contract::feature::FeatureSchema;
use slated_contract::session::SessionSettings;
use slated_contract::tensor::{
    APPEAL, Axis, ElementType, HISTORY, HISTORY_LENGTH, ITEMS, MASK, NOISE, SCORES, STATE, Signature, TensorSpec,
};
use thiserror::Error;

use super::model::{BOOL, DOUBLE, Dimension, FLOAT, FLOAT16, ForeignModel, ForeignTensor, INT32, INT64, STRING};
use super::source::{KNOWN, Source, widths};

/// How a model takes candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// A list of candidates at once: `[batch, candidates, width]`.
    Lists,
    /// One candidate a row: `[rows, width]`, with what the state holds repeated in each.
    Rows,
}

/// What is asked of a plan; what is not said is found by names and widths.
#[derive(Debug, Clone, Copy)]
pub struct Wishes<'a> {
    /// The features from which `state` and `items` are encoded.
    pub features: &'a FeatureSchema,
    /// What the session keeps.
    pub session: &'a SessionSettings,
    /// What inputs are fed with, by name.
    pub inputs: &'a BTreeMap<String, Vec<String>>,
    /// Which outputs are `scores` and `appeal`, and which column of each.
    pub outputs: &'a BTreeMap<String, (Option<String>, Option<usize>)>,
    /// How the model takes candidates.
    pub layout: Option<Layout>,
}

/// How a foreign model is called by the signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The signature it will have.
    pub signature: Signature,
    /// How it takes candidates.
    pub layout: Layout,
    /// Its inputs, and what each is fed with.
    pub inputs: Vec<(ForeignTensor, Source)>,
    /// What becomes of its outputs.
    pub outputs: Vec<Output>,
    /// Whether it must be run once a list, or once a row, because its first axis is always 1.
    pub one_by_one: bool,
    /// Whether it keeps to the signature already.
    pub as_is: bool,
}

/// An output that becomes one of the signature's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// `scores` or `appeal`.
    pub name: &'static str,
    /// The model's own.
    pub tensor: ForeignTensor,
    /// Which of its columns, where it has a further axis of columns.
    pub column: Option<usize>,
}

/// A model that cannot be called by the signature.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanError {
    /// An input.
    #[error("input `{name}` ({found}): {problem}")]
    Input {
        /// Its name.
        name: String,
        /// Its type and shape.
        found: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// An output.
    #[error("output `{name}` ({found}): {problem}")]
    Output {
        /// Its name.
        name: String,
        /// Its type and shape.
        found: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The model as a whole.
    #[error("{0}")]
    Model(String),
}

impl Plan {
    /// Finds how `model` is called.
    ///
    /// # Errors
    /// The first tensor that cannot be fed or read, with what is expected of it.
    pub fn new(model: &ForeignModel, wishes: Wishes) -> Result<Self, PlanError> {
        let (state_width, item_width) = widths(wishes.features);
        let inputs = sources(model, wishes)?;
        let layout = layout(&inputs, wishes.layout)?;
        let mut signature = Signature { state_width, item_width, ..Signature::default() };
        let mut one_by_one = false;
        for (tensor, source) in &inputs {
            let refused = |problem: String| input_error(tensor, problem);
            one_by_one |= check_input(tensor, source, layout, wishes, item_width).map_err(refused)?;
            match source {
                Source::Mask => signature.mask = true,
                Source::History => signature.history = Some(wishes.session.history),
                Source::Noise => signature.noise = tensor.length(1),
                Source::HistoryLength | Source::Columns(_) => {}
            }
        }
        let has = |wanted: &Source| inputs.iter().any(|(_, source)| source == wanted);
        if has(&Source::HistoryLength) && !has(&Source::History) {
            return Err(PlanError::Model(format!("an input takes `{HISTORY_LENGTH}`, but none takes `{HISTORY}`")));
        }
        let outputs = outputs(model, wishes, layout)?;
        signature.appeal = outputs.iter().any(|output| output.name == APPEAL);
        let as_is = !one_by_one && layout == Layout::Lists && keeps_to(model, &signature);
        Ok(Self { signature, layout, inputs, outputs, one_by_one, as_is })
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(match self {
            Self::Lists => "lists",
            Self::Rows => "rows",
        })
    }
}

fn input_error(tensor: &ForeignTensor, problem: String) -> PlanError {
    PlanError::Input { name: tensor.name.clone(), found: tensor.to_string(), problem }
}

fn output_error(tensor: &ForeignTensor, problem: String) -> PlanError {
    PlanError::Output { name: tensor.name.clone(), found: tensor.to_string(), problem }
}

fn names<'a>(tensors: impl IntoIterator<Item = &'a ForeignTensor>) -> String {
    tensors.into_iter().map(|tensor| format!("`{}` ({tensor})", tensor.name)).collect::<Vec<_>>().join(", ")
}

/// What each input is fed with: what is wished, else by its name, else by its width.
fn sources(model: &ForeignModel, wishes: Wishes) -> Result<Vec<(ForeignTensor, Source)>, PlanError> {
    if let Some(name) = wishes.inputs.keys().find(|name| !model.inputs.iter().any(|input| input.name == **name)) {
        return Err(PlanError::Model(format!("the model has no input `{name}`; it has {}", names(&model.inputs))));
    }
    let (state, items) = widths(wishes.features);
    let named = |tensor: &ForeignTensor| match tensor.name.as_str() {
        STATE if state > 0 => Some(Source::whole(Some(state), None)),
        ITEMS if items > 0 => Some(Source::whole(None, Some(items))),
        MASK => Some(Source::Mask),
        HISTORY => Some(Source::History),
        HISTORY_LENGTH => Some(Source::HistoryLength),
        NOISE => Some(Source::Noise),
        _ => None,
    };
    let mut found = Vec::new();
    for tensor in &model.inputs {
        let source = match wishes.inputs.get(&tensor.name) {
            Some(parts) => Source::read(parts, wishes.features).map_err(|problem| input_error(tensor, problem))?,
            None => match named(tensor) {
                Some(source) => source,
                None => by_width(tensor, model.inputs.len() == 1, state, items)
                    .map_err(|problem| input_error(tensor, problem))?,
            },
        };
        if let Some((other, _)) = found.iter().find(|(_, other)| *other == source && source.width().is_none()) {
            let ForeignTensor { name, .. }: &ForeignTensor = other;
            return Err(input_error(tensor, format!("is fed with `{source}`, and so is `{name}`")));
        }
        found.push((tensor.clone(), source));
    }
    Ok(found)
}

fn by_width(tensor: &ForeignTensor, alone: bool, state: usize, items: usize) -> Result<Source, String> {
    let (both, one, other) =
        (Source::whole(Some(state), Some(items)), Source::whole(None, Some(items)), Source::whole(Some(state), None));
    let rank = tensor.rank();
    let width = rank.and_then(|rank| tensor.length(rank.saturating_sub(1)));
    let mut choices: Vec<Source> = [(both, state + items), (one, items), (other, state)]
        .into_iter()
        .filter(|(source, fits)| {
            *fits > 0 && width.is_none_or(|width| width == *fits) && !source_is_doubtful(source, rank, alone)
        })
        .map(|(source, _)| source)
        .collect();
    // Where there is no state, both are the items alone.
    choices.dedup();
    match &choices[..] {
        [source] => Ok(source.clone()),
        // One input that takes any width takes all there is.
        [source, ..] if alone && width.is_none() => Ok(source.clone()),
        _ => Err(format!(
            "what it takes cannot be told, where `state` is {state} wide and `items` {items}; say so by \
             `--input {}=SOURCE` (sources: {KNOWN})",
            tensor.name
        )),
    }
}

/// A state alone says nothing of the candidates, so it is not what the only input takes; and it has no third axis.
fn source_is_doubtful(source: &Source, rank: Option<usize>, alone: bool) -> bool {
    !source.of_items() && (alone || rank == Some(3))
}

fn layout(inputs: &[(ForeignTensor, Source)], wished: Option<Layout>) -> Result<Layout, PlanError> {
    let of_items: Vec<&(ForeignTensor, Source)> =
        inputs.iter().filter(|(_, source)| source.of_items() && source.width().is_some()).collect();
    if of_items.is_empty() {
        let problem = format!(
            "no input takes what is known of the candidates; the model's inputs are {}",
            names(inputs.iter().map(|(tensor, _)| tensor))
        );
        return Err(PlanError::Model(problem));
    }
    if let Some(layout) = wished {
        return Ok(layout);
    }
    if of_items.iter().any(|(tensor, _)| tensor.rank() == Some(3))
        || inputs.iter().any(|(_, source)| *source == Source::Mask)
    {
        return Ok(Layout::Lists);
    }
    match of_items.iter().find(|(tensor, _)| tensor.rank().is_none()) {
        Some((tensor, _)) => {
            let problem = "the model does not say how many axes it has; say by `--scorer rows` or `--scorer lists` how it takes candidates";
            Err(input_error(tensor, problem.to_owned()))
        }
        None => Ok(Layout::Rows),
    }
}

/// Whether the input's first axis is always 1.
fn check_input(
    tensor: &ForeignTensor,
    source: &Source,
    layout: Layout,
    wishes: Wishes,
    item_width: usize,
) -> Result<bool, String> {
    let numbers = [FLOAT, DOUBLE, FLOAT16, INT32, INT64];
    let allowed = match source {
        Source::Mask => numbers.contains(&tensor.element) || tensor.element == BOOL,
        _ => numbers.contains(&tensor.element),
    };
    if !allowed {
        let hint = if tensor.element == STRING {
            "; encode texts outside the model: declare them in the feature schema as `categorical`, `hashed` or `index`"
        } else {
            ""
        };
        return Err(format!(
            "is fed with numbers (`{source}`), expected float32, float64, float16, int32 or int64{hint}"
        ));
    }
    let history_width = SessionSettings::history_width(item_width);
    // The lengths of the axes behind the first, `None` for candidates.
    let lists = layout == Layout::Lists;
    let shapes: Vec<Vec<Option<usize>>> = match source {
        Source::Columns(_) => {
            let width = source.width().unwrap_or(0);
            let mut shapes = Vec::new();
            if lists && source.of_items() {
                shapes.push(vec![None, Some(width)]);
                if width == 1 {
                    shapes.push(vec![None]);
                }
            } else {
                shapes.push(vec![Some(width)]);
                if width == 1 {
                    shapes.push(Vec::new());
                }
                if lists {
                    shapes.push(vec![None, Some(width)]);
                }
            }
            shapes
        }
        _ if !lists => return Err(format!("a model that scores one candidate a row cannot take `{source}`")),
        Source::Mask => vec![vec![None]],
        Source::History if wishes.session.history == 0 => {
            return Err("takes a history, so `session.history` must say how long".to_owned());
        }
        Source::History => vec![vec![Some(wishes.session.history), Some(history_width)]],
        Source::HistoryLength => vec![Vec::new()],
        Source::Noise => match tensor.length(1) {
            Some(draws) => vec![vec![Some(draws)]],
            None => return Err("takes noise, so the model must say how much: its last axis must be fixed".to_owned()),
        },
    };
    let Some(axes) = &tensor.shape else { return Ok(false) };
    let first = if lists { "batch" } else { "rows" };
    let expected = || {
        let axis = |length: &Option<usize>| length.map_or_else(|| "candidates".to_owned(), |length| length.to_string());
        let shape = |shape: &Vec<Option<usize>>| {
            let axes: Vec<String> = std::iter::once(first.to_owned()).chain(shape.iter().map(axis)).collect();
            format!("[{}]", axes.join(", "))
        };
        let shapes: Vec<String> = shapes.iter().map(shape).collect();
        format!("is fed with `{source}`, expected {}", shapes.join(" or "))
    };
    let Some(shape) = shapes.iter().find(|shape| shape.len() + 1 == axes.len()) else {
        let hint = if lists { "" } else { ", or `--scorer lists` where it takes all candidates at once" };
        return Err(format!("{}{hint}", expected()));
    };
    for (found, wanted) in axes[1..].iter().zip(shape) {
        match (found, wanted) {
            (Dimension::Fixed(found), Some(wanted)) if found != wanted => return Err(expected()),
            (Dimension::Fixed(found), None) => {
                return Err(format!(
                    "always takes {found} candidates; export it with that axis dynamic (in PyTorch `dynamic_shapes`)"
                ));
            }
            _ => {}
        }
    }
    match axes[0] {
        Dimension::Free => Ok(false),
        Dimension::Fixed(1) => Ok(true),
        Dimension::Fixed(length) => Err(format!(
            "always takes {length} at its first axis; export it with that axis dynamic, or 1 (in PyTorch `dynamic_shapes`, \
             in skl2onnx a type such as `FloatTensorType([None, {}])`)",
            source.width().unwrap_or(1)
        )),
    }
}

fn outputs(model: &ForeignModel, wishes: Wishes, layout: Layout) -> Result<Vec<Output>, PlanError> {
    for (name, (wanted, _)) in wishes.outputs {
        if name != SCORES && name != APPEAL {
            return Err(PlanError::Model(format!(
                "`{name}` is no output of a policy; those are `{SCORES}` and `{APPEAL}`"
            )));
        }
        if let Some(wanted) =
            wanted.as_ref().filter(|wanted| !model.outputs.iter().any(|output| output.name == **wanted))
        {
            return Err(PlanError::Model(format!(
                "the model has no output `{wanted}`; it has {}",
                names(&model.outputs)
            )));
        }
    }
    let named = |name: &str| model.outputs.iter().find(|output| output.name == name);
    let wished = |name: &str| wishes.outputs.get(name).cloned().unwrap_or_default();
    let (wanted, mut column) = wished(SCORES);
    let scores = match wanted.as_deref().or(Some(SCORES)).and_then(named) {
        Some(tensor) => tensor,
        None => {
            let (tensor, of_two) = likely_scores(model)?;
            column = column.or(of_two);
            tensor
        }
    };
    let mut outputs = vec![output(SCORES, scores, column, layout)?];
    let (wanted, column) = wished(APPEAL);
    let appeal = match wanted {
        Some(wanted) => named(&wanted),
        None => named(APPEAL),
    };
    if let Some(appeal) = appeal {
        outputs.push(output(APPEAL, appeal, column, layout)?);
    }
    Ok(outputs)
}

/// The output that must be the scores: the only one; or a classifier's probabilities beside its labels, and of two
/// classes the second.
fn likely_scores(model: &ForeignModel) -> Result<(&ForeignTensor, Option<usize>), PlanError> {
    if let [only] = &model.outputs[..] {
        return Ok((only, None));
    }
    let labels = |tensor: &ForeignTensor| matches!(tensor.element, INT64 | STRING) && tensor.rank() == Some(1);
    let mut probabilities = model.outputs.iter().filter(|tensor| !labels(tensor) && tensor.name != APPEAL);
    match (probabilities.next(), probabilities.next()) {
        (Some(tensor), None) => Ok((tensor, (tensor.rank() == Some(2) && tensor.length(1) == Some(2)).then_some(1))),
        _ => Err(PlanError::Model(format!(
            "which output is the score cannot be told; say so by `--output {SCORES}=NAME` (the model gives {})",
            names(&model.outputs)
        ))),
    }
}

fn output(
    name: &'static str,
    tensor: &ForeignTensor,
    column: Option<usize>,
    layout: Layout,
) -> Result<Output, PlanError> {
    let refused = |problem: String| Err(output_error(tensor, problem));
    if ![FLOAT, DOUBLE, FLOAT16, INT32, INT64].contains(&tensor.element) {
        return refused(format!("cannot be `{name}`, which is a number for each candidate"));
    }
    let (plain, expected) = match layout {
        Layout::Lists => (2, "[batch, candidates] or [batch, candidates, columns]"),
        Layout::Rows => (1, "[rows] or [rows, columns]"),
    };
    let column = match tensor.rank() {
        Some(rank) if rank == plain => {
            if column.is_some() {
                return refused("has no columns of which one could be taken".to_owned());
            }
            if layout == Layout::Lists
                && let Some(length) = tensor.length(1)
            {
                return refused(format!("is always for {length} candidates; export it with that axis dynamic"));
            }
            None
        }
        Some(rank) if rank == plain + 1 => match (tensor.length(plain), column) {
            (Some(columns), Some(column)) if column >= columns => {
                return refused(format!("has {columns} columns, so there is no column {column}; they count from 0"));
            }
            (_, Some(column)) => Some(column),
            (Some(1), None) => Some(0),
            (columns, None) => {
                let columns = columns.map_or_else(|| "a number of".to_owned(), |columns| columns.to_string());
                return refused(format!(
                    "has {columns} columns; say by `--column N` which is `{name}`, counting from 0"
                ));
            }
        },
        Some(_) => return refused(format!("cannot be `{name}`, expected {expected}")),
        // Whether what is not said is as it must be shows when the model runs.
        None => column,
    };
    Ok(Output { name, tensor: tensor.clone(), column })
}

/// Whether the model's own tensors are those of the signature.
fn keeps_to(model: &ForeignModel, signature: &Signature) -> bool {
    let same = |specs: &[TensorSpec], tensors: &[ForeignTensor]| {
        specs.len() == tensors.len() && specs.iter().all(|spec| tensors.iter().any(|tensor| is(tensor, spec)))
    };
    same(&signature.inputs(), &model.inputs) && same(&signature.outputs(), &model.outputs)
}

fn is(tensor: &ForeignTensor, spec: &TensorSpec) -> bool {
    let element = match spec.element {
        ElementType::Float32 => FLOAT,
        ElementType::Int64 => INT64,
        ElementType::Bool => BOOL,
    };
    let fits = |(found, wanted): (&Dimension, &Axis)| match (found, wanted) {
        (Dimension::Free, _) => true,
        (Dimension::Fixed(found), Axis::Fixed(wanted)) => found == wanted,
        (Dimension::Fixed(_), Axis::Dynamic(_)) => false,
    };
    tensor.name == spec.name
        && tensor.element == element
        && tensor.zipped.is_none()
        && tensor
            .shape
            .as_ref()
            .is_some_and(|shape| shape.len() == spec.axes.len() && shape.iter().zip(&spec.axes).all(fits))
}
