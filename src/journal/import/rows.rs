//! Tables of other systems as rows of JSON: CSV, JSON lines and Parquet.

use std::fs::File;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::json::LineDelimitedWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Value};

use super::{ImportError, Lines};

/// Rows of a Parquet file decoded at a time.
const BATCH: usize = 256;

/// The endings of files that are read as tables.
pub const TABLES: [&str; 6] = ["csv", "tsv", "jsonl", "ndjson", "json", "parquet"];

/// A row: its cells by column.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Row {
    /// Empty cells are absent.
    pub cells: Map<String, Value>,
    /// Whether cells are texts that may stand for numbers, as in CSV.
    pub is_text: bool,
}

/// What is told of each row: its line (of a Parquet file, its number) from 1, and the row or why it does not read.
pub type EachRow<'a> = dyn FnMut(u64, Result<Row, String>) -> Result<(), ImportError> + 'a;

/// Reads a table row by row.
///
/// # Errors
/// A file that does not read or whose name ends in none of [`TABLES`], and those of `each`.
pub fn for_each_row(path: &Path, each: &mut EachRow) -> Result<(), ImportError> {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    match extension.as_deref() {
        Some("csv") => csv_rows(path, b',', each),
        Some("tsv") => csv_rows(path, b'\t', each),
        Some("jsonl" | "ndjson" | "json") => json_rows(path, each),
        Some("parquet") => parquet_batches(path, &mut |first, batch| {
            for (row, number) in json_of(path, &batch)?.into_iter().zip(first..) {
                each(number, Ok(row))?;
            }
            Ok(())
        }),
        _ => Err(wrong(
            path,
            format!("its name ends in none of .{}, so that how to read it is not known", TABLES.join(", .")),
        )),
    }
}

fn wrong(path: &Path, problem: String) -> ImportError {
    ImportError::File { path: path.to_owned(), problem }
}

fn csv_rows(path: &Path, delimiter: u8, each: &mut EachRow) -> Result<(), ImportError> {
    let failed = |error: csv::Error| wrong(path, error.to_string());
    let mut reader = csv::ReaderBuilder::new().flexible(true).delimiter(delimiter).from_path(path).map_err(failed)?;
    let header = reader.headers().map_err(failed)?.clone();
    let mut record = csv::StringRecord::new();
    loop {
        let more = reader.read_record(&mut record);
        let line = record.position().map_or(0, csv::Position::line);
        match more {
            Ok(false) => return Ok(()),
            Ok(true) if record.len() != header.len() => {
                each(line, Err(format!("it has {} fields, expected {}", record.len(), header.len())))?;
            }
            Ok(true) => {
                let cells = header.iter().zip(&record).filter(|(_, cell)| !cell.is_empty());
                let cells = cells.map(|(name, cell)| (name.to_owned(), nested(cell))).collect();
                each(line, Ok(Row { cells, is_text: true }))?;
            }
            // The reader goes on with the next record.
            Err(error) if !error.is_io_error() => each(line, Err(error.to_string()))?,
            Err(error) => return Err(failed(error)),
        }
    }
}

/// A list or an object in a cell, or its text.
fn nested(cell: &str) -> Value {
    let read = cell.starts_with(['[', '{']).then(|| serde_json::from_str(cell).ok()).flatten();
    read.unwrap_or_else(|| Value::from(cell))
}

fn json_rows(path: &Path, each: &mut EachRow) -> Result<(), ImportError> {
    let mut lines = Lines::open(path)?;
    while let Some((number, line)) = lines.read()? {
        let row = line.and_then(|line| match serde_json::from_str(line) {
            Ok(Value::Object(mut cells)) => {
                cells.retain(|_, cell| !cell.is_null());
                Ok(Row { cells, is_text: false })
            }
            Ok(_) => Err("it is no JSON object".to_owned()),
            Err(error) => Err(error.to_string()),
        });
        each(number, row)?;
    }
    Ok(())
}

/// Reads a Parquet file in batches, each with the number of its first row.
///
/// # Errors
/// A file that does not read, and those of `each`.
pub fn parquet_batches(
    path: &Path,
    each: &mut dyn FnMut(u64, RecordBatch) -> Result<(), ImportError>,
) -> Result<(), ImportError> {
    let file = File::open(path).map_err(|source| ImportError::Io { path: path.to_owned(), source })?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| wrong(path, error.to_string()))?;
    let batches = builder.with_batch_size(BATCH).build().map_err(|error| wrong(path, error.to_string()))?;
    let mut first = 1;
    for batch in batches {
        let batch = batch.map_err(|error| wrong(path, error.to_string()))?;
        let rows = batch.num_rows() as u64;
        each(first, batch)?;
        first += rows;
    }
    Ok(())
}

/// The rows of a batch.
///
/// # Errors
/// Columns that JSON cannot hold.
pub fn json_of(path: &Path, batch: &RecordBatch) -> Result<Vec<Row>, ImportError> {
    let mut writer = LineDelimitedWriter::new(Vec::new());
    writer.write(batch).and_then(|()| writer.finish()).map_err(|error| wrong(path, error.to_string()))?;
    let lines = writer.into_inner();
    let objects = serde_json::Deserializer::from_slice(&lines).into_iter::<Map<String, Value>>();
    let rows = objects.map(|cells| cells.map(|cells| Row { cells, is_text: false }));
    rows.collect::<Result<_, _>>().map_err(|error| wrong(path, error.to_string()))
}
