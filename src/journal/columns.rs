//! Writing events as Parquet in small steps.
//!
//! [`ArrowWriter`] ends a row group in one go: tens of milliseconds of work, for which everybody waits who needs the same
//! processor, requests above all. Pages end together as well, those of every column after the same rows. Here each column is a
//! step of its own, between which the thread may rest.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;

/// A file that is being written.
pub struct ColumnsWriter<'a, W: Write> {
    file: SerializedFileWriter<W>,
    schema: SchemaRef,
    groups: ArrowRowGroupWriterFactory,
    /// Of the group that is being written; none before its first row.
    columns: Vec<ArrowColumnWriter>,
    rows: usize,
    /// After how many rows a group ends, at the end of a batch.
    most: usize,
    /// Called between steps.
    rest: &'a dyn Fn(),
}

impl<'a, W: Write + Send> ColumnsWriter<'a, W> {
    /// Begins a file whose row groups end with the batch that brings them to as many rows as the properties allow one. Between
    /// its steps it calls `rest`.
    pub fn new(to: W, schema: SchemaRef, properties: WriterProperties, rest: &'a dyn Fn()) -> Result<Self> {
        let most = properties.max_row_group_row_count().unwrap_or(usize::MAX);
        let writer = ArrowWriter::try_new(to, SchemaRef::clone(&schema), Some(properties))?;
        let (file, groups) = writer.into_serialized_writer()?;
        Ok(Self { file, schema, groups, columns: Vec::new(), rows: 0, most, rest })
    }

    /// Writes a batch of the schema.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if self.columns.is_empty() {
            self.columns = self.groups.create_column_writers(self.file.flushed_row_groups().len())?;
        }
        let mut columns = self.columns.iter_mut();
        for (field, array) in self.schema.fields().iter().zip(batch.columns()) {
            for leaf in compute_leaves(field, array)? {
                let column = columns.next().ok_or_else(|| ParquetError::General("a batch of another schema".into()))?;
                column.write(&leaf)?;
                (self.rest)();
            }
        }
        self.rows += batch.num_rows();
        if self.rows < self.most { Ok(()) } else { self.end_group() }
    }

    fn end_group(&mut self) -> Result<()> {
        let mut group = self.file.next_row_group()?;
        for column in self.columns.drain(..) {
            column.close()?.append_to_row_group(&mut group)?;
            (self.rest)();
        }
        group.close()?;
        self.rows = 0;
        Ok(())
    }

    /// Ends the file.
    pub fn into_inner(mut self) -> Result<W> {
        if self.rows > 0 {
            self.end_group()?;
        }
        self.file.into_inner()
    }
}
