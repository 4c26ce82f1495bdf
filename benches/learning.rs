//! Reading a journal and learning from it, each beside its peer: `make bench`.
//!
//! Both sides run in turn on the same files and numbers, one thread for linear algebra; medians of the rounds are
//! compared. The peers are DuckDB and NumPy.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail};
use slated::journal::import::{find_logs, import_log};
use slated_contract::reward::RewardDefinition;
use slated_trainer::bandit::LinearStatistics;
use slated_trainer::dataset::{Dataset, DatasetSettings};

const ROUNDS: usize = 5;
const OPEN_BANDIT: &str = ".slated/open-bandit";
const EXAMPLES: usize = 60_000;
const WIDTH: usize = 300;

fn main() -> anyhow::Result<()> {
    // `cargo test --benches` asks for a list; there is nothing to test here.
    if std::env::args().any(|argument| argument == "--list") {
        return Ok(());
    }
    let work = tempfile::tempdir()?;
    let journal = work.path().join("journal");
    for log in find_logs(Path::new(OPEN_BANDIT)).context("run `make setup` first")? {
        import_log(&log, &journal, &mut || {})?;
    }
    println!("{:44} {:>12} {:>12} {:>8}", "median seconds of 5 rounds in turn", "slated", "peer", "ratio");
    compare("journal to rounds with rewards / DuckDB", || read(&journal), || python(READ, &journal))?;
    let examples = examples();
    compare("ridge regression, 60,000 x 300 / NumPy", || learn(&examples), || python(LEARN, &journal))
}

fn compare(
    name: &str,
    mut ours: impl FnMut() -> anyhow::Result<f64>,
    mut peer: impl FnMut() -> anyhow::Result<f64>,
) -> anyhow::Result<()> {
    let (mut of_ours, mut of_peer) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        of_ours.push(ours()?);
        of_peer.push(peer()?);
    }
    let (ours, peer) = (median(of_ours), median(of_peer));
    println!("{name:44} {ours:>12.4} {peer:>12.4} {:>8.2}", peer / ours);
    Ok(())
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// Every decision with all its candidates, as the learners get it, and its rewards.
fn read(journal: &Path) -> anyhow::Result<f64> {
    let settings = DatasetSettings {
        journal: journal.to_owned(),
        reward: RewardDefinition::default(),
        policy: None,
        source: None,
        after: None,
        until: None,
        cache: None,
        memory_limit_mib: 512,
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let started = Instant::now();
    let decisions = runtime.block_on(async {
        let mut dataset = Dataset::open(&settings).await?;
        let mut decisions = 0;
        while let Some(rounds) = dataset.next().await? {
            decisions += rounds.len();
        }
        anyhow::Ok(decisions)
    })?;
    if decisions != EXAMPLES {
        bail!("read {decisions} decisions, expected {EXAMPLES}");
    }
    Ok(started.elapsed().as_secs_f64())
}

const READ: &str = r#"
import sys, time, duckdb
started = time.perf_counter()
rows = duckdb.sql(f"""
    SELECT d.*, coalesce(f.reward, 0) AS reward
    FROM '{sys.argv[1]}/decisions/*/*.parquet' d
    LEFT JOIN (SELECT decision_id, sum(value) AS reward FROM '{sys.argv[1]}/feedback/*/*.parquet'
               WHERE event = 'click' GROUP BY decision_id) f USING (decision_id)
    ORDER BY d.time, d.decision_id
""").to_arrow_table()
assert len(rows) == 60000, len(rows)
print(time.perf_counter() - started)
"#;

/// The posterior of the weights from examples in memory.
fn learn(examples: &[f64]) -> anyhow::Result<f64> {
    let started = Instant::now();
    let mut statistics = LinearStatistics::new(WIDTH);
    for phi in examples.chunks_exact(WIDTH) {
        statistics.add(phi[0], |block| block.extend_from_slice(phi));
        statistics.flush_full();
    }
    std::hint::black_box(statistics.posterior(1.0)?);
    Ok(started.elapsed().as_secs_f64())
}

/// The numbers that the peer makes as well: cheap, and without pattern enough for a full rank.
fn examples() -> Vec<f64> {
    let feature = |row: usize, column: usize| ((row * 31 + column * 17 + row * column) % 101) as f64 / 101.0;
    (0..EXAMPLES).flat_map(|row| (0..WIDTH).map(move |column| feature(row, column))).collect()
}

/// The mean of the weights and the root of their covariance, as the learner keeps them.
const LEARN: &str = r#"
import os, time
os.environ["OPENBLAS_NUM_THREADS"] = "1"
import numpy as np
row, column = np.arange(60000)[:, None], np.arange(300)[None, :]
phi = ((row * 31 + column * 17 + row * column) % 101) / 101.0
reward = phi[:, 0].copy()
started = time.perf_counter()
precision = np.eye(300) + phi.T @ phi
root = np.linalg.inv(np.linalg.cholesky(precision)).T
weights = root @ (root.T @ (phi.T @ reward))
print(time.perf_counter() - started)
"#;

fn python(script: &str, journal: &Path) -> anyhow::Result<f64> {
    let python = std::env::var_os("SLATED_TEST_PYTHON").context("run this through `make bench`")?;
    let output = Command::new(python).arg("-c").arg(script).arg(journal).output()?;
    if !output.status.success() {
        bail!("the peer failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}
