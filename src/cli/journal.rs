//! `slated journal`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};

use super::Global;
use super::progress::bar;
use crate::journal::import::{ImportReport, find_logs, import_log};
use crate::settings::Flag;

/// Work with the interaction journal.
#[derive(Debug, Subcommand)]
pub enum JournalCommand {
    /// Turn another log into journal events.
    Import(ImportArgs),
}

/// What to import, and into which journal.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slated journal import open-bandit .slated/open-bandit
  slated journal import open-bandit .slated/open-bandit/random/men --journal journal --json")]
pub struct ImportArgs {
    /// The log's format.
    format: Format,
    /// Where the log is.
    dir: PathBuf,
    /// Folder of the journal.
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// The Open Bandit Dataset: `<random or bts>/<all, men or women>/<campaign>.csv`.
    OpenBandit,
}

/// Runs the subcommand.
pub fn run(global: &Global, command: &JournalCommand) -> anyhow::Result<()> {
    match command {
        JournalCommand::Import(args) => {
            let settings = global.start([Flag::given("journal.folder", args.journal.as_ref())])?.settings;
            let Format::OpenBandit = args.format;
            let report = import_open_bandit(&args.dir, &settings.journal.folder)?;
            if args.json {
                println!("{}", serde_json::to_string_pretty(&report).context("the report cannot be written")?);
            } else {
                println!("{report}");
            }
            Ok(())
        }
    }
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
