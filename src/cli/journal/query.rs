//! `slated journal query`.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::csv;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use arrow::json::writer::LineDelimitedWriter;
use arrow::util::pretty::pretty_format_batches_with_schema;
use clap::{Args, ValueEnum};
use slated_trainer::dataset::{JournalQuery, Rows};

use crate::cli::Global;
use crate::settings::Flag;

/// What to ask, and how the answer is written.
#[derive(Debug, Args)]
#[command(after_help = "\
Tables:
  decisions, feedback, changes   every event with its columns, those given twice included
  joined                         a row for each decision and feedback event about it; each event once
  slates                         a row for each item shown, with position, propensities, feedback and clicks

Examples:
  slated journal query 'SELECT policy, policy_version, count(*) FROM decisions GROUP BY 1, 2'
  slated journal query 'SELECT item, avg(clicks) FROM slates GROUP BY item ORDER BY 2 DESC LIMIT 10'
  slated journal query --format csv 'SELECT * FROM feedback' > feedback.csv
  slated journal query 'DESCRIBE joined'

The SQL is DataFusion's; a journal is only read. A table holds the whole answer in memory, CSV and JSON do not.")]
pub struct QueryArgs {
    /// The query.
    sql: String,
    /// How the answer is written; a table on a terminal and CSV elsewhere where absent.
    #[arg(long, value_name = "FORMAT")]
    format: Option<Output>,
    /// Folder of the journal, or its address in an object store.
    #[arg(long, value_name = "DIR|URL")]
    journal: Option<PathBuf>,
    /// Memory for sorting and joining; beyond it the query spills to disk.
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u32).range(64..))]
    memory_limit: u32,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// With a header; what is nested stands as JSON in its cell.
    Csv,
    /// One JSON object a line.
    Json,
}

/// Runs the subcommand.
pub fn run(global: &Global, args: &QueryArgs) -> anyhow::Result<()> {
    let settings = global.start([Flag::given("journal.folder", args.journal.as_ref())])?.settings;
    let fallback = if io::stdout().is_terminal() { Output::Table } else { Output::Csv };
    let output = args.format.unwrap_or(fallback);
    let runtime = tokio::runtime::Runtime::new().context("cannot start the reader")?;
    runtime.block_on(async {
        let journal = JournalQuery::open(&settings.journal.folder, None, args.memory_limit as usize).await?;
        let rows = journal.sql(&args.sql).await?;
        match write(rows, output).await {
            // Whoever reads no further, such as `head`, has all that it wants.
            Err(error) if is_broken_pipe(&error) => Ok(()),
            written => written,
        }
    })
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| {
        cause.downcast_ref().is_some_and(is)
            || matches!(cause.downcast_ref(), Some(ArrowError::IoError(_, error)) if is(error))
    })
}

async fn write(mut rows: Rows, output: Output) -> anyhow::Result<()> {
    let schema = rows.schema();
    let mut out = io::BufWriter::new(io::stdout().lock());
    match output {
        Output::Table => {
            let mut batches = Vec::new();
            while let Some(batch) = rows.next().await? {
                batches.push(batch);
            }
            writeln!(out, "{}", pretty_format_batches_with_schema(schema, &batches)?)?;
        }
        Output::Csv => {
            let mut writer = csv::WriterBuilder::new().with_header(true).build(&mut out);
            // The header stands also where there is no row.
            writer.write(&flat(&RecordBatch::new_empty(schema))?)?;
            while let Some(batch) = rows.next().await? {
                writer.write(&flat(&batch)?)?;
            }
        }
        Output::Json => {
            let mut writer = LineDelimitedWriter::new(&mut out);
            while let Some(batch) = rows.next().await? {
                writer.write(&batch)?;
            }
            writer.finish()?;
        }
    }
    Ok(out.flush()?)
}

/// The batch with what is nested as JSON texts.
fn flat(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if field.data_type().is_nested() {
            fields.push(Arc::new(Field::new(field.name(), DataType::Utf8, true)));
            columns.push(texts(column)?);
        } else {
            fields.push(Arc::clone(field));
            columns.push(Arc::clone(column));
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// Each value as JSON.
fn texts(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    const KEY: &str = "v";
    let alone = RecordBatch::try_from_iter_with_nullable([(KEY, Arc::clone(column), true)])?;
    let mut lines = LineDelimitedWriter::new(Vec::new());
    lines.write(&alone)?;
    lines.finish()?;
    let lines = String::from_utf8(lines.into_inner()).map_err(|error| ArrowError::JsonError(error.to_string()))?;
    let value = |line: &str| Some(line.strip_prefix("{\"v\":")?.strip_suffix('}')?.to_owned());
    // A null has no key.
    let texts: StringArray = lines.lines().map(value).collect();
    debug_assert_eq!(texts.len(), column.len());
    Ok(Arc::new(texts))
}
