//! Requests a second and latency, beside the ceiling and a peer: `make bench`.
//!
//! The request is that of 32 user features and 20 candidates of 16 features each for a slate of 5, the model a
//! multi-layer perceptron 48-128-128-1, journalling on. Servers run one after the other on the same machine as the
//! load; the figures of one run compare, those of two runs do not.

mod load;
mod policy;
#[allow(dead_code, reason = "the other benches use all of it")]
mod server;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use axum::body::Bytes;
use axum::routing::post;
use axum::{Json, Router};
use load::{Target, closed, open};
use serde_json::json;
use server::{Server, request, slated};
use slated::api::RecommendRequest;
use slated_contract::slate::Exploration;

const CONNECTIONS: usize = 64;
const SECONDS: Duration = Duration::from_secs(5);
/// Asks this very binary to be the ceiling.
const CEILING: &str = "--be-the-ceiling";

/// The service, asked for a policy that it does not have.
const ROUTER: &str = "slated's own router: all of its layers, no model";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    // `cargo test --benches` asks for a list; there is nothing to test here.
    if arguments.iter().any(|argument| argument == "--list") {
        return Ok(());
    }
    let runtime = tokio::runtime::Runtime::new()?;
    if arguments.iter().any(|argument| argument == CEILING) {
        return runtime.block_on(ceiling());
    }
    // `cargo bench --bench serving -- "nothing journalled"`: the ceiling, and the servers that are called so.
    let only = arguments[1..].iter().find(|argument| !argument.starts_with("--"));
    let wanted = |name: &str| only.is_none_or(|only| name.contains(only.as_str()));
    let work = tempfile::tempdir()?;
    policy::write(&work.path().join("models"), 1, Exploration::EpsilonGreedy { epsilon: 0.05 })?;
    let mut rows = vec![runtime.block_on(measure("ceiling: parsed by the same types, no model", || {
        Server::start(Command::new(std::env::current_exe()?).arg(CEILING))
    }))?];
    if wanted(ROUTER) {
        let absent = Target { body: with_policy("absent"), status: 404, ..Target::default() };
        rows.push(runtime.block_on(measure_as(ROUTER, absent, || slated(work.path(), "")))?);
    }
    for (name, settings) in [
        ("slated: inline while idle, batches under load", ""),
        ("slated: synced to disk before the answer", "[journal]\ndurability = \"power\"\n"),
        ("slated: nothing journalled", "[journal]\ndurability = \"none\"\n"),
        ("slated: every run on a model thread", "[runtime]\ninline_below_us = 0\n"),
        ("slated: no batches", "[runtime]\ninline_below_us = 0\nmax_batch = 1\n"),
    ] {
        if wanted(name) {
            rows.push(runtime.block_on(measure(name, || slated(work.path(), settings)))?);
        }
    }
    let model = work.path().join("models/mlp/1/model.onnx");
    for (name, script, packages) in [
        ("FastAPI + onnxruntime (uvicorn, one process)", "fastapi_peer.py", FASTAPI),
        ("Ray Serve + onnxruntime (one replica)", "ray_peer.py", RAY),
    ] {
        if !wanted(name) {
            continue;
        }
        let measured = match peer(script, packages) {
            Ok(python) => runtime.block_on(measure(name, || {
                let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/serving").join(script);
                Server::start(Command::new(&python).arg(script).arg(&model))
            })),
            Err(error) => Err(error),
        };
        match measured {
            Ok(row) => rows.push(row),
            Err(error) => eprintln!("{name} is left out: {error:#}"),
        }
    }
    print(&rows);
    Ok(())
}

/// What one server did.
struct Row {
    name: String,
    saturated: f64,
    half_p50: Duration,
    half_p99: Duration,
    resident_mib: f64,
}

async fn measure(name: &str, start: impl FnOnce() -> anyhow::Result<Server>) -> anyhow::Result<Row> {
    measure_as(name, Target { body: request().to_string(), status: 200, ..Target::default() }, start).await
}

/// The request to a policy, which may not be there: it is read and checked, and answered without a model.
fn with_policy(name: &str) -> String {
    let mut request = request();
    request["policy"] = json!(name);
    request.to_string()
}

async fn measure_as(name: &str, target: Target, start: impl FnOnce() -> anyhow::Result<Server>) -> anyhow::Result<Row> {
    eprintln!("==> {name}");
    let server = start()?;
    let target = Target { address: server.address.clone(), ..target };
    closed(&target, CONNECTIONS, Duration::from_secs(1)).await?;
    let saturated = closed(&target, CONNECTIONS, SECONDS).await?;
    // What saturation left to be done, the tail of a journal above all, is not the half's.
    tokio::time::sleep(SECONDS).await;
    let half = open(&target, CONNECTIONS, saturated / 2.0, 6 * SECONDS).await?;
    Ok(Row {
        name: name.to_owned(),
        saturated,
        half_p50: load::percentile(&half, 0.50),
        half_p99: load::percentile(&half, 0.99),
        resident_mib: server.resident_mib(),
    })
}

fn print(rows: &[Row]) {
    let ceiling = &rows[0];
    let router = rows.iter().find(|row| row.name == ROUTER);
    println!(
        "{:48} {:>10} {:>10} {:>10} {:>12} {:>12} {:>12} {:>8}",
        "64 connections", "requests/s", "of ceiling", "of router", "p50 at half", "p99 at half", "p99/ceiling", "MiB"
    );
    for row in rows {
        println!(
            "{:48} {:>10.0} {:>10.2} {:>10} {:>9.2} ms {:>9.2} ms {:>12.2} {:>8.0}",
            row.name,
            row.saturated,
            row.saturated / ceiling.saturated,
            router.map_or_else(String::new, |router| format!("{:.2}", row.saturated / router.saturated)),
            row.half_p50.as_secs_f64() * 1e3,
            row.half_p99.as_secs_f64() * 1e3,
            row.half_p99.as_secs_f64() / ceiling.half_p99.as_secs_f64(),
            row.resident_mib,
        );
    }
}

/// The service's own request type, parsed, and a constant answer; no layers, no checks.
async fn ceiling() -> anyhow::Result<()> {
    let answer = json!({"slate": [0, 1, 2, 3, 4]});
    let handler = move |body: Bytes| {
        // As the service reads it: axum's own extractor follows the path of each field, which takes longer.
        let request = serde_json::from_slice::<RecommendRequest>(&body).map_err(|error| error.to_string());
        let answer = request.map(|request| {
            std::hint::black_box(request);
            Json(answer.clone())
        });
        async move { answer }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, Router::new().route("/recommend", post(handler))).await?)
}

const FASTAPI: &[&str] = &["fastapi==0.165.0", "uvicorn==0.54.0", "onnxruntime==1.31.1", "numpy==2.4.6"];
const RAY: &[&str] = &["ray[serve]==2.60.0", "onnxruntime==1.31.1", "numpy==2.4.6"];

/// The interpreter of a virtual environment that holds a peer; made where it is not there.
fn peer(script: &str, packages: &[&str]) -> anyhow::Result<PathBuf> {
    let base = std::env::var_os("SLATED_TEST_PYTHON").context("run this through `make bench`")?;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(script.trim_end_matches(".py"));
    let python = folder.join("bin/python");
    let done = folder.join("complete");
    if !done.exists() {
        run(Command::new(base).args(["-m", "venv"]).arg(&folder))?;
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(packages))?;
        std::fs::write(done, "")?;
    }
    Ok(python)
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status()?;
    if status.success() { Ok(()) } else { bail!("{command:?} ended with {status}") }
}
