//! Features into the arrays of a map column, in one pass.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayBuilder, ArrayRef, Float32Builder, Float64Builder, ListBuilder, StringArray, StringBuilder,
};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::datatypes::FieldRef;
use arrow::error::ArrowError;

use crate::feature::{Column, FeatureRef, Features};

/// The entries of many features, one behind the other.
pub struct Cells<'a> {
    names: Vec<u8>,
    name_ends: Vec<i32>,
    numbers: Float64Builder,
    texts: StringBuilder,
    vectors: ListBuilder<Float32Builder>,
    /// The last features' names: those of the next are mostly the very same.
    last: &'a [Column],
    last_names: Vec<u8>,
    last_ends: Vec<usize>,
}

impl<'a> Cells<'a> {
    /// None yet; `element` is what a vector holds.
    pub fn new(element: FieldRef) -> Self {
        Self {
            names: Vec::new(),
            name_ends: vec![0],
            numbers: Float64Builder::new(),
            texts: StringBuilder::new(),
            vectors: ListBuilder::new(Float32Builder::new()).with_field(element),
            last: &[],
            last_names: Vec::new(),
            last_ends: Vec::new(),
        }
    }

    /// Adds the entries of `features`.
    ///
    /// # Errors
    /// More text, or more elements, than 32 bits can count.
    pub fn push(&mut self, features: &'a Features) -> Result<(), ArrowError> {
        self.push_names(features.columns())?;
        if let Some(numbers) = features.numbers() {
            self.numbers.append_slice(numbers);
            self.texts.append_nulls(numbers.len());
            self.vectors.append_nulls(numbers.len());
            return Ok(());
        }
        for (_, value) in features.iter() {
            match value {
                FeatureRef::Number(number) => self.numbers.append_value(number),
                FeatureRef::Text(_) | FeatureRef::Vector(_) => self.numbers.append_null(),
            }
            match value {
                FeatureRef::Text(text) => {
                    // The builder would panic.
                    end(self.texts.values_slice().len(), text.len())?;
                    self.texts.append_value(text);
                }
                FeatureRef::Number(_) | FeatureRef::Vector(_) => self.texts.append_null(),
            }
            match value {
                FeatureRef::Vector(vector) => {
                    let elements = self.vectors.values();
                    end(elements.len(), vector.len())?;
                    elements.append_slice(vector);
                    self.vectors.append(true);
                }
                FeatureRef::Number(_) | FeatureRef::Text(_) => self.vectors.append_null(),
            }
        }
        Ok(())
    }

    fn push_names(&mut self, columns: &'a [Column]) -> Result<(), ArrowError> {
        if !std::ptr::eq(self.last, columns) {
            self.last = columns;
            self.last_names.clear();
            self.last_ends.clear();
            for column in columns {
                self.last_names.extend_from_slice(column.name.as_bytes());
                self.last_ends.push(self.last_names.len());
            }
        }
        let start = self.names.len();
        end(start, self.last_names.len())?;
        self.names.extend_from_slice(&self.last_names);
        // No end is beyond the last, which fits.
        self.name_ends.extend(self.last_ends.iter().map(|end| (start + end) as i32));
        Ok(())
    }

    /// Names, numbers, texts and vectors.
    pub fn finish(mut self) -> Result<(ArrayRef, Vec<ArrayRef>), ArrowError> {
        let ends = OffsetBuffer::new(self.name_ends.into());
        let names = StringArray::try_new(ends, Buffer::from_vec(self.names), None)?;
        let values: Vec<ArrayRef> =
            vec![Arc::new(self.numbers.finish()), Arc::new(self.texts.finish()), Arc::new(self.vectors.finish())];
        debug_assert!(values.iter().all(|array| array.len() == names.len()));
        Ok((Arc::new(names), values))
    }
}

/// Where something ends that is `length` long.
fn end(start: usize, length: usize) -> Result<i32, ArrowError> {
    i32::try_from(start + length).map_err(|_| ArrowError::OffsetOverflowError(start + length))
}
