//! Reading entities from a file: CSV, JSON lines or Parquet, by its name's ending.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Deserialize;
use slated_contract::event::check_identifier;
use slated_contract::feature::{FeatureValue, Features};
use xxhash_rust::xxh3::xxh3_128;

use super::CatalogueError;

/// The column that holds the id.
const ID: &str = "id";

/// Hands every entity of a file to `take`, in its order; a million of them are never held at once.
///
/// # Errors
/// A file that does not read, its first row that is no entity or repeats an id, by number, or what `take` says.
pub fn read(
    path: &Path,
    mut take: impl FnMut(String, Features) -> Result<(), CatalogueError>,
) -> Result<(), CatalogueError> {
    let file = Source { path };
    let mut seen = HashSet::new();
    let mut row = 0;
    let mut check = |id: String, features: Features| {
        row += 1;
        check_identifier(&id).map_err(|error| file.row(row, format!("`id` {error}")))?;
        // The hash stands for the id: two of a million share one with a probability of 1e-27.
        if !seen.insert(xxh3_128(id.as_bytes())) {
            return Err(file.row(row, format!("`{id}` stands twice")));
        }
        take(id, features)
    };
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
    match ending.as_str() {
        "csv" => file.csv(&mut check),
        "jsonl" | "ndjson" => file.json_lines(&mut check),
        "parquet" => file.parquet(&mut check),
        _ => Err(file.error("its name must end in .csv, .jsonl, .ndjson or .parquet".to_owned())),
    }
}

type Take<'a> = &'a mut dyn FnMut(String, Features) -> Result<(), CatalogueError>;

struct Source<'a> {
    path: &'a Path,
}

impl Source<'_> {
    fn error(&self, reason: impl ToString) -> CatalogueError {
        CatalogueError::File { path: self.path.to_owned(), reason: reason.to_string() }
    }

    fn row(&self, row: usize, reason: impl ToString) -> CatalogueError {
        CatalogueError::Row { path: self.path.to_owned(), row, reason: reason.to_string() }
    }

    fn open(&self) -> Result<File, CatalogueError> {
        File::open(self.path).map_err(|error| self.error(error))
    }

    /// `{"id": ..., "features": {...}}` a line; empty lines are passed over.
    fn json_lines(&self, take: Take) -> Result<(), CatalogueError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Line {
            id: String,
            #[serde(default)]
            features: Features,
        }

        for (index, text) in BufReader::new(self.open()?).lines().enumerate() {
            let text = text.map_err(|error| self.error(error))?;
            if !text.trim().is_empty() {
                let line: Line = serde_json::from_str(&text).map_err(|error| self.row(index + 1, error))?;
                take(line.id, line.features)?;
            }
        }
        Ok(())
    }

    /// A header with `id`, then a feature a column; an empty cell is no feature. A column is numeric if every cell of
    /// it reads as a finite number, and text otherwise: a column of codes such as `007` and `A7` stays text throughout.
    fn csv(&self, take: Take) -> Result<(), CatalogueError> {
        let reader =
            || -> Result<csv::Reader<_>, CatalogueError> { Ok(csv::Reader::from_reader(BufReader::new(self.open()?))) };
        let header = reader()?.headers().map_err(|error| self.error(error))?.clone();
        let id = header.iter().position(|name| name == ID).ok_or_else(|| self.error("it has no column `id`"))?;
        let number = |cell: &str| cell.parse::<f64>().ok().filter(|number| number.is_finite());
        let mut numeric = vec![true; header.len()];
        for record in reader()?.into_records() {
            let record = record.map_err(|error| self.error(error))?;
            for (numeric, cell) in numeric.iter_mut().zip(&record) {
                *numeric &= cell.is_empty() || number(cell).is_some();
            }
        }
        for record in reader()?.into_records() {
            let record = record.map_err(|error| self.error(error))?;
            let cells = record.iter().enumerate().filter(|&(column, cell)| column != id && !cell.is_empty());
            let features = cells.map(|(column, cell)| {
                let value = if numeric[column] { number(cell).map(FeatureValue::Number) } else { None };
                (&header[column], value.unwrap_or_else(|| cell.into()))
            });
            take(record[id].to_owned(), features.collect())?;
        }
        Ok(())
    }

    /// A text column `id`, then a feature a column: numbers, booleans (1 or 0), texts, lists of numbers. A null is no
    /// feature.
    fn parquet(&self, take: Take) -> Result<(), CatalogueError> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(self.open()?).map_err(|error| self.error(error))?;
        for batch in builder.build().map_err(|error| self.error(error))? {
            self.batch(&batch.map_err(|error| self.error(error))?, take)?;
        }
        Ok(())
    }

    fn batch(&self, batch: &RecordBatch, take: Take) -> Result<(), CatalogueError> {
        let ids = batch.column_by_name(ID).ok_or_else(|| self.error("it has no column `id`"))?;
        let ids = cast(ids, &DataType::Utf8).map_err(|error| self.error(error))?;
        let schema = batch.schema();
        let mut columns = Vec::new();
        for (field, column) in schema.fields().iter().zip(batch.columns()).filter(|(field, _)| field.name() != ID) {
            let kind = match field.data_type() {
                kind if kind.is_numeric() || *kind == DataType::Boolean => DataType::Float64,
                DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => {
                    DataType::new_list(DataType::Float32, true)
                }
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(..) => DataType::Utf8,
                other => {
                    return Err(self.error(format!(
                        "column `{}` is {other}; allowed are numbers, booleans, texts and lists of numbers",
                        field.name()
                    )));
                }
            };
            let column =
                cast(column, &kind).map_err(|error| self.error(format!("column `{}`: {error}", field.name())))?;
            columns.push((field.name().as_str(), column));
        }
        for row in 0..batch.num_rows() {
            let features = columns.iter().filter(|(_, column)| column.is_valid(row));
            let features = features.map(|(name, column)| (*name, value(column, row))).collect();
            take(ids.as_string::<i32>().value(row).to_owned(), features)?;
        }
        Ok(())
    }
}

fn value(column: &ArrayRef, row: usize) -> FeatureValue {
    match column.data_type() {
        DataType::Float64 => FeatureValue::Number(column.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        _ => {
            let elements = column.as_list::<i32>().value(row);
            FeatureValue::Vector(elements.as_primitive::<Float32Type>().values().to_vec())
        }
    }
}
