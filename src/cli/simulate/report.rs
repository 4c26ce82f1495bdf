//! What a simulation says, as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use slated_trainer::env::{EnvironmentSettings, EnvironmentSpec};
use slated_trainer::rollout::{Episode, Summary};

/// The part of the latent state that the table shows, where the environment has it.
const SATISFACTION: &str = "satisfaction";

/// The episodes of one mixture.
pub struct Run {
    /// As the command line wrote it.
    pub name: String,
    /// Its policies.
    pub parts: Vec<PartName>,
    /// What came of each episode.
    pub episodes: Vec<Episode>,
    /// Where it was journalled, and how many decisions and feedback events that were.
    pub journalled: Option<(PathBuf, (u64, u64))>,
}

/// A policy of a mixture.
pub struct PartName {
    /// Its name.
    pub policy: String,
    /// Its version; absent where it is no bundle.
    pub version: Option<i64>,
    /// The share of the episodes that belongs to it.
    pub share: f64,
}

/// The report of a simulation.
#[derive(Debug, Serialize)]
pub struct Report {
    environment: EnvironmentSettings,
    seed: u64,
    /// The greatest possible mean return, where it is known.
    optimum: Option<f64>,
    candidates: usize,
    slate_size: usize,
    runs: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    policy: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    share: Option<f64>,
    #[serde(rename = "return")]
    total_reward: Summary,
    length: Summary,
    responses: Summary,
    /// The return less that of the first policy in the same episode: same user, same candidates.
    #[serde(skip_serializing_if = "Option::is_none")]
    difference: Option<Summary>,
    /// Each number of the latent state, averaged over the steps of an episode.
    latent: BTreeMap<String, Summary>,
    /// The parts of a mixture, by themselves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<Row>,
    #[serde(skip_serializing_if = "Option::is_none")]
    journal: Option<Journalled>,
}

#[derive(Debug, Serialize)]
struct Journalled {
    folder: PathBuf,
    decisions: u64,
    feedback: u64,
}

impl Report {
    pub fn new(environment: &EnvironmentSettings, spec: &EnvironmentSpec, seed: u64, runs: &[Run]) -> Self {
        Self {
            environment: environment.clone(),
            seed,
            optimum: spec.optimum,
            candidates: spec.candidates,
            slate_size: spec.slate_size,
            runs: runs.iter().enumerate().map(|(at, run)| Row::of_run(run, (at > 0).then(|| &runs[0]))).collect(),
        }
    }
}

impl Row {
    fn of_run(run: &Run, first: Option<&Run>) -> Self {
        let part = |(index, part): (usize, &PartName)| {
            let own = run.episodes.iter().filter(|episode| episode.part == index).collect();
            Self { version: part.version, share: Some(part.share), ..Self::new(part.policy.clone(), own) }
        };
        let mut row = Self::new(run.name.clone(), run.episodes.iter().collect());
        match &run.parts[..] {
            [policy] => row.version = policy.version,
            parts => row.parts = parts.iter().enumerate().map(part).collect(),
        }
        row.difference = first.filter(|first| first.episodes.len() == run.episodes.len()).map(|first| {
            let pairs = run.episodes.iter().zip(&first.episodes);
            Summary::of(&pairs.map(|(own, other)| own.total_reward - other.total_reward).collect::<Vec<_>>())
        });
        row.journal = run.journalled.as_ref().map(|(folder, (decisions, feedback))| Journalled {
            folder: folder.clone(),
            decisions: *decisions,
            feedback: *feedback,
        });
        row
    }

    fn new(policy: String, episodes: Vec<&Episode>) -> Self {
        let summary = |value: &dyn Fn(&Episode) -> f64| {
            Summary::of(&episodes.iter().map(|episode| value(episode)).collect::<Vec<_>>())
        };
        let latent = episodes.first().into_iter().flat_map(|episode| episode.latent.keys()).map(|name| {
            let mean = |episode: &Episode| episode.latent.get(name).copied().unwrap_or_default();
            (name.clone(), summary(&mean))
        });
        Self {
            policy,
            version: None,
            share: None,
            total_reward: summary(&|episode| episode.total_reward),
            length: summary(&|episode| f64::from(episode.steps)),
            responses: summary(&|episode| f64::from(episode.responses)),
            difference: None,
            latent: latent.collect(),
            parts: Vec::new(),
            journal: None,
        }
    }

    /// The label and the numbers of a line.
    fn line(&self, indent: &str, compared: bool, optimum: Option<f64>) -> (String, String) {
        let version = self.version.map(|version| format!(" version {version}")).unwrap_or_default();
        let share = self.share.map(|share| format!(" ({:.1}%)", 100.0 * share)).unwrap_or_default();
        let Summary { count, mean, .. } = self.total_reward;
        let between = interval(&self.total_reward);
        let mut numbers =
            format!("{count:>9} {mean:>10.2} {between:>21} {:>8.1} {:>9.1}", self.length.mean, self.responses.mean);
        if compared {
            let difference = self.difference.as_ref().map_or_else(|| "-".to_owned(), interval);
            numbers += &format!(" {difference:>21}");
        }
        if let Some(satisfaction) = self.latent.get(SATISFACTION) {
            numbers += &format!(" {:>12.3}", satisfaction.mean);
        }
        if let Some(optimum) = optimum {
            numbers += &format!(" {:>10.1}%", 100.0 * mean / optimum);
        }
        (format!("{indent}{}{version}{share}", self.policy), numbers)
    }
}

fn interval(summary: &Summary) -> String {
    let Summary { lower, upper, .. } = summary;
    if lower.is_finite() { format!("{lower:.2} to {upper:.2}") } else { "-".to_owned() }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let Self { optimum, candidates, slate_size, seed, .. } = self;
        write!(
            formatter,
            "{}, slates of {slate_size} from {candidates} candidates, seed {seed}",
            self.environment.name()
        )?;
        if let Some(optimum) = optimum {
            write!(formatter, "; the best possible mean return is {optimum}")?;
        }
        let compared = self.runs.iter().any(|row| row.difference.is_some());
        let lines: Vec<(String, String)> = self
            .runs
            .iter()
            .flat_map(|row| {
                let parts = row.parts.iter().map(|part| part.line("  ", compared, *optimum));
                std::iter::once(row.line("", compared, *optimum)).chain(parts)
            })
            .collect();
        let width = lines.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0).max("policy".len());
        write!(
            formatter,
            "\n\n{:width$} {:>9} {:>10} {:>21} {:>8} {:>9}",
            "policy", "episodes", "return", "95% interval", "length", "consumed"
        )?;
        if compared {
            write!(formatter, " {:>21}", "less the first")?;
        }
        if self.runs.iter().any(|row| row.latent.contains_key(SATISFACTION)) {
            write!(formatter, " {SATISFACTION:>12}")?;
        }
        if optimum.is_some() {
            write!(formatter, " {:>11}", "of the best")?;
        }
        writeln!(formatter)?;
        for (label, numbers) in lines {
            writeln!(formatter, "{label:width$} {numbers}")?;
        }
        for Journalled { folder, decisions, feedback } in self.runs.iter().filter_map(|row| row.journal.as_ref()) {
            writeln!(
                formatter,
                "\nwrote {decisions} decisions and {feedback} feedback events to {}",
                folder.display()
            )?;
        }
        Ok(())
    }
}
