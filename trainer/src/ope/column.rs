//! Columns that a log may lack.

use super::OpeError;

/// A column that all rows have, or none.
#[derive(Debug, Clone)]
pub(super) struct Column<T>(Vec<T>);

impl<T> Default for Column<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Column<T> {
    /// Whether the row at `index` may have, or lack, this column; asked before anything is added.
    pub fn fits(&self, index: usize, given: bool) -> Result<(), String> {
        match (given, self.0.is_empty()) {
            (true, true) if index > 0 => {
                Err("is given, but rows before it have none; give it in every row or in none".to_owned())
            }
            (false, false) => Err("is absent, but rows before it have it; give it in every row or in none".to_owned()),
            _ => Ok(()),
        }
    }

    /// Adds the values of a row.
    pub fn extend(&mut self, values: impl IntoIterator<Item = T>) {
        self.0.extend(values);
    }

    /// Takes back all values but the first `values`.
    pub fn truncate(&mut self, values: usize) {
        self.0.truncate(values);
    }

    /// The values, which `estimator` needs.
    pub fn all(&self, estimator: &str, field: &'static str) -> Result<&[T], OpeError> {
        if self.0.is_empty() {
            return Err(OpeError::Missing { estimator: estimator.to_owned(), field });
        }
        Ok(&self.0)
    }
}
