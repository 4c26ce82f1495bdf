//! Logs, metrics and traces.

#[cfg(feature = "otlp")]
pub mod otlp;

use std::io::IsTerminal;
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
    describe();
    Ok(handle)
}

/// Counts what histograms were given, every second and without end: they hold each value until then, and nobody may ever
/// ask for the metrics.
pub async fn count(metrics: PrometheusHandle) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        metrics.run_upkeep();
    }
}

fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_histogram!("slated_http_request_seconds", Unit::Seconds, "Time from a request's arrival to its answer");
    describe_histogram!("slated_model_run_seconds", Unit::Seconds, "Time of one run of a model");
    describe_histogram!("slated_model_batch_rows", "Rows in one run of a model");
    describe_histogram!("slated_slate_propensity", "Joint propensity of the slates shown");
    describe_histogram!(
        "slated_decision_seconds",
        Unit::Seconds,
        "Time from a request's arrival to its decision being kept"
    );
    describe_histogram!(
        "slated_slate_surprisal_nats",
        "-ln of the propensity of slates; their mean is the policy's entropy"
    );
    describe_counter!("slated_explored_decisions_total", "Decisions whose slate is not that of the greatest scores");
    describe_counter!("slated_decisions_total", "Decisions answered, by policy and version");
    describe_counter!("slated_deadlines_missed_total", "Requests whose time limit passed, by what the caller got");
    describe_counter!("slated_requests_refused_total", "Requests answered 429, by what was full");
    describe_gauge!("slated_model_queue_depth", "Queries that wait for a model, by policy");
    describe_gauge!("slated_policy_share", "The share of a policy's requests that a version answers");
    describe_counter!("slated_route_changes_total", "Changes of routes, by policy and action");
    describe_counter!("slated_canary_rollbacks_total", "Canaries taken back by a guardrail, by policy");
    describe_counter!("slated_shadow_failures_total", "Shadows that did not answer, by policy and version");
    describe_gauge!("slated_reward_sum", "Rewards of a version's decisions, as feedback comes");
    describe_histogram!("slated_feedback_delay_seconds", Unit::Seconds, "Time from a decision to its feedback");
    describe_gauge!("slated_sessions", "Sessions in memory");
    describe_counter!("slated_sessions_ended_total", "Sessions held no more: evicted, expired or unreadable");
    describe_counter!("slated_sessions_rebuilt_total", "Sessions rebuilt from the journal");
    describe_counter!("slated_session_events_total", "Events told to sessions: new, known before, or too late");
    describe_gauge!("slated_session_store_up", "1 where the store of the sessions answers");
    describe_gauge!("slated_session_store_pending", "Updates that wait for the store of the sessions to be back");
    describe_counter!("slated_session_store_away_total", "Requests while the store was away, by what became of them");
    describe_histogram!("slated_session_store_seconds", Unit::Seconds, "Time of an operation on the store");
    describe_counter!("slated_session_conflicts_total", "Sessions that another replica changed at the same time");
    describe_gauge!("slated_catalogue_entities", "Items and users in the catalogue");
    describe_gauge!("slated_catalogue_version", "The catalogue's version");
    describe_gauge!("slated_policy_device", "1 for the device that a policy's model runs on");
    describe_counter!("slated_feedback_total", "Feedback events answered, new or duplicate");
    describe_counter!("slated_policy_loads_total", "Attempts to load a policy, by outcome");
    describe_gauge!("slated_policy_version", "The live version of each policy");
    describe_counter!(
        "slated_decisions_not_journalled_total",
        "Decisions answered while the journal could not be written"
    );
    describe_counter!(
        "slated_journal_lost_events_total",
        "Acknowledged events that a start missed in the tail, by kind"
    );
    describe_gauge!("slated_journal_unsent_segments", "Closed segments that the object store does not have yet");
    describe_counter!("slated_journal_sent_segments_total", "Closed segments sent to the object store, by kind");
    describe_counter!("slated_journal_upload_failures_total", "Failed attempts to send closed segments");
    describe_counter!("slated_journal_events_total", "Events written to the journal, by kind");
    describe_histogram!("slated_journal_commit_seconds", Unit::Seconds, "Time of one commit of the journal");
    describe_gauge!(
        "slated_journal_lag_seconds",
        Unit::Seconds,
        "Age of the oldest event that is not in a closed segment"
    );
    describe_gauge!("slated_journal_queue_depth", "Events that wait to be written");
    describe_gauge!("slated_journal_tail_events", "Events not yet in a closed segment, by kind");
}
