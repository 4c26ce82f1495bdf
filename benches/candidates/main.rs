//! What a request of 1,000 candidates costs beside the bare ONNX Runtime call that it needs: `cargo bench --bench candidates`.
//!
//! The model is that of `benches/serving`. In turn, over one connection and so without queueing: the model run alone, in this
//! process, on tensors that are there already; a request that names 1,000 items of the catalogue; one that carries their
//! features. Journalling is on. `-- --candidates N` takes another number.

#[path = "../serving/load.rs"]
#[allow(dead_code, reason = "the other bench uses all of it")]
mod load;
#[path = "../serving/policy.rs"]
mod policy;
#[path = "../serving/server.rs"]
#[allow(dead_code, reason = "the other bench uses all of it")]
mod server;

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use load::{Connection, Target, percentile};
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::Tensor;
use serde_json::{Map, Value, json};
use server::{number, slated};
use slated::serving::library;
use slated_contract::slate::Exploration;
use slated_contract::tensor::{ITEMS, SCORES, STATE};

/// Rounds of one of each in turn.
const ROUNDS: usize = 1000;
const WARM_UP: usize = 100;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.iter().any(|argument| argument == "--list") {
        return Ok(());
    }
    let candidates = number(&arguments, "--candidates", 1000)?;
    let work = tempfile::tempdir()?;
    policy::write(&work.path().join("models"), 1, Exploration::EpsilonGreedy { epsilon: 0.05 })?;
    write_items(&work.path().join("items.jsonl"), candidates)?;
    let mut bare = Bare::load(&work.path().join("models/mlp/1/model.onnx"), candidates)?;
    let server = slated(work.path(), "[catalogue]\nitems = \"items.jsonl\"\n")?;
    let address = &server.address;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let target =
            |with_features| Target { address: address.clone(), body: body(candidates, with_features), status: 200 };
        let mut by_id = Connection::open(&target(false)).await?;
        let mut by_features = Connection::open(&target(true)).await?;
        let mut times = [const { Vec::new() }; 3];
        for round in 0..WARM_UP + ROUNDS {
            let run = bare.run()?;
            let named = timed(&mut by_id).await?;
            let carried = timed(&mut by_features).await?;
            if round >= WARM_UP {
                for (times, time) in times.iter_mut().zip([run, named, carried]) {
                    times.push(time);
                }
            }
        }
        print(candidates, &times);
        Ok(())
    })
}

fn print(candidates: usize, times: &[Vec<Duration>; 3]) {
    let bare = percentile(&times[0], 0.5).as_secs_f64();
    println!(
        "{:48} {:>12} {:>12} {:>16} {:>16}",
        format!("{candidates} candidates, one connection"),
        "p50",
        "p99",
        "of the bare call",
        "added, of it"
    );
    let names = ["the bare ONNX Runtime call", "a request that names items", "a request that carries their features"];
    for (name, times) in names.iter().zip(times) {
        let (median, tail) = (percentile(times, 0.5).as_secs_f64(), percentile(times, 0.99).as_secs_f64());
        println!(
            "{name:48} {:>9.3} ms {:>9.3} ms {:>16.2} {:>16.2}",
            median * 1e3,
            tail * 1e3,
            median / bare,
            (median - bare) / bare
        );
    }
}

async fn timed(connection: &mut Connection) -> anyhow::Result<Duration> {
    let started = Instant::now();
    connection.ask().await?;
    Ok(started.elapsed())
}

/// The model and its tensors, with nothing around them.
struct Bare {
    session: Session,
    state: Tensor<f32>,
    items: Tensor<f32>,
}

impl Bare {
    /// With the service's own options: one thread a run.
    fn load(model: &Path, candidates: usize) -> anyhow::Result<Self> {
        let session = Session::builder(&library::environment()?)
            .map_err(failed)?
            .with_optimization_level(GraphOptimizationLevel::All)
            .map_err(failed)?
            .with_intra_threads(1)
            .map_err(failed)?
            .commit_from_file(model)
            .map_err(failed)?;
        let tensor = |shape: &[usize]| {
            let count = shape.iter().product();
            let values: Vec<f32> = (0..count).map(|index: usize| (index as f32 * 0.37).sin()).collect();
            Tensor::from_array((shape.to_vec(), values)).map_err(failed)
        };
        Ok(Self { session, state: tensor(&[1, 32])?, items: tensor(&[1, candidates, 16])? })
    }

    fn run(&mut self) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let outputs = self.session.run(ort::inputs![STATE => &self.state, ITEMS => &self.items]).map_err(failed)?;
        std::hint::black_box(&outputs[SCORES]);
        Ok(started.elapsed())
    }
}

/// Some of ONNX Runtime's errors hold what failed, which cannot be sent between threads.
fn failed<R>(error: ort::Error<R>) -> anyhow::Error {
    anyhow::anyhow!("ONNX Runtime: {}", error.message())
}

fn features(item: usize, count: usize) -> Map<String, Value> {
    (0..count).map(|index| (format!("f{index}"), json!(((item * count + index) as f64 * 0.37).sin()))).collect()
}

fn write_items(path: &Path, count: usize) -> anyhow::Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    for item in 0..count {
        writeln!(file, "{}", json!({"id": format!("item-{item}"), "features": features(item, 16)}))?;
    }
    Ok(file.flush()?)
}

fn body(candidates: usize, with_features: bool) -> String {
    let candidate = |item: usize| {
        let id = format!("item-{item}");
        if with_features { json!({"id": id, "features": features(item, 16)}) } else { json!({"id": id}) }
    };
    let candidates: Vec<Value> = (0..candidates).map(candidate).collect();
    json!({"user": features(0, 32), "candidates": candidates, "slate_size": 5}).to_string()
}
