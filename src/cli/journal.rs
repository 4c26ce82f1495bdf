//! `slated journal`.

mod export;
mod query;
mod stats;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::Global;
use super::exit::{BadInput, Refused};
use super::progress::bar;
use crate::journal::exchange::{self, import_files};
use crate::journal::check;
use crate::journal::import::{ImportReport, find_logs, import_log};
use crate::journal::verify::{Verification, VerifySettings, verify};
use crate::settings::Flag;

/// Work with the interaction journal.
#[derive(Debug, Subcommand)]
pub enum JournalCommand {
    /// Turn another log, or an export, into journal events.
    Import(ImportArgs),
    /// Write events to JSON lines, CSV or Parquet, the same events as will be imported.
    Export(export::ExportArgs),
    /// Ask the journal in SQL.
    Query(query::QueryArgs),
    /// Count what the journal holds: by kind, date, writer and policy version.
    Stats(stats::StatsArgs),
    /// Compare every segment with the checksum of what was written, and tell what is damaged or lost.
    Check(CheckArgs),
    /// Make every decision again from its bundle and seed, and compare.
    Verify(VerifyArgs),
}

/// What to import, and into which journal.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slated journal import open-bandit .slated/open-bandit
  slated journal import jsonl backup --journal restored
  slated journal import open-bandit .slated/open-bandit/random/men --journal journal --json")]
pub struct ImportArgs {
    /// The log's format.
    format: Format,
    /// Where the log is: a folder, or a file of events.
    #[arg(value_name = "DIR|FILE")]
    dir: PathBuf,
    /// Folder of the journal.
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// What to check.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slated journal check
  slated journal check --journal /srv/journal --json

Ends with 5 where a segment is damaged or missing, or acknowledged events were lost from the tail.")]
pub struct CheckArgs {
    /// Folder of the journal.
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// What to verify, and against which bundles.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slated journal verify
  slated journal verify --journal /srv/journal --models /srv/models --seed 7 --json

Ends with 5 where a decision does not come out as it was logged. Decisions that no bundle of ours made, or whose bundle
is not in the folder of models, are counted and not judged.")]
pub struct VerifyArgs {
    /// Folder of the journal, or its address in an object store.
    #[arg(long, value_name = "DIR|URL")]
    journal: Option<PathBuf>,
    /// Folder of policy bundles.
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// How far a score or probability may be off, relatively; for a log from another kind of processor.
    #[arg(long, value_name = "SHARE", default_value_t = 1e-6)]
    tolerance: f64,
    /// The seed that the service was started with: each decision's own must derive from it.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// The Open Bandit Dataset: `<random or bts>/<all, men or women>/<campaign>.csv`.
    OpenBandit,
    /// Events as JSON lines, as `slated journal export` writes them.
    Jsonl,
    /// Events as CSV.
    Csv,
    /// Events as Parquet, with the columns of the journal's segments.
    Parquet,
}

/// Runs the subcommand.
pub fn run(global: &Global, command: &JournalCommand) -> anyhow::Result<()> {
    match command {
        JournalCommand::Import(args) => {
            let settings = global.start([Flag::given("journal.folder", args.journal.as_ref())])?.settings;
            let events = |format| import_events(&args.dir, format, &settings.journal.folder);
            let report = match args.format {
                Format::OpenBandit => import_open_bandit(&args.dir, &settings.journal.folder),
                Format::Jsonl => events(exchange::Format::Jsonl),
                Format::Csv => events(exchange::Format::Csv),
                Format::Parquet => events(exchange::Format::Parquet),
            };
            print(&report?, args.json)
        }
        JournalCommand::Export(args) => export::run(global, args),
        JournalCommand::Query(args) => query::run(global, args),
        JournalCommand::Stats(args) => stats::run(global, args),
        JournalCommand::Check(args) => {
            let settings = global.start([Flag::given("journal.folder", args.journal.as_ref())])?.settings;
            check_journal(&settings.journal.folder, args.json)
        }
        JournalCommand::Verify(args) => {
            let flags = [
                Flag::given("journal.folder", args.journal.as_ref()),
                Flag::given("models.folder", args.models.as_ref()),
            ];
            let settings = global.start(flags)?.settings;
            verify_journal(&settings.journal.folder, settings.models.folder, args)
        }
    }
}

/// Prints a report, for people or as JSON.
fn print<R: Serialize + fmt::Display>(report: &R, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(report).context("the report cannot be written")?);
    } else {
        println!("{report}");
    }
    Ok(())
}

fn check_journal(journal: &Path, json: bool) -> anyhow::Result<()> {
    if !journal.is_dir() {
        return Err(
            BadInput(format!("{}: no such folder; `--journal` names that of a journal", journal.display())).into()
        );
    }
    let report = check(journal)?;
    if json {
        println!("{}", serde_json::to_string_pretty(&report).context("the report cannot be written")?);
    } else {
        println!("{report}");
    }
    if report.holds() {
        return Ok(());
    }
    let lost: u64 = report.lost.iter().map(|lost| lost.events).sum();
    Err(Refused(format!("{} segments are damaged, {lost} events were lost from the tail", report.damaged.len())).into())
}

fn verify_journal(journal: &Path, models: PathBuf, args: &VerifyArgs) -> anyhow::Result<()> {
    let settings = VerifySettings { models, tolerance: args.tolerance, service_seed: args.seed };
    let runtime = tokio::runtime::Runtime::new().context("cannot start the reader")?;
    let decisions = bar("replaying", None);
    let report = runtime.block_on(verify(journal, settings, &mut |more| decisions.inc(more)));
    decisions.finish_and_clear();
    let report = report?;
    print(&report, args.json)?;
    if report.holds() {
        return Ok(());
    }
    let Verification { mismatched, decisions, .. } = report;
    Err(Refused(format!("{mismatched} of {decisions} decisions do not come out as they were logged")).into())
}

/// Imports every Open Bandit log of a folder.
pub fn import_open_bandit(folder: &Path, journal: &Path) -> anyhow::Result<ImportReport> {
    let mut report = ImportReport::default();
    for log in find_logs(folder)? {
        let rows = bar(&format!("importing {}/{}", log.policy, log.campaign), None);
        report.files.push(import_log(&log, journal, &mut || rows.inc(1))?);
        rows.finish_and_clear();
    }
    Ok(report)
}

fn import_events(path: &Path, format: exchange::Format, journal: &Path) -> anyhow::Result<ImportReport> {
    let rows = bar("importing", None);
    let report = import_files(path, format, journal, &mut || rows.inc(1));
    rows.finish_and_clear();
    Ok(report?)
}
