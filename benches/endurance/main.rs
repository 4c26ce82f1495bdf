//! What a long run under saturation does: `cargo bench --bench endurance`.
//!
//! - Memory: 1,000,000 requests (`-- --requests N`) over 64 connections, journalling on, with the service's resident memory
//!   after every twentieth of them.
//! - Swaps: 200 versions of the policy go live one after the other under the same load; the scores in an answer say which
//!   version decided, and must agree with the version that it names.

#[path = "../serving/load.rs"]
#[allow(dead_code, reason = "the other bench uses all of it")]
mod load;
#[path = "../serving/policy.rs"]
mod policy;
#[path = "../serving/server.rs"]
#[allow(dead_code, reason = "the other bench uses all of it")]
mod server;

use std::cell::Cell;
use std::time::Instant;

use anyhow::{Context, ensure};
use futures::future::{join_all, try_join_all};
use load::{Connection, Target};
use serde_json::Value;
use server::{Server, number, request, slated};
use slated_contract::slate::Exploration;

const CONNECTIONS: usize = 64;
const SWAPS: u64 = 200;
const SAMPLES: usize = 20;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.iter().any(|argument| argument == "--list") {
        return Ok(());
    }
    let requests = number(&arguments, "--requests", 1_000_000)?;
    let work = tempfile::tempdir()?;
    let runtime = tokio::runtime::Runtime::new()?;
    eprintln!("==> {requests} requests");
    policy::write(&work.path().join("models"), 1, Exploration::EpsilonGreedy { epsilon: 0.05 })?;
    runtime.block_on(memory(&slated(work.path(), "")?, requests))?;
    eprintln!("==> {SWAPS} swaps");
    std::fs::remove_dir_all(work.path().join("models"))?;
    for version in 1..=SWAPS + 1 {
        policy::write(&work.path().join("models"), version, Exploration::Greedy)?;
    }
    runtime.block_on(swaps(&slated(work.path(), "[models]\nversion = 1\nwatch_seconds = 0\n")?))
}

fn target(server: &Server) -> Target {
    Target { address: server.address.clone(), body: request().to_string(), status: 200 }
}

/// Sends the requests, and prints the memory along the way.
async fn memory(server: &Server, requests: usize) -> anyhow::Result<()> {
    let target = target(server);
    let started = Instant::now();
    let mut samples = vec![server.resident_mib()];
    for _ in 0..SAMPLES {
        let senders = (0..CONNECTIONS).map(|sender| {
            let target = &target;
            async move {
                let mut connection = Connection::open(target).await?;
                for _ in (sender..requests / SAMPLES).step_by(CONNECTIONS) {
                    connection.ask().await?;
                }
                anyhow::Ok(())
            }
        });
        try_join_all(senders).await?;
        samples.push(server.resident_mib());
    }
    let sent = requests / SAMPLES * SAMPLES;
    println!(
        "{sent} requests over {CONNECTIONS} connections, {:.0} a second",
        sent as f64 / started.elapsed().as_secs_f64()
    );
    for (index, mib) in samples.iter().enumerate() {
        println!("{:>10} {mib:>8.1} MiB", index * (sent / SAMPLES));
    }
    let half = &samples[SAMPLES / 2..];
    let (least, most) = half.iter().fold((f64::MAX, f64::MIN), |(least, most), mib| (least.min(*mib), most.max(*mib)));
    println!(
        "over the last half: {least:.1} to {most:.1} MiB, {:+.1} from its first to its last",
        half[half.len() - 1] - half[0]
    );
    Ok(())
}

/// Makes versions live while the service is saturated, and counts the answers that failed or name a version that did not
/// decide.
async fn swaps(server: &Server) -> anyhow::Result<()> {
    let target = target(server);
    let first: Value = serde_json::from_slice(Connection::open(&target).await?.ask().await?)?;
    let unit = first["slate"][0]["score"].as_f64().context("an answer without a score")?;
    ensure!(first["policy_version"] == 1, "{first}");
    let (done, answered, failed, wrong) = (Cell::new(false), Cell::new(0_u64), Cell::new(0_u64), Cell::new(0_u64));
    let ask = async || {
        let mut connection = Connection::open(&target).await?;
        while !done.get() {
            match connection.ask().await {
                Ok(answer) => {
                    let answer: Value = serde_json::from_slice(answer)?;
                    let version = answer["policy_version"].as_f64().unwrap_or_default();
                    let score = answer["slate"][0]["score"].as_f64().unwrap_or(f64::NAN);
                    let right = (score / (unit * version) - 1.0).abs() < 1e-3 / version;
                    wrong.set(wrong.get() + u64::from(!right));
                }
                Err(error) => {
                    eprintln!("{error:#}");
                    failed.set(failed.get() + 1);
                    connection = Connection::open(&target).await?;
                }
            }
            answered.set(answered.get() + 1);
        }
        anyhow::Ok(())
    };
    let client = reqwest::Client::builder().no_proxy().build()?;
    let swap = async {
        let started = Instant::now();
        for version in 2..=SWAPS + 1 {
            let url = format!("http://{}/policies/mlp/versions/{version}/load", target.address);
            let status = client.post(url).send().await?.status();
            ensure!(status.is_success(), "version {version} was answered {status}");
        }
        done.set(true);
        anyhow::Ok(started.elapsed())
    };
    let (took, asked) = futures::join!(swap, join_all((0..CONNECTIONS).map(|_| ask())));
    let took = took?;
    asked.into_iter().collect::<anyhow::Result<Vec<()>>>()?;
    println!(
        "{SWAPS} swaps in {:.1} s under {} requests: {} failed, {} wrongly attributed",
        took.as_secs_f64(),
        answered.get(),
        failed.get(),
        wrong.get()
    );
    ensure!(failed.get() + wrong.get() == 0, "requests were lost or wrongly attributed");
    Ok(())
}
