//! `slated demo tutorial`: the table of the RecSys tutorial that slated grew from, reproduced and beaten.

mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use anyhow::{Context, anyhow};
use clap::Args;
use slated_trainer::online::OnlineSettings;
use slated_trainer::rollout::{Actor, Summary};

use super::super::Global;
use super::super::train::{PublishedOnline, baseline, train_and_publish_online, watch_interrupt};
use table::{Row, Table};

const LONG_TERM_SATISFACTION: &str = include_str!("long_term_satisfaction.toml");
const INTEREST_EVOLUTION: &str = include_str!("interest_evolution.toml");
const INTEREST_EXPLORATION: &str = include_str!("interest_exploration.toml");

/// Episodes that measure a policy which needs no learning.
const EPISODES: u64 = 20_000;

/// Reproduce the table of the tutorial: bandits and Q-learning on long-term satisfaction, SlateQ on interest evolution
/// and interest exploration, each over several seeds, beside RecSim's own figures.
///
/// Writes a report of every run, a plot of the learning curves, and the policies as bundles.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slated demo tutorial
  slated demo tutorial --environment lts-tutorial --seeds 5
  slated simulate --environment lts-tutorial --policy lts-tutorial-dqn --models .slated/tutorial/models --greedy")]
pub struct TutorialArgs {
    /// Only this environment: lts-tutorial, interest-evolution or interest-exploration.
    #[arg(long, short, value_name = "PRESET")]
    environment: Option<String>,
    /// How many seeds each algorithm is run with.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    seeds: u16,
    /// Runs at a time; as many as there are processors where absent. Results do not depend on it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Where bundles, reports and plots go; what an earlier demo left there is removed.
    #[arg(long, value_name = "DIR", default_value = ".slated/tutorial")]
    work: PathBuf,
}

/// A policy of the table that is learned.
struct Learner {
    name: &'static str,
    known: &'static str,
    settings: OnlineSettings,
}

/// A policy of the table that is not.
struct Fixed {
    name: &'static str,
    known: &'static str,
    actor: Actor<'static>,
}

/// One environment's part of the table.
struct Part {
    preset: &'static str,
    title: &'static str,
    fixed: Vec<Fixed>,
    learners: Vec<Learner>,
}

/// Runs the demo.
pub fn run(global: &Global, args: &TutorialArgs) -> anyhow::Result<()> {
    global.start([])?;
    let parts: Vec<Part> = parts()?
        .into_iter()
        .filter(|part| args.environment.as_deref().is_none_or(|only| only == part.preset))
        .collect();
    if parts.is_empty() {
        let message = "`--environment` must be lts-tutorial, interest-evolution or interest-exploration";
        return Err(super::super::exit::BadInput(message.to_owned()).into());
    }
    if args.work.exists() {
        fs::remove_dir_all(&args.work).with_context(|| format!("{} cannot be removed", args.work.display()))?;
    }
    let stop = Arc::new(AtomicBool::new(false));
    watch_interrupt(&stop)?;
    let threads = args.threads.map_or_else(|| thread::available_parallelism().map_or(1, usize::from), usize::from);
    let mut tables = Vec::new();
    for part in &parts {
        tables.push(fill(part, args, threads, &stop)?);
    }
    for table in &tables {
        println!("{table}\n");
        let plot = args.work.join(format!("{}.png", table.preset));
        fs::write(&plot, table.plot().png(960, 540)?)
            .with_context(|| format!("{} cannot be written", plot.display()))?;
    }
    println!("reports and plots are in {}, bundles in {}", args.work.display(), args.work.join("models").display());
    Ok(())
}

fn parts() -> anyhow::Result<Vec<Part>> {
    let read = |text: &str| toml::from_str::<OnlineSettings>(text).context("the demo's settings");
    let dqn = read(LONG_TERM_SATISFACTION)?;
    // The same network and settings; only the future does not count.
    let mut bandit: toml::Table = LONG_TERM_SATISFACTION.parse()?;
    bandit.insert("policy".to_owned(), "lts-tutorial-bandit".into());
    if let Some(algorithm) = bandit.get_mut("algorithm").and_then(toml::Value::as_table_mut) {
        algorithm.insert("discount".to_owned(), 0.0.into());
    }
    let fixed = |name, known, actor| Fixed { name, known, actor };
    let random = |known| fixed("random", known, Actor::Random);
    Ok(vec![
        Part {
            preset: "lts-tutorial",
            title: "long-term satisfaction, the tutorial's parameters, 20 candidates, slates of 1",
            fixed: vec![
                fixed("always the kaliest", "10.88", Actor::Reference("kaliest")),
                fixed("always the sweetest", "56.52", Actor::Reference("sweetest")),
                random("99.66"),
            ],
            learners: vec![
                Learner { name: "bandit (discount 0)", known: "about 56", settings: bandit.try_into()? },
                Learner { name: "DQN (discount 0.99)", known: "about 170", settings: dqn },
            ],
        },
        Part {
            preset: "interest-evolution",
            title: "interest evolution, 10 candidates, slates of 3",
            fixed: vec![
                random("160.48"),
                fixed("greatest interest", "168.16", Actor::Reference("greedy_interest")),
                fixed("greatest hidden quality", "263.88", Actor::Reference("best_quality")),
            ],
            learners: vec![Learner { name: "SlateQ", known: "174.6", settings: read(INTEREST_EVOLUTION)? }],
        },
        Part {
            preset: "interest-exploration",
            title: "interest exploration, 5 candidates, slates of 2, 100 steps",
            fixed: vec![
                random("23.15"),
                fixed("greatest quality", "31.52", Actor::Reference("best_quality")),
                fixed("greatest latent value", "-", Actor::Reference("best_value")),
            ],
            learners: vec![Learner { name: "SlateQ (discount 0)", known: "-", settings: read(INTEREST_EXPLORATION)? }],
        },
    ])
}

/// Measures the fixed policies and runs every learner with every seed, several at a time.
fn fill(part: &Part, args: &TutorialArgs, threads: usize, stop: &AtomicBool) -> anyhow::Result<Table> {
    let mut table = Table::new(part.preset, part.title);
    let settings = &part.learners[0].settings;
    table.optimum = settings.environment.build()?.spec().optimum;
    for Fixed { name, known, actor } in &part.fixed {
        eprintln!("==> {}: {name}", part.preset);
        table.rows.push(Row::fixed(name, known, baseline(settings, *actor, EPISODES)?));
    }
    let jobs: Vec<(usize, u64)> = (0..part.learners.len())
        .flat_map(|learner| (1..=u64::from(args.seeds)).map(move |seed| (learner, seed)))
        .collect();
    for (index, learner) in part.learners.iter().enumerate() {
        let seeds: Vec<u64> = jobs.iter().filter(|(job, _)| *job == index).map(|(_, seed)| *seed).collect();
        let mut runs = Vec::new();
        for batch in seeds.chunks(threads) {
            eprintln!("==> {}: {}, seeds {batch:?}", part.preset, learner.name);
            let one = |seed: u64| learn(&learner.settings, seed, &args.work, seed == batch[0], stop);
            let learned = thread::scope(|scope| {
                let others: Vec<_> = batch.iter().map(|&seed| scope.spawn(move || one(seed))).collect();
                let ended = others.into_iter().map(|other| other.join().map_err(|_| anyhow!("a run panicked"))?);
                ended.collect::<anyhow::Result<Vec<_>>>()
            })?;
            runs.extend(learned);
        }
        table.rows.push(Row::learned(learner.name, learner.known, &runs));
    }
    Ok(table)
}

fn learn(
    settings: &OnlineSettings,
    seed: u64,
    work: &Path,
    watched: bool,
    stop: &AtomicBool,
) -> anyhow::Result<PublishedOnline> {
    let mut settings = settings.clone();
    settings.seed = seed;
    // Every seed is a version of the policy of its own, whichever run ends first.
    if seed > 1 {
        settings.policy = format!("{}-seed-{seed}", settings.policy);
    }
    let run = work.join("runs").join(&settings.policy);
    train_and_publish_online(&settings, &work.join("models"), &run, watched, stop)
}

/// The mean over seeds, with the interval of their spread.
fn over_seeds(runs: &[PublishedOnline]) -> Summary {
    Summary::of(&runs.iter().map(|run| run.learned.returns.mean).collect::<Vec<_>>())
}
