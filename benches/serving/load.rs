//! Load over HTTP/1.1 connections that stay open: as fast as it goes, or at a fixed rate whatever the answers do.

use std::time::Duration;

use anyhow::{Context, bail};
use futures::future::try_join_all;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

/// Where the load goes, and what it is.
#[derive(Debug, Clone, Default)]
pub struct Target {
    pub address: String,
    pub body: String,
    /// What it is to be answered; anything else is a failure of the run.
    pub status: u16,
}

/// Requests a second with every connection asking again as soon as it is answered.
pub async fn closed(target: &Target, connections: usize, period: Duration) -> anyhow::Result<f64> {
    let until = Instant::now() + period;
    let senders = (0..connections).map(|_| async {
        let mut connection = Connection::open(target).await?;
        let mut answered = 0_usize;
        while Instant::now() < until {
            connection.ask().await?;
            answered += 1;
        }
        anyhow::Ok(answered)
    });
    let answered: usize = try_join_all(senders).await?.into_iter().sum();
    Ok(answered as f64 / period.as_secs_f64())
}

/// Times from the moment at which each request was due to its answer, at `rate` requests a second. A request that waits
/// for its connection is late, and counts as such: queueing is not hidden.
pub async fn open(target: &Target, connections: usize, rate: f64, period: Duration) -> anyhow::Result<Vec<Duration>> {
    let start = Instant::now() + Duration::from_millis(50);
    let count = (rate * period.as_secs_f64()) as usize;
    let senders = (0..connections).map(|sender| async move {
        let mut connection = Connection::open(target).await?;
        let mut times = Vec::new();
        for request in (sender..count).step_by(connections) {
            let due = start + Duration::from_secs_f64(request as f64 / rate);
            sleep_until(due).await;
            connection.ask().await?;
            times.push(due.elapsed());
        }
        anyhow::Ok(times)
    });
    Ok(try_join_all(senders).await?.concat())
}

/// The time that a share of the requests did not exceed.
pub fn percentile(times: &[Duration], share: f64) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or_default()
}

/// One connection, kept open.
pub struct Connection {
    stream: BufReader<TcpStream>,
    request: Vec<u8>,
    status: String,
    line: String,
    body: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub async fn open(target: &Target) -> anyhow::Result<Self> {
        let Target { address, body, status } = target;
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let request = format!(
            "POST /recommend HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Ok(Self {
            stream: BufReader::new(stream),
            request: request.into_bytes(),
            status: format!(" {status} "),
            line: String::new(),
            body: Vec::new(),
        })
    }

    /// Sends the request and reads the answer's body.
    pub async fn ask(&mut self) -> anyhow::Result<&[u8]> {
        self.stream.get_mut().write_all(&self.request).await?;
        let status = self.header().await?.to_owned();
        let mut length = None;
        loop {
            let line = self.header().await?.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse::<usize>().ok();
            }
        }
        self.body.resize(length.context("an answer without content-length")?, 0);
        self.stream.read_exact(&mut self.body).await?;
        if !status.contains(&self.status) {
            bail!("answered {}: {}", status.trim_end(), String::from_utf8_lossy(&self.body));
        }
        Ok(&self.body)
    }

    async fn header(&mut self) -> anyhow::Result<&str> {
        self.line.clear();
        if self.stream.read_line(&mut self.line).await? == 0 {
            bail!("the server closed a connection");
        }
        Ok(&self.line)
    }
}
