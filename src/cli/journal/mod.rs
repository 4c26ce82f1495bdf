//! `slated journal`: one file a subcommand.

mod check;
mod compact;
mod export;
mod forget;
mod import;
mod query;
mod retain;
mod stats;
mod verify;

use std::fmt;

use anyhow::Context;
use clap::Subcommand;
use serde::Serialize;

use super::Global;
use super::exit::{BadInput, Unavailable};
use crate::journal::{Journal, JournalError, JournalSettings};

pub use import::import_open_bandit;

/// Work with the interaction journal.
#[derive(Debug, Subcommand)]
pub enum JournalCommand {
    /// Turn another log, or an export, into journal events.
    Import(import::ImportArgs),
    /// Write events to JSON lines, CSV or Parquet, which import reads back as the same events.
    Export(export::ExportArgs),
    /// Ask the journal in SQL.
    Query(query::QueryArgs),
    /// Count what the journal holds: by kind, date, writer and policy version.
    Stats(stats::StatsArgs),
    /// Compare every segment with the checksum of what was written, and tell what is damaged or lost.
    Check(check::CheckArgs),
    /// Make every decision again from its bundle and seed, and compare.
    Verify(verify::VerifyArgs),
    /// Put many small segments of a date together into few big ones.
    Compact(compact::CompactArgs),
    /// Remove closed segments that are too old, or too much.
    Retain(retain::RetainArgs),
    /// Remove a person's events from every segment.
    Forget(forget::ForgetArgs),
}

/// Runs the subcommand.
pub fn run(global: &Global, command: &JournalCommand) -> anyhow::Result<()> {
    match command {
        JournalCommand::Import(args) => import::run(global, args),
        JournalCommand::Export(args) => export::run(global, args),
        JournalCommand::Query(args) => query::run(global, args),
        JournalCommand::Stats(args) => stats::run(global, args),
        JournalCommand::Check(args) => check::run(global, args),
        JournalCommand::Verify(args) => verify::run(global, args),
        JournalCommand::Compact(args) => compact::run(global, args),
        JournalCommand::Retain(args) => retain::run(global, args),
        JournalCommand::Forget(args) => forget::run(global, args),
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

/// Does something to a journal that no service has open; `instead` says what to do where one has.
fn with_journal<T>(
    settings: &JournalSettings,
    instead: &str,
    work: impl AsyncFnOnce(&Journal) -> Result<T, JournalError>,
) -> anyhow::Result<T> {
    let folder = &settings.folder;
    if !folder.is_dir() {
        let problem = format!("{}: no such folder; `--journal` names that of a journal", folder.display());
        return Err(BadInput(problem).into());
    }
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    runtime.block_on(async {
        let journal = match Journal::open(settings) {
            Err(JournalError::Locked(folder)) => {
                let problem = format!("{}: a service has this journal open; {instead}", folder.display());
                return Err(Unavailable(problem).into());
            }
            opened => opened?,
        };
        let done = work(&journal).await;
        journal.close().await?;
        Ok(done?)
    })
}
