//! `slated demo`: the whole loop, once, on real data.

mod autopilot;
mod evidence;
mod offline;
mod rounds;
mod service;
mod tutorial;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use slated_contract::reward::RewardDefinition;
use slated_contract::slate::Exploration;
use slated_trainer::bandit::{Interaction, LinearThompsonSettings};
use slated_trainer::dataset::DatasetSettings;
use slated_trainer::train::{AlgorithmSettings, TrainSettings};

use super::Global;
use super::journal::import_open_bandit;
use super::train::{Published, train_and_publish};
use rounds::{Rounds, Tally};
use service::Service;

const POLICY: &str = "open-bandit";

/// Walk the whole loop on real data: import a log, train, serve, journal, train again from the service's own journal,
/// swap the policy under the running service; then go on serving until Ctrl-C.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  slated demo
  slated demo --rounds 1000 --exit
  slated demo --data /data/open_bandit_dataset --work /tmp/demo
  slated demo tutorial
  slated demo offline --quick
  slated demo evidence
  slated demo autopilot"
)]
pub struct DemoArgs {
    #[command(subcommand)]
    which: Option<DemoCommand>,
    /// The Open Bandit Dataset; `make setup` fetches its small version here.
    #[arg(long, value_name = "DIR", default_value = ".slated/open-bandit")]
    data: PathBuf,
    /// Where the demo's journal and models go; what an earlier demo left there is removed.
    #[arg(long, value_name = "DIR", default_value = ".slated/demo")]
    work: PathBuf,
    /// Address of the service.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Real rounds to send to each policy version.
    #[arg(long, value_name = "N", default_value_t = 5000)]
    rounds: usize,
    /// Seed of everything random.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// End after the table instead of serving on.
    #[arg(long)]
    exit: bool,
}

#[derive(Debug, Subcommand)]
enum DemoCommand {
    Tutorial(tutorial::TutorialArgs),
    Offline(offline::OfflineArgs),
    Evidence(evidence::EvidenceArgs),
    Autopilot(autopilot::AutopilotArgs),
}

/// Runs the demo.
pub fn run(global: &Global, args: &DemoArgs) -> anyhow::Result<()> {
    match &args.which {
        Some(DemoCommand::Tutorial(args)) => return tutorial::run(global, args),
        Some(DemoCommand::Offline(args)) => return offline::run(global, args),
        Some(DemoCommand::Evidence(args)) => return evidence::run(global, args),
        Some(DemoCommand::Autopilot(args)) => return autopilot::run(global, args),
        None => {}
    }
    global.start([])?;
    let (journal, models) = (args.work.join("journal"), args.work.join("models"));
    clear(&args.work)?;
    let log = args.data.join("random/men");
    if !log.is_dir() {
        bail!("{} is not there; run `make setup`, or name the Open Bandit Dataset with `--data`", log.display());
    }
    let mut steps = Steps::default();

    let report = steps.time("import the random log of campaign `men`", || import_open_bandit(&log, &journal))?;
    println!("{report}\n");
    let rounds = Rounds::read(&journal)?;

    let never = AtomicBool::new(false);
    let settings = settings(&journal, args.seed);
    let first = steps.time("train version 1 from it", || train_and_publish(&settings, &models, false, &never))?;

    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    let mut service = steps.time("start the service", || Service::start(&args.work, args.listen, POLICY, args.seed))?;
    let stream = |first_round| runtime.block_on(rounds.stream(&service, first_round, args.rounds, args.seed));
    let by_first = steps.time("send real rounds, feedback drawn from the logged clicks", || stream(0))?;
    let sealed = steps.time("close the service's journal into Parquet", || runtime.block_on(service.seal()))?;
    let second = steps.time("train version 2 from what the service journalled", || {
        train_and_publish(&settings, &models, true, &never)
    })?;
    steps.time("swap it in, the service running", || {
        runtime.block_on(service.load(POLICY, second.trained.manifest.version))
    })?;
    let by_second = steps.time("send further real rounds", || stream(args.rounds))?;
    runtime.block_on(service.seal())?;

    println!("{steps}");
    println!("closed {sealed} events of version 1's rounds into {}\n", journal.display());
    table(&rounds, [(&first, &by_first), (&second, &by_second)]);
    println!("\n{}", next_steps(&service.url(), &args.work, &rounds));
    if args.exit {
        service.stop()
    } else {
        println!("\nserving on {} until Ctrl-C", service.url());
        runtime.block_on(service.wait())
    }
}

fn clear(work: &Path) -> anyhow::Result<()> {
    for part in ["journal", "models"] {
        let folder = work.join(part);
        if folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(|| format!("{} cannot be removed", folder.display()))?;
        }
    }
    std::fs::create_dir_all(work).with_context(|| format!("{} cannot be made", work.display()))
}

/// Thompson sampling with the noise of a rare click: its standard deviation is about 0.07 at a click rate of 0.5%.
fn settings(journal: &Path, seed: u64) -> TrainSettings {
    TrainSettings {
        policy: POLICY.to_owned(),
        data: DatasetSettings {
            journal: journal.to_owned(),
            reward: RewardDefinition::default(),
            policy: None,
            source: None,
            after: None,
            until: None,
            cache: None,
            memory_limit_mib: 512,
        },
        algorithm: AlgorithmSettings::LinearThompson(LinearThompsonSettings {
            scale: 0.07,
            lambda: 1.0,
            interaction: Interaction::Additive,
        }),
        seed,
        features: None,
        session: slated_contract::session::SessionSettings::default(),
        slate: None,
        exploration: Some(Exploration::PosteriorSampling { draws: 100 }),
    }
}

fn table(rounds: &Rounds, versions: [(&Published, &Tally); 2]) {
    println!(
        "{:34} {:>9} {:>7} {:>7} {:>11} {:>15}",
        "policy", "learned", "rounds", "clicks", "click rate", "expected rate"
    );
    let (logged, clicks) = (rounds.len(), rounds.clicks());
    let rate = clicks as f64 / logged as f64;
    println!("{:34} {:>9} {logged:>7} {clicks:>7} {rate:>11.5} {rate:>15.5}", "random, as logged", "-");
    for (published, tally) in versions {
        let manifest = &published.trained.manifest;
        let learned = manifest.training.as_ref().map_or(0, |training| training.decisions);
        println!(
            "{:34} {learned:>9} {:>7} {:>7} {:>11.5} {:>15.5}",
            format!("{} version {} ({})", manifest.name, manifest.version, manifest.algorithm.name),
            tally.rounds,
            tally.clicks,
            tally.clicks as f64 / tally.rounds as f64,
            tally.expected / tally.rounds as f64,
        );
    }
    println!(
        "A click is drawn from the logged rows that showed the same item at the same position; the expected rate is the\n\
         mean of those rows' click rates, without the luck of the draw."
    );
}

fn next_steps(url: &str, work: &Path, rounds: &Rounds) -> String {
    let request = rounds.example();
    let journal = work.join("journal");
    format!(
        "Go on with:\n\
         curl -s {url}/recommend -H 'Content-Type: application/json' -d '{request}'\n\
         curl -s {url}/feedback -H 'Content-Type: application/json' -d '{{\"decision_id\": \"my-first-decision\", \"event\": \"click\", \"position\": 0}}'\n\
         curl -s {url}/decisions/my-first-decision\n\
         curl -s {url}/policies\n\
         curl -s {url}/metrics\n\
         The journal is Parquet in {}/decisions and {}/feedback.",
        journal.display(),
        journal.display(),
    )
}

/// The steps with their times.
#[derive(Default)]
struct Steps(Vec<(&'static str, f64)>);

impl Steps {
    fn time<T>(&mut self, name: &'static str, step: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        eprintln!("==> {name}");
        let started = Instant::now();
        let result = step().with_context(|| format!("could not {name}"))?;
        self.0.push((name, started.elapsed().as_secs_f64()));
        Ok(result)
    }
}

impl std::fmt::Display for Steps {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        writeln!(formatter, "{:60} {:>8}", "step", "seconds")?;
        for (name, seconds) in &self.0 {
            writeln!(formatter, "{name:60} {seconds:>8.1}")?;
        }
        Ok(())
    }
}
