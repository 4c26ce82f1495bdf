//! What a verdict leaves in a manifest.

use slated_contract::policy::{Comparison, Evaluation};
use slated_trainer::ope::gate::{Figure, Verdict};

/// The verdict's figures as a manifest keeps them, the deciding one first; `digest` names the decisions that they are from.
#[must_use]
pub fn evaluations(verdict: &Verdict, digest: &str) -> Vec<Evaluation> {
    let logged = verdict.logged.estimate().map(|estimate| estimate.value);
    let improvement = |figure: &Figure| {
        let estimate = figure.estimate()?;
        Some(Comparison {
            policy: verdict.baseline.clone(),
            improvement: estimate.value,
            lower: estimate.interval.lower,
            upper: estimate.interval.upper,
        })
    };
    let rows = verdict.comparisons.iter().filter_map(|row| Some((row, row.candidate.estimate()?)));
    rows.map(|(row, estimate)| Evaluation {
        estimator: estimate.name.clone(),
        value: estimate.value,
        lower: estimate.interval.lower,
        upper: estimate.interval.upper,
        confidence: estimate.interval.confidence,
        interval: verdict.settings.interval.method.name().to_owned(),
        rounds: verdict.rows as u64,
        effective_sample_size: Some(verdict.diagnostics.weights.effective_sample_size),
        baseline: logged,
        against: improvement(&row.improvement),
        data_digest: Some(digest.to_owned()),
    })
    .collect()
}
