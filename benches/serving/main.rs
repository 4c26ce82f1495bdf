//! Requests a second and latency, beside the ceiling and a peer: `make bench`.
//!
//! The request is that of 32 user features and 20 candidates of 16 features each for a slate of 5, the model a
//! multi-layer perceptron 48-128-128-1, journalling on. Servers run one after the other on the same machine as the
//! load; the figures of one run compare, those of two runs do not.

mod load;
mod policy;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use axum::routing::post;
use axum::{Json, Router};
use load::{Target, closed, open};
use serde_json::{Value, json};
use slated::api::RecommendRequest;

const CONNECTIONS: usize = 64;
const SECONDS: Duration = Duration::from_secs(5);
/// Asks this very binary to be the ceiling.
const CEILING: &str = "--be-the-ceiling";

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
    let work = tempfile::tempdir()?;
    policy::write(&work.path().join("models"))?;
    let mut rows = vec![runtime.block_on(measure("ceiling: parsed by the same types, no model", || {
        Server::start(Command::new(std::env::current_exe()?).arg(CEILING))
    }))?];
    for (name, settings) in [
        ("slated: inline while idle, batches under load", ""),
        ("slated: every run on a model thread", "[runtime]\ninline_below_us = 0\n"),
        ("slated: no batches", "[runtime]\ninline_below_us = 0\nmax_batch = 1\n"),
    ] {
        rows.push(runtime.block_on(measure(name, || slated(work.path(), settings)))?);
    }
    match peer() {
        Ok(python) => rows.push(runtime.block_on(measure("FastAPI + onnxruntime (uvicorn, one process)", || {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/serving/fastapi_peer.py");
            let model = work.path().join("models/mlp/1/model.onnx");
            Server::start(Command::new(&python).arg(script).arg(model))
        }))?),
        Err(error) => eprintln!("the peer is left out: {error:#}"),
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
    eprintln!("==> {name}");
    let server = start()?;
    let target = Target { address: server.address.clone(), body: request().to_string() };
    closed(&target, CONNECTIONS, Duration::from_secs(1)).await?;
    let saturated = closed(&target, CONNECTIONS, SECONDS).await?;
    let half = open(&target, CONNECTIONS, saturated / 2.0, SECONDS).await?;
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
    println!(
        "{:48} {:>10} {:>10} {:>12} {:>12} {:>12} {:>8}",
        "64 connections", "requests/s", "of ceiling", "p50 at half", "p99 at half", "p99/ceiling", "MiB"
    );
    for row in rows {
        println!(
            "{:48} {:>10.0} {:>10.2} {:>9.2} ms {:>9.2} ms {:>12.2} {:>8.0}",
            row.name,
            row.saturated,
            row.saturated / ceiling.saturated,
            row.half_p50.as_secs_f64() * 1e3,
            row.half_p99.as_secs_f64() * 1e3,
            row.half_p99.as_secs_f64() / ceiling.half_p99.as_secs_f64(),
            row.resident_mib,
        );
    }
}

/// A server in a process of its own, ended when dropped.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    /// Starts a server that prints `listening on http://<address>`.
    fn start(command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn().context("a server cannot be started")?;
        let output = child.stdout.take().context("the server has no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        match line.trim().strip_prefix("listening on http://") {
            Some(address) => Ok(Self { address: address.to_owned(), child }),
            None => bail!("the server ended at once, and said {line:?}"),
        }
    }

    fn resident_mib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<f64>().ok());
        kib.unwrap_or(f64::NAN) / 1024.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended cannot be killed again.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn slated(work: &Path, settings: &str) -> anyhow::Result<Server> {
    let journal = work.join("journal");
    if journal.exists() {
        std::fs::remove_dir_all(&journal)?;
    }
    std::fs::write(work.join("slated.toml"), settings)?;
    let args = ["serve", "--listen", "127.0.0.1:0", "--policy", "mlp", "--seed", "1", "--log-level", "warn"];
    Server::start(Command::new(env!("CARGO_BIN_EXE_slated")).current_dir(work).args(args))
}

/// The service's own request type, parsed, and a constant answer.
async fn ceiling() -> anyhow::Result<()> {
    let answer = json!({"slate": [0, 1, 2, 3, 4]});
    let handler = move |Json(request): Json<RecommendRequest>| {
        std::hint::black_box(request);
        let answer = answer.clone();
        async move { Json(answer) }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, Router::new().route("/recommend", post(handler))).await?)
}

fn request() -> Value {
    let feature = |index: usize| (format!("f{index}"), json!((index as f64 * 0.37).sin()));
    let features = |count: usize| (0..count).map(feature).collect::<serde_json::Map<_, _>>();
    let item = |index: usize| json!({"id": format!("item-{index}"), "features": features(16)});
    json!({"user": features(32), "candidates": (0..20).map(item).collect::<Vec<_>>(), "slate_size": 5})
}

/// The interpreter of a virtual environment that holds the peer; made where it is not there.
fn peer() -> anyhow::Result<std::path::PathBuf> {
    let base = std::env::var_os("SLATED_TEST_PYTHON").context("run this through `make bench`")?;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("serving-peer");
    let python = folder.join("bin/python");
    let done = folder.join("complete");
    if !done.exists() {
        run(Command::new(base).args(["-m", "venv"]).arg(&folder))?;
        let packages = ["fastapi==0.165.0", "uvicorn==0.54.0", "onnxruntime==1.31.1", "numpy==2.4.6"];
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(packages))?;
        std::fs::write(done, "")?;
    }
    Ok(python)
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status()?;
    if status.success() { Ok(()) } else { bail!("{command:?} ended with {status}") }
}
