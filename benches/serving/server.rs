//! Servers in processes of their own, and the request they are sent.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};
use serde_json::{Value, json};

/// The number behind `flag` in a bench's arguments; `default` where the flag is not among them.
pub fn number(arguments: &[String], flag: &str, default: usize) -> anyhow::Result<usize> {
    match arguments.iter().position(|argument| argument == flag) {
        Some(at) => Ok(arguments.get(at + 1).with_context(|| format!("`{flag}` needs a number"))?.parse()?),
        None => Ok(default),
    }
}

/// A server in a process of its own, ended when dropped.
pub struct Server {
    child: Child,
    pub address: String,
}

impl Server {
    /// Starts a server that prints `listening on http://<address>`.
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn().context("a server cannot be started")?;
        let output = child.stdout.take().context("the server has no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        match line.trim().strip_prefix("listening on http://") {
            Some(address) => Ok(Self { address: address.to_owned(), child }),
            None => bail!("the server ended at once, and said {line:?}"),
        }
    }

    /// Its resident memory.
    pub fn resident_mib(&self) -> f64 {
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

/// The service with these settings and a new journal, in the folder that holds `models/`.
pub fn slated(work: &Path, settings: &str) -> anyhow::Result<Server> {
    let journal = work.join("journal");
    if journal.exists() {
        std::fs::remove_dir_all(&journal)?;
    }
    std::fs::write(work.join("slated.toml"), settings)?;
    let args = ["serve", "--listen", "127.0.0.1:0", "--policy", "mlp", "--seed", "1", "--log-level", "warn"];
    Server::start(Command::new(env!("CARGO_BIN_EXE_slated")).current_dir(work).args(args))
}

/// 32 user features and 20 candidates of 16 features each, for a slate of 5.
pub fn request() -> Value {
    let feature = |index: usize| (format!("f{index}"), json!((index as f64 * 0.37).sin()));
    let features = |count: usize| (0..count).map(feature).collect::<serde_json::Map<_, _>>();
    let item = |index: usize| json!({"id": format!("item-{index}"), "features": features(16)});
    json!({"user": features(32), "candidates": (0..20).map(item).collect::<Vec<_>>(), "slate_size": 5})
}
