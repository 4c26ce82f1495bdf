//! A running `slated serve`, as a program would use it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

/// The service, in a process of its own.
pub struct Service {
    child: Child,
    client: reqwest::Client,
    url: String,
}

impl Service {
    /// Starts this binary's `serve` over `<work>/models` and `<work>/journal`.
    pub fn start(work: &Path, listen: SocketAddr, policy: &str, seed: u64) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe().context("this binary cannot be found")?);
        command.arg("serve").args(["--listen", &listen.to_string(), "--policy", policy, "--seed", &seed.to_string()]);
        command
            .args(["--log-level", "warn"])
            .arg("--models")
            .arg(work.join("models"))
            .arg("--journal")
            .arg(work.join("journal"));
        let mut child = command.stdout(Stdio::piped()).spawn().context("the service cannot be started")?;
        let output = child.stdout.take().context("the service has no output")?;
        // The line comes once the service listens; a service that cannot ends, and so does its output.
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        // The proxy of the environment is for the outside, and this is the loopback.
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?;
        match line.trim().strip_prefix("listening on ") {
            Some(url) => Ok(Self { url: url.to_owned(), child, client }),
            None => bail!("the service ended at once; its message is above"),
        }
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Posts JSON and reads the answer.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> anyhow::Result<T> {
        let answer = self.client.post(format!("{}{path}", self.url)).json(body).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        if !status.is_success() {
            bail!("{path} answered {status}: {text}");
        }
        serde_json::from_str(&text).with_context(|| format!("{path} answered {text}"))
    }

    /// Closes the journal's tail; how many events were closed.
    pub async fn seal(&self) -> anyhow::Result<u64> {
        let answer: Value = self.post("/journal/seal", &Value::Null).await?;
        answer["events"].as_u64().context("/journal/seal did not say how many events it closed")
    }

    /// Makes a version live.
    pub async fn load(&self, policy: &str, version: u64) -> anyhow::Result<()> {
        self.post::<Value>(&format!("/policies/{policy}/versions/{version}/load"), &Value::Null).await.map(drop)
    }

    /// Waits until the service ends. Ctrl-C on the terminal reaches it as well as this process; a SIGTERM reaches this
    /// process alone, and is passed on.
    pub async fn wait(&mut self) -> anyhow::Result<()> {
        let mut terminated = signal(SignalKind::terminate())?;
        let mut interrupted = signal(SignalKind::interrupt())?;
        while self.child.try_wait()?.is_none() {
            tokio::select! {
                _ = terminated.recv() => self.terminate()?,
                // Held, so that this process outlives the draining of the service.
                _ = interrupted.recv() => eprintln!("stopping"),
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
            }
        }
        self.ended()
    }

    /// Asks the service to end, and waits.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.terminate()?;
        self.ended()
    }

    fn terminate(&self) -> anyhow::Result<()> {
        let pid = self.child.id().to_string();
        if !Command::new("kill").args(["-TERM", &pid]).status()?.success() {
            bail!("the service (process {pid}) could not be asked to end");
        }
        Ok(())
    }

    fn ended(&mut self) -> anyhow::Result<()> {
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { bail!("the service ended with {status}") }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // A demo that fails half way must not leave a service behind; one that has ended cannot be killed again.
        let _ = self.child.kill();
    }
}
