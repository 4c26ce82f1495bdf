//! Features of many entities in memory, packed: the names and kinds of an entity's features are kept once for all that
//! share them, its values as bytes.

use std::collections::HashMap;

use compact_str::CompactString;
use slated_contract::feature::{FeatureValue, Features};

use super::filter::Filter;

/// Entities by id.
#[derive(Debug, Default)]
pub struct Table {
    shapes: Vec<Vec<Column>>,
    by_shape: HashMap<Vec<Column>, u32>,
    rows: HashMap<CompactString, Row>,
}

/// The name of a feature and how its value lies in the bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Column {
    name: CompactString,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// Eight bytes.
    Number,
    /// Four bytes of length, then as many.
    Text,
    /// Four bytes an element.
    Vector(u32),
}

#[derive(Debug)]
struct Row {
    version: u64,
    shape: u32,
    bytes: Box<[u8]>,
}

impl Table {
    /// Sets an entity's features.
    pub fn put(&mut self, id: &str, version: u64, features: &Features) {
        let mut bytes = Vec::new();
        let column = |(name, value): (&str, &FeatureValue)| {
            let kind = match value {
                FeatureValue::Number(number) => {
                    bytes.extend_from_slice(&number.to_le_bytes());
                    Kind::Number
                }
                FeatureValue::Text(text) => {
                    bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
                    bytes.extend_from_slice(text.as_bytes());
                    Kind::Text
                }
                FeatureValue::Vector(vector) => {
                    bytes.extend(vector.iter().flat_map(|element| element.to_le_bytes()));
                    Kind::Vector(vector.len() as u32)
                }
            };
            Column { name: name.into(), kind }
        };
        let shape: Vec<Column> = features.iter().map(column).collect();
        let shape = match self.by_shape.get(&shape) {
            Some(&known) => known,
            None => {
                let number = self.shapes.len() as u32;
                self.shapes.push(shape.clone());
                self.by_shape.insert(shape, number);
                number
            }
        };
        let row = Row { version, shape, bytes: bytes.into_boxed_slice() };
        match self.rows.get_mut(id) {
            Some(known) => *known = row,
            None => drop(self.rows.insert(id.into(), row)),
        }
    }

    /// Removes an entity; whether it was there.
    pub fn remove(&mut self, id: &str) -> bool {
        self.rows.remove(id).is_some()
    }

    /// The version at which an entity was last set, and its features.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<(u64, Features)> {
        self.rows.get(id).map(|row| (row.version, Features::from_unique(self.values(row))))
    }

    /// The ids of the entities that pass a filter, ascending.
    #[must_use]
    pub fn matching(&self, filter: &Filter) -> Vec<String> {
        let passes = |row: &Row| {
            filter.all.iter().all(|condition| {
                let found = self.values(row).find(|(name, _)| *name == condition.feature);
                found.is_some_and(|(_, value)| condition.holds(&value))
            })
        };
        let mut ids: Vec<String> =
            self.rows.iter().filter(|(_, row)| passes(row)).map(|(id, _)| id.to_string()).collect();
        ids.sort_unstable();
        ids
    }

    /// How many entities there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    fn values<'a>(&'a self, row: &'a Row) -> impl ExactSizeIterator<Item = (&'a str, FeatureValue)> {
        let mut rest: &[u8] = &row.bytes;
        // The bytes were laid by the same columns, so they never run out.
        let mut take = move |length: usize| {
            let (taken, left) = rest.split_at(length.min(rest.len()));
            rest = left;
            taken
        };
        self.shapes[row.shape as usize].iter().map(move |column| {
            let value = match column.kind {
                Kind::Number => FeatureValue::Number(f64::from_le_bytes(array(take(8)))),
                Kind::Text => {
                    let length = u32::from_le_bytes(array(take(4))) as usize;
                    FeatureValue::Text(CompactString::from_utf8_lossy(take(length)))
                }
                Kind::Vector(length) => {
                    let elements = take(length as usize * 4).chunks_exact(4);
                    FeatureValue::Vector(elements.map(|element| f32::from_le_bytes(array(element))).collect())
                }
            };
            (column.name.as_str(), value)
        })
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_come_back_as_they_were_set() {
        let mut table = Table::default();
        let one: Features =
            [("price", FeatureValue::Number(0.1)), ("brand", "Æther".into()), ("taste", vec![1.5, -2.0].into())]
                .into_iter()
                .collect();
        let other: Features = [
            ("price", FeatureValue::Number(f64::MIN_POSITIVE)),
            ("brand", "".into()),
            ("taste", vec![0.0, 3.0].into()),
        ]
        .into_iter()
        .collect();
        table.put("a", 1, &one);
        table.put("b", 2, &other);
        table.put("c", 2, &Features::new());
        assert_eq!(table.get("a"), Some((1, one.clone())));
        assert_eq!(table.get("b"), Some((2, other)));
        assert_eq!(table.get("c"), Some((2, Features::new())));
        assert_eq!(table.shapes.len(), 2, "entities with the same names and kinds share them");
        table.put("b", 3, &one);
        assert_eq!(table.get("b"), Some((3, one)));
        assert!(table.remove("a") && !table.remove("a"));
        assert_eq!((table.get("a"), table.len()), (None, 2));
    }
}
