//! Figures for Prometheus, in a file that its node exporter's textfile collector reads.

use std::fmt::Write as _;

use super::{CycleReport, State};
use crate::telemetry::described::AUTOPILOT;

/// The figures after a cycle.
pub fn text(report: &CycleReport, state: &State) -> String {
    let mut text = String::new();
    let policy = &report.policy;
    let mut gauge = |name: &str, rows: &[(String, f64)]| {
        let name = format!("slated_autopilot_{name}");
        let help = AUTOPILOT.iter().find(|metric| metric.name == name).map_or("", |metric| metric.help);
        // Writing into a string cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}.\n# TYPE {name} gauge");
        for (labels, value) in rows {
            let _ = writeln!(text, "{name}{{policy=\"{policy}\"{labels}}} {value}");
        }
    };
    let one = |value: f64| [(String::new(), value)];
    let cycle = &report.cycle;
    gauge("cycles", &one(state.cycles as f64));
    gauge("last_cycle_end_seconds", &one(report.ended.timestamp() as f64));
    gauge("last_cycle_seconds", &one((report.ended - cycle.begun).as_seconds_f64()));
    let outcomes = ["promoted", "kept", "rolled back", "failed"].map(|name| {
        let is = cycle.outcome.as_ref().is_some_and(|outcome| outcome.name() == name);
        (format!(",outcome=\"{name}\""), f64::from(u8::from(is)))
    });
    gauge("last_outcome", &outcomes);
    if let Some(drift) = &cycle.drift {
        let feature = |one: &slated_trainer::drift::FeatureDrift| {
            (format!(",part=\"{:?}\",feature=\"{}\"", one.part, one.name).to_lowercase(), one.stability_index)
        };
        let features: Vec<(String, f64)> = drift.features.iter().map(feature).collect();
        gauge("feature_stability_index", &features);
        let rewards: Vec<(String, f64)> =
            drift.rewards.iter().map(|one| (format!(",version=\"{}\"", one.version), one.change)).collect();
        gauge("reward_change", &rewards);
        let share = drift.propensities.current.uniform_share;
        gauge("uniform_share", &one(share));
        let drifted = [("features", drift.of_features()), ("rewards", drift.of_rewards())]
            .map(|(of, is)| (format!(",of=\"{of}\""), f64::from(u8::from(is))));
        gauge("drift", &drifted);
    }
    text
}
