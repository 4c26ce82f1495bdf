//! The metrics of one version's decisions.

use std::fmt;

use metrics::{Counter, Histogram, counter, histogram};

/// Their handles, looked up once: to find a metric by its name and labels costs many times what counting does.
#[derive(Debug)]
pub struct Measures {
    /// Decisions that were answered.
    pub decisions: Counter,
    /// From a request's arrival to its decision being kept.
    pub seconds: Histogram,
    /// Of the slates shown.
    pub propensity: Histogram,
    /// -ln of the propensity of slates that the policy drew.
    pub surprisal: Histogram,
    /// Decisions whose slate is not that of the greatest scores.
    pub explored: Counter,
}

impl Measures {
    /// Those of a version.
    pub fn of(policy: &str, version: impl fmt::Display) -> Self {
        let (policy, version) = (policy.to_owned(), version.to_string());
        let labels = [("policy", policy.clone()), ("version", version)];
        Self {
            decisions: counter!("slated_decisions_total", &labels),
            seconds: histogram!("slated_decision_seconds", &labels),
            propensity: histogram!("slated_slate_propensity", "policy" => policy),
            surprisal: histogram!("slated_slate_surprisal_nats", &labels),
            explored: counter!("slated_explored_decisions_total", &labels),
        }
    }
}
