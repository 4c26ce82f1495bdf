//! JSON objects to and from the cells of a CSV row.

use std::fmt;

use arrow::datatypes::DataType;
use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use slated_contract::event::Event;

use super::line::{Line, Written};

/// The cells of an event, in the order of its columns.
pub fn cells<E: Line>(event: &E) -> Result<Vec<String>, serde_json::Error> {
    let object = serde_json::to_string(&Written(event))?;
    let values = serde_json::Deserializer::from_str(&object).deserialize_map(Values)?;
    values.iter().map(|raw| cell(raw.get())).collect()
}

/// The raw values of an object, in its order.
struct Values;

impl<'de> Visitor<'de> for Values {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some((_, value)) = map.next_entry::<&str, &RawValue>()? {
            values.push(value);
        }
        Ok(values)
    }
}

fn cell(raw: &str) -> Result<String, serde_json::Error> {
    if raw == "null" {
        return Ok(String::new());
    }
    if !raw.starts_with('"') {
        return Ok(raw.to_owned());
    }
    let text: String = serde_json::from_str(raw)?;
    Ok(if text.is_empty() || text.starts_with('"') { raw.to_owned() } else { text })
}

/// Where the columns of a kind stand in a file.
pub struct Header {
    /// For each field of a row: the column's name as JSON, and whether it holds text.
    columns: Vec<(String, bool)>,
}

impl Header {
    /// Reads a header.
    ///
    /// # Errors
    /// A column that the kind does not have, or has once.
    pub fn read<E: Event>(names: &csv::StringRecord) -> Result<Self, String> {
        let mut columns = Vec::with_capacity(names.len());
        for (index, name) in names.iter().enumerate() {
            let Ok(field) = E::columns().field_with_name(name) else {
                let known: Vec<&str> = E::columns().fields().iter().map(|field| field.name().as_str()).collect();
                return Err(format!("{} have no column `{name}`; they have {}", E::KIND, known.join(", ")));
            };
            if names.iter().take(index).any(|before| before == name) {
                return Err(format!("its header has the column `{name}` twice"));
            }
            let is_text = matches!(field.data_type(), DataType::Utf8 | DataType::Timestamp(..));
            columns.push((serde_json::Value::from(name).to_string(), is_text));
        }
        Ok(Self { columns })
    }

    /// A row as a JSON object.
    ///
    /// # Errors
    /// Too many or too few fields.
    pub fn object(&self, row: &csv::StringRecord) -> Result<String, String> {
        if row.len() != self.columns.len() {
            return Err(format!("it has {} fields, expected {}", row.len(), self.columns.len()));
        }
        let mut object = String::from("{");
        for (cell, (name, is_text)) in row.iter().zip(&self.columns) {
            if cell.is_empty() {
                continue;
            }
            if object.len() > 1 {
                object.push(',');
            }
            object.push_str(name);
            object.push(':');
            if *is_text && !cell.starts_with('"') {
                object.push_str(&serde_json::Value::from(cell).to_string());
            } else {
                object.push_str(cell);
            }
        }
        object.push('}');
        Ok(object)
    }
}
