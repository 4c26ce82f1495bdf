//! `slated healthcheck`.

use std::time::Duration;

use anyhow::Context;
use clap::Args;

use super::Global;
use super::exit::Unavailable;
use crate::client::{client, urls};

/// Ask a running service whether it can answer requests; for containers without curl.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slated healthcheck
  slated healthcheck --url http://127.0.0.1:9000")]
pub struct HealthcheckArgs {
    /// The service; `server.listen` of the settings where absent.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

/// Asks `/readyz`.
pub fn run(global: &Global, args: &HealthcheckArgs) -> anyhow::Result<()> {
    let url = match &args.url {
        Some(url) => url.clone(),
        None => urls(&global.settings([])?.settings.server).0,
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the async runtime")?;
    runtime.block_on(async {
        let client = client(Duration::from_secs(5))?;
        let answer = client.get(format!("{}/readyz", url.trim_end_matches('/'))).send().await;
        let answer = answer.map_err(|error| Unavailable(format!("{url} does not answer: {error}")))?;
        let ready = answer.status().is_success();
        let text = answer.text().await.unwrap_or_default();
        if !ready {
            return Err(Unavailable(format!("{url} is not ready: {text}")).into());
        }
        println!("{text}");
        Ok(())
    })
}
