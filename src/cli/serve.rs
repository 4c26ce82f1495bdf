//! `slated serve`.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use metrics_exporter_prometheus::PrometheusHandle;
use rand::RngExt;

use super::Global;
use super::companion::Companion;
use crate::access::{DecisionIds, Keys};
use crate::api::{self, App, Connections, KeysNeeded, Listening, Routers, Shared};
use crate::autopilot::AutopilotSettings;
use crate::catalogue::Catalogue;
#[cfg(feature = "compat")]
use crate::compat::Compat;
use crate::journal::Journal;
use crate::memory;
use crate::serving::traffic::{self, Traffic};
use crate::serving::{Device, Recommender, Registry, RouteState};
use crate::session::Sessions;
use crate::settings::{Flag, Settings};
use crate::telemetry;

/// Serve policies over HTTP and journal every interaction.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slated serve
  slated serve --listen 0.0.0.0:8080 --models models --policy open-bandit --journal journal
  slated serve --catalogue items.jsonl --log-format json
  slated serve --autopilot autopilot.toml
  SLATED_SERVER__LISTEN=127.0.0.1:9000 slated serve")]
pub struct ServeArgs {
    /// Address to listen on; port 0 takes any free one.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Folder of policy bundles.
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// Policy that requests get which name none.
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// Its version at start; the latest where absent.
    #[arg(long, value_name = "N")]
    policy_version: Option<u64>,
    /// Folder of the journal.
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
    /// Items known by id: CSV, JSON lines or Parquet.
    #[arg(long, value_name = "FILE")]
    catalogue: Option<PathBuf>,
    /// Users known by id, likewise.
    #[arg(long, value_name = "FILE")]
    users: Option<PathBuf>,
    /// What models run on: cpu, cuda, cuda:N, or auto, which takes a GPU where there is one.
    #[arg(long, value_name = "DEVICE")]
    device: Option<Device>,
    /// Start an autopilot beside the service, as a process of its own, with these settings; where the service is, the service
    /// tells it.
    #[arg(long, value_name = "FILE")]
    autopilot: Option<PathBuf>,
    /// Seed of every random choice of the service.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

impl ServeArgs {
    /// What these flags set.
    pub fn flags(&self) -> [Option<Flag>; 9] {
        [
            Flag::given("server.listen", self.listen.as_ref()),
            Flag::given("models.folder", self.models.as_ref()),
            Flag::given("models.default", self.policy.as_ref()),
            Flag::given("models.version", self.policy_version.as_ref()),
            Flag::given("journal.folder", self.journal.as_ref()),
            Flag::given("catalogue.items", self.catalogue.as_ref()),
            Flag::given("catalogue.users", self.users.as_ref()),
            Flag::given("runtime.device", self.device.as_ref()),
            Flag::given("seed", self.seed.as_ref()),
        ]
    }
}

/// Serves until SIGINT or SIGTERM.
pub fn run(global: &Global, args: &ServeArgs) -> anyhow::Result<()> {
    let settings = global.start(args.flags())?.settings;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the async runtime")?;
    runtime.block_on(serve(settings, args.autopilot.as_deref()))
}

async fn serve(settings: Settings, autopilot: Option<&Path>) -> anyhow::Result<()> {
    if let Some(path) = autopilot {
        // A mistake in it is better known now than from the log.
        AutopilotSettings::read(path)?;
    }
    let _too_large = survive_too_large_files()?;
    let metrics = telemetry::start_metrics()?;
    telemetry::count(metrics.clone()).context("cannot start counting metrics")?;
    let seed = settings.seed.unwrap_or_else(|| rand::rng().random());
    tracing::info!(seed, "every random choice of this run derives from this seed");
    let security = &settings.security;
    let keys = Arc::new(Keys::open(security.keys.clone())?);
    let app = assemble(&settings, &keys, seed, metrics).await?;
    let journal = app.journal.clone();
    if settings.models.watch_seconds > 0.0 {
        let period = Duration::from_secs_f64(settings.models.watch_seconds);
        tokio::spawn(traffic::watch(Arc::clone(&app.registry), Arc::clone(&app.traffic), period));
    }
    let reload = Duration::from_secs_f64(security.reload_seconds);
    let server = &settings.server;
    let connections = Connections {
        tls: server.tls_certificate.clone().zip(server.tls_key.clone()),
        reload,
        header_timeout: Duration::from_secs(server.header_timeout_seconds),
        drain: Duration::from_secs(server.drain_seconds),
    };
    let scheme = server.scheme();
    let Routers { public, admin } = api::routers(&app, &keys, &security.cors_origins);
    tokio::spawn(watch_keys(keys, reload));
    let mut listening = vec![Listening { address: server.listen, router: public }];
    listening.extend(admin.zip(server.admin_listen).map(|(router, address)| Listening { address, router }));
    // Starting took more than answering will: the description alone is thousands of small pieces.
    memory::give_back();
    let mut companion = None;
    let served = api::serve(listening, &connections, stop_signal()?, |addresses| {
        // On the standard output, so that a program that starts the service with port 0 can read the addresses.
        for (what, address) in ["listening", "administration"].into_iter().zip(addresses) {
            // Who started it may have read what it needs, and closed its end.
            let _ = writeln!(std::io::stdout(), "{what} on {scheme}://{address}");
            tracing::info!(%address, what, "ready");
        }
        // It asks what only operators may.
        companion = autopilot.zip(addresses.last()).map(|(path, address)| Companion::start(path, *address, &settings));
    })
    .await;
    drop(companion);
    journal.close().await.context("the journal did not close cleanly; what was acknowledged is kept")?;
    served?;
    tracing::info!("stopped");
    Ok(())
}

/// Opens everything that the settings name and that answering requests takes.
///
/// # Errors
/// Keys, policies, a journal, a catalogue or sessions that cannot be had.
pub async fn assemble(settings: &Settings, keys: &Keys, seed: u64, metrics: PrometheusHandle) -> anyhow::Result<App> {
    let security = &settings.security;
    let ids = DecisionIds::open(security.decision_secret.as_deref(), security.caller_ids)?;
    let catalogue = Arc::new(Catalogue::open(&settings.catalogue)?);
    let routes = settings.models.routes.clone().unwrap_or_else(|| settings.journal.folder.join("routes.json"));
    let registry = load_policies(settings, &traffic::saved(&routes)?)?;
    let journal = Journal::open(&settings.journal)?;
    let traffic = Arc::new(Traffic::new(Arc::clone(&registry), journal.clone(), routes));
    let sessions = Arc::new(Sessions::open(&settings.sessions, &journal, &settings.models.folder).await?);
    let recommender = Recommender::new(
        Arc::clone(&registry),
        Arc::clone(&traffic),
        Arc::clone(&sessions),
        Arc::clone(&catalogue),
        settings.server.fallback,
        seed,
        journal.users(),
    );
    #[cfg(feature = "compat")]
    let compat = Compat::open(
        settings.compat.clone(),
        &settings.models.default,
        Arc::clone(&registry),
        Arc::clone(&traffic),
        journal.clone(),
        settings.journal.folder.clone(),
        (settings.journal.keep_days, settings.models.watch_seconds),
    )?;
    let needed = if keys.needed() { KeysNeeded::Yes } else { KeysNeeded::Perhaps };
    let description = api::openapi_yaml(needed).map_err(|problem| anyhow::anyhow!(problem.detail))?;
    Ok(App::from(Shared {
        registry,
        recommender,
        traffic,
        catalogue,
        sessions,
        journal,
        on_failure: settings.journal.on_failure,
        ids,
        settings: settings.server.clone(),
        metrics,
        description: description.into(),
        #[cfg(feature = "compat")]
        compat,
    }))
}

/// Takes up keys that were added, changed or removed.
async fn watch_keys(keys: Arc<Keys>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        match keys.reload() {
            Ok(true) => tracing::info!("the file of keys has changed and is in force"),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "the keys stay what they were"),
        }
    }
}

fn load_policies(settings: &Settings, saved: &BTreeMap<String, RouteState>) -> anyhow::Result<Arc<Registry>> {
    let models = &settings.models;
    let registry = Registry::new(models.folder.clone(), models.default.clone(), settings.runtime.clone());
    registry.open(&models.default, models.version, saved.get(&models.default)).with_context(|| {
        format!(
            "policy `{}` cannot be served; train one with `slated train`, or name another with `--policy`",
            models.default
        )
    })?;
    for name in &models.others {
        registry
            .open(name, None, saved.get(name))
            .with_context(|| format!("policy `{name}` of `models.others` cannot be served"))?;
    }
    #[cfg(feature = "compat")]
    if let Some(name) =
        settings.compat.policy.as_ref().filter(|name| **name != models.default && !models.others.contains(name))
    {
        registry.open(name, None, saved.get(name)).with_context(|| {
            format!("policy `{name}` of `compat.policy` cannot be served; `slated policy start {name}` makes one to begin with")
        })?;
    }
    Ok(Arc::new(registry))
}

/// Makes a write beyond the limit of a file's size an error, as on a full disk, where it would end the process.
fn survive_too_large_files() -> anyhow::Result<tokio::signal::unix::Signal> {
    use tokio::signal::unix::{SignalKind, signal};
    // SIGXFSZ has this number on Linux and on macOS, whatever the processor (but for MIPS).
    signal(SignalKind::from_raw(25)).context("cannot watch for SIGXFSZ")
}

/// Resolves at SIGINT or SIGTERM.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
