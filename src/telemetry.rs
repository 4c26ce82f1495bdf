//! Logs, metrics and traces.

pub mod described;
#[cfg(feature = "otlp")]
pub mod otlp;

use std::io::{self, IsTerminal};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
#[cfg(feature = "otlp")]
use tracing::{Subscriber, level_filters::LevelFilter};
#[cfg(feature = "otlp")]
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
#[cfg(feature = "otlp")]
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::priority;
use crate::settings::{LogFormat, LogSettings};

/// Latency buckets, in seconds: from a fast in-process answer to a request's usual time limit.
const SECONDS: [f64; 14] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
/// Propensity buckets.
const PROPENSITY: [f64; 9] = [1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.1, 0.5, 1.0];
/// Buckets of the time from a decision to its feedback, in seconds: a second to a day.
const DELAY: [f64; 9] = [1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0];
/// Buckets of the surprisal of a slate, in nats.
const NATS: [f64; 10] = [0.1, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0, 34.0];
/// Batch size buckets.
const ROWS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Starts logging to the standard error, so that results alone go to the standard output.
///
/// # Errors
/// A filter that cannot be read, or logging that was started before.
pub fn start_logging(settings: &LogSettings) -> anyhow::Result<()> {
    // ONNX Runtime reports each node it places at info level.
    let filter = EnvFilter::try_new(format!("ort=warn,{}", settings.level)).with_context(|| {
        format!("`log.level` is `{}`; use a filter such as `info` or `slated=debug,info`", settings.level)
    })?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        // Its own errors go to the standard error as well, and panic where that cannot be written: a full disk.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    let lines = match settings.format {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        LogFormat::Pretty => lines.with_target(false).boxed(),
    };
    let traces = traces(settings)?;
    let started = tracing_subscriber::registry().with(lines.with_filter(filter)).with(traces).try_init();
    started.map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))
}

#[cfg(feature = "otlp")]
fn traces<S>(settings: &LogSettings) -> anyhow::Result<Option<impl Layer<S> + use<S>>>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    // Whatever of it is logged as well.
    let ours = || Targets::new().with_target("slated", LevelFilter::INFO);
    let layer = |endpoint| anyhow::Ok(otlp::layer(endpoint, settings.otlp_share)?.with_filter(ours()));
    settings.otlp_endpoint.as_deref().map(layer).transpose()
}

#[cfg(not(feature = "otlp"))]
fn traces(settings: &LogSettings) -> anyhow::Result<Option<tracing_subscriber::layer::Identity>> {
    anyhow::ensure!(
        settings.otlp_endpoint.is_none(),
        "`log.otlp_endpoint` is set, and this slated was built without the feature `otlp`"
    );
    Ok(None)
}

/// Sends what is still to be sent of the traces.
pub fn flush() {
    #[cfg(feature = "otlp")]
    otlp::flush();
}

/// Starts collecting metrics.
///
/// # Errors
/// Metrics that are collected already.
pub fn start_metrics() -> anyhow::Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Full("slated_feedback_delay_seconds".to_owned()), &DELAY)?
        .set_buckets_for_metric(Matcher::Suffix("_propensity".to_owned()), &PROPENSITY)?
        .set_buckets_for_metric(Matcher::Suffix("_nats".to_owned()), &NATS)?
        .set_buckets_for_metric(Matcher::Suffix("_rows".to_owned()), &ROWS)?
        .install_recorder()
        .context("cannot start collecting metrics")?;
    described::describe();
    Ok(handle)
}

/// Counts what histograms were given, every second and without end: they hold each value until then, and nobody may ever
/// ask for the metrics. Of a busy second that takes ten milliseconds, so a thread of its own does it: one that answers
/// requests would keep all that it carries waiting.
///
/// # Errors
/// A thread that cannot be started.
pub fn count(metrics: PrometheusHandle) -> io::Result<()> {
    let work = move || {
        priority::lower();
        loop {
            thread::sleep(Duration::from_secs(1));
            metrics.run_upkeep();
        }
    };
    thread::Builder::new().name("metrics".to_owned()).spawn(work).map(drop)
}
