//! `slated demo autopilot`: from a random policy to the optimum and back to it after the users changed, by itself.

mod population;
mod table;

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use chrono::Utc;
use clap::Args;
use slated_contract::policy::BundleWriter;
use slated_contract::slate::Exploration;
use slated_trainer::env::{EnvironmentSettings, LongTermSatisfactionSettings};
use slated_trainer::offline::{OfflineOutcome, OfflineSettings, simulate, train_offline};
use slated_trainer::online::Unobserved;
use slated_trainer::rollout::{Actor, Part};

use super::super::Global;
use super::super::exit::{Interrupted, Refused};
use super::super::train::watch_interrupt;
use super::service::Service;
use crate::autopilot::CycleReport;
use population::Population;
use table::{Row, Table, plot};

const POLICY: &str = "lts-autopilot";
const SETTINGS: &str = include_str!("autopilot.toml");
/// What of the optimum must be reached.
const SHARE: f64 = 0.95;
/// Sessions of a version from which its return is told.
const ENOUGH: usize = 100;

/// Learn by itself: simulated users meet a service that knows nothing, an autopilot learns from its journal, and the users
/// change.
///
/// Starts `slated serve` on a random policy and `slated autopilot` beside it, and sends it users of the tutorial's environment
/// over HTTP, whose feedback is sometimes late, sent twice or lost. Once the live version returns 95% of the optimum, the users'
/// memory of what they consumed is cut off, and the autopilot must get to 95% of the new optimum.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slated demo autopilot
  slated demo autopilot --quick
  slated demo autopilot --seed 2 --cycles 8")]
pub struct AutopilotArgs {
    /// Cycles at most, before the users change and after.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    cycles: u64,
    /// Cycles to go on for once the optimum is near.
    #[arg(long, value_name = "N")]
    further: Option<u64>,
    /// Small logs, short training, and an end as soon as there was one promotion; the users do not change.
    #[arg(long)]
    quick: bool,
    /// Users a second.
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Sessions between two cycles.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(100..))]
    sessions: Option<u64>,
    /// Seed of everything random.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Address of the service; port 0 takes any free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where journal, models, reports and the plot go; what an earlier demo left there is removed.
    #[arg(long, value_name = "DIR", default_value = ".slated/autopilot")]
    work: PathBuf,
}

/// Runs the demo.
pub fn run(global: &Global, args: &AutopilotArgs) -> anyhow::Result<()> {
    global.start([])?;
    if args.work.exists() {
        fs::remove_dir_all(&args.work).with_context(|| format!("{} cannot be removed", args.work.display()))?;
    }
    fs::create_dir_all(&args.work).with_context(|| format!("{} cannot be made", args.work.display()))?;
    let stop = Arc::new(AtomicBool::new(false));
    watch_interrupt(&stop)?;
    let environments = environments();
    let optima: Vec<f64> = environments.iter().filter_map(LongTermSatisfactionSettings::optimum).collect();
    publish_random(&args.work, &environments[0], args.seed)?;
    let mut service = Service::start(&args.work, args.listen, POLICY, args.seed)?;
    let begun = Utc::now();
    let settings = environments.into_iter().map(EnvironmentSettings::LongTermSatisfaction).collect();
    let rate = args.rate.unwrap_or(if args.quick { 80.0 } else { 60.0 });
    let mut population = Population::start(&service.url(), settings, rate, args.seed)?;
    let mut autopilot = Autopilot::start(&args.work, &service.url(), args)?;
    eprintln!("==> a random policy, {rate} new users a second; {}", service.url());
    let mut rows: Vec<Row> = Vec::new();
    let mut reached = Vec::new();
    let phases = if args.quick { 1 } else { optima.len() };
    for phase in 0..phases {
        let enough = phase_of(args, phase, &optima, &mut rows, &population, &mut autopilot, &stop)?;
        reached.push(enough);
        if enough.is_none() {
            break;
        }
        if phase + 1 < phases {
            eprintln!("==> the users change");
            population.shift(phase + 1);
        }
    }
    autopilot.stop()?;
    population.stop();
    let (played, tally) = (population.played(), population.tally());
    service.stop()?;
    println!("{}", Table { rows: &rows, optima: &optima });
    let drawn = plot(&rows, &played, &optima[..phases], begun);
    for (name, bytes) in
        [("autopilot.png", drawn.png(1100, 560)?), ("autopilot.svg", drawn.svg(1100, 560)?.into_bytes())]
    {
        let path = args.work.join(name);
        fs::write(&path, bytes).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    println!(
        "{} sessions, {} requests, {} feedback events; {} failed{}",
        played.len(),
        tally.requests,
        tally.feedback,
        tally.failed,
        tally.first_failure.map(|why| format!(", the first: {why}")).unwrap_or_default()
    );
    let goal = if args.quick { "a promotion" } else { "95% of the optimum" };
    for (phase, cycles) in reached.iter().enumerate() {
        let users = if phase == 0 { "the first users" } else { "the new users" };
        let optimum = optima[phase];
        match cycles {
            Some(cycles) => println!("{goal} ({optimum:.1}) with {users}: after {cycles} cycles"),
            None => println!("{goal} ({optimum:.1}) with {users}: not within {} cycles", args.cycles),
        }
    }
    println!(
        "reports are in {}, the plot is {}",
        args.work.join("autopilot/cycles").display(),
        args.work.join("autopilot.png").display()
    );
    if tally.failed > 0 || reached.len() < phases || reached.contains(&None) {
        return Err(Refused("the autopilot did not do what it should".to_owned()).into());
    }
    Ok(())
}

/// Runs cycles until the goal is reached, and the further ones; after how many it was, if it was.
fn phase_of(
    args: &AutopilotArgs,
    phase: usize,
    optima: &[f64],
    rows: &mut Vec<Row>,
    population: &Population,
    autopilot: &mut Autopilot,
    stop: &AtomicBool,
) -> anyhow::Result<Option<u64>> {
    let further = args.further.unwrap_or(if args.quick { 0 } else { 1 });
    let (mut reached, mut left, before) = (None, further, rows.len());
    loop {
        let report = autopilot.next(rows.len() as u64 + 1, stop)?;
        let (played, failed) = (population.played(), population.tally().failed);
        let ended = report.ended;
        if let Some(row) = rows.last_mut() {
            row.measure(&played, ended);
        }
        // The row before this one is the latest whose version has served a while.
        let cycles = (rows.len() - before) as u64;
        if reached.is_none()
            && let Some(row) = rows[before..].last()
        {
            let near = row.returns.is_some_and(|it| it.count >= ENOUGH && it.mean >= SHARE * optima[phase]);
            if near {
                reached = Some(cycles);
            }
        }
        let summary = report.summary();
        let returns = rows.last().and_then(|row| Some((row.live, row.returns?)));
        let returns =
            returns.map_or_else(String::new, |(live, it)| format!("; version {live} returned {:.1}", it.mean));
        eprintln!("cycle {}: {summary}{returns}", report.cycle.number);
        rows.push(Row::new(report, phase, failed));
        if args.quick {
            reached = rows.iter().any(|row| row.live > 1).then_some(cycles + 1);
        }
        if reached.is_some() {
            if left == 0 {
                break;
            }
            left -= 1;
        } else if cycles + 1 > args.cycles {
            break;
        }
    }
    Ok(reached)
}

/// The tutorial's users, and users who forget at once what they consumed: it is the next item alone that a sour or sweet one
/// matters to, and what was learned of keeping an appetite for later is of no use.
fn environments() -> [LongTermSatisfactionSettings; 2] {
    let tutorial = LongTermSatisfactionSettings::tutorial();
    let changed = LongTermSatisfactionSettings { memory_discount: 0.0, ..tutorial.clone() };
    [tutorial, changed]
}

/// Version 1: a network that has learned nothing, whose slates are uniform draws.
fn publish_random(work: &Path, environment: &LongTermSatisfactionSettings, seed: u64) -> anyhow::Result<()> {
    let text = format!("policy = \"{POLICY}\"\nupdates = 1\nseed = {seed}\nalgorithm = {{ name = \"dqn\" }}\n");
    let mut settings: OfflineSettings = toml::from_str(&text).context("the demo's first version")?;
    settings.evaluation.environment = Some(EnvironmentSettings::LongTermSatisfaction(environment.clone()));
    settings.evaluation.final_episodes = 2;
    settings.episodes.validation = 0.0;
    settings.exploration = Exploration::EpsilonGreedy { epsilon: 1.0 };
    let nothing = simulate(&settings, &[Part { share: 1.0, actor: Actor::Random }], 1, seed, 1)?;
    let never = AtomicBool::new(false);
    let OfflineOutcome::Finished(learned) = train_offline(&settings, &nothing, 1, None, &mut Unobserved, &never)?
    else {
        bail!(Interrupted("the first version is not there".to_owned()));
    };
    let mut manifest = learned.manifest;
    manifest.evaluation.clear();
    BundleWriter::stage(&work.join("models"), &manifest, &learned.model, None)?.publish()?;
    Ok(())
}

/// A running `slated autopilot`.
struct Autopilot {
    child: Child,
    folder: PathBuf,
    log: PathBuf,
}

impl Autopilot {
    fn start(work: &Path, url: &str, args: &AutopilotArgs) -> anyhow::Result<Self> {
        let mut table: toml::Table = SETTINGS.parse().context("the demo's autopilot.toml")?;
        let folder = work.join("autopilot");
        for (key, path) in
            [("journal", work.join("journal")), ("models", work.join("models")), ("folder", folder.clone())]
        {
            table.insert(key.to_owned(), path.display().to_string().into());
        }
        table.insert("policy".to_owned(), POLICY.into());
        table.insert("service".to_owned(), url.into());
        let sessions = args.sessions.unwrap_or(if args.quick { 700 } else { 3500 });
        // A session is ten decisions and as much feedback.
        let trigger = [
            ("after_events".to_owned(), i64::try_from(20 * sessions)?.into()),
            ("poll_seconds".to_owned(), 0.5.into()),
        ];
        table.insert("trigger".to_owned(), toml::Table::from_iter(trigger).into());
        let requests: i64 = if args.quick { 300 } else { 2500 };
        if let Some(canary) = table.get_mut("canary").and_then(toml::Value::as_table_mut) {
            canary.insert("min_requests".to_owned(), requests.into());
            if let Some(guardrails) = canary.get_mut("guardrails").and_then(toml::Value::as_table_mut) {
                guardrails.insert("min_requests".to_owned(), (requests / 2).into());
            }
        }
        if args.quick
            && let Some(candidates) = table.get_mut("candidates").and_then(toml::Value::as_array_mut)
        {
            for candidate in candidates {
                candidate["seeds"] = toml::Value::Array(vec![1.into()]);
                candidate["train"]["updates"] = toml::Value::Integer(1500);
            }
        }
        let path = work.join("autopilot.toml");
        fs::write(&path, toml::to_string(&table)?).with_context(|| format!("{} cannot be written", path.display()))?;
        let log = work.join("autopilot.log");
        let output = File::create(&log).with_context(|| format!("{} cannot be written", log.display()))?;
        let child = Command::new(std::env::current_exe().context("this binary cannot be found")?)
            .args(["autopilot", "--log-level", "info", "--settings"])
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .context("the autopilot cannot be started")?;
        Ok(Self { child, folder, log })
    }

    /// Waits for the report of a cycle.
    fn next(&mut self, cycle: u64, stop: &AtomicBool) -> anyhow::Result<CycleReport> {
        let path = self.folder.join("cycles").join(cycle.to_string()).join("report.json");
        loop {
            if let Ok(text) = fs::read(&path) {
                return serde_json::from_slice(&text).with_context(|| format!("{}", path.display()));
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(anyhow!("the autopilot ended with {status}; its log is {}", self.log.display()));
            }
            if stop.load(Ordering::Relaxed) {
                return Err(Interrupted(format!("what there is so far is in {}", self.folder.display())).into());
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Asks it to end, and waits.
    fn stop(&mut self) -> anyhow::Result<()> {
        let pid = self.child.id().to_string();
        if self.child.try_wait()?.is_none() && !Command::new("kill").args(["-TERM", &pid]).status()?.success() {
            bail!("the autopilot (process {pid}) could not be asked to end");
        }
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Autopilot {
    fn drop(&mut self) {
        // A demo that fails half way must not leave it behind; one that has ended cannot be killed again.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
