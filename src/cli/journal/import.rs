//! `slated journal import`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::cli::Global;
use crate::cli::progress::bar;
use crate::journal::exchange::{self, import_files};
use crate::journal::import::{ImportReport, find_logs, import_log};
use crate::settings::Flag;

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
pub fn run(global: &Global, args: &ImportArgs) -> anyhow::Result<()> {
    let settings = global.start([Flag::given("journal.folder", args.journal.as_ref())])?.settings;
    let events = |format| import_events(&args.dir, format, &settings.journal.folder);
    let report = match args.format {
        Format::OpenBandit => import_open_bandit(&args.dir, &settings.journal.folder),
        Format::Jsonl => events(exchange::Format::Jsonl),
        Format::Csv => events(exchange::Format::Csv),
        Format::Parquet => events(exchange::Format::Parquet),
    };
    super::print(&report?, args.json)
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
