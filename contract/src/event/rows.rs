//! Decisions from their columns.
//!
//! Journals are read far more often than they are written, and decisions are wide: tens of candidates with features
//! each. Reading them cell by cell from typed arrays costs a third of what a general deserializer does.

use std::ops::Range;

use arrow::array::{
    Array, ArrayRef, AsArray, Float32Array, Float64Array, Int32Array, Int64Array, ListArray, MapArray, RecordBatch,
    StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Float32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use chrono::DateTime;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error as ValueError;
use thiserror::Error;

use super::conform::{ConformError, conform};
use super::{Alternative, Candidate, Decision, Event, Mode, Shown};
use crate::feature::{FeatureRef, Features, FeaturesBuilder};

/// What is wrong with a batch.
#[derive(Debug, Error)]
pub enum RowsError {
    #[error("column `{0}` is missing")]
    Missing(&'static str),
    #[error(transparent)]
    Column(#[from] ConformError),
    #[error("row {row}: {problem}")]
    Row { row: usize, problem: String },
}

/// The decisions of a record batch.
pub fn decisions(batch: &RecordBatch) -> Result<Vec<Decision>, RowsError> {
    let rows = Rows::of(batch)?;
    let decision = |row| rows.decision(row).map_err(|problem| RowsError::Row { row, problem });
    (0..batch.num_rows()).map(decision).collect()
}

/// The columns of [`Decision`], those that came with version 2 of the schema absent from older segments.
struct Rows {
    decision_id: StringArray,
    time: TimestampMicrosecondArray,
    source: StringArray,
    policy: StringArray,
    policy_version: Int64Array,
    model_sha256: StringArray,
    exploration: StringArray,
    seed: Int64Array,
    user_id: StringArray,
    session_id: StringArray,
    user: FeatureRows,
    context: FeatureRows,
    session: FeatureRows,
    candidates: CandidateRows,
    slate: ShownRows,
    propensity: Float64Array,
    propensity_draws: Int32Array,
    marginal_draws: Option<Int32Array>,
    mode: Option<StringArray>,
    not_evaluable: Option<StringArray>,
    page_id: Option<StringArray>,
    slot: Option<StringArray>,
    rules: Option<StringArray>,
    baseline: Option<ListArray>,
    catalogue_version: Option<Int64Array>,
    alternatives: Option<AlternativeRows>,
    omitted_features: Option<ListArray>,
}

impl Rows {
    fn of(batch: &RecordBatch) -> Result<Self, RowsError> {
        let later = |name| -> Result<Option<ArrayRef>, RowsError> {
            let (Some(array), Ok(declared)) = (batch.column_by_name(name), Decision::columns().field_with_name(name))
            else {
                return Ok(None);
            };
            Ok(Some(conform(declared, array)?))
        };
        let first = |name| later(name)?.ok_or(RowsError::Missing(name));
        let text = |name| Ok::<_, RowsError>(first(name)?.as_string().clone());
        let later_text = |name| Ok::<_, RowsError>(later(name)?.map(|array| array.as_string().clone()));
        let features = |name| Ok::<_, RowsError>(FeatureRows::of(first(name)?.as_map()));
        let number = |name| Ok::<_, RowsError>(first(name)?.as_primitive::<Int64Type>().clone());
        Ok(Self {
            decision_id: text("decision_id")?,
            time: first("time")?.as_primitive::<TimestampMicrosecondType>().clone(),
            source: text("source")?,
            policy: text("policy")?,
            policy_version: number("policy_version")?,
            model_sha256: text("model_sha256")?,
            exploration: text("exploration")?,
            seed: number("seed")?,
            user_id: text("user_id")?,
            session_id: text("session_id")?,
            user: features("user")?,
            context: features("context")?,
            session: features("session")?,
            candidates: CandidateRows::of(first("candidates")?.as_list()),
            slate: ShownRows::of(first("slate")?.as_list()),
            propensity: first("propensity")?.as_primitive::<Float64Type>().clone(),
            propensity_draws: first("propensity_draws")?.as_primitive::<Int32Type>().clone(),
            marginal_draws: later("marginal_draws")?.map(|array| array.as_primitive::<Int32Type>().clone()),
            mode: later_text("mode")?,
            not_evaluable: later_text("not_evaluable")?,
            page_id: later_text("page_id")?,
            slot: later_text("slot")?,
            rules: later_text("rules")?,
            baseline: later("baseline")?.map(|array| array.as_list().clone()),
            catalogue_version: later("catalogue_version")?.map(|array| array.as_primitive::<Int64Type>().clone()),
            alternatives: later("alternatives")?.map(|array| AlternativeRows::of(array.as_list())),
            omitted_features: later("omitted_features")?.map(|array| array.as_list().clone()),
        })
    }

    fn decision(&self, row: usize) -> Result<Decision, String> {
        let optional_text = |array: &StringArray| array.is_valid(row).then(|| array.value(row).to_owned());
        let later_text = |array: &Option<StringArray>| array.as_ref().and_then(optional_text);
        let time = self.time.value(row);
        Ok(Decision {
            decision_id: self.decision_id.value(row).to_owned(),
            time: DateTime::from_timestamp_micros(time).ok_or_else(|| format!("time {time} is out of range"))?,
            source: self.source.value(row).to_owned(),
            policy: self.policy.value(row).to_owned(),
            policy_version: self.policy_version.value(row),
            model_sha256: optional_text(&self.model_sha256),
            exploration: optional_text(&self.exploration),
            seed: self.seed.is_valid(row).then(|| self.seed.value(row)),
            user_id: optional_text(&self.user_id),
            session_id: optional_text(&self.session_id),
            user: self.user.get(row)?,
            context: self.context.get(row)?,
            session: self.session.get(row)?,
            candidates: self.candidates.get(row)?,
            slate: self.slate.get(row),
            propensity: self.propensity.value(row),
            propensity_draws: self.propensity_draws.is_valid(row).then(|| self.propensity_draws.value(row)),
            marginal_draws: self
                .marginal_draws
                .as_ref()
                .and_then(|array| array.is_valid(row).then(|| array.value(row))),
            mode: self.mode.as_ref().map_or(Ok(Mode::default()), |array| mode(array.value(row)))?,
            not_evaluable: later_text(&self.not_evaluable),
            page_id: later_text(&self.page_id),
            slot: later_text(&self.slot),
            rules: later_text(&self.rules),
            baseline: self.baseline.as_ref().map_or_else(Vec::new, |array| texts(array, row)),
            catalogue_version: self
                .catalogue_version
                .as_ref()
                .and_then(|array| array.is_valid(row).then(|| array.value(row))),
            alternatives: self.alternatives.as_ref().map_or_else(Vec::new, |array| array.get(row)),
            omitted_features: self.omitted_features.as_ref().map_or_else(Vec::new, |array| texts(array, row)),
        })
    }
}

fn mode(text: &str) -> Result<Mode, String> {
    Mode::deserialize(text.into_deserializer()).map_err(|error: ValueError| format!("mode: {error}"))
}

/// Maps from feature name to cell.
struct FeatureRows {
    maps: MapArray,
    names: StringArray,
    number: Float64Array,
    text: StringArray,
    vector: ListArray,
    elements: Float32Array,
}

impl FeatureRows {
    fn of(maps: &MapArray) -> Self {
        let cells = maps.values().as_struct();
        let vector: &ListArray = cells.column(2).as_list();
        Self {
            names: maps.keys().as_string().clone(),
            number: cells.column(0).as_primitive::<Float64Type>().clone(),
            text: cells.column(1).as_string().clone(),
            vector: vector.clone(),
            elements: vector.values().as_primitive::<Float32Type>().clone(),
            maps: maps.clone(),
        }
    }

    fn get(&self, row: usize) -> Result<Features, String> {
        let range = span(self.maps.value_offsets(), row);
        let mut features = FeaturesBuilder::default();
        for index in range {
            let name = self.names.value(index);
            let cell = (self.number.is_valid(index), self.text.is_valid(index), self.vector.is_valid(index));
            let value = match cell {
                (true, false, false) => FeatureRef::Number(self.number.value(index)),
                (false, true, false) => FeatureRef::Text(self.text.value(index)),
                (false, false, true) => {
                    FeatureRef::Vector(&self.elements.values()[span(self.vector.value_offsets(), index)])
                }
                _ => return Err(format!("feature `{name}` must have exactly one of number, text and vector")),
            };
            features.push(name, value)?;
        }
        Ok(features.finish())
    }
}

struct CandidateRows {
    lists: ListArray,
    item: StringArray,
    features: FeatureRows,
    score: Float32Array,
}

impl CandidateRows {
    fn of(lists: &ListArray) -> Self {
        let fields = lists.values().as_struct();
        Self {
            item: fields.column(0).as_string().clone(),
            features: FeatureRows::of(fields.column(1).as_map()),
            score: fields.column(2).as_primitive::<Float32Type>().clone(),
            lists: lists.clone(),
        }
    }

    fn get(&self, row: usize) -> Result<Vec<Candidate>, String> {
        let candidate = |index| {
            Ok(Candidate {
                item: self.item.value(index).to_owned(),
                features: self.features.get(index)?,
                score: self.score.is_valid(index).then(|| self.score.value(index)),
            })
        };
        span(self.lists.value_offsets(), row).map(candidate).collect()
    }
}

struct ShownRows {
    lists: ListArray,
    item: StringArray,
    position: Int32Array,
    cascade_propensity: Float64Array,
    marginal_propensity: Float64Array,
}

impl ShownRows {
    fn of(lists: &ListArray) -> Self {
        let fields = lists.values().as_struct();
        Self {
            item: fields.column(0).as_string().clone(),
            position: fields.column(1).as_primitive::<Int32Type>().clone(),
            cascade_propensity: fields.column(2).as_primitive::<Float64Type>().clone(),
            marginal_propensity: fields.column(3).as_primitive::<Float64Type>().clone(),
            lists: lists.clone(),
        }
    }

    fn get(&self, row: usize) -> Vec<Shown> {
        let shown = |index| Shown {
            item: self.item.value(index).to_owned(),
            position: self.position.value(index),
            cascade_propensity: self.cascade_propensity.value(index),
            marginal_propensity: self.marginal_propensity.value(index),
        };
        span(self.lists.value_offsets(), row).map(shown).collect()
    }
}

struct AlternativeRows {
    lists: ListArray,
    fields: StructArray,
}

impl AlternativeRows {
    fn of(lists: &ListArray) -> Self {
        Self { fields: lists.values().as_struct().clone(), lists: lists.clone() }
    }

    fn get(&self, row: usize) -> Vec<Alternative> {
        let text = |column: usize, index| self.fields.column(column).as_string::<i32>().value(index).to_owned();
        let number = |column: usize| self.fields.column(column).as_primitive::<Float64Type>();
        let alternative = |index| Alternative {
            policy: text(0, index),
            policy_version: self.fields.column(1).as_primitive::<Int64Type>().value(index),
            model_sha256: text(2, index),
            slate: texts(self.fields.column(3).as_list(), index),
            propensity: number(4).value(index),
            shown_propensity: number(5).is_valid(index).then(|| number(5).value(index)),
            agreement: number(6).value(index),
        };
        span(self.lists.value_offsets(), row).map(alternative).collect()
    }
}

fn texts(lists: &ListArray, row: usize) -> Vec<String> {
    let values = lists.values().as_string::<i32>();
    span(lists.value_offsets(), row).map(|index| values.value(index).to_owned()).collect()
}

/// Where the elements of a list lie. Offsets of a valid array do not descend.
fn span(offsets: &[i32], row: usize) -> Range<usize> {
    offsets[row] as usize..offsets[row + 1] as usize
}
