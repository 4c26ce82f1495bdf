//! `slated journal verify`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use crate::cli::Global;
use crate::cli::exit::Refused;
use crate::cli::progress::bar;
use crate::journal::verify::{Verification, VerifySettings, verify};
use crate::settings::Flag;

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

/// Runs the subcommand.
pub fn run(global: &Global, args: &VerifyArgs) -> anyhow::Result<()> {
    let flags =
        [Flag::given("journal.folder", args.journal.as_ref()), Flag::given("models.folder", args.models.as_ref())];
    let settings = global.start(flags)?.settings;
    verify_journal(&settings.journal.folder, settings.models.folder, args)
}

fn verify_journal(journal: &Path, models: PathBuf, args: &VerifyArgs) -> anyhow::Result<()> {
    let settings = VerifySettings { models, tolerance: args.tolerance, service_seed: args.seed };
    let runtime = tokio::runtime::Runtime::new().context("cannot start the reader")?;
    let decisions = bar("replaying", None);
    let report = runtime.block_on(verify(journal, settings, &mut |more| decisions.inc(more)));
    decisions.finish_and_clear();
    let report = report?;
    super::print(&report, args.json)?;
    if report.holds() {
        return Ok(());
    }
    let Verification { mismatched, decisions, .. } = report;
    Err(Refused(format!("{mismatched} of {decisions} decisions do not come out as they were logged")).into())
}
