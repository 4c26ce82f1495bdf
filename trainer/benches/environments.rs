//! Steps a second of each environment on one core, beside RecSim's own: `make bench`.
//!
//! Both sides run the same sizes and parameters under a uniformly random policy, one after the other in turn; medians
//! of the rounds are compared. `typed` is the environment by itself, `seen` the same with the features, the session and
//! the encoding through which a policy sees it.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use slated_trainer::env::{
    Environment, EnvironmentError, InterestEvolution, InterestEvolutionSettings, InterestExploration,
    InterestExplorationSettings, LongTermSatisfaction, LongTermSatisfactionSettings,
};
use slated_trainer::rollout::Lane;

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(500);
/// Steps of RecSim in one round.
const PEER_STEPS: usize = 10_000;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    // `cargo test --benches` asks for a list; there is nothing to test here.
    if std::env::args().any(|argument| argument == "--list") {
        return Ok(());
    }
    let python = peer().inspect_err(|error| eprintln!("RecSim is left out: {error}")).ok();
    println!(
        "{:24} {:>12} {:>12} {:>12} {:>12}",
        "steps a second, one core", "typed", "seen", "RecSim", "typed/RecSim"
    );
    let mut lts = LongTermSatisfaction::new(&LongTermSatisfactionSettings::default())?;
    compare(python.as_deref(), &mut lts, |environment, slate| {
        environment.advance(slate)?;
        Ok(environment.is_over())
    })?;
    let mut evolution = InterestEvolution::new(&InterestEvolutionSettings::default())?;
    compare(python.as_deref(), &mut evolution, |environment, slate| {
        environment.advance(slate)?;
        Ok(environment.is_over())
    })?;
    let mut exploration = InterestExploration::new(&InterestExplorationSettings::default())?;
    compare(python.as_deref(), &mut exploration, |environment, slate| {
        environment.advance(slate)?;
        Ok(environment.is_over())
    })
}

/// Measures one environment; `advance` shows a slate and says whether the episode is over.
fn compare<E: Environment + Clone + 'static>(
    python: Option<&Path>,
    environment: &mut E,
    mut advance: impl FnMut(&mut E, &[usize]) -> std::result::Result<bool, EnvironmentError>,
) -> Result<()> {
    let spec = environment.spec().clone();
    let mut policy = Random::new(spec.candidates, spec.slate_size);
    let mut lane = Lane::new(Box::new(environment.clone()), &spec.features, &spec.session)?;
    lane.reset(0)?;
    let mut episodes = 0;
    let (mut typed, mut seen, mut recsim) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        typed.push(rate(|| {
            if advance(environment, policy.slate())? {
                episodes += 1;
                environment.reset(episodes);
            }
            Ok(())
        })?);
        seen.push(rate(|| {
            if lane.step(policy.slate())?.done {
                episodes += 1;
                lane.reset(episodes)?;
            }
            Ok(())
        })?);
        if let Some(python) = python {
            recsim.push(run_peer(python, spec.name, spec.candidates, spec.slate_size)?);
        }
    }
    let (typed, seen) = (median(typed), median(seen));
    print!("{:24} {typed:>12.0} {seen:>12.0}", spec.name);
    match recsim.is_empty() {
        true => println!(" {:>12} {:>12}", "-", "-"),
        false => {
            let recsim = median(recsim);
            println!(" {recsim:>12.0} {:>12.0}", typed / recsim);
        }
    }
    Ok(())
}

/// Draws slates: the first places of a shuffle.
struct Random {
    generator: ChaCha8Rng,
    order: Vec<usize>,
    size: usize,
}

impl Random {
    fn new(candidates: usize, size: usize) -> Self {
        Self { generator: ChaCha8Rng::seed_from_u64(1), order: (0..candidates).collect(), size }
    }

    fn slate(&mut self) -> &[usize] {
        for place in 0..self.size {
            let other = self.generator.random_range(place as u32..self.order.len() as u32) as usize;
            self.order.swap(place, other);
        }
        &self.order[..self.size]
    }
}

/// Steps a second.
fn rate(mut step: impl FnMut() -> Result<()>) -> Result<f64> {
    let started = Instant::now();
    let mut steps = 0;
    while started.elapsed() < ROUND {
        for _ in 0..1000 {
            step()?;
        }
        steps += 1000;
    }
    Ok(f64::from(steps) / started.elapsed().as_secs_f64())
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// A Python with RecSim, without the learning frameworks that its environments do not need.
fn peer() -> Result<PathBuf> {
    let base = std::env::var_os("SLATED_TEST_PYTHON").ok_or("run this through `make bench`")?;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("recsim-peer");
    let (python, done) = (folder.join("bin/python"), folder.join("complete"));
    if !done.exists() {
        run(Command::new(base).args(["-m", "venv"]).arg(&folder))?;
        let packages = ["recsim==0.2.4", "gin-config==0.5.0", "absl-py==2.5.1", "six==1.17.0", "numpy==2.4.6"];
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--no-deps"]).args(packages))?;
        std::fs::write(done, "")?;
    }
    Ok(python)
}

fn run_peer(python: &Path, name: &str, candidates: usize, slate_size: usize) -> Result<f64> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/recsim_peer.py");
    let numbers = [candidates, slate_size, PEER_STEPS].map(|number| number.to_string());
    let output = Command::new(python).arg(script).arg(name).args(numbers).output()?;
    if !output.status.success() {
        return Err(format!("RecSim failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} ended with {status}").into()) }
}
