//! The reference data; `tests/data/README.md` says where it is from.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Deserialize;

/// Numeric columns by name.
pub struct Columns(HashMap<String, Vec<f64>>);

impl Columns {
    pub fn read(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
        let mut columns: HashMap<String, Vec<f64>> = HashMap::new();
        for batch in reader {
            let batch = batch.unwrap();
            for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
                let numbers = cast(array, &DataType::Float64).unwrap();
                let numbers = numbers.as_primitive::<Float64Type>();
                assert_eq!(numbers.null_count(), 0, "{}", field.name());
                columns.entry(field.name().clone()).or_default().extend(numbers.values());
            }
        }
        Self(columns)
    }

    pub fn get(&self, name: &str) -> &[f64] {
        &self.0[name]
    }

    /// The columns `<prefix>0`, `<prefix>1`, ... of one row.
    pub fn row(&self, prefix: &str, count: usize, row: usize) -> Vec<f64> {
        (0..count).map(|column| self.0[&format!("{prefix}{column}")][row]).collect()
    }
}

#[derive(Deserialize)]
pub struct Expected<T> {
    pub estimates: HashMap<String, T>,
}

#[derive(Deserialize)]
pub struct WithInterval {
    pub value: f64,
    pub bootstrap95: Bounds,
}

#[derive(Deserialize)]
pub struct Bounds {
    #[serde(rename = "95.0% CI (lower)")]
    pub lower: f64,
    #[serde(rename = "95.0% CI (upper)")]
    pub upper: f64,
}

pub fn expected<T: for<'a> Deserialize<'a>>(name: &str) -> HashMap<String, T> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    serde_json::from_slice::<Expected<T>>(&std::fs::read(path).unwrap()).unwrap().estimates
}
