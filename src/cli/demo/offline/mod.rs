//! `slated demo offline`: every offline algorithm on logs of the tutorial's environment, from all random to a fifth expert.

mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use slated_contract::policy::Bundle;
use slated_trainer::offline::{Experience, OfflineSettings, simulate};
use slated_trainer::rollout::{Actor, Model, Part, Scorer, ScorerError};

use super::super::Global;
use super::super::exit::BadInput;
use super::super::train::{train_and_publish_offline, watch_interrupt};
use crate::serving::BundleScorer;
use crate::settings::Flag;
use table::Table;

/// The algorithms with their settings, in the order of the table.
const SETTINGS: [(&str, &str); 9] = [
    ("bc", include_str!("bc.toml")),
    ("marwil", include_str!("marwil.toml")),
    ("dqn", include_str!("dqn.toml")),
    ("slate_q", include_str!("slate_q.toml")),
    ("bcq", include_str!("bcq.toml")),
    ("cql", include_str!("cql.toml")),
    ("iql", include_str!("iql.toml")),
    ("awac", include_str!("awac.toml")),
    ("crr", include_str!("crr.toml")),
];

const EXPERT: &str = "lts-tutorial-dqn";

/// Learn from logs of the RecSys tutorial's environment and nothing else: every offline algorithm on every mix of expert and
/// random sessions, each over several seeds, beside the return of the policies that wrote the log and of behaviour cloning.
///
/// Writes a report and a bundle of every run, and a plot.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slated demo offline
  slated demo offline --quick
  slated demo offline --share 0 --algorithm dqn --algorithm iql --seeds 5")]
pub struct OfflineArgs {
    /// Only this algorithm: bc, marwil, dqn, slate_q, bcq, cql, iql, awac or crr; once for each.
    #[arg(long, short, value_name = "NAME")]
    algorithm: Vec<String>,
    /// Only this share of expert sessions, from 0 to 1, instead of 0, 0.01, 0.05, 0.1 and 0.2; once for each.
    #[arg(long, value_name = "SHARE")]
    share: Vec<f64>,
    /// How many seeds each algorithm is run with, on a log of its own each.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    seeds: Option<u16>,
    /// Sessions of a log.
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(10..))]
    episodes: Option<u64>,
    /// One seed, logs of 1,000 sessions, and a fifth of the gradient steps.
    #[arg(long)]
    quick: bool,
    /// Runs at a time; as many as there are processors where absent. Results do not depend on it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Folder of policy bundles, for the expert lts-tutorial-dqn.
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// Where bundles, reports and the plot go; what an earlier demo left there is removed.
    #[arg(long, value_name = "DIR", default_value = ".slated/offline")]
    work: PathBuf,
}

/// Runs the demo.
pub fn run(global: &Global, args: &OfflineArgs) -> anyhow::Result<()> {
    let service = global.start([Flag::given("models.folder", args.models.as_ref())])?.settings;
    let algorithms = algorithms(args)?;
    let shares = if args.share.is_empty() { vec![0.0, 0.01, 0.05, 0.1, 0.2] } else { args.share.clone() };
    if let Some(share) = shares.iter().find(|share| !(0.0..=1.0).contains(*share)) {
        return Err(BadInput(format!("`--share` is {share}, allowed are 0 to 1")).into());
    }
    let seeds = args.seeds.unwrap_or(if args.quick { 1 } else { 3 });
    let sessions = args.episodes.unwrap_or(if args.quick { 1000 } else { 10_000 });
    let expert = if shares.iter().any(|share| *share > 0.0) {
        Some(Arc::new(Bundle::open(&service.models.folder, EXPERT, Some(1))?))
    } else {
        None
    };
    if args.work.exists() {
        fs::remove_dir_all(&args.work).with_context(|| format!("{} cannot be removed", args.work.display()))?;
    }
    let stop = Arc::new(AtomicBool::new(false));
    watch_interrupt(&stop)?;
    let threads = args.threads.map_or_else(|| thread::available_parallelism().map_or(1, usize::from), usize::from);
    let names = algorithms.iter().map(|settings| settings.algorithm.name()).collect();
    let mut table = Table::new(&algorithms[0], names, shares.clone())?;
    for (column, &share) in shares.iter().enumerate() {
        for seed in 1..=u64::from(seeds) {
            eprintln!("==> {} % expert, seed {seed}: {sessions} sessions", 100.0 * share);
            let log = log(&algorithms[0], expert.as_ref(), share, sessions, seed, threads)?;
            table.log(column, &log);
            for (batch, rows) in
                algorithms.chunks(threads).zip((0..algorithms.len()).collect::<Vec<_>>().chunks(threads))
            {
                for (&row, run) in rows.iter().zip(learn(batch, &log, share, seed, &args.work, &stop)?) {
                    table.run(row, column, run);
                }
            }
        }
        // What there is so far is worth having should the rest be interrupted.
        let plot = args.work.join("offline.png");
        fs::write(&plot, table.plot().png(1100, 620)?)
            .with_context(|| format!("{} cannot be written", plot.display()))?;
    }
    println!("{table}\n");
    println!("reports and the plot are in {}, bundles in {}", args.work.display(), args.work.join("models").display());
    Ok(())
}

/// The settings of the algorithms that are asked for.
fn algorithms(args: &OfflineArgs) -> anyhow::Result<Vec<OfflineSettings>> {
    if let Some(unknown) = args.algorithm.iter().find(|name| SETTINGS.iter().all(|(known, _)| known != name)) {
        let known: Vec<&str> = SETTINGS.iter().map(|(name, _)| *name).collect();
        bail!(BadInput(format!("`--algorithm` is `{unknown}`, allowed are {}", known.join(", "))));
    }
    let asked =
        SETTINGS.iter().filter(|(name, _)| args.algorithm.is_empty() || args.algorithm.iter().any(|one| one == name));
    asked
        .map(|(name, text)| {
            let mut settings: OfflineSettings =
                toml::from_str(text).with_context(|| format!("the demo's {name}.toml"))?;
            if args.quick {
                settings.updates = (settings.updates / 5).max(1);
            }
            Ok(settings)
        })
        .collect()
}

/// A log in which each session is the expert's with the probability `share`, and random otherwise.
fn log(
    settings: &OfflineSettings,
    expert: Option<&Arc<Bundle>>,
    share: f64,
    sessions: u64,
    seed: u64,
    threads: usize,
) -> anyhow::Result<Experience> {
    let scorer = || -> Result<Box<dyn Scorer>, ScorerError> {
        let bundle = expert.ok_or_else(|| ScorerError("there is no expert".to_owned()))?;
        let scorer = BundleScorer::load(bundle).map_err(|error| ScorerError(error.to_string()))?;
        Ok(Box::new(scorer))
    };
    let mut parts = vec![Part { share: 1.0 - share, actor: Actor::Random }];
    if let Some(bundle) = expert {
        let manifest = &bundle.manifest;
        let model = Model {
            features: &manifest.features,
            session: &manifest.session,
            exploration: manifest.exploration,
            objective: manifest.objective,
            noise: manifest.signature.noise,
            scorer: &scorer,
        };
        parts.insert(0, Part { share, actor: Actor::Model(model) });
    }
    Ok(simulate(settings, &parts, sessions, seed, threads)?)
}

/// One run of the table.
struct Run {
    /// Mean return of the greedy policy in fresh episodes.
    mean: f64,
    seconds: f64,
}

/// Runs some algorithms on a log, side by side.
fn learn(
    batch: &[OfflineSettings],
    log: &Experience,
    share: f64,
    seed: u64,
    work: &Path,
    stop: &AtomicBool,
) -> anyhow::Result<Vec<Run>> {
    let one = |settings: &OfflineSettings, watched: bool| {
        let mut settings = settings.clone();
        settings.seed = seed;
        settings.policy = format!("{}-expert-{}-seed-{seed}", settings.policy, 100.0 * share);
        let run = work.join("runs").join(&settings.policy);
        let published = train_and_publish_offline(&settings, log, &work.join("models"), &run, watched, stop)?;
        let returns = published.learned.returns.context("the demo's settings name no environment")?;
        eprintln!("{}: {:.2} in {:.1} s", settings.policy, returns.mean, published.seconds);
        Ok(Run { mean: returns.mean, seconds: published.seconds })
    };
    thread::scope(|scope| {
        let running: Vec<_> =
            batch.iter().enumerate().map(|(index, settings)| scope.spawn(move || one(settings, index == 0))).collect();
        running.into_iter().map(|run| run.join().map_err(|_| anyhow!("a run panicked"))?).collect()
    })
}
