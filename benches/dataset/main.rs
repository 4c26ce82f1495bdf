//! Reading a journal, beside DuckDB: `make bench`.
//!
//! Both sides read the same segments on the same cores: the narrow join (each decision's id and time with its feedback)
//! and the whole (every column of the decisions too), in the order of time. The peer (`dataset/peer.py`) fetches Arrow
//! batches and looks at none of their values; ours are decisions and rewards as the learners take them. Every measurement
//! is a process of its own, ours and the peer's in turn.
//!
//! `cargo bench --bench dataset -- --decisions 5000000` takes a larger journal than the usual one, without the peer where
//! there is no room for it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail};
use serde_json::json;
use slated_trainer::dataset::{Dataset, DatasetSettings, Outcomes};

// What `slated` itself runs on.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 3;
/// Decisions of the usual journal, each with one feedback event.
const DECISIONS: usize = 500_000;
/// Up to this many decisions, DuckDB is asked for the whole too; it sorts it in memory.
const PEER_UP_TO: usize = 1_000_000;
/// Decisions of one simulated session.
const SESSION: usize = 10;
/// Asks this very binary for one measurement.
const MEASURE: &str = "--measure";

/// What a process found: events a second, and the peak of its resident memory in MiB.
struct Measured {
    rate: f64,
    peak: f64,
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    // `cargo test --benches` asks for a list; there is nothing to test here.
    if arguments.iter().any(|argument| argument == "--list") {
        return Ok(());
    }
    let after = |name| arguments.iter().position(|argument| argument == name).map(|at| &arguments[at + 1..]);
    if let Some(rest) = after(MEASURE) {
        let [what, journal] = rest else { bail!("{MEASURE} WHAT JOURNAL") };
        let measured = measure(what, journal.into())?;
        println!("{} {}", measured.rate, measured.peak);
        return Ok(());
    }
    let decisions = match after("--decisions") {
        Some(rest) => rest.first().context("--decisions N")?.parse()?,
        None => DECISIONS,
    };
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let journal = simulated(folder.path(), decisions)?;
    let python = peer().context("DuckDB cannot be had")?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/dataset/peer.py");
    println!("{decisions} decisions of 20 candidates with one feedback event each");
    println!(
        "{:32} {:>10} {:>10} {:>7} {:>10} {:>10}",
        "median events/s of 3 in turn", "slated", "DuckDB", "ratio", "peak MiB", "its peak"
    );
    for what in ["join", "whole"] {
        let (mut ours, mut peers) = (Vec::new(), Vec::new());
        let beside = what == "join" || decisions <= PEER_UP_TO;
        for _ in 0..ROUNDS {
            ours.push(ask(Command::new(std::env::current_exe()?).arg(MEASURE), what, &journal)?);
            if beside {
                peers.push(ask(Command::new(&python).arg(&script), what, &journal)?);
            }
        }
        let ours = median(ours);
        print!("{what:32} {:>10.0} ", ours.rate);
        if beside {
            let peers = median(peers);
            let ratio = ours.rate / peers.rate;
            println!("{:>10.0} {ratio:>7.2} {:>10.0} {:>10.0}", peers.rate, ours.peak, peers.peak);
        } else {
            println!("{:>10} {:>7} {:>10.0} {:>10}", "-", "-", ours.peak, "-");
        }
    }
    Ok(())
}

/// A journal of the tutorial's environment under random slates.
fn simulated(folder: &Path, decisions: usize) -> anyhow::Result<PathBuf> {
    let journal = folder.join("journal");
    let output = Command::new(env!("CARGO_BIN_EXE_slated"))
        .args(["simulate", "--environment", "lts-tutorial", "--policy", "random", "--episodes"])
        .arg((decisions / SESSION).to_string())
        .arg("--journal")
        .arg(&journal)
        .current_dir(folder)
        .output()?;
    if !output.status.success() {
        bail!("slated simulate failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(journal)
}

fn ask(command: &mut Command, what: &str, journal: &Path) -> anyhow::Result<Measured> {
    let output = command.arg(what).arg(journal).output()?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let answer = String::from_utf8(output.stdout)?;
    let (rate, peak) = answer.trim().split_once(' ').context("an answer of two numbers")?;
    Ok(Measured { rate: rate.parse()?, peak: peak.parse()? })
}

fn median(mut measured: Vec<Measured>) -> Measured {
    measured.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    measured.swap_remove(measured.len() / 2)
}

/// The interpreter of the tests' environment, which has DuckDB, made on first use.
fn peer() -> anyhow::Result<String> {
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/python.sh")).output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn measure(what: &str, journal: PathBuf) -> anyhow::Result<Measured> {
    let settings: DatasetSettings =
        serde_json::from_value(json!({"journal": journal, "reward": {"weights": {"watch": 1.0}}}))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let started = Instant::now();
    let events = runtime.block_on(async {
        let mut events = 0;
        if what == "join" {
            let mut outcomes = Outcomes::open(&settings).await?;
            while let Some(outcome) = outcomes.next().await? {
                events += 1 + outcome.feedback.len() as u64;
            }
        } else {
            let mut dataset = Dataset::open(&settings).await?;
            while dataset.next().await?.is_some() {}
            events = dataset.summary().decisions + dataset.summary().counted_feedback;
        }
        anyhow::Ok(events)
    })?;
    let rate = events as f64 / started.elapsed().as_secs_f64();
    Ok(Measured { rate, peak: peak()? })
}

/// The peak of this process's resident memory in MiB, as Linux counts it; 0 elsewhere.
fn peak() -> anyhow::Result<f64> {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return Ok(0.0) };
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
