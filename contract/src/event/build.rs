//! Decisions into their columns: the counterpart of [`super::rows`], and as direct.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float32Array, Float64Array, Int32Array, Int64Array, ListArray, MapArray, RecordBatch, StringBuilder,
    StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use arrow::error::ArrowError;

use super::cells::Cells;
use super::{Alternative, Decision, Event, Mode, Shown};
use crate::feature::Features;

/// Decisions as a record batch.
pub fn batch(decisions: &[Decision]) -> Result<RecordBatch, ArrowError> {
    let schema = Decision::columns();
    let field = |name| schema.field_with_name(name);
    let all = || decisions.iter();
    let text = |of: fn(&Decision) -> &str| texts(all().map(|decision| Some(of(decision))));
    let optional_text = |of: fn(&Decision) -> Option<&str>| texts(all().map(of));
    let features = |name, of: fn(&Decision) -> &Features| features(field(name)?, all().map(of));
    let time = TimestampMicrosecondArray::from_iter_values(all().map(|decision| decision.time.timestamp_micros()));
    let candidate = |fields: &Fields| candidates(fields, decisions);
    let alternative = |fields: &Fields| alternatives(fields, decisions);
    let columns: Vec<ArrayRef> = vec![
        text(|decision| &decision.decision_id)?,
        Arc::new(time.with_timezone("UTC")),
        text(|decision| &decision.source)?,
        text(|decision| &decision.policy)?,
        Arc::new(Int64Array::from_iter_values(all().map(|decision| decision.policy_version))),
        optional_text(|decision| decision.model_sha256.as_deref())?,
        optional_text(|decision| decision.exploration.as_deref())?,
        Arc::new(all().map(|decision| decision.seed).collect::<Int64Array>()),
        optional_text(|decision| decision.user_id.as_deref())?,
        optional_text(|decision| decision.session_id.as_deref())?,
        features("user", |decision| &decision.user)?,
        features("context", |decision| &decision.context)?,
        features("session", |decision| &decision.session)?,
        list(field("candidates")?, all().map(|decision| decision.candidates.len()), candidate)?,
        list(field("slate")?, all().map(|decision| decision.slate.len()), |_| slate(decisions))?,
        Arc::new(Float64Array::from_iter_values(all().map(|decision| decision.propensity))),
        Arc::new(all().map(|decision| decision.propensity_draws).collect::<Int32Array>()),
        Arc::new(all().map(|decision| decision.marginal_draws).collect::<Int32Array>()),
        text(|decision| mode(decision.mode))?,
        optional_text(|decision| decision.not_evaluable.as_deref())?,
        optional_text(|decision| decision.page_id.as_deref())?,
        optional_text(|decision| decision.slot.as_deref())?,
        optional_text(|decision| decision.rules.as_deref())?,
        text_lists(field("baseline")?, all().map(|decision| &*decision.baseline))?,
        Arc::new(all().map(|decision| decision.catalogue_version).collect::<Int64Array>()),
        list(field("alternatives")?, all().map(|decision| decision.alternatives.len()), alternative)?,
        text_lists(field("omitted_features")?, all().map(|decision| &*decision.omitted_features))?,
    ];
    RecordBatch::try_new(Arc::clone(schema), columns)
}

const fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Policy => "policy",
        Mode::Apprentice => "apprentice",
        Mode::Fallback => "fallback",
    }
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>> + Clone) -> Result<ArrayRef, ArrowError> {
    let sizes = values.clone().map(|text| text.map_or(0, str::len));
    let (count, bytes) = sizes.fold((0, 0_usize), |(count, bytes), size| (count + 1, bytes + size));
    // The builder would panic.
    if i32::try_from(bytes).is_err() {
        return Err(ArrowError::OffsetOverflowError(bytes));
    }
    let mut texts = StringBuilder::with_capacity(count, bytes);
    values.for_each(|text| texts.append_option(text));
    Ok(Arc::new(texts.finish()))
}

/// A list column whose elements are structs; `lengths` are those of the lists.
fn list(
    field: &Field,
    lengths: impl Iterator<Item = usize>,
    elements: impl FnOnce(&Fields) -> Result<Vec<ArrayRef>, ArrowError>,
) -> Result<ArrayRef, ArrowError> {
    let element = inner(field)?;
    let fields = struct_fields(&element)?;
    let values = StructArray::try_new(fields.clone(), elements(fields)?, None)?;
    Ok(Arc::new(ListArray::try_new(element, offsets(lengths)?, Arc::new(values), None)?))
}

fn text_lists<'a>(field: &Field, lists: impl Iterator<Item = &'a [String]> + Clone) -> Result<ArrayRef, ArrowError> {
    let values = texts(lists.clone().flatten().map(|text| Some(&**text)))?;
    Ok(Arc::new(ListArray::try_new(inner(field)?, offsets(lists.map(<[_]>::len))?, values, None)?))
}

fn candidates(fields: &Fields, decisions: &[Decision]) -> Result<Vec<ArrayRef>, ArrowError> {
    let all = || decisions.iter().flat_map(|decision| &decision.candidates);
    Ok(vec![
        texts(all().map(|candidate| Some(&*candidate.item)))?,
        features(&fields[1], all().map(|candidate| &candidate.features))?,
        Arc::new(all().map(|candidate| candidate.score).collect::<Float32Array>()),
    ])
}

fn slate(decisions: &[Decision]) -> Result<Vec<ArrayRef>, ArrowError> {
    let all = || decisions.iter().flat_map(|decision| &decision.slate);
    let numbers = |of: fn(&Shown) -> f64| Arc::new(Float64Array::from_iter_values(all().map(of)));
    Ok(vec![
        texts(all().map(|shown| Some(&*shown.item)))?,
        Arc::new(Int32Array::from_iter_values(all().map(|shown| shown.position))),
        numbers(|shown| shown.cascade_propensity),
        numbers(|shown| shown.marginal_propensity),
    ])
}

fn alternatives(fields: &Fields, decisions: &[Decision]) -> Result<Vec<ArrayRef>, ArrowError> {
    let all = || decisions.iter().flat_map(|decision| &decision.alternatives);
    let numbers = |of: fn(&Alternative) -> f64| Arc::new(Float64Array::from_iter_values(all().map(of)));
    Ok(vec![
        texts(all().map(|alternative| Some(&*alternative.policy)))?,
        Arc::new(Int64Array::from_iter_values(all().map(|alternative| alternative.policy_version))),
        texts(all().map(|alternative| Some(&*alternative.model_sha256)))?,
        text_lists(&fields[3], all().map(|alternative| &*alternative.slate))?,
        numbers(|alternative| alternative.propensity),
        Arc::new(all().map(|alternative| alternative.shown_propensity).collect::<Float64Array>()),
        numbers(|alternative| alternative.agreement),
    ])
}

/// Maps from feature name to a struct of which exactly one field is set: a column has one type, and every Parquet reader
/// understands `{number: f64?, text: string?, vector: list<f32>?}`.
fn features<'a>(field: &Field, all: impl Iterator<Item = &'a Features> + Clone) -> Result<ArrayRef, ArrowError> {
    let entries = inner(field)?;
    let entry = struct_fields(&entries)?;
    let cell = struct_fields(&entry[1])?;
    let mut cells = Cells::new(inner(&cell[2])?);
    all.clone().try_for_each(|features| cells.push(features))?;
    let (names, values) = cells.finish()?;
    let values = StructArray::try_new(cell.clone(), values, None)?;
    let pairs = StructArray::try_new(entry.clone(), vec![names, Arc::new(values)], None)?;
    Ok(Arc::new(MapArray::try_new(Arc::clone(&entries), offsets(all.map(Features::len))?, pairs, None, false)?))
}

/// Where lists of these lengths end, one after the other.
fn offsets(lengths: impl Iterator<Item = usize>) -> Result<OffsetBuffer<i32>, ArrowError> {
    let mut end = 0_i32;
    let mut offsets = vec![end];
    for length in lengths {
        let next = i32::try_from(length).ok().and_then(|length| end.checked_add(length));
        end = next.ok_or_else(|| ArrowError::OffsetOverflowError(length))?;
        offsets.push(end);
    }
    Ok(OffsetBuffer::new(offsets.into()))
}

/// What a list or a map holds.
fn inner(field: &Field) -> Result<FieldRef, ArrowError> {
    match field.data_type() {
        DataType::List(element) | DataType::Map(element, _) => Ok(Arc::clone(element)),
        other => Err(ArrowError::SchemaError(format!("{} is {other}, not a list", field.name()))),
    }
}

fn struct_fields(field: &Field) -> Result<&Fields, ArrowError> {
    match field.data_type() {
        DataType::Struct(fields) => Ok(fields),
        other => Err(ArrowError::SchemaError(format!("{} is {other}, not a struct", field.name()))),
    }
}
