//! Every metric by name: what `/metrics` calls it, and what the reference says of it.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// How a metric counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, but for a restart.
    Counter,
    /// As it is now.
    Gauge,
    /// Counts in buckets, with their sum.
    Histogram,
}

impl Kind {
    /// Prometheus' word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// How it counts.
    pub kind: Kind,
    /// Its labels, in the order in which they are written.
    pub labels: &'static [&'static str],
    /// What it is.
    pub help: &'static str,
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, labels, help }
}

const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram, labels, help }
}

/// Those of the service. A test holds names, kinds and labels against every place where one is counted.
pub const METRICS: &[Metric] = &[
    histogram(
        "slated_http_request_seconds",
        &["route", "method", "status"],
        "Time from a request's arrival to its answer",
    ),
    counter("slated_requests_refused_total", &["reason"], "Requests answered 401, 403 or 429, by why"),
    counter(
        "slated_deadlines_missed_total",
        &["outcome"],
        "Requests whose time limit passed, by what the caller got: `fallback` or `refused`",
    ),
    counter("slated_decisions_total", &["policy", "version"], "Decisions answered"),
    histogram(
        "slated_decision_seconds",
        &["policy", "version"],
        "Time from a request's arrival to its decision being kept",
    ),
    histogram("slated_slate_propensity", &["policy"], "Joint propensity of the slates shown"),
    histogram(
        "slated_slate_surprisal_nats",
        &["policy", "version"],
        "-ln of the propensity of slates; the mean (sum over count) estimates the entropy of the policy's slates, without bias",
    ),
    counter(
        "slated_explored_decisions_total",
        &["policy", "version"],
        "Decisions whose slate is not that of the greatest scores. Not counted for posterior sampling, slate objectives and requests with rules, where scores do not say what is greedy",
    ),
    counter("slated_feedback_total", &["outcome"], "Feedback events answered, new or duplicate"),
    histogram("slated_feedback_delay_seconds", &[], "Time from a decision to its feedback"),
    gauge("slated_reward_sum", &["policy", "version"], "Rewards of a version's decisions, as feedback comes"),
    gauge("slated_policy_version", &["policy"], "The live version of each policy"),
    gauge("slated_policy_share", &["policy", "version"], "The share of a policy's requests that a version answers"),
    counter("slated_policy_loads_total", &["policy", "outcome"], "Attempts to load a version, by outcome"),
    gauge(
        "slated_policy_device",
        &["policy", "device", "fallback"],
        "1 for the device that a policy's model runs on; `fallback` is `yes` where another was asked for",
    ),
    counter("slated_route_changes_total", &["policy", "action"], "Changes of routes"),
    counter("slated_canary_rollbacks_total", &["policy"], "Canaries taken back by a guardrail"),
    counter("slated_shadow_failures_total", &["policy", "version"], "Shadows that did not answer"),
    gauge("slated_model_queue_depth", &["policy"], "Queries that wait for a model"),
    counter("slated_inferences_total", &["policy", "version"], "Raw inferences, answered at `/v2`"),
    histogram("slated_model_batch_rows", &[], "Rows in one run of a model"),
    histogram("slated_model_run_seconds", &[], "Time of one run of a model"),
    gauge("slated_sessions", &[], "Sessions in memory"),
    counter("slated_sessions_ended_total", &["reason"], "Sessions held no more: evicted, expired or unreadable"),
    counter("slated_sessions_rebuilt_total", &[], "Sessions rebuilt from the journal"),
    counter("slated_session_events_total", &["outcome"], "Events told to sessions: new, known before, or too late"),
    gauge("slated_session_store_up", &[], "1 where the store of the sessions answers"),
    gauge("slated_session_store_pending", &[], "Updates that wait for the store of the sessions to be back"),
    counter(
        "slated_session_store_away_total",
        &["outcome"],
        "Requests while the store was away, by what became of them",
    ),
    histogram("slated_session_store_seconds", &["operation"], "Time of an operation on the store"),
    counter("slated_session_conflicts_total", &[], "Sessions that another replica changed at the same time"),
    gauge("slated_catalogue_entities", &["kind"], "Items and users in the catalogue"),
    gauge("slated_catalogue_version", &[], "The catalogue's version"),
    counter("slated_journal_events_total", &["kind"], "Events written to the journal"),
    histogram("slated_journal_commit_seconds", &[], "Time of one commit of the journal"),
    gauge("slated_journal_queue_depth", &[], "Events that wait to be written"),
    gauge("slated_journal_tail_events", &["kind"], "Events not yet in a closed segment"),
    gauge("slated_journal_lag_seconds", &["kind"], "Age of the oldest event that is not in a closed segment"),
    counter(
        "slated_decisions_not_journalled_total",
        &["policy"],
        "Decisions answered while the journal could not be written",
    ),
    counter("slated_journal_lost_events_total", &["kind"], "Acknowledged events that a start missed in the tail"),
    counter("slated_journal_retired_events_total", &["kind"], "Events removed because they were kept for long enough"),
    gauge("slated_journal_unsent_segments", &[], "Closed segments that the object store does not have yet"),
    counter("slated_journal_sent_segments_total", &["kind"], "Closed segments sent to the object store"),
    counter("slated_journal_upload_failures_total", &[], "Failed attempts to send closed segments"),
];

/// Those of the autopilot, in its `metrics.prom`.
pub const AUTOPILOT: &[Metric] = &[
    gauge("slated_autopilot_cycles", &["policy"], "Cycles that ended"),
    gauge("slated_autopilot_last_cycle_end_seconds", &["policy"], "When the last cycle ended, in Unix time"),
    gauge("slated_autopilot_last_cycle_seconds", &["policy"], "How long it took"),
    gauge("slated_autopilot_last_outcome", &["policy", "outcome"], "What came of it: 1 for what did"),
    gauge(
        "slated_autopilot_feature_stability_index",
        &["policy", "part", "feature"],
        "Population stability index of a feature",
    ),
    gauge("slated_autopilot_reward_change", &["policy", "version"], "Change of a version's mean reward a decision"),
    gauge(
        "slated_autopilot_uniform_share",
        &["policy"],
        "Effective share of the log for the policy that shows all alike",
    ),
    gauge("slated_autopilot_drift", &["policy", "of"], "Whether features or rewards drifted"),
];

/// Tells the recorder what each is.
pub fn describe() {
    for metric in METRICS {
        match (metric.kind, unit(metric.name)) {
            (Kind::Counter, _) => describe_counter!(metric.name, metric.help),
            (Kind::Gauge, Some(unit)) => describe_gauge!(metric.name, unit, metric.help),
            (Kind::Gauge, None) => describe_gauge!(metric.name, metric.help),
            (Kind::Histogram, Some(unit)) => describe_histogram!(metric.name, unit, metric.help),
            (Kind::Histogram, None) => describe_histogram!(metric.name, metric.help),
        }
    }
}

/// A name says its unit.
fn unit(name: &str) -> Option<Unit> {
    name.ends_with("_seconds").then_some(Unit::Seconds)
}
