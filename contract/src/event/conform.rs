//! Columns as other writers may have them, and as they are declared.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field};
use arrow::error::ArrowError;
use thiserror::Error;

/// A column that does not hold what it is declared to.
#[derive(Debug, Error)]
pub enum ConformError {
    #[error("column `{column}` is {found} where {expected} is expected: {source}")]
    Type { column: String, found: DataType, expected: DataType, source: ArrowError },
    #[error("column `{0}` has empty cells")]
    Empty(String),
}

/// A column with the type that it is declared with, and without empty cells where none may be.
pub fn conform(declared: &Field, array: &ArrayRef) -> Result<ArrayRef, ConformError> {
    let expected = declared.data_type();
    let array = if array.data_type() == expected {
        Arc::clone(array)
    } else {
        // Other writers name and size things in their own way. A value that does not fit is an error, not a null.
        let options = CastOptions { safe: false, ..CastOptions::default() };
        cast_with_options(array, expected, &options).map_err(|source| ConformError::Type {
            column: declared.name().clone(),
            found: array.data_type().clone(),
            expected: expected.clone(),
            source,
        })?
    };
    filled(declared, &array, declared.name())?;
    Ok(array)
}

/// Checks that nothing is empty that may not be, at any depth.
fn filled(declared: &Field, array: &ArrayRef, path: &str) -> Result<(), ConformError> {
    if !declared.is_nullable() && array.null_count() > 0 {
        return Err(ConformError::Empty(path.to_owned()));
    }
    let inner = |field: &Field, array: &ArrayRef| filled(field, array, &format!("{path}.{}", field.name()));
    match declared.data_type() {
        DataType::List(element) => inner(element, array.as_list::<i32>().values()),
        DataType::Struct(fields) => {
            fields.iter().zip(array.as_struct().columns()).try_for_each(|(field, array)| inner(field, array))
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(fields) = entries.data_type() else { return Ok(()) };
            let entries = array.as_map().entries();
            fields.iter().zip(entries.columns()).try_for_each(|(field, array)| inner(field, array))
        }
        _ => Ok(()),
    }
}
