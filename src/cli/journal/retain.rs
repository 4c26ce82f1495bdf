//! `slated journal retain`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::Global;
use crate::cli::exit::BadInput;
use crate::settings::Flag;

/// How much to keep.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slated journal retain --keep-days 400 --dry-run
  slated journal retain --keep-bytes 50000000000

Whole dates of decisions and feedback go, the oldest first; changes of routes stay. A running service does the same by
itself, each minute, where the settings say how much to keep; then this command has nothing to do.")]
pub struct RetainArgs {
    /// Folder of the journal.
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
    /// How long to keep decisions and feedback, in days.
    #[arg(long, value_name = "DAYS")]
    keep_days: Option<u32>,
    /// How many bytes of them to keep.
    #[arg(long, value_name = "BYTES")]
    keep_bytes: Option<u64>,
    /// Say what would go, and remove nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
pub fn run(global: &Global, args: &RetainArgs) -> anyhow::Result<()> {
    let flags = [
        Flag::given("journal.folder", args.journal.as_ref()),
        Flag::given("journal.keep_days", args.keep_days.as_ref()),
        Flag::given("journal.keep_bytes", args.keep_bytes.as_ref()),
    ];
    let mut settings = global.start(flags)?.settings;
    let retention = settings.journal.retention();
    if retention.keeps_all() {
        let problem =
            "nothing says how much to keep; set `journal.keep_days` or `journal.keep_bytes`, or give the flags";
        return Err(BadInput(problem.to_owned()).into());
    }
    // The journal, once open, would begin by itself with what is only to be told.
    (settings.journal.keep_days, settings.journal.keep_bytes) = (None, None);
    let instead = "it removes segments by itself where `journal.keep_days` or `journal.keep_bytes` is set";
    let report =
        super::with_journal(&settings.journal, instead, async |journal| journal.retain(retention, args.dry_run).await)?;
    super::print(&report, args.json)
}
