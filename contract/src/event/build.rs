//! Decisions into their columns: the counterpart of [`super::rows`], and as direct.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float32Array, Float32Builder, Float64Array, Float64Builder, Int32Array, Int64Array, ListArray, MapArray,
    NullBufferBuilder, RecordBatch, StringBuilder, StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use arrow::error::ArrowError;

use super::{Alternative, Decision, Event, Mode, Shown};
use crate::feature::{FeatureValue, Features};

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

/// A column of texts.
#[derive(Default)]
struct Texts(StringBuilder);

impl Texts {
    fn push(&mut self, text: Option<&str>) -> Result<(), ArrowError> {
        let Some(text) = text else {
            self.0.append_null();
            return Ok(());
        };
        // The builder would panic.
        if i32::try_from(self.0.values_slice().len() + text.len()).is_err() {
            return Err(ArrowError::OffsetOverflowError(text.len()));
        }
        self.0.append_value(text);
        Ok(())
    }

    fn finish(mut self) -> ArrayRef {
        Arc::new(self.0.finish())
    }
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> Result<ArrayRef, ArrowError> {
    let mut texts = Texts::default();
    for value in values {
        texts.push(value)?;
    }
    Ok(texts.finish())
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
    let count = all.clone().map(Features::len).sum();
    let (mut names, mut text) = (Texts::default(), Texts::default());
    let mut number = Float64Builder::with_capacity(count);
    let (mut lengths, mut elements) = (Vec::with_capacity(count), Float32Builder::new());
    let mut vectors = NullBufferBuilder::new(count);
    for (name, value) in all.clone().flat_map(Features::iter) {
        names.push(Some(name))?;
        let (mut in_number, mut in_text, mut in_vector) = (None, None, None);
        match value {
            FeatureValue::Number(value) => in_number = Some(*value),
            FeatureValue::Text(value) => in_text = Some(value.as_str()),
            FeatureValue::Vector(value) => in_vector = Some(value.as_slice()),
        }
        number.append_option(in_number);
        text.push(in_text)?;
        vectors.append(in_vector.is_some());
        let vector = in_vector.unwrap_or_default();
        elements.append_slice(vector);
        lengths.push(vector.len());
    }
    let ends = offsets(lengths.into_iter())?;
    let vector = ListArray::try_new(inner(&cell[2])?, ends, Arc::new(elements.finish()), vectors.finish())?;
    let values: Vec<ArrayRef> = vec![Arc::new(number.finish()), text.finish(), Arc::new(vector)];
    let values = StructArray::try_new(cell.clone(), values, None)?;
    let pairs = StructArray::try_new(entry.clone(), vec![names.finish(), Arc::new(values)], None)?;
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
