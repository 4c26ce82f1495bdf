//! Carrying a graph over: with its weights inside, and under names of its own.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use super::ForeignError;
use super::wire::{fields, put};

/// Stands before every name of a graph that was carried over.
const PREFIX: &str = "model/";

/// What a name becomes.
pub fn renamed(name: &str) -> String {
    // An empty name stands for an input that is left out.
    if name.is_empty() { String::new() } else { format!("{PREFIX}{name}") }
}

/// Messages that hold names or weights, by what they are.
#[derive(Clone, Copy)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    SparseTensor,
    Value,
}

/// What a field of a message is.
enum Part {
    Name,
    Message(Kind),
    Other,
}

impl Kind {
    /// By ONNX's published field numbers.
    const fn part(self, tag: u32) -> Part {
        match (self, tag) {
            (Self::Node, 1 | 2) | (Self::Tensor, 8) | (Self::Value, 1) => Part::Name,
            (Self::Model, 7) | (Self::Attribute, 6 | 11) => Part::Message(Self::Graph),
            (Self::Graph, 1) => Part::Message(Self::Node),
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::SparseTensor, 1 | 2) => Part::Message(Self::Tensor),
            (Self::Graph, 11..=13) => Part::Message(Self::Value),
            (Self::Graph, 15) => Part::Message(Self::SparseTensor),
            (Self::Node, 5) => Part::Message(Self::Attribute),
            _ => Part::Other,
        }
    }
}

/// A node under the names of a graph that was carried over.
pub fn node(bytes: &[u8]) -> Result<Vec<u8>, ForeignError> {
    rename(Kind::Node, bytes)
}

/// A weight under such a name.
pub fn weight(bytes: &[u8]) -> Result<Vec<u8>, ForeignError> {
    rename(Kind::Tensor, bytes)
}

/// A sparse weight under such a name.
pub fn sparse_weight(bytes: &[u8]) -> Result<Vec<u8>, ForeignError> {
    rename(Kind::SparseTensor, bytes)
}

fn rename(kind: Kind, message: &[u8]) -> Result<Vec<u8>, ForeignError> {
    let mut carried = Vec::with_capacity(message.len() + 64);
    for field in fields(message)? {
        match kind.part(field.tag) {
            Part::Name => put(field.tag, renamed(field.text()?).as_bytes(), &mut carried),
            Part::Message(inner) => put(field.tag, &rename(inner, field.bytes())?, &mut carried),
            Part::Other => carried.extend_from_slice(field.whole),
        }
    }
    Ok(carried)
}

/// A model with the weights inside that it keeps in files of `folder`.
pub fn inlined(model: &[u8], folder: &Path) -> Result<Vec<u8>, ForeignError> {
    let model = inline(Kind::Model, model, folder)?;
    if model.len() > i32::MAX as usize { Err(ForeignError::Size(model.len())) } else { Ok(model) }
}

fn inline(kind: Kind, message: &[u8], folder: &Path) -> Result<Vec<u8>, ForeignError> {
    if matches!(kind, Kind::Tensor) {
        return inline_weight(message, folder);
    }
    let mut carried = Vec::with_capacity(message.len());
    for field in fields(message)? {
        match kind.part(field.tag) {
            Part::Message(inner) => put(field.tag, &inline(inner, field.bytes(), folder)?, &mut carried),
            Part::Name | Part::Other => carried.extend_from_slice(field.whole),
        }
    }
    Ok(carried)
}

/// A tensor whose `data_location` (14) is EXTERNAL (1), with the bytes that its `external_data` (13) names as `raw_data` (9).
fn inline_weight(tensor: &[u8], folder: &Path) -> Result<Vec<u8>, ForeignError> {
    let parts = fields(tensor)?;
    if !parts.iter().any(|field| field.tag == 14 && field.number() == 1) {
        return Ok(tensor.to_vec());
    }
    let mut carried = Vec::new();
    let (mut name, mut location, mut offset, mut length) = ("", "", 0_u64, None);
    for field in &parts {
        match field.tag {
            13 => {
                let entry = fields(field.bytes())?;
                let text = |tag: u32| entry.iter().find(|field| field.tag == tag).map_or(Ok(""), |field| field.text());
                let number = |text: &str| {
                    text.parse().map_err(|_| ForeignError::Damaged(format!("`{text}` is no place in a file")))
                };
                match (text(1)?, text(2)?) {
                    ("location", value) => location = value,
                    ("offset", value) => offset = number(value)?,
                    ("length", value) => length = Some(number(value)?),
                    _ => {}
                }
            }
            14 => {}
            _ => {
                if field.tag == 8 {
                    name = field.text()?;
                }
                carried.extend_from_slice(field.whole);
            }
        }
    }
    let weights = read_weights(folder, location, offset, length).map_err(|(path, reason)| ForeignError::Weights {
        tensor: name.to_owned(),
        path,
        reason,
    })?;
    put(9, &weights, &mut carried);
    Ok(carried)
}

fn read_weights(folder: &Path, location: &str, offset: u64, length: Option<u64>) -> Result<Vec<u8>, (PathBuf, String)> {
    let path = folder.join(location);
    // A model names files beside it, not files of the machine.
    let beside = Path::new(location).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if location.is_empty() || !beside {
        return Err((location.into(), "it must lie in the model's folder".to_owned()));
    }
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(&path)?;
        let most = file.metadata()?.len().saturating_sub(offset);
        let wanted = length.unwrap_or(most);
        if wanted > most {
            return Err(std::io::Error::other(format!("it has {most} bytes from {offset} on, {wanted} are needed")));
        }
        file.seek(SeekFrom::Start(offset))?;
        let mut weights = Vec::new();
        file.take(wanted).read_to_end(&mut weights)?;
        Ok(weights)
    };
    read().map_err(|error| (path.clone(), error.to_string()))
}
