//! What is counted, from the table that `/metrics` is described by.

use std::fmt::Write;

use super::{cell, generated};
use crate::telemetry::described::{AUTOPILOT, METRICS, Metric};

const ABOUT: &str = "\
What `GET /metrics` shows, in Prometheus' text format. A histogram `name` has the series `name_bucket`, `name_sum` and
`name_count`. What counts failures is absent while nothing fails. What to watch is in the [runbook](../runbook.md).";

/// The page.
pub fn page() -> String {
    let mut text = generated("Metrics", ABOUT);
    table(&mut text, METRICS);
    text.push_str(
        "\n## Of the autopilot\n\nIn `metrics.prom` of its folder, for the textfile collector of Prometheus' node exporter.\n",
    );
    table(&mut text, AUTOPILOT);
    text
}

fn table(text: &mut String, metrics: &[Metric]) {
    text.push_str("\n| metric | kind | labels | what |\n|---|---|---|---|\n");
    for metric in metrics {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let (kind, help) = (metric.kind.name(), cell(metric.help));
        // Writing into a string cannot fail.
        let _ = writeln!(text, "| `{}` | {kind} | {} | {help} |", metric.name, labels.join(", "));
    }
}
