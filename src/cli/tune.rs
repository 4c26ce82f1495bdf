//! `slated tune`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use clap::Args;
use slated_trainer::online::{OnlineSettings, OnlineTrial};
use slated_trainer::tune::{Search, TuneFolder, TuneLabels, TuneOutcome, TuneSettings};
use toml::Table;

use super::Global;
use super::exit::Interrupted;
use super::progress::Drawn;
use super::train::watch_interrupt;

/// Trials that are printed.
const PRINTED: usize = 10;

/// Search for the settings with which a policy learns best.
///
/// Ctrl-C keeps the results so far; the same command goes on from them to the same end.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slated tune --settings train.toml --space space.toml --out tuning
  slated train --settings tuning/best.toml

A search space:
  budget = 90000                     # steps of a whole trial
  trials = 27
  early_stopping = { minimum = 10000, reduction = 3 }
  sampler = { name = \"tpe\" }         # or random, or grid with points = 5
  [space]
  \"algorithm.optimisation.adam.learning_rate\" = { log_uniform = [1e-5, 1e-2] }
  \"algorithm.network.hidden\" = { choice = [[64], [128, 128]] }
  \"replay.capacity\" = { log_integer = [1000, 100000] }")]
pub struct TuneArgs {
    /// What to search, in TOML.
    #[arg(long, value_name = "FILE")]
    space: PathBuf,
    /// Settings of the training run, in TOML as `slated train` takes them; those that are tried go over them.
    #[arg(long, value_name = "FILE")]
    settings: PathBuf,
    /// Folder for the results; one that an interrupted search wrote is gone on with.
    #[arg(long, value_name = "DIR", default_value = "tuning")]
    out: PathBuf,
    /// How many trials run at a time; as many as there are processors where absent. Results do not depend on it.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// Searches, and writes the tables, the plots and the best settings.
pub fn run(global: &Global, args: &TuneArgs) -> anyhow::Result<()> {
    global.start([])?;
    let stop = Arc::new(AtomicBool::new(false));
    watch_interrupt(&stop)?;
    println!("{}", search(args, &stop)?);
    println!("wrote {}", args.out.display());
    Ok(())
}

/// The best trials as a table.
fn search(args: &TuneArgs, stop: &Arc<AtomicBool>) -> anyhow::Result<String> {
    let settings: TuneSettings =
        toml::from_str(&read(&args.space)?).with_context(|| args.space.display().to_string())?;
    settings.check().with_context(|| args.space.display().to_string())?;
    let mut base: Table = read(&args.settings)?.parse().with_context(|| args.settings.display().to_string())?;
    // What shrinks over a run, such as exploration, shrinks over the whole trial; and the best settings say so too.
    base.insert("steps".to_owned(), toml::Value::try_from(settings.budget)?);

    let (folder, mut log) = TuneFolder::open(&args.out, &settings, &base)?;
    let threads = args.threads.or_else(|| std::thread::available_parallelism().ok().map(Into::into)).unwrap_or(1);
    let search = Search { settings: &settings, base: &base, threads, stop };
    let mut make = |settings: &Table| {
        let settings: OnlineSettings = settings.clone().try_into()?;
        Ok(Box::new(OnlineTrial::new(settings, Arc::clone(stop))?) as _)
    };
    let mut progress = Drawn::default();
    let outcome = search.run(&mut make, &mut log, &mut progress);
    progress.finish();
    match outcome? {
        TuneOutcome::Interrupted { results } => {
            let message = format!("{results} results are kept; the same command goes on from {}", args.out.display());
            Err(Interrupted(message).into())
        }
        TuneOutcome::Finished(tuned) => {
            let labels = TuneLabels {
                title: format!("Tuning `{}`", base.get("policy").and_then(toml::Value::as_str).unwrap_or_default()),
                objective: "mean return".to_owned(),
                budget: "environment steps".to_owned(),
            };
            folder.write(&tuned, &settings, &labels)?;
            let table = tuned.to_string();
            Ok(table.lines().take(1 + PRINTED).collect::<Vec<_>>().join("\n"))
        }
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("{}: it cannot be read", path.display()))
}
