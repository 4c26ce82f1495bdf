//! `slated simulate`.

mod live;
mod policies;
mod report;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use serde_json::json;
use slated_trainer::env::EnvironmentSettings;
use slated_trainer::rollout::{Episode, MakeObserver, Rollout};

use super::Global;
use super::progress::bar;
use crate::journal::simulated::SimulatedJournal;
use crate::settings::Flag;
use policies::{Mixture, Policies};
use report::{Report, Run};

/// Run policies on simulated users, and say what they return.
///
/// The same seed gives every policy the same users and the same candidates, whatever the number of threads.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slated simulate --environment lts-tutorial --policy random --policy sweetest
  slated simulate --environment interest-evolution --policy my-slateq:3 --greedy
  slated simulate --environment lts-tutorial --mix expert=0.2,random=0.8 --expert my-dqn \\
    --episodes 10000 --journal journal
  slated simulate --environment lts.toml --url http://127.0.0.1:8080 --users 16

Environments: lts-tutorial, lts, interest-evolution, interest-exploration, or a file such as:
  name = \"long_term_satisfaction\"
  candidates = 50
  slate_size = 3
  sensitivity = 0.5")]
pub struct SimulateArgs {
    /// A preset, or a file of settings in TOML.
    #[arg(long, short, value_name = "PRESET|FILE")]
    environment: String,
    /// `random`, one of the environment's reference policies, or a bundle as NAME or NAME:VERSION; once for each to run.
    /// With `--url`, the name of a policy of the service; its default one where absent.
    #[arg(long, short, value_name = "POLICY")]
    policy: Vec<String>,
    /// A mixture to run, as POLICY=SHARE,...: each episode belongs to one of its policies. `expert` is the policy of
    /// `--expert`.
    #[arg(long, value_name = "POLICY=SHARE,...")]
    mix: Vec<String>,
    /// The policy called `expert`; the environment's best reference policy where absent.
    #[arg(long, value_name = "POLICY")]
    expert: Option<String>,
    /// Episodes of each.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    episodes: u64,
    /// Seed of every random choice.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Threads; as many as there are cores where absent.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Environments a thread, scored in one batch.
    #[arg(long, value_name = "N", default_value_t = Rollout::LANES as u16, value_parser = clap::value_parser!(u16).range(1..))]
    lanes: u16,
    /// Run bundles without their exploration.
    #[arg(long)]
    greedy: bool,
    /// Folder of policy bundles.
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// Write what happened into the journal in this folder, as closed segments with true propensities.
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
    /// Send the simulated users to this service, with real requests and feedback.
    #[arg(long, value_name = "URL", conflicts_with_all = ["mix", "expert", "greedy", "models", "journal", "threads", "lanes"])]
    url: Option<String>,
    /// With `--url`: users at once.
    #[arg(long, value_name = "N", default_value_t = 8, requires = "url", value_parser = clap::value_parser!(u16).range(1..))]
    users: u16,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand.
pub fn run(global: &Global, args: &SimulateArgs) -> anyhow::Result<()> {
    let settings = global.start([Flag::given("models.folder", args.models.as_ref())])?.settings;
    let environment = read_environment(&args.environment)?;
    let spec = environment.build()?.spec().clone();
    let runs = match &args.url {
        Some(url) => live::run(url, &environment, args)?,
        None => {
            let policies = Policies::new(&settings.models.folder, &spec, args.greedy, args.expert.as_deref());
            let mixtures = policies.read(&args.policy, &args.mix)?;
            let run = |mixture: &Mixture| simulate(&environment, spec.event, mixture, args);
            mixtures.iter().map(run).collect::<anyhow::Result<Vec<_>>>()?
        }
    };
    let report = Report::new(&environment, &spec, args.seed, &runs);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report).context("the report cannot be written")?);
    } else {
        print!("{report}");
    }
    Ok(())
}

/// A preset, or a file.
fn read_environment(name: &str) -> anyhow::Result<EnvironmentSettings> {
    let path = Path::new(name);
    if EnvironmentSettings::preset(name).is_none() && (path.is_file() || path.extension().is_some()) {
        let text = std::fs::read_to_string(path).with_context(|| format!("{name}: the environment cannot be read"))?;
        return toml::from_str(&text).with_context(|| format!("{name}: environment settings"));
    }
    Ok(EnvironmentSettings::named(name)?)
}

/// Runs one mixture in this process.
fn simulate(
    environment: &EnvironmentSettings,
    event: &'static str,
    mixture: &Mixture,
    args: &SimulateArgs,
) -> anyhow::Result<Run> {
    let journal = args.journal.as_ref().map(|folder| {
        let identity = json!({"environment": environment, "seed": args.seed, "shares": mixture.shares()});
        SimulatedJournal::new(folder, &identity, mixture.acting(), event)
    });
    let done = bar(&format!("running {}", mixture.name), Some(args.episodes));
    let make = || environment.build();
    let observe = journal.as_ref().map(|journal| |block| journal.block(block));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let rollout = Rollout {
        workers: args.threads.map_or(cores, usize::from),
        lanes: usize::from(args.lanes),
        latent: true,
        observe: observe.as_ref().map(|observe| observe as &MakeObserver),
        ended: &|_: &Episode| done.inc(1),
        ..Rollout::new(&make, args.episodes, args.seed)
    };
    let started = Instant::now();
    let episodes = rollout
        .run(&mixture.parts())
        .with_context(|| format!("policy {} cannot be run in {}", mixture.name, args.environment))?;
    done.finish_and_clear();
    let steps: u64 = episodes.iter().map(|episode| u64::from(episode.steps)).sum();
    tracing::info!(policy = mixture.name, steps, seconds = started.elapsed().as_secs_f64(), "simulated");
    Ok(Run {
        name: mixture.name.clone(),
        parts: mixture.names(),
        episodes,
        journalled: journal.zip(args.journal.clone()).map(|(journal, folder)| (folder, journal.written())),
    })
}
