//! `slated demo evidence`: how often the evidence is right, where the truth can be had.

mod table;
mod world;

use std::fs;
use std::path::PathBuf;
use std::thread;

use anyhow::{Context, anyhow};
use clap::Args;
use slated_trainer::ope::gate::{Evidence, GateSettings, Pair, judge};
use slated_trainer::ope::single::{
    DirectMethod, DoublyRobust, Ips, SelfNormalisedDoublyRobust, SelfNormalisedIps, SingleLog,
};
use slated_trainer::ope::{Estimator, IntervalMethod, IntervalSettings, Slope, estimate};

use super::super::Global;
use table::{Counts, Table};
use world::Target;

/// Resamples of each bootstrap: there are hundreds of logs.
const RESAMPLES: u32 = 500;
const SEED_OF_TRUTH: u64 = u64::MAX;

/// Ask how often the evidence is right: many logs of simulated users, with intervals from each, held against what the
/// policies really earn there.
///
/// Prints how often each 95% interval holds the truth, how far off each estimator is as the log grows, and how often the
/// gate lets a policy through that is better, as good as the one that wrote the log, or worse; writes a plot.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slated demo evidence
  slated demo evidence --logs 1000 --users 50 --users 500")]
pub struct EvidenceArgs {
    /// Logs of each size.
    #[arg(long, value_name = "N", default_value_t = 400, value_parser = clap::value_parser!(u32).range(10..))]
    logs: u32,
    /// Users of a log, each with 20 decisions, instead of 100, 400 and 1600; once for each size.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(10..))]
    users: Vec<u32>,
    /// Users to whom each policy is shown for the truth.
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1000..))]
    truth_users: u32,
    /// Seed of every random choice.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Threads; as many as there are processors where absent. Results do not depend on them.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Where the plot goes.
    #[arg(long, value_name = "DIR", default_value = ".slated/evidence")]
    work: PathBuf,
}

/// The estimators that are asked.
fn estimators() -> Vec<Box<dyn Estimator<SingleLog>>> {
    vec![
        Box::new(Ips),
        Box::new(SelfNormalisedIps),
        Box::new(DirectMethod),
        Box::new(DoublyRobust),
        Box::new(SelfNormalisedDoublyRobust),
        Box::new(Slope::optimistic_shrinkage()),
    ]
}

/// The intervals over users; the last, for comparison, takes the decisions of a user for independent.
const INTERVALS: [&str; 4] = ["bootstrap", "student_t", "empirical_bernstein", "student_t over decisions"];

/// Runs the demo.
pub fn run(global: &Global, args: &EvidenceArgs) -> anyhow::Result<()> {
    global.start([])?;
    let sizes = if args.users.is_empty() { vec![100, 400, 1600] } else { args.users.clone() };
    let threads = args.threads.map_or_else(|| thread::available_parallelism().map_or(1, usize::from), usize::from);
    eprintln!("==> the truth, from {} users of each policy", args.truth_users);
    let truth = |target: &Target| world::truth(*target, u64::from(args.truth_users), args.seed ^ SEED_OF_TRUTH);
    let truths = Target::ALL.iter().map(truth).collect::<anyhow::Result<Vec<f64>>>()?;
    let mut table = Table::new(truths.clone(), args.logs);
    for &users in &sizes {
        eprintln!("==> {} logs of {users} users", args.logs);
        let part = |first: usize| -> anyhow::Result<Counts> {
            let mut counts = Counts::default();
            for log in (first as u64..u64::from(args.logs)).step_by(threads) {
                let seed = args.seed ^ (u64::from(users) << 32 | (log + 1));
                one(&world::logs(u64::from(users), seed)?, truths[0], &mut counts)?;
            }
            Ok(counts)
        };
        let parts = thread::scope(|scope| {
            let part = &part;
            let running: Vec<_> = (0..threads).map(|first| scope.spawn(move || part(first))).collect();
            running
                .into_iter()
                .map(|one| one.join().map_err(|_| anyhow!("a thread panicked"))?)
                .collect::<anyhow::Result<Vec<_>>>()
        })?;
        table.add(users, parts);
    }
    println!("{table}");
    fs::create_dir_all(&args.work).with_context(|| format!("{} cannot be made", args.work.display()))?;
    let plot = args.work.join("evidence.png");
    fs::write(&plot, table.plot().png(960, 540)?).with_context(|| format!("{} cannot be written", plot.display()))?;
    println!("the plot is {}", plot.display());
    Ok(())
}

/// What one log says: of the better policy all estimators and intervals, and of every policy the gate.
fn one(logs: &[SingleLog], truth: f64, counts: &mut Counts) -> anyhow::Result<()> {
    counts.logs += 1;
    let log = &logs[0];
    for (row, estimator) in estimators().iter().enumerate() {
        let contributions = estimator.contributions(log)?;
        let settings = |method| IntervalSettings { confidence: 0.95, method };
        let over_users = |method| estimate(estimator.name(), &contributions, log, &settings(method));
        let estimates = [
            over_users(IntervalMethod::Bootstrap { resamples: RESAMPLES, seed: 0 })?.interval,
            over_users(IntervalMethod::StudentT)?.interval,
            over_users(IntervalMethod::EmpiricalBernstein { range: None })?.interval,
            settings(IntervalMethod::StudentT).of(&contributions, &estimator.name(), "round")?,
        ];
        for (column, interval) in estimates.iter().enumerate() {
            counts.held[row][column] += u32::from(interval.lower <= truth && truth <= interval.upper);
        }
        let value = contributions.value().context("policies without overlap")?;
        counts.errors[row] += (value - truth).powi(2);
    }
    let interval =
        IntervalSettings { method: IntervalMethod::Bootstrap { resamples: RESAMPLES, seed: 0 }, confidence: 0.95 };
    let gate = GateSettings { interval, ..GateSettings::default() };
    for (at, log) in logs.iter().enumerate() {
        let evidence = Evidence::Single(Pair { candidate: log.clone(), baseline: None });
        let verdict = judge(&evidence, None, (Target::ALL[at].name(), "logged"), &gate)?;
        counts.passed[at] += u32::from(verdict.passed());
    }
    Ok(())
}
