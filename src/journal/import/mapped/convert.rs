//! Rows of a table into decisions and what came of them.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use slated_contract::event::{Candidate, Decision, Feedback, Shown, deterministic_id};
use slated_contract::feature::Features;

use super::cells::{cell, features, given, list, number, optional, text, time, whole};
use super::items::Items;
use super::mapping::{DecisionColumns, Mapping, PropensityOf};
use crate::journal::import::Logged;
use crate::journal::import::rows::Row;

const SOURCE: &str = "import:mapped";
/// Why a log without probabilities cannot be weighed by them.
const NO_PROPENSITY: &str = "the log holds no propensities";

/// Turns rows into events.
pub struct Converter<'a> {
    mapping: &'a Mapping,
    items: Option<&'a Items>,
    digest: &'a str,
    /// Decisions so far.
    decisions: i64,
}

/// An item that was shown, with what the row says of it.
struct ShownItem {
    item: String,
    position: i32,
    propensity: Option<f64>,
}

/// An event type, its value, and the item, by its index in the slate, that it is about; the whole slate where there is none.
type Response<'a> = (&'a str, f64, Option<usize>);

impl<'a> Converter<'a> {
    /// A converter of one file, which `digest` tells from others.
    pub const fn new(mapping: &'a Mapping, items: Option<&'a Items>, digest: &'a str) -> Self {
        Self { mapping, items, digest, decisions: 0 }
    }

    /// The decision's id, where the mapping names its column and the row has it.
    pub fn id(&self, row: &Row) -> Result<Option<String>, String> {
        optional(row, self.mapping.decision.id.as_ref())
    }

    /// A row that is a decision.
    pub fn decision(&mut self, row: &Row) -> Result<Logged, String> {
        let candidates = self.candidates(row)?;
        let columns = &self.mapping.shown;
        let items = list(given(row, &columns.column)?, columns.separator.as_ref());
        let propensities = match &columns.propensity {
            Some(path) => {
                let given = list(given(row, path)?, columns.separator.as_ref());
                if given.len() != items.len() {
                    let (probabilities, items) = (given.len(), items.len());
                    return Err(format!("`{path}` holds {probabilities} probabilities for {items} items shown"));
                }
                given.iter().map(|value| number(path, value).map(Some)).collect::<Result<_, _>>()?
            }
            None => vec![None; items.len()],
        };
        let first = match &columns.position {
            Some(path) => whole(path, given(row, path)?)?.saturating_sub(columns.first_position),
            None => 0,
        };
        let mut shown = Vec::with_capacity(items.len());
        for ((value, propensity), position) in items.iter().zip(propensities).zip(first..) {
            let item = if columns.by_place {
                let place = usize::try_from(whole(&columns.column, value)?).ok();
                let candidate = place.and_then(|place| candidates.get(place));
                let count = candidates.len();
                candidate
                    .ok_or_else(|| format!("`{}` is {value}, there are {count} candidates from 0", columns.column))?
                    .item
                    .clone()
            } else {
                self.item_of(&columns.column, value)?
            };
            shown.push(ShownItem { item, position, propensity });
        }
        let mut responses = Vec::new();
        for (event, path) in &self.mapping.rewards {
            if let Some(value) = cell(&row.cells, path) {
                responses.extend(self.responses(event, path, value, &shown)?);
            }
        }
        self.logged(row, candidates, shown, responses)
    }

    /// Rows that are the items of a decision.
    pub fn items(&mut self, rows: &[Row]) -> Result<Logged, String> {
        let columns = &self.mapping.shown;
        // A mapping of such rows names the column.
        let item_column = self.mapping.candidates.column.as_deref().unwrap_or_default();
        let (mut candidates, mut shown) = (Vec::with_capacity(rows.len()), Vec::new());
        for row in rows {
            let item = text(item_column, given(row, item_column)?)?;
            let own = features(row, &self.mapping.candidates.features)?;
            candidates.push(self.candidate(item.clone(), &own));
            let Some(position) = cell(&row.cells, &columns.column) else { continue };
            let position = whole(&columns.column, position)?.saturating_sub(columns.first_position);
            let propensity = match &columns.propensity {
                Some(path) => Some(number(path, given(row, path)?)?),
                None => None,
            };
            shown.push((ShownItem { item, position, propensity }, row));
        }
        shown.sort_by_key(|(shown, _)| shown.position);
        let mut responses: Vec<Response> = Vec::new();
        for (index, (_, row)) in shown.iter().enumerate() {
            for (event, path) in &self.mapping.rewards {
                let value = cell(&row.cells, path).map(|value| number(path, value)).transpose()?;
                responses.extend(value.filter(|value| *value != 0.0).map(|value| (event.as_str(), value, Some(index))));
            }
        }
        let shown = shown.into_iter().map(|(shown, _)| shown).collect();
        self.logged(&rows[0], candidates, shown, responses)
    }

    fn candidates(&self, row: &Row) -> Result<Vec<Candidate>, String> {
        let columns = &self.mapping.candidates;
        let Some(path) = &columns.column else {
            return Ok(self.items.map(|items| items.all().to_vec()).unwrap_or_default());
        };
        let listed = list(given(row, path)?, columns.separator.as_ref());
        listed
            .iter()
            .map(|value| {
                let item = self.item_of(path, value)?;
                let own = match value {
                    Value::Object(object) => {
                        let id = columns.id.as_deref().unwrap_or("id");
                        let row = Row { cells: object.clone(), is_text: false };
                        super::cells::all_features(&row, id)
                            .map_err(|error| format!("`{path}`: item `{item}`: {error}"))?
                    }
                    _ => Features::new(),
                };
                Ok(self.candidate(item, &own))
            })
            .collect()
    }

    /// An item's id, given as such or in an object.
    fn item_of(&self, path: &str, value: &Value) -> Result<String, String> {
        let key = self.mapping.candidates.id.as_deref().unwrap_or("id");
        match value {
            Value::Object(object) => {
                let id = object.get(key).ok_or_else(|| format!("an object of `{path}` has no `{key}`"))?;
                text(&format!("{path}.{key}"), id)
            }
            value => text(path, value),
        }
    }

    /// An item with what is known of it, its row's features over its table's.
    fn candidate(&self, item: String, own: &Features) -> Candidate {
        let known = self.items.map(|items| items.features(&item)).unwrap_or_default();
        Candidate { features: known.overlaid_with(own), item, score: None }
    }

    /// What a cell says of what was shown: a number of one item or of the whole slate, numbers by item shown, or the ids of
    /// items that it happened to.
    fn responses<'e>(
        &self,
        event: &'e str,
        path: &str,
        value: &Value,
        shown: &[ShownItem],
    ) -> Result<Vec<Response<'e>>, String> {
        let values = list(value, self.mapping.shown.separator.as_ref());
        let numbers: Result<Vec<f64>, String> = values.iter().map(|value| number(path, value)).collect();
        let place = |value: &Value| {
            let item = self.item_of(path, value).ok()?;
            shown.iter().position(|shown| shown.item == item)
        };
        let responses = match numbers {
            Ok(numbers) if numbers.len() == shown.len() => {
                numbers.into_iter().enumerate().map(|(index, number)| (event, number, Some(index))).collect::<Vec<_>>()
            }
            Ok(numbers) if numbers.len() == 1 && !value.is_array() => vec![(event, numbers[0], None)],
            _ => {
                let places = values.iter().map(|value| {
                    place(value)
                        .ok_or_else(|| format!("`{path}` is {value}, which is neither a number nor an item shown"))
                });
                places.map(|place| place.map(|place| (event, 1.0, Some(place)))).collect::<Result<_, _>>()?
            }
        };
        Ok(responses.into_iter().filter(|(_, value, _)| *value != 0.0).collect())
    }

    fn logged(
        &mut self,
        row: &Row,
        candidates: Vec<Candidate>,
        shown: Vec<ShownItem>,
        responses: Vec<Response>,
    ) -> Result<Logged, String> {
        let DecisionColumns { time: time_column, time_format, user_id, session_id, policy, policy_column, .. } =
            &self.mapping.decision;
        let number = self.decisions.to_string();
        self.decisions += 1;
        let time: DateTime<Utc> = match time_column {
            Some(path) => time(path, given(row, path)?, time_format)?,
            None => DateTime::UNIX_EPOCH + TimeDelta::microseconds(self.decisions),
        };
        let decision_id = match self.id(row)? {
            Some(id) => id,
            None => deterministic_id(time, &[SOURCE, self.digest, "decision", &number]).to_string(),
        };
        let (slate, propensity) = self.slate(shown)?;
        let policy = optional(row, policy_column.as_ref())?.or_else(|| policy.clone());
        let decision = Decision {
            decision_id,
            time,
            source: SOURCE.to_owned(),
            policy: policy.unwrap_or_else(|| "imported".to_owned()),
            policy_version: 1,
            user_id: optional(row, user_id.as_ref())?,
            session_id: optional(row, session_id.as_ref())?,
            user: features(row, &self.mapping.features.user)?,
            context: features(row, &self.mapping.features.context)?,
            candidates,
            slate,
            propensity: propensity.unwrap_or(1.0),
            not_evaluable: propensity.is_none().then(|| NO_PROPENSITY.to_owned()),
            ..Decision::default()
        };
        let feedback = responses.into_iter().map(|(event, value, index)| {
            let item = index.map(|index| decision.slate[index].item.clone());
            let about = item.as_deref().unwrap_or_default();
            let id = deterministic_id(time, &[SOURCE, &decision.decision_id, event, about]);
            Feedback {
                feedback_id: id.to_string(),
                decision_id: decision.decision_id.clone(),
                time,
                occurred: time,
                source: SOURCE.to_owned(),
                event: event.to_owned(),
                value,
                item,
                position: None,
            }
        });
        Ok(Logged { feedback: feedback.collect(), decisions: vec![decision] })
    }

    /// The slate and its probability, where the log says any.
    fn slate(&self, shown: Vec<ShownItem>) -> Result<(Vec<Shown>, Option<f64>), String> {
        let mut slate: Vec<Shown> = Vec::with_capacity(shown.len());
        let mut joint = Some(1.0);
        for ShownItem { item, position, propensity } in shown {
            if slate.iter().any(|before| before.item == item || before.position == position) {
                return Err(format!("item `{item}` at position {position} is shown twice, or in the place of another"));
            }
            let (cascade, marginal) = match (joint, propensity) {
                (Some(before), Some(given)) => match self.mapping.shown.propensity_of {
                    // Whatever stands elsewhere is known of the first position alone.
                    PropensityOf::Conditional => {
                        (before * given, if slate.is_empty() { given } else { before * given })
                    }
                    PropensityOf::Cascade => (given, given),
                    PropensityOf::Independent => (before * given, given),
                },
                _ => (1.0, 1.0),
            };
            joint = joint.zip(propensity).map(|_| cascade);
            slate.push(Shown { item, position, cascade_propensity: cascade, marginal_propensity: marginal });
        }
        Ok((slate, joint))
    }
}
