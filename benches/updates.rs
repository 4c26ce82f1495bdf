//! Gradient updates a second, beside PyTorch: `make bench`.
//!
//! Both sides take the same double-DQN update on numbers of the same shapes: draw a mini-batch from the replay, gather
//! it, ask the target network, Huber's loss, its gradient, clip, Adam, and let the target follow. The peer
//! (`updates/peer.py`) is eager PyTorch with its fused optimiser. Every measurement is a process of its own, ours and the
//! peer's in turn, so that the peak of memory belongs to one network; medians of the rounds are compared.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use slated_trainer::learner::{Dqn, DqnSettings, Learner, Optimisation, Problem};
use slated_trainer::nn::{
    Adam, AdamSettings, Batch, CandidateNetwork, NetworkSettings, NetworkShape, Trace, clip_to_norm,
};
use slated_trainer::replay::{Replay, ReplaySettings, Sample, Transition};
use slated_trainer::rollout::Observation;

const ROUNDS: usize = 3;
const SECONDS: Duration = Duration::from_secs(2);
const TRANSITIONS: usize = 4096;
/// Asks this very binary for one measurement.
const MEASURE: &str = "--measure";

#[derive(Clone, Copy)]
struct Case {
    network: &'static str,
    batch: usize,
    threads: usize,
}

/// What a process found: updates a second, and the peak of its resident memory in MiB.
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
    if let Some(at) = arguments.iter().position(|argument| argument == MEASURE) {
        let [network, batch, threads] = &arguments[at + 1..] else { bail!("{MEASURE} NETWORK BATCH THREADS") };
        let measured = measure(network, batch.parse()?, threads.parse()?)?;
        println!("{} {}", measured.rate, measured.peak);
        return Ok(());
    }
    let python = peer().context("PyTorch cannot be had")?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/updates/peer.py");
    println!(
        "{:40} {:>7} {:>10} {:>10} {:>7} {:>10} {:>10}",
        "median updates/s of 3 rounds in turn", "threads", "slated", "PyTorch", "ratio", "peak MiB", "its peak"
    );
    let small = [64, 256, 512].map(|batch| ("candidates", batch));
    for (network, batch) in small.into_iter().chain([("actions", 512)]) {
        for threads in [1, 2] {
            let case = Case { network, batch, threads };
            let (mut ours, mut peers) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                ours.push(ask(Command::new(std::env::current_exe()?).arg(MEASURE), case)?);
                peers.push(ask(Command::new(&python).arg(&script), case)?);
            }
            let (ours, peers) = (median(ours), median(peers));
            let name = match network {
                "candidates" => format!("48-128-128-1, 20 candidates, batch {batch}"),
                _ => format!("30-1024-1024-1024-20, batch {batch}"),
            };
            println!(
                "{name:40} {threads:>7} {:>10.1} {:>10.1} {:>7.2} {:>10.0} {:>10.0}",
                ours.rate,
                peers.rate,
                ours.rate / peers.rate,
                ours.peak,
                peers.peak
            );
        }
    }
    Ok(())
}

fn ask(command: &mut Command, case: Case) -> anyhow::Result<Measured> {
    let output = command.args([case.network, &case.batch.to_string(), &case.threads.to_string()]).output()?;
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

/// The interpreter of an environment with PyTorch, made on first use.
fn peer() -> anyhow::Result<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/python.sh");
    let output = Command::new(script).arg("torch").output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Takes one update on a sample; returns its loss.
type Updates = Box<dyn FnMut(&Sample) -> anyhow::Result<f64>>;

/// Updates until the time is over, after some that do not count.
fn measure(network: &str, batch: usize, threads: usize) -> anyhow::Result<Measured> {
    let mut generator = ChaCha8Rng::seed_from_u64(1);
    let mut update: Updates = match network {
        "candidates" => candidates(batch, threads, &mut generator)?,
        "actions" => actions(threads, &mut generator)?,
        other => bail!("no network `{other}`"),
    };
    let mut draw = || {
        let indices = (0..batch).map(|_| generator.random_range(0..TRANSITIONS)).collect();
        Sample { indices, weights: vec![1.0; batch], progress: 0.0 }
    };
    for _ in 0..5 {
        update(&draw())?;
    }
    let started = Instant::now();
    let mut updates = 0;
    while started.elapsed() < SECONDS {
        update(&draw())?;
        updates += 1;
    }
    let rate = f64::from(updates) / started.elapsed().as_secs_f64();
    Ok(Measured { rate, peak: peak()? })
}

/// The peak of this process's resident memory in MiB, as Linux counts it; 0 elsewhere.
fn peak() -> anyhow::Result<f64> {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return Ok(0.0) };
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

fn numbers(generator: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| generator.random_range(-1.0..1.0)).collect()
}

/// The learner that ships, over 32 numbers of the state and 20 candidates of 16.
fn candidates(batch: usize, threads: usize, generator: &mut ChaCha8Rng) -> anyhow::Result<Updates> {
    let mut replay = Replay::new(ReplaySettings { capacity: TRANSITIONS, ..ReplaySettings::default() });
    let observation = |generator: &mut ChaCha8Rng| {
        let (state, items) = (numbers(generator, 32), numbers(generator, 20 * 16));
        Arc::new(Observation { state, items, candidates: 20, history: Vec::new() })
    };
    for at in 0..TRANSITIONS {
        replay.push(Transition {
            observation: observation(generator),
            slate: vec![at % 20],
            consumed: Some(0),
            reward: generator.random_range(-1.0..1.0),
            discount: 0.99,
            next: observation(generator),
            next_slate: Vec::new(),
            logged: None,
        });
    }
    let settings = DqnSettings {
        network: NetworkSettings { hidden: vec![128, 128], ..NetworkSettings::default() },
        optimisation: Optimisation { batch, threads, ..Optimisation::default() },
        ..DqnSettings::default()
    };
    let problem = Problem {
        state_width: 32,
        item_width: 16,
        window: 0,
        state_columns: Vec::new(),
        item_columns: Vec::new(),
        slate_size: 1,
    };
    let mut learner = Dqn::new(&settings, problem, 1)?;
    Ok(Box::new(move |sample| Ok(learner.update(&replay, sample)?.loss)))
}

/// The tutorial's network, from 30 numbers of the state to the values of 20 actions. No learner here has that form, so
/// the update is put together from the network and the optimiser.
fn actions(threads: usize, generator: &mut ChaCha8Rng) -> anyhow::Result<Updates> {
    const ACTIONS: usize = 20;
    let settings = NetworkSettings { hidden: vec![1024; 3], ..NetworkSettings::default() };
    let shape = NetworkShape { state_width: 30, outputs: ACTIONS, ..NetworkShape::default() };
    let network = CandidateNetwork::new(&settings, shape)?.with_threads(threads);
    let mut online = network.initialise(generator);
    let mut target = online.clone();
    let mut gradient = vec![0.0; online.len()];
    let mut adam = Adam::new(AdamSettings::default(), online.len());
    let mut observations = || -> Vec<Observation> {
        let state = |_| Observation { state: numbers(generator, 30), candidates: 1, ..Observation::default() };
        (0..TRANSITIONS).map(state).collect()
    };
    let (seen, next) = (observations(), observations());
    let rewards = numbers(generator, TRANSITIONS);
    let mut batch = Batch::default();
    let [mut trace, mut chooser, mut valuer] = [(); 3].map(|()| Trace::default());
    let mut upstream = Vec::new();
    Ok(Box::new(move |sample| {
        batch.fill_states(sample.indices.iter().map(|&index| &next[index]), 0, 0);
        network.forward(&online, &batch, &mut chooser);
        network.forward(&target, &batch, &mut valuer);
        batch.fill_states(sample.indices.iter().map(|&index| &seen[index]), 0, 0);
        network.forward(&online, &batch, &mut trace);
        upstream.clear();
        upstream.resize(trace.outputs().len(), 0.0);
        let share = 1.0 / sample.indices.len() as f32;
        let mut loss = 0.0;
        for (row, (&index, choices)) in sample.indices.iter().zip(chooser.outputs().chunks_exact(ACTIONS)).enumerate() {
            let best = (0..ACTIONS).fold(0, |best, action| if choices[action] > choices[best] { action } else { best });
            let value = rewards[index] + 0.99 * valuer.outputs()[row * ACTIONS + best];
            let taken = row * ACTIONS + index % ACTIONS;
            let error = trace.outputs()[taken] - value;
            loss += f64::from(share * if error.abs() <= 1.0 { 0.5 * error * error } else { error.abs() - 0.5 });
            upstream[taken] = share * error.clamp(-1.0, 1.0);
        }
        gradient.fill(0.0);
        network.backward(&online, &batch, &mut trace, &upstream, &mut gradient);
        clip_to_norm(&mut gradient, Some(10.0));
        adam.step(&mut online, &gradient, 1.0);
        target.iter_mut().zip(&online).for_each(|(target, online)| *target += 0.005 * (online - *target));
        Ok(loss)
    }))
}
