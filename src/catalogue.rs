//! Items known by id, so that requests may send ids alone.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use slated_contract::event::{IdentifierError, check_identifier};
use slated_contract::feature::Features;
use thiserror::Error;

/// The raw features of items by id.
#[derive(Debug, Default)]
pub struct Catalogue {
    items: HashMap<String, Features>,
}

/// A catalogue that cannot be read.
#[derive(Debug, Error)]
pub enum CatalogueError {
    /// The disk.
    #[error("catalogue {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line that is no item.
    #[error("catalogue {path}, line {line}: {reason}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    id: String,
    #[serde(default)]
    features: Features,
}

impl Catalogue {
    /// Reads JSON lines, `{"id": ..., "features": {...}}` each; empty lines are passed over.
    ///
    /// # Errors
    /// The first line that is no item or repeats an id, by number.
    pub fn read(path: &Path) -> Result<Self, CatalogueError> {
        let io = |source| CatalogueError::Io { path: path.to_owned(), source };
        let mut items = HashMap::new();
        for (index, text) in BufReader::new(File::open(path).map_err(io)?).lines().enumerate() {
            let text = text.map_err(io)?;
            if text.trim().is_empty() {
                continue;
            }
            let line = |reason: String| CatalogueError::Line { path: path.to_owned(), line: index + 1, reason };
            let item: Item = serde_json::from_str(&text).map_err(|error| line(error.to_string()))?;
            check_identifier(&item.id).map_err(|error: IdentifierError| line(format!("`id` {error}")))?;
            if items.insert(item.id.clone(), item.features).is_some() {
                return Err(line(format!("item `{}` stands twice", item.id)));
            }
        }
        Ok(Self { items })
    }

    /// The features of an item.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Features> {
        self.items.get(id)
    }

    /// How many items there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}
