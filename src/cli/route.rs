//! `slated policy promote`, `rollback`, `split`, `canary`, `shadow` and `apprentice`: the routes of a running service.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde_json::Value;

use super::Global;
use super::exit::Unavailable;
use crate::client::{client, urls};
use crate::serving::traffic::{Action, Guardrails};

/// Where the service is, who asks, and why.
#[derive(Debug, Args)]
pub struct Asking {
    /// The service; that of the settings where absent.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Who asks; kept in the journal.
    #[arg(long, env = "USER", value_name = "NAME")]
    by: String,
    /// Why; kept in the journal.
    #[arg(long, value_name = "TEXT")]
    why: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slated policy promote shop 7 --why 'better by offline evaluation'
  slated policy promote shop 7 --url http://shop-1:8080 --by anna --why 'better by offline evaluation'")]
pub struct PromoteArgs {
    /// The policy.
    name: String,
    /// The version that shall answer every request.
    version: u64,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slated policy rollback shop --why 'clicks fell'")]
pub struct RollbackArgs {
    /// The policy.
    name: String,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slated policy split shop 6=0.9 7=0.1 --why 'compare them'")]
pub struct SplitArgs {
    /// The policy.
    name: String,
    /// Versions with their shares, which sum to 1.
    #[arg(required = true, value_name = "VERSION=SHARE", value_parser = share)]
    shares: Vec<(u64, f64)>,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slated policy canary shop 7 0.05 --why 'first real traffic'
  slated policy canary shop 7 0.05 --max-p99-ms 20 --max-reward-loss 0.01 --why 'first real traffic'")]
pub struct CanaryArgs {
    /// The policy.
    name: String,
    /// The version on trial.
    version: u64,
    /// Its share of the requests, between 0 and 1.
    share: f64,
    /// Take it back when a greater share of its requests fails [default: 0.01].
    #[arg(long, value_name = "RATE")]
    max_error_rate: Option<f64>,
    /// Take it back when more than one in a hundred of its requests takes longer.
    #[arg(long, value_name = "MS")]
    max_p99_ms: Option<f64>,
    /// Take it back when its mean reward is certainly lower by more than this [default: 0].
    #[arg(long, value_name = "REWARD")]
    max_reward_loss: Option<f64>,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slated policy shadow shop 7 8 --why 'see what they would show'
  slated policy shadow shop --why 'seen enough'")]
pub struct ShadowArgs {
    /// The policy.
    name: String,
    /// Versions that are computed and not shown; none ends it.
    versions: Vec<u64>,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slated policy apprentice shop on --why 'learn from the editors first'")]
pub struct ApprenticeArgs {
    /// The policy.
    name: String,
    /// Whether the caller's own order is shown and the policy's choice kept beside it.
    switch: Switch,
    #[command(flatten)]
    asking: Asking,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// It is.
    On,
    /// It is not.
    Off,
}

fn share(text: &str) -> Result<(u64, f64), String> {
    let parsed = text.split_once('=').and_then(|(version, share)| Some((version.parse().ok()?, share.parse().ok()?)));
    parsed.ok_or_else(|| format!("`{text}` is no share; write one like 7=0.1"))
}

/// `slated policy promote`.
pub fn promote(global: &Global, args: &PromoteArgs) -> anyhow::Result<()> {
    send(global, &args.name, &Action::Promote { version: args.version }, &args.asking)
}

/// `slated policy rollback`.
pub fn rollback(global: &Global, args: &RollbackArgs) -> anyhow::Result<()> {
    send(global, &args.name, &Action::Rollback {}, &args.asking)
}

/// `slated policy split`.
pub fn split(global: &Global, args: &SplitArgs) -> anyhow::Result<()> {
    let shares: BTreeMap<u64, f64> = args.shares.iter().copied().collect();
    send(global, &args.name, &Action::Split { shares }, &args.asking)
}

/// `slated policy canary`.
pub fn canary(global: &Global, args: &CanaryArgs) -> anyhow::Result<()> {
    let default = Guardrails::default();
    let guardrails = Guardrails {
        max_error_rate: args.max_error_rate.or(default.max_error_rate),
        max_p99_ms: args.max_p99_ms.or(default.max_p99_ms),
        max_reward_loss: args.max_reward_loss.or(default.max_reward_loss),
        ..default
    };
    let action = Action::Canary { version: args.version, share: args.share, guardrails };
    send(global, &args.name, &action, &args.asking)
}

/// `slated policy shadow`.
pub fn shadow(global: &Global, args: &ShadowArgs) -> anyhow::Result<()> {
    send(global, &args.name, &Action::Shadow { versions: args.versions.clone() }, &args.asking)
}

/// `slated policy apprentice`.
pub fn apprentice(global: &Global, args: &ApprenticeArgs) -> anyhow::Result<()> {
    send(global, &args.name, &Action::Apprentice { enabled: args.switch == Switch::On }, &args.asking)
}

fn send(global: &Global, policy: &str, action: &Action, asking: &Asking) -> anyhow::Result<()> {
    let settings = global.start([])?.settings;
    let url = asking.url.clone().unwrap_or_else(|| urls(&settings.server).1);
    let mut body = serde_json::to_value(action)?;
    body["by"] = asking.by.clone().into();
    body["why"] = asking.why.clone().into();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (status, text) = runtime.block_on(async {
        let client = client(Duration::from_secs(120))?;
        let answer =
            client.post(format!("{url}/policies/{policy}/route")).json(&body).send().await.map_err(|error| {
                Unavailable(format!(
                    "no answer from {url}: {error}; start it with `slated serve`, or name it with `--url`"
                ))
            })?;
        anyhow::Ok((answer.status(), answer.text().await?))
    })?;
    let answer: Value = serde_json::from_str(&text).with_context(|| format!("{url} answered {status}: {text}"))?;
    if !status.is_success() {
        bail!("{url} answered {status}: {}", answer["detail"].as_str().unwrap_or(&text));
    }
    println!("{policy}: {}", answer["route"]);
    Ok(())
}
