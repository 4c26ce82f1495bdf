//! `slated journal compact`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::Global;
use crate::cli::exit::Refused;
use crate::settings::Flag;

/// What to put together.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slated journal compact
  slated journal compact --journal /srv/journal --events 50000

No service may have the journal open. Events stay as they are, those given twice included. What was interrupted is
finished when the journal is opened next. Ends with 5 where damaged segments kept a date from being put together.")]
pub struct CompactArgs {
    /// Folder of the journal.
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
    /// The most events in one segment.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    events: u32,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
pub fn run(global: &Global, args: &CompactArgs) -> anyhow::Result<()> {
    let settings = global.start([Flag::given("journal.folder", args.journal.as_ref())])?.settings;
    let most = args.events as usize;
    let report = super::with_journal(&settings.journal, "stop it first", async |journal| journal.compact(most).await)?;
    super::print(&report, args.json)?;
    match report.damaged.len() {
        0 => Ok(()),
        damaged => Err(Refused(format!("{damaged} segments are damaged; their dates are as they were")).into()),
    }
}
