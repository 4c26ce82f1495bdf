//! `slated journal check`.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::Global;
use crate::cli::exit::{BadInput, Refused};
use crate::journal::check;
use crate::settings::Flag;

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

/// Runs the subcommand.
pub fn run(global: &Global, args: &CheckArgs) -> anyhow::Result<()> {
    let settings = global.start([Flag::given("journal.folder", args.journal.as_ref())])?.settings;
    check_journal(&settings.journal.folder, args.json)
}

fn check_journal(journal: &Path, json: bool) -> anyhow::Result<()> {
    if !journal.is_dir() {
        return Err(
            BadInput(format!("{}: no such folder; `--journal` names that of a journal", journal.display())).into()
        );
    }
    let report = check(journal)?;
    super::print(&report, json)?;
    if report.holds() {
        return Ok(());
    }
    let lost: u64 = report.lost.iter().map(|lost| lost.events).sum();
    Err(Refused(format!("{} segments are damaged, {lost} events were lost from the tail", report.damaged.len())).into())
}
