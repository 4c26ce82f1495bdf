//! The report of a cycle: as JSON for programs, as a page for people.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use slated_contract::policy::Evaluation;
use slated_trainer::drift::Drift;
use slated_trainer::report::{Page, Tile, significant};

use super::{Cycle, Outcome, Quiet};

/// What a cycle leaves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CycleReport {
    /// The policy.
    pub policy: String,
    /// The cycle.
    pub cycle: Cycle,
    /// When it ended.
    pub ended: DateTime<Utc>,
    /// How it kept out of the service's way.
    pub quiet: Quiet,
}

impl CycleReport {
    /// In one line, for the journal.
    #[must_use]
    pub fn summary(&self) -> String {
        let cycle = &self.cycle;
        let outcome = cycle.outcome.as_ref().map_or("unfinished", Outcome::name);
        let drift = match &cycle.drift {
            Some(drift) if drift.of_rewards() => "; the rewards drifted",
            Some(drift) if drift.of_features() => "; features drifted",
            _ => "",
        };
        let why = cycle.outcome.as_ref().and_then(Outcome::why).map(|why| format!(": {why}")).unwrap_or_default();
        let figure = self.winner().and_then(|(name, evaluation)| Some((name, evaluation?)));
        match figure {
            Some((name, figure)) => format!(
                "version {} ({name}) {outcome}: {} [{}, {}]{drift}{why}",
                cycle.version,
                significant(figure.value),
                significant(figure.lower),
                significant(figure.upper)
            ),
            None if cycle.explores => {
                format!("version {} {outcome}: version {} with more exploration{drift}{why}", cycle.version, cycle.live)
            }
            None => format!("version {} {outcome}{drift}{why}", cycle.live),
        }
    }

    /// The candidate that the gate chose, with its deciding figure.
    #[must_use]
    pub fn winner(&self) -> Option<(&str, Option<&Evaluation>)> {
        let winner = self.cycle.candidates.get(self.cycle.winner?)?;
        Some((&winner.name, winner.evaluation.first()))
    }

    /// The page.
    #[must_use]
    pub fn html(&self) -> String {
        let cycle = &self.cycle;
        let outcome = cycle.outcome.as_ref();
        let tile = |label: &str, value: String, note: String| Tile { label: label.to_owned(), value, note };
        let chosen = self.winner().and_then(|(_, figure)| figure);
        let data = cycle.dataset.clone().unwrap_or_default();
        let tiles = [
            tile(
                "outcome",
                outcome.map_or("unfinished", Outcome::name).to_owned(),
                outcome.and_then(Outcome::why).unwrap_or_default().to_owned(),
            ),
            tile("live before", format!("version {}", cycle.live), String::new()),
            tile(
                "candidate",
                self.winner().map_or_else(|| "none".to_owned(), |(name, _)| name.to_owned()),
                if self.winner().is_some() { format!("version {}", cycle.version) } else { String::new() },
            ),
            tile(
                "value",
                chosen.map_or_else(|| "-".to_owned(), |figure| significant(figure.value)),
                chosen.map_or_else(String::new, interval),
            ),
            tile("decisions", data.decisions.to_string(), format!("until {}", cycle.cut.to_rfc3339())),
        ];
        let page = Page::new(
            &format!("{} cycle {}", self.policy, cycle.number),
            &format!("{} to {}", cycle.begun.to_rfc3339(), self.ended.to_rfc3339()),
        );
        let head = ["candidate", "algorithm", "value", "interval", "better by", "interval", "verdict"];
        let mut page = page.tiles(&tiles).table("Candidates", &head, &self.candidates());
        if let Some(drift) = &cycle.drift {
            page = drift_tables(page, drift);
        }
        let figures: Vec<Vec<String>> = cycle
            .figures
            .iter()
            .map(|(version, figures)| {
                let mean = significant(figures.rewards.mean());
                [version.to_string(), figures.requests.to_string(), figures.errors.to_string(), mean].to_vec()
            })
            .collect();
        if !figures.is_empty() {
            page = page.table("Trial", &["version", "requests", "errors", "mean reward"], &figures);
        }
        let seconds: Vec<Vec<String>> =
            cycle.seconds.iter().map(|(step, seconds)| vec![step.name().to_owned(), format!("{seconds:.2}")]).collect();
        let list = |versions: &[u64]| versions.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        let none = || "everything".to_owned();
        let facts = [
            ("learned from".to_owned(), cycle.learn_from.map_or_else(none, |time| format!("{} on", time.to_rfc3339()))),
            ("removed versions".to_owned(), list(&cycle.pruned)),
            ("niceness".to_owned(), self.quiet.nice.map_or_else(|| "not set".to_owned(), |nice| nice.to_string())),
            ("processors".to_owned(), self.quiet.processors.clone().unwrap_or_else(|| "not limited".to_owned())),
        ];
        page.table("Steps", &["step", "seconds"], &seconds)
            .facts("Facts", &facts)
            .text("Data", &data.to_string())
            .finish()
    }

    fn candidates(&self) -> Vec<Vec<String>> {
        let row = |candidate: &super::CandidateState| {
            let figure = candidate.evaluation.first();
            let against = figure.and_then(|figure| figure.against.as_ref());
            let dash = || "-".to_owned();
            let verdict = match (&candidate.problem, &candidate.failed) {
                (Some(problem), _) => problem.clone(),
                (None, None) => "not judged".to_owned(),
                (None, Some(failed)) if failed.is_empty() => "may replace the live version".to_owned(),
                (None, Some(failed)) => format!("fails: {}", failed.join(", ")),
            };
            vec![
                candidate.name.clone(),
                candidate.algorithm.clone(),
                figure.map_or_else(dash, |figure| significant(figure.value)),
                figure.map_or_else(dash, interval),
                against.map_or_else(dash, |against| significant(against.improvement)),
                against.map_or_else(dash, |against| bounds(against.lower, against.upper)),
                verdict,
            ]
        };
        self.cycle.candidates.iter().map(row).collect()
    }
}

fn interval(figure: &Evaluation) -> String {
    bounds(figure.lower, figure.upper)
}

fn bounds(lower: f64, upper: f64) -> String {
    format!("{} to {}", significant(lower), significant(upper))
}

fn drift_tables(page: Page, drift: &Drift) -> Page {
    let word = |drifted: bool| if drifted { "drifted" } else { "" }.to_owned();
    let rewards: Vec<Vec<String>> = drift
        .rewards
        .iter()
        .map(|one| {
            vec![
                one.version.to_string(),
                format!("{} in {}", significant(one.reference.mean), one.reference.sessions),
                format!("{} in {}", significant(one.current.mean), one.current.sessions),
                significant(one.change),
                bounds(one.lower, one.upper),
                word(one.drifted),
            ]
        })
        .collect();
    let features: Vec<Vec<String>> = drift
        .features
        .iter()
        .map(|one| {
            let (statistic, p) = one
                .kolmogorov_smirnov
                .map_or((String::new(), String::new()), |(statistic, p)| (significant(statistic), significant(p)));
            vec![
                format!("{:?} {}", one.part, one.name).to_lowercase(),
                significant(one.stability_index),
                significant(one.divergence),
                statistic,
                p,
                word(one.drifted),
            ]
        })
        .collect();
    let propensities =
        [("learned from", drift.propensities.reference), ("now", drift.propensities.current)].map(|(name, one)| {
            vec![
                name.to_owned(),
                one.decisions.to_string(),
                one.not_evaluable.to_string(),
                significant(one.least),
                significant(one.mean),
                significant(one.uniform_share),
            ]
        });
    page.table(
        "Drift of rewards: mean reward a decision, over sessions of one version",
        &["version", "before", "now", "change", "interval", ""],
        &rewards,
    )
    .table(
        "Drift of features",
        &["feature", "stability index", "Jensen-Shannon", "Kolmogorov-Smirnov", "p", ""],
        &features,
    )
    .table(
        "Propensities",
        &["window", "decisions", "not evaluable", "least", "mean", "share effective for uniform slates"],
        &propensities,
    )
}
