//! A run's state on disk: named arrays and counts, as safetensors.

use std::collections::BTreeMap;

use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView};
use thiserror::Error;

/// Named arrays of numbers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Checkpoint {
    floats: BTreeMap<String, Vec<f32>>,
    counts: BTreeMap<String, Vec<u64>>,
    doubles: BTreeMap<String, Vec<f64>>,
    texts: BTreeMap<String, Vec<u8>>,
}

/// A checkpoint that cannot be read, or that is of another run.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// It is no such file.
    #[error("the checkpoint does not read: {0}")]
    Format(#[from] SafeTensorError),
    /// It lacks an array.
    #[error("the checkpoint lacks `{0}`; it is of other settings")]
    Absent(String),
    /// An array is of another length.
    #[error("the checkpoint's `{name}` has {found} numbers, expected {expected}; it is of other settings")]
    Length {
        /// The array.
        name: String,
        /// Its length.
        found: usize,
        /// The length that the settings give.
        expected: usize,
    },
    /// A number is NaN or infinite.
    #[error("the checkpoint's `{0}` holds a number that is not finite")]
    NotFinite(String),
    /// It was made by a run of other settings.
    #[error("the checkpoint is of a run with other settings; remove it to start again")]
    Settings,
}

impl Checkpoint {
    /// Adds numbers.
    pub fn floats(&mut self, name: impl Into<String>, values: &[f32]) {
        self.floats.insert(name.into(), values.to_vec());
    }

    /// Adds counts or indices.
    pub fn counts(&mut self, name: impl Into<String>, values: Vec<u64>) {
        self.counts.insert(name.into(), values);
    }

    /// Adds numbers of double precision.
    pub fn doubles(&mut self, name: impl Into<String>, values: &[f64]) {
        self.doubles.insert(name.into(), values.to_vec());
    }

    /// Adds a text.
    pub fn text(&mut self, name: impl Into<String>, text: impl Into<String>) {
        self.texts.insert(name.into(), text.into().into_bytes());
    }

    /// Adds one count.
    pub fn count(&mut self, name: impl Into<String>, value: u64) {
        self.counts(name, vec![value]);
    }

    /// The numbers of this name.
    ///
    /// # Errors
    /// There are none.
    pub fn get_floats(&self, name: &str) -> Result<&[f32], CheckpointError> {
        self.floats.get(name).map(Vec::as_slice).ok_or_else(|| CheckpointError::Absent(name.to_owned()))
    }

    /// The counts of this name.
    ///
    /// # Errors
    /// There are none.
    pub fn get_counts(&self, name: &str) -> Result<&[u64], CheckpointError> {
        self.counts.get(name).map(Vec::as_slice).ok_or_else(|| CheckpointError::Absent(name.to_owned()))
    }

    /// The numbers of double precision of this name.
    ///
    /// # Errors
    /// There are none.
    pub fn get_doubles(&self, name: &str) -> Result<&[f64], CheckpointError> {
        self.doubles.get(name).map(Vec::as_slice).ok_or_else(|| CheckpointError::Absent(name.to_owned()))
    }

    /// The text of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn get_text(&self, name: &str) -> Result<&str, CheckpointError> {
        let bytes = self.texts.get(name).ok_or_else(|| CheckpointError::Absent(name.to_owned()))?;
        std::str::from_utf8(bytes).map_err(|_| CheckpointError::Absent(name.to_owned()))
    }

    /// Reads numbers of double precision, of which there must be `expected`, all finite.
    ///
    /// # Errors
    /// They are absent, or of another number, or one of them is not finite.
    pub fn read_doubles(&self, name: &str, expected: usize) -> Result<&[f64], CheckpointError> {
        let values = self.get_doubles(name)?;
        if values.len() != expected {
            return Err(CheckpointError::Length { name: name.to_owned(), found: values.len(), expected });
        }
        if values.iter().any(|value| !value.is_finite()) {
            return Err(CheckpointError::NotFinite(name.to_owned()));
        }
        Ok(values)
    }

    /// Reads numbers into a slice of the same length.
    ///
    /// # Errors
    /// They are absent, or of another number.
    pub fn read_floats(&self, name: &str, into: &mut [f32]) -> Result<(), CheckpointError> {
        let values = self.get_floats(name)?;
        if values.len() != into.len() {
            let (found, expected) = (values.len(), into.len());
            return Err(CheckpointError::Length { name: name.to_owned(), found, expected });
        }
        into.copy_from_slice(values);
        Ok(())
    }

    /// Reads one count.
    ///
    /// # Errors
    /// It is absent, or there is not exactly one.
    pub fn read_count(&self, name: &str) -> Result<u64, CheckpointError> {
        match self.get_counts(name)? {
            [value] => Ok(*value),
            values => Err(CheckpointError::Length { name: name.to_owned(), found: values.len(), expected: 1 }),
        }
    }

    /// Adds everything of another checkpoint under `name`.
    pub fn nest(&mut self, name: &str, other: &Self) {
        let inside = |key: &String| format!("{name}/{key}");
        self.floats.extend(other.floats.iter().map(|(key, values)| (inside(key), values.clone())));
        self.counts.extend(other.counts.iter().map(|(key, values)| (inside(key), values.clone())));
        self.doubles.extend(other.doubles.iter().map(|(key, values)| (inside(key), values.clone())));
        self.texts.extend(other.texts.iter().map(|(key, values)| (inside(key), values.clone())));
    }

    /// What was nested under `name`.
    #[must_use]
    pub fn nested(&self, name: &str) -> Self {
        fn inside<T: Clone>(name: &str, arrays: &BTreeMap<String, Vec<T>>) -> BTreeMap<String, Vec<T>> {
            let key = |key: &str| key.strip_prefix(name)?.strip_prefix('/').map(str::to_owned);
            arrays.iter().filter_map(|(own, values)| Some((key(own)?, values.clone()))).collect()
        }
        Self {
            floats: inside(name, &self.floats),
            counts: inside(name, &self.counts),
            doubles: inside(name, &self.doubles),
            texts: inside(name, &self.texts),
        }
    }

    /// The file's bytes; the same state gives the same bytes.
    ///
    /// # Errors
    /// None in practice.
    pub fn encode(&self) -> Result<Vec<u8>, CheckpointError> {
        let floats = self.floats.iter().map(|(name, values)| {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            (name, Dtype::F32, values.len(), bytes)
        });
        let counts = self.counts.iter().map(|(name, values)| {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            (name, Dtype::U64, values.len(), bytes)
        });
        let doubles = self.doubles.iter().map(|(name, values)| {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            (name, Dtype::F64, values.len(), bytes)
        });
        let texts = self.texts.iter().map(|(name, bytes)| (name, Dtype::U8, bytes.len(), bytes.clone()));
        let arrays: Vec<_> = floats.chain(counts).chain(doubles).chain(texts).collect();
        let views = arrays
            .iter()
            .map(|(name, kind, length, bytes)| Ok((name.as_str(), TensorView::new(*kind, vec![*length], bytes)?)))
            .collect::<Result<Vec<_>, SafeTensorError>>()?;
        Ok(safetensors::serialize(views, None)?)
    }

    /// Reads what [`Checkpoint::encode`] wrote.
    ///
    /// # Errors
    /// Bytes that are no such file.
    pub fn decode(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let mut checkpoint = Self::default();
        for (name, view) in SafeTensors::deserialize(bytes)?.iter() {
            match view.dtype() {
                Dtype::F32 => {
                    let number = |bytes: &[u8]| bytes.try_into().map_or(f32::NAN, f32::from_le_bytes);
                    checkpoint.floats.insert(name.to_owned(), view.data().chunks_exact(4).map(number).collect());
                }
                Dtype::U64 => {
                    let number = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
                    checkpoint.counts.insert(name.to_owned(), view.data().chunks_exact(8).map(number).collect());
                }
                Dtype::F64 => {
                    let number = |bytes: &[u8]| bytes.try_into().map_or(f64::NAN, f64::from_le_bytes);
                    checkpoint.doubles.insert(name.to_owned(), view.data().chunks_exact(8).map(number).collect());
                }
                Dtype::U8 => {
                    checkpoint.texts.insert(name.to_owned(), view.data().to_vec());
                }
                _ => return Err(CheckpointError::Absent(name.to_owned())),
            }
        }
        Ok(checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let mut checkpoint = Checkpoint::default();
        checkpoint.floats("weights", &[1.5, -2.0]);
        checkpoint.count("steps", u64::MAX);
        checkpoint.doubles("sums", &[0.1, f64::NAN]);
        checkpoint.text("notes", "são");
        let mut nest = Checkpoint::default();
        nest.nest("inner", &checkpoint);
        assert!(nest.nested("inner").read_doubles("sums", 2).unwrap_err().to_string().contains("not finite"));
        checkpoint.doubles("sums", &[0.1, -7.0]);
        let read = Checkpoint::decode(&checkpoint.encode().unwrap()).unwrap();
        assert_eq!(read, checkpoint);
        let mut short = [0.0; 1];
        assert!(read.read_floats("weights", &mut short).unwrap_err().to_string().contains("`weights` has 2 numbers"));
        assert!(read.read_count("absent").unwrap_err().to_string().contains("`absent`"));
        assert!(Checkpoint::decode(b"nothing of the kind").is_err());
    }
}
