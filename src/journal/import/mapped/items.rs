//! A table of items: what is known of each, whatever the decision.

use std::collections::HashMap;
use std::path::Path;

use slated_contract::event::Candidate;
use slated_contract::feature::Features;

use super::cells::{all_features, given, text};
use super::mapping::CandidateColumns;
use crate::journal::import::ImportError;
use crate::journal::import::rows::for_each_row;

/// The items, in the order of their table.
pub struct Items {
    items: Vec<Candidate>,
    places: HashMap<String, usize>,
}

impl Items {
    /// Reads the table.
    ///
    /// # Errors
    /// A row that does not read, an id that stands twice, a table without rows: nothing could be imported rightly then.
    pub fn read(path: &Path, columns: &CandidateColumns) -> Result<Self, ImportError> {
        let id = columns.item_id.as_deref().unwrap_or("id");
        let wrong = |problem: String| ImportError::File { path: path.to_owned(), problem };
        let mut found = Self { items: Vec::new(), places: HashMap::new() };
        for_each_row(path, &mut |line, row| {
            let at = |problem: String| wrong(format!("line {line}: {problem}"));
            let row = row.map_err(at)?;
            let item = given(&row, id).and_then(|value| text(id, value)).map_err(at)?;
            let features = all_features(&row, id).map_err(at)?;
            if found.places.insert(item.clone(), found.items.len()).is_some() {
                return Err(at(format!("item `{item}` stands twice")));
            }
            found.items.push(Candidate { item, features, score: None });
            Ok(())
        })?;
        if found.items.is_empty() { Err(wrong("it holds no item".to_owned())) } else { Ok(found) }
    }

    /// All of them.
    pub fn all(&self) -> &[Candidate] {
        &self.items
    }

    /// What is known of an item; nothing where it is not in the table.
    pub fn features(&self, item: &str) -> Features {
        self.places.get(item).map(|&place| self.items[place].features.clone()).unwrap_or_default()
    }
}
