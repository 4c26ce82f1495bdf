//! `slated autopilot`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;

use super::Global;
use super::train::watch_interrupt;
use crate::autopilot::{Autopilot, AutopilotSettings, Quiet};

/// Learn from the service's journal again and again: train, evaluate, try as a canary, promote or take back.
///
/// A process of its own beside the service, on few processors and at the lowest priority. It goes on where it was stopped
/// or killed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slated autopilot
  slated autopilot --settings shop.toml
  slated autopilot --once

autopilot.toml; docs/autopilot.md lists all keys:
  policy = \"shop\"
  service = \"http://127.0.0.1:8080\"
  journal = \"journal\"
  models = \"models\"
  trigger = { every_seconds = 3600, after_events = 100000 }
  exploration = { method = \"epsilon_greedy\", epsilon = 0.05 }
  canary = { share = 0.1, min_requests = 2000 }
  [[candidates]]
  settings = \"cql.toml\"
  seeds = [1, 2]")]
pub struct AutopilotArgs {
    /// Its settings in TOML.
    #[arg(long, value_name = "FILE", default_value = "autopilot.toml")]
    settings: PathBuf,
    /// Where the service listens; goes over `service` of the settings.
    #[arg(long, value_name = "URL")]
    service: Option<String>,
    /// The service's journal; goes over `journal` of the settings.
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
    /// The service's folder of bundles; goes over `models` of the settings.
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// Begin a cycle at once, or finish the one that was interrupted, and end after it.
    #[arg(long)]
    once: bool,
    /// End after so many cycles.
    #[arg(long, value_name = "N", conflicts_with = "once", value_parser = clap::value_parser!(u64).range(1..))]
    cycles: Option<u64>,
}

/// Runs the subcommand.
pub fn run(global: &Global, args: &AutopilotArgs) -> anyhow::Result<()> {
    global.start([])?;
    let mut settings = AutopilotSettings::read(&args.settings)?;
    settings.service = args.service.clone().unwrap_or(settings.service);
    settings.journal = args.journal.clone().unwrap_or(settings.journal);
    settings.models = args.models.clone().unwrap_or(settings.models);
    // Before there are threads, which inherit both.
    let quiet = Quiet::down(&settings.limits);
    let stop = Arc::new(AtomicBool::new(false));
    watch_interrupt(&stop)?;
    let cycles = if args.once { Some(1) } else { args.cycles };
    let report = Autopilot::open(settings, quiet, stop)?.run(cycles, args.once)?;
    if let Some(report) = report {
        println!("cycle {}: {}", report.cycle.number, report.summary());
    }
    Ok(())
}
