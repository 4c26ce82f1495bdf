//! `slated journal export`.

use std::path::PathBuf;

use anyhow::Context;
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use clap::{Args, ValueEnum};

use crate::cli::Global;
use crate::cli::exit::Refused;
use crate::cli::progress::bar;
use crate::journal::exchange::{self, ExportSettings, export};
use crate::settings::Flag;

/// What to export, how, and where to.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slated journal export --out backup
  slated journal export --format csv --kind feedback --after 2026-01-01 --before 2026-02-01 --out january.csv
  slated journal export --format parquet --policy shop --journal s3://bucket/journal --out shop

JSON lines, CSV and Parquet all hold every event exactly; `slated journal import` reads them back. Only closed segments
are exported. Ends with 5 where segments are damaged; the others are exported.")]
pub struct ExportArgs {
    /// The form of the files.
    #[arg(long, value_name = "FORMAT", default_value = "jsonl")]
    format: FormatName,
    /// An empty or new folder, which gets a folder for each kind and a file for each date; or, with `--kind`, a file.
    #[arg(long, value_name = "DIR|FILE")]
    out: PathBuf,
    /// Only this kind of event.
    #[arg(long, value_name = "KIND")]
    kind: Option<KindName>,
    /// Only events at this time or later: a UTC date or a time in RFC 3339.
    #[arg(long, value_name = "DATE", value_parser = time)]
    after: Option<DateTime<Utc>>,
    /// Only events before this time.
    #[arg(long, value_name = "DATE", value_parser = time)]
    before: Option<DateTime<Utc>>,
    /// Only this policy's: its decisions, feedback about them, and changes of its route.
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// Folder of the journal, or its address in an object store.
    #[arg(long, value_name = "DIR|URL")]
    journal: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// The form of files of events.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum FormatName {
    /// JSON lines: one event a line.
    Jsonl,
    /// CSV: what is nested stands as JSON in its cell.
    Csv,
    /// Parquet, with the columns of the journal's own segments.
    Parquet,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KindName {
    /// What was shown.
    Decisions,
    /// What came of it.
    Feedback,
    /// Which policy versions answered.
    Changes,
}

impl From<FormatName> for exchange::Format {
    fn from(name: FormatName) -> Self {
        match name {
            FormatName::Jsonl => Self::Jsonl,
            FormatName::Csv => Self::Csv,
            FormatName::Parquet => Self::Parquet,
        }
    }
}

/// A time in RFC 3339, or a date: its beginning, in UTC.
pub fn time(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(date) = text.parse::<NaiveDate>() {
        return Ok(date.and_time(NaiveTime::MIN).and_utc());
    }
    let time = DateTime::parse_from_rfc3339(text);
    time.map(|time| time.to_utc())
        .map_err(|_| "expected a date such as 2026-01-31, or a time such as 2026-01-31T12:00:00Z".to_owned())
}

/// Runs the subcommand.
pub fn run(global: &Global, args: &ExportArgs) -> anyhow::Result<()> {
    let settings = global.start([Flag::given("journal.folder", args.journal.as_ref())])?.settings;
    let kind = args.kind.map(|kind| match kind {
        KindName::Decisions => exchange::Kind::Decisions,
        KindName::Feedback => exchange::Kind::Feedback,
        KindName::Changes => exchange::Kind::Changes,
    });
    let wanted = ExportSettings {
        format: args.format.into(),
        out: args.out.clone(),
        kind,
        after: args.after,
        before: args.before,
        policy: args.policy.clone(),
    };
    let runtime = tokio::runtime::Runtime::new().context("cannot start the reader")?;
    let events = bar("exporting", None);
    let report = runtime.block_on(export(&settings.journal.folder, &wanted, &mut || events.inc(1)));
    events.finish_and_clear();
    let report = report?;
    super::print(&report, args.json)?;
    match report.damaged.len() {
        0 => Ok(()),
        damaged => Err(Refused(format!("{damaged} segments are damaged, and their events are not exported")).into()),
    }
}
