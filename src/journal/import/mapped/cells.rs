//! What the cells of a row say.

use chrono::{DateTime, NaiveDateTime, Utc};
use serde_json::{Map, Value};
use slated_contract::feature::{Features, Reserved, flatten};

use super::mapping::TimeFormat;
use crate::journal::import::rows::Row;

/// The cell of a column, or what is nested in it.
pub fn cell<'a>(cells: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    let found = match cells.get(path) {
        Some(found) => Some(found),
        None => {
            path.match_indices('.').find_map(|(dot, _)| cell(cells.get(&path[..dot])?.as_object()?, &path[dot + 1..]))
        }
    };
    found.filter(|value| !value.is_null())
}

/// A cell that must be there.
pub fn given<'a>(row: &'a Row, path: &str) -> Result<&'a Value, String> {
    cell(&row.cells, path).ok_or_else(|| format!("`{path}` is missing"))
}

/// A text, or a number as its text.
pub fn text(path: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(format!("`{path}` is {other}, expected a text or a number")),
    }
}

/// The text of a column, where the mapping names one and the row has it.
pub fn optional(row: &Row, path: Option<&String>) -> Result<Option<String>, String> {
    path.and_then(|path| Some((path, cell(&row.cells, path)?))).map(|(path, value)| text(path, value)).transpose()
}

/// A number; a boolean is 1 or 0.
pub fn number(path: &str, value: &Value) -> Result<f64, String> {
    let found = match value {
        Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.trim() {
            "true" | "True" | "TRUE" => Some(1.0),
            "false" | "False" | "FALSE" => Some(0.0),
            text => text.parse().ok().filter(|number: &f64| number.is_finite()),
        },
        _ => None,
    };
    found.ok_or_else(|| format!("`{path}` is {value}, expected a number"))
}

/// The greatest place or position, and the least one's negative: far from where adding to it would overflow.
const FARTHEST: f64 = 1e9;

/// A whole number, such as a place or a position.
pub fn whole(path: &str, value: &Value) -> Result<i32, String> {
    let number = number(path, value)?;
    let whole = number.fract() == 0.0 && number.abs() <= FARTHEST;
    if whole { Ok(number as i32) } else { Err(format!("`{path}` is {value}, expected a whole number")) }
}

/// The elements of a list: of a text, what stands between separators; of anything else alone, itself.
pub fn list(value: &Value, separator: Option<&String>) -> Vec<Value> {
    match (value, separator) {
        (Value::Array(elements), _) => elements.clone(),
        (Value::String(text), Some(separator)) => {
            text.split(separator.as_str()).map(|part| Value::from(part.trim())).collect()
        }
        (other, _) => vec![other.clone()],
    }
}

/// When a decision was made.
pub fn time(path: &str, value: &Value, format: &TimeFormat) -> Result<DateTime<Utc>, String> {
    let micros = match format {
        TimeFormat::Since1970(units) => {
            // Whole numbers are exact; what is finer than a microsecond is cut off.
            let exact = match value {
                Value::Number(number) => number.as_i64(),
                other => text(path, other)?.parse().ok(),
            };
            let per_unit = i64::from(1_000_000 / units);
            match exact {
                Some(whole) => whole.checked_mul(per_unit),
                None => Some((number(path, value)? * per_unit as f64) as i64),
            }
        }
        TimeFormat::Rfc3339 => {
            let text = text(path, value)?;
            // Other writers leave the zone out, or put a blank for the T.
            let zoned = DateTime::parse_from_rfc3339(&text).map(|time| time.to_utc());
            let time = zoned.or_else(|error| {
                let plain = text.replacen(' ', "T", 1);
                plain.parse::<NaiveDateTime>().map(|time| time.and_utc()).map_err(|_| error)
            });
            Some(time.map_err(|error| format!("`{path}` is `{text}`: {error}"))?.timestamp_micros())
        }
        TimeFormat::Pattern(pattern) => {
            let text = text(path, value)?;
            let time = if pattern.contains("%z") || pattern.contains("%:z") || pattern.contains("%#z") {
                DateTime::parse_from_str(&text, pattern).map(|time| time.to_utc())
            } else {
                NaiveDateTime::parse_from_str(&text, pattern).map(|time| time.and_utc())
            };
            Some(
                time.map_err(|error| format!("`{path}` is `{text}`, and not as `{pattern}`: {error}"))?
                    .timestamp_micros(),
            )
        }
    };
    let time = micros.and_then(DateTime::from_timestamp_micros);
    time.ok_or_else(|| format!("`{path}` is {value}, which is out of range"))
}

/// The features of some columns, by their names; an empty cell is none. Texts of CSV that are numbers are numbers.
pub fn features(row: &Row, columns: &[String]) -> Result<Features, String> {
    let cells = columns.iter().filter_map(|column| Some((column.clone(), cell(&row.cells, column)?)));
    let cells = cells.map(|(column, value)| (column, if row.is_text { numeric(value) } else { value.clone() }));
    flatten(&Value::Object(cells.collect()), Reserved::Nothing).map_err(|error| error.to_string())
}

/// All cells but one as features.
pub fn all_features(row: &Row, but: &str) -> Result<Features, String> {
    let columns: Vec<String> = row.cells.keys().filter(|column| *column != but).cloned().collect();
    features(row, &columns)
}

fn numeric(value: &Value) -> Value {
    let number = value.as_str().and_then(|text| text.parse::<f64>().ok()).filter(|number| number.is_finite());
    number.map_or_else(|| value.clone(), Value::from)
}
