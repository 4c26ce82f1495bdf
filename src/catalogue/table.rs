//! Features of many entities in memory: the names and kinds of an entity's features are kept once for all that share them.

use compact_str::CompactString;
use foldhash::HashMap;
use slated_contract::feature::{Features, Shapes};

use super::filter::Filter;

/// Entities by id.
#[derive(Debug, Default)]
pub struct Table {
    shapes: Shapes,
    rows: HashMap<CompactString, Row>,
}

#[derive(Debug)]
struct Row {
    version: u64,
    features: Features,
}

impl Table {
    /// Sets an entity's features.
    pub fn put(&mut self, id: &str, version: u64, features: &Features) {
        let row = Row { version, features: features.sharing(&mut self.shapes) };
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
        self.rows.get(id).map(|row| (row.version, row.features.clone()))
    }

    /// The entities that pass a filter, ascending by id.
    #[must_use]
    pub fn matching<'a>(&'a self, filter: &Filter) -> Vec<(String, Features)> {
        // Where the conditions' features stand, in features that share their names with these.
        let mut alike: Option<&Features> = None;
        let mut places: Vec<Option<usize>> = Vec::new();
        let mut passes = |features: &'a Features| {
            if !alike.is_some_and(|alike| features.shares_names_with(alike)) {
                alike = Some(features);
                places = filter.all.iter().map(|condition| features.place(&condition.feature)).collect();
            }
            let values = places.iter().map(|place| place.and_then(|place| features.value(place)));
            filter.all.iter().zip(values).all(|(condition, value)| value.is_some_and(|value| condition.holds(value)))
        };
        let passing = self.rows.iter().filter(|(_, row)| passes(&row.features));
        let mut found: Vec<_> = passing.map(|(id, row)| (id.to_string(), row.features.clone())).collect();
        found.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        found
    }

    /// How many entities there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }
}

#[cfg(test)]
mod tests {
    use slated_contract::feature::FeatureValue;

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
        table.put("b", 3, &one);
        assert_eq!(table.get("b"), Some((3, one)));
        assert!(table.remove("a") && !table.remove("a"));
        assert_eq!((table.get("a"), table.len()), (None, 2));
    }

    #[test]
    fn a_filter_finds_its_features_wherever_they_stand() {
        let mut table = Table::default();
        let of = |pairs: &[(&str, f64)]| pairs.iter().copied().collect::<Features>();
        let items = [
            ("d", of(&[("price", 1.0), ("size", 5.0)])),
            ("a", of(&[("size", 5.0), ("price", 2.0)])),
            ("c", of(&[("size", 5.0)])),
            ("b", of(&[("price", 9.0), ("size", 5.0)])),
            ("e", Features::new()),
        ];
        items.iter().for_each(|(id, features)| table.put(id, 1, features));
        let filter = |text: &str| serde_json::from_str(text).unwrap();
        let ids = |filter: &Filter| table.matching(filter).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
        let cheap = filter(r#"{"all": [{"feature": "price", "at_most": 2}, {"feature": "size", "at_least": 5}]}"#);
        assert_eq!(ids(&cheap), ["a", "d"]);
        assert_eq!(ids(&filter("{}")), ["a", "b", "c", "d", "e"]);
        assert_eq!(table.matching(&cheap)[0].1, items[1].1);
    }
}
