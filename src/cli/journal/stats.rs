//! `slated journal stats`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::cli::Global;
use crate::journal::stats::stats;
use crate::settings::Flag;

/// What to count.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slated journal stats
  slated journal stats --journal s3://bucket/journal --late-after 600 --json

Only closed segments are counted; POST /journal/seal closes those of a running service.")]
pub struct StatsArgs {
    /// Folder of the journal, or its address in an object store.
    #[arg(long, value_name = "DIR|URL")]
    journal: Option<PathBuf>,
    /// Feedback that happened so long after its decision counts as late.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600.0, value_parser = seconds)]
    late_after: f64,
    /// Memory for sorting and joining; beyond it counting spills to disk.
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u32).range(64..))]
    memory_limit: u32,
    /// Print the counts as JSON.
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds: &f64| seconds.is_finite() && *seconds >= 0.0);
    seconds.ok_or_else(|| "expected a number of seconds, at least 0".to_owned())
}

/// Runs the subcommand.
pub fn run(global: &Global, args: &StatsArgs) -> anyhow::Result<()> {
    let settings = global.start([Flag::given("journal.folder", args.journal.as_ref())])?.settings;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the reader")?;
    let counted = stats(&settings.journal.folder, args.late_after, args.memory_limit as usize);
    super::print(&runtime.block_on(counted)?, args.json)
}
