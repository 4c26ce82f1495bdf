//! `autopilot.toml`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use slated_contract::policy::check_policy_name;
use slated_contract::reward::RewardDefinition;
use slated_contract::slate::Exploration;
use slated_trainer::drift::DriftSettings;
use slated_trainer::offline::{OfflineAlgorithm, OfflineSettings};
use slated_trainer::ope::gate::GateSettings;
use slated_trainer::ope::reward_model::RewardModelSettings;
use slated_trainer::train::TrainSettings;

use super::AutopilotError;
use crate::evaluation::SessionEvidenceSettings;
use crate::serving::traffic::Guardrails;

/// The longest time that can be set, in seconds: about thirty years.
const MAX_SECONDS: f64 = 1e9;

/// Everything that an autopilot is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutopilotSettings {
    /// The policy that it teaches; the service must serve a version of it already.
    pub policy: String,
    /// Where the service listens.
    #[serde(default = "default_service")]
    pub service: String,
    /// The service's journal.
    #[serde(default = "default_journal")]
    pub journal: PathBuf,
    /// The service's folder of bundles.
    #[serde(default = "default_models")]
    pub models: PathBuf,
    /// Where the state, the candidates at work and the reports go.
    #[serde(default = "default_folder")]
    pub folder: PathBuf,
    /// When a cycle begins.
    #[serde(default)]
    pub trigger: TriggerSettings,
    /// What is learned from.
    #[serde(default)]
    pub data: DataSettings,
    /// What learns: each with each of its seeds is a candidate.
    pub candidates: Vec<CandidateSettings>,
    /// How a published version explores. It must: what the log never shows cannot be learned or evaluated.
    #[serde(default = "default_exploration")]
    pub exploration: Exploration,
    /// How versions explore at the beginning and after a drift of the rewards, where that is given: what is better than the live
    /// version lies further from it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beginning: Option<BeginningSettings>,
    /// What a candidate must prove.
    #[serde(default)]
    pub evaluation: EvaluationSettings,
    /// The trial of a version that the gate lets through.
    #[serde(default)]
    pub canary: CanarySettings,
    /// When a difference to what was learned from is called drift.
    #[serde(default)]
    pub drift: DriftSettings,
    /// What it may take of the machine.
    #[serde(default)]
    pub limits: LimitSettings,
    /// How many of its own versions are kept, those that a route names besides.
    #[serde(default = "default_keep")]
    pub keep: usize,
    /// How many reports are kept.
    #[serde(default = "default_keep_reports")]
    pub keep_reports: usize,
}

/// More exploration for some cycles.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeginningSettings {
    /// Cycles that publish versions of this exploration: the first, and the first after a drift of the rewards.
    pub cycles: u64,
    /// How they explore.
    pub exploration: Exploration,
    /// How the live version explores from a drift of the rewards until the next version, where that is given: a log of little
    /// exploration says too little of what is better now, so the cycle that sees the drift publishes the live model again with
    /// this exploration, and learns nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_drift: Option<Exploration>,
}

/// When a cycle begins: whichever comes first of those that are set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TriggerSettings {
    /// So long after the last cycle's begin, in seconds.
    pub every_seconds: Option<f64>,
    /// After so many new events, decisions and feedback.
    pub after_events: Option<u64>,
    /// How often it looks, in seconds.
    pub poll_seconds: f64,
}

/// What is learned from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataSettings {
    /// How feedback becomes reward; as the live version was trained where absent.
    pub reward: Option<RewardDefinition>,
    /// How long feedback may be on its way, in seconds: a cycle's data end so long before it begins, and sessions with a
    /// decision in so long a time before that end may go on and are left out.
    pub settle_seconds: f64,
    /// Nothing older is learned from, in seconds; everything where absent.
    pub window_seconds: Option<f64>,
    /// Whether what is older than a drift of the rewards is forgotten.
    pub forget_on_drift: bool,
}

/// One way to learn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CandidateSettings {
    /// Its name in reports; the algorithm's where absent.
    #[serde(default)]
    pub name: Option<String>,
    /// A file of training settings as `slated train` takes it, from the folder of this file.
    #[serde(default)]
    pub settings: Option<PathBuf>,
    /// The same in place.
    #[serde(default)]
    pub train: Option<toml::Table>,
    /// Seeds.
    #[serde(default = "default_seeds")]
    pub seeds: Vec<u64>,
}

/// Whether a decision answers for what it leads to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Horizon {
    /// The value is what a decision earns.
    Decision,
    /// The value is the return of a session.
    #[default]
    Session,
}

/// What a candidate must prove, on users whom it has not learned from (`session`) or on later decisions (`decision`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluationSettings {
    /// What a value is.
    pub horizon: Horizon,
    /// The share of the users, or of the decisions, that is kept out of learning for it.
    pub share: f64,
    /// The most sessions to evaluate on.
    pub sessions: usize,
    /// How many random features the value of a session's decisions is linear in.
    pub features: usize,
    /// Seeds the evaluation.
    pub seed: u64,
    /// Whether decisions are made again from their bundles, as the gate's test `replay`.
    pub replay: bool,
    /// The gate.
    pub gate: GateSettings,
    /// The model of the rewards, for `decision`.
    pub reward_model: RewardModelSettings,
}

/// The trial.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CanarySettings {
    /// The share of the users who get the version; 0 promotes without a trial.
    pub share: f64,
    /// It is promoted once it has answered so many requests.
    pub min_requests: u64,
    /// Or left, where it has not after so many seconds.
    pub max_seconds: f64,
    /// What it must keep to meanwhile.
    pub guardrails: Guardrails,
}

/// What the autopilot may take of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    /// Its niceness, 0 to 19: at 19 it gets what others leave.
    pub nice: u8,
    /// The most processors it runs on.
    pub threads: usize,
    /// Memory for joining feedback to decisions; beyond it the join spills to disk.
    pub memory_limit_mib: usize,
}

fn default_service() -> String {
    "http://127.0.0.1:8080".to_owned()
}

fn default_journal() -> PathBuf {
    "journal".into()
}

fn default_models() -> PathBuf {
    "models".into()
}

fn default_folder() -> PathBuf {
    "autopilot".into()
}

const fn default_exploration() -> Exploration {
    Exploration::EpsilonGreedy { epsilon: 0.05 }
}

const fn default_keep() -> usize {
    5
}

const fn default_keep_reports() -> usize {
    100
}

fn default_seeds() -> Vec<u64> {
    vec![1]
}

impl Default for TriggerSettings {
    fn default() -> Self {
        Self { every_seconds: Some(86_400.0), after_events: None, poll_seconds: 5.0 }
    }
}

impl Default for DataSettings {
    fn default() -> Self {
        Self { reward: None, settle_seconds: 60.0, window_seconds: None, forget_on_drift: true }
    }
}

impl Default for EvaluationSettings {
    fn default() -> Self {
        Self {
            horizon: Horizon::default(),
            share: 0.3,
            sessions: SessionEvidenceSettings::MOST,
            features: SessionEvidenceSettings::FEATURES,
            seed: 0,
            replay: true,
            gate: GateSettings::default(),
            reward_model: RewardModelSettings::default(),
        }
    }
}

impl Default for CanarySettings {
    fn default() -> Self {
        Self { share: 0.1, min_requests: 1000, max_seconds: 86_400.0, guardrails: Guardrails::default() }
    }
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self { nice: 19, threads: 1, memory_limit_mib: 512 }
    }
}

/// One candidate: what learns, with one seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Names it in reports and folders.
    pub name: String,
    /// Its training settings, as far as they are given.
    pub table: toml::Table,
    /// Whether it learns from sessions.
    pub offline: bool,
    /// Its seed.
    pub seed: u64,
}

impl AutopilotSettings {
    /// Reads a file; the paths in it are as they stand, those of training settings from the file's folder.
    ///
    /// # Errors
    /// A file that does not read, an unknown key, a value outside its range; the message names it.
    pub fn read(path: &Path) -> Result<Self, AutopilotError> {
        let wrong = |reason: String| AutopilotError::Settings(format!("{}: {reason}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let mut settings: Self = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        for candidate in &mut settings.candidates {
            candidate.settings = candidate.settings.take().map(|file| folder.join(file));
        }
        match settings.problem() {
            Some(problem) => Err(wrong(problem)),
            None => settings.all_candidates().map(drop).map(|()| settings),
        }
    }

    fn problem(&self) -> Option<String> {
        let wrong = |holds: bool, key: &str, value: String, allowed: &str| {
            (!holds).then(|| format!("`{key}` is {value}, {allowed}"))
        };
        let positive = |value: f64| value > 0.0 && value <= MAX_SECONDS;
        let TriggerSettings { every_seconds, after_events, poll_seconds } = self.trigger;
        let none = every_seconds.is_none() && after_events.is_none();
        let above = "it must be above 0 and at most 1e9";
        let checks = [
            wrong(
                check_policy_name(&self.policy).is_ok(),
                "policy",
                format!("`{}`", self.policy),
                "allowed are 1 to 64 letters, digits, `_`, `-` and `.`",
            ),
            none.then(|| "`trigger` needs `every_seconds` or `after_events`".to_owned()),
            every_seconds.and_then(|s| wrong(positive(s), "trigger.every_seconds", s.to_string(), above)),
            after_events.and_then(|n| wrong(n > 0, "trigger.after_events", n.to_string(), "it must be at least 1")),
            wrong(positive(poll_seconds), "trigger.poll_seconds", poll_seconds.to_string(), above),
            wrong(
                (0.0..=MAX_SECONDS).contains(&self.data.settle_seconds),
                "data.settle_seconds",
                self.data.settle_seconds.to_string(),
                "allowed are 0 to 1e9",
            ),
            self.data.window_seconds.and_then(|s| wrong(positive(s), "data.window_seconds", s.to_string(), above)),
            wrong(!self.candidates.is_empty(), "candidates", "empty".to_owned(), "at least one `[[candidates]]` is needed"),
            self.exploration.check().err().map(|error| error.to_string()),
            self.beginning.and_then(|it| it.exploration.check().err()).map(|error| format!("beginning: {error}")),
            self.beginning
                .and_then(|it| it.after_drift?.check().err())
                .map(|error| format!("beginning.after_drift: {error}")),
            matches!(self.exploration, Exploration::Greedy).then(|| {
                "`exploration.method` is greedy: a log of it says nothing of what it never shows; let it explore a little"
                    .to_owned()
            }),
            wrong(
                self.evaluation.share > 0.0 && self.evaluation.share < 1.0,
                "evaluation.share",
                self.evaluation.share.to_string(),
                "allowed is what lies between 0 and 1",
            ),
            wrong(
                self.evaluation.sessions >= 10,
                "evaluation.sessions",
                self.evaluation.sessions.to_string(),
                "it must be at least 10",
            ),
            wrong(
                (0..=2000).contains(&self.evaluation.features),
                "evaluation.features",
                self.evaluation.features.to_string(),
                "allowed are 0 to 2000",
            ),
            wrong(
                (0.0..1.0).contains(&self.canary.share),
                "canary.share",
                self.canary.share.to_string(),
                "allowed are 0 up to below 1",
            ),
            wrong(positive(self.canary.max_seconds), "canary.max_seconds", self.canary.max_seconds.to_string(), above),
            self.canary.guardrails.check().err().map(|error| format!("canary.guardrails: {error}")),
            self.drift.problem(),
            wrong(self.limits.nice <= 19, "limits.nice", self.limits.nice.to_string(), "allowed are 0 to 19"),
            wrong(self.limits.threads > 0, "limits.threads", self.limits.threads.to_string(), "it must be at least 1"),
            wrong(
                self.limits.memory_limit_mib >= 64,
                "limits.memory_limit_mib",
                self.limits.memory_limit_mib.to_string(),
                "it must be at least 64",
            ),
            wrong(self.keep > 0, "keep", self.keep.to_string(), "it must be at least 1"),
            wrong(self.keep_reports > 0, "keep_reports", self.keep_reports.to_string(), "it must be at least 1"),
        ];
        checks.into_iter().flatten().next()
    }

    /// Every candidate with each of its seeds, in the order of the file.
    ///
    /// # Errors
    /// Training settings that do not read, by the candidate's place.
    pub fn all_candidates(&self) -> Result<Vec<Candidate>, AutopilotError> {
        let mut all: Vec<Candidate> = Vec::new();
        for (place, given) in self.candidates.iter().enumerate() {
            let wrong = |reason: String| AutopilotError::Settings(format!("`candidates[{place}]`: {reason}"));
            let table = match (&given.settings, &given.train) {
                (Some(path), None) => {
                    let text = std::fs::read_to_string(path);
                    let text = text.map_err(|error| wrong(format!("{}: {error}", path.display())))?;
                    text.parse::<toml::Table>().map_err(|error| wrong(format!("{}: {error}", path.display())))?
                }
                (None, Some(table)) => table.clone(),
                _ => return Err(wrong("give either `settings`, a file, or `train`, a table".to_owned())),
            };
            if let Some(key) =
                ["environment", "policy", "data", "seed", "exploration"].iter().find(|key| table.contains_key(**key))
            {
                return Err(wrong(format!("`{key}` is for the autopilot to say; leave it out")));
            }
            let algorithm = table.get("algorithm").and_then(|table| table.get("name")).and_then(toml::Value::as_str);
            let algorithm = algorithm.ok_or_else(|| wrong("`algorithm.name` is missing".to_owned()))?;
            let offline = OfflineAlgorithm::NAMES.contains(&algorithm);
            let name = given.name.as_deref().unwrap_or(algorithm);
            if check_policy_name(name).is_err() {
                return Err(wrong(format!("`name` is `{name}`, allowed are letters, digits, `_`, `-` and `.`")));
            }
            for &seed in &given.seeds {
                let name = format!("{name}-{seed}");
                if all.iter().any(|known| known.name == name) {
                    return Err(wrong(format!(
                        "there is a candidate `{name}` already; give each a `name` or seeds of its own"
                    )));
                }
                all.push(Candidate { name, table: table.clone(), offline, seed });
            }
            if given.seeds.is_empty() {
                return Err(wrong("`seeds` is empty".to_owned()));
            }
        }
        // What cannot be read now would otherwise fail in the middle of the first cycle.
        for candidate in &all {
            if !candidate.offline && self.evaluation.horizon == Horizon::Session {
                return Err(AutopilotError::Settings(format!(
                    "candidate `{}` learns decision by decision: set `evaluation.horizon = \"decision\"`",
                    candidate.name
                )));
            }
            let mut table = candidate.table.clone();
            table.insert("policy".to_owned(), self.policy.as_str().into());
            let wrong = |error: &dyn std::fmt::Display| {
                AutopilotError::Settings(format!("candidate `{}`: {error}", candidate.name))
            };
            if candidate.offline {
                let settings: OfflineSettings = table.try_into().map_err(|error| wrong(&error))?;
                if let Some(problem) = settings.problem() {
                    return Err(wrong(&problem));
                }
            } else {
                let data = toml::Table::from_iter([("journal".to_owned(), toml::Value::from("journal"))]);
                table.insert("data".to_owned(), data.into());
                let _: TrainSettings = table.try_into().map_err(|error| wrong(&error))?;
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(settings: &str) -> Result<AutopilotSettings, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("autopilot.toml");
        std::fs::write(&path, settings).unwrap();
        std::fs::write(folder.path().join("cql.toml"), "algorithm = { name = \"cql\", discount = 0.9 }").unwrap();
        AutopilotSettings::read(&path).map_err(|error| error.to_string())
    }

    const GOOD: &str = "policy = \"p\"\n[[candidates]]\nsettings = \"cql.toml\"\nseeds = [1, 2]\n";

    #[test]
    fn a_candidate_is_settings_and_a_seed() {
        let candidates = read(GOOD).unwrap();
        assert_eq!(candidates.limits.nice, 19);
        // The file is gone with its folder; a table in place stays.
        let in_place = "policy = \"p\"\n[[candidates]]\ntrain = { algorithm = { name = \"dqn\" } }\nseeds = [3, 4]\n";
        let names: Vec<String> =
            read(in_place).unwrap().all_candidates().unwrap().into_iter().map(|one| one.name).collect();
        assert_eq!(names, ["dqn-3", "dqn-4"]);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let cases = [
            ("kep = 3", "unknown field `kep`"),
            ("keep = 0", "`keep` is 0"),
            ("trigger = { every_seconds = 0.0 }", "`trigger.every_seconds` is 0"),
            ("exploration = { method = \"greedy\" }", "`exploration.method` is greedy"),
            ("exploration = { method = \"epsilon_greedy\", epsilon = 2.0 }", "`epsilon` is 2"),
            ("evaluation = { share = 1.0 }", "`evaluation.share` is 1"),
            ("canary = { share = 1.0 }", "`canary.share` is 1"),
            ("canary = { guardrails = { max_error_rate = 7.0 } }", "`max_error_rate` is 7"),
            ("drift = { confidence = 1.0 }", "`drift.confidence` is 1"),
            ("limits = { nice = 20 }", "`limits.nice` is 20"),
            ("data = { window_seconds = 1e300 }", "`data.window_seconds`"),
        ];
        for (line, words) in cases {
            let error = read(&format!("{line}\n{GOOD}")).unwrap_err();
            assert!(error.contains(words) && error.contains("autopilot.toml"), "{words} is not in {error}");
        }
        let candidates = [
            ("settings = \"none.toml\"", "none.toml"),
            ("seeds = []\ntrain = { algorithm = { name = \"dqn\" } }", "`seeds` is empty"),
            ("train = { seed = 1, algorithm = { name = \"dqn\" } }", "`seed` is for the autopilot"),
            ("train = { updates = 1 }", "`algorithm.name` is missing"),
            ("train = { algorithm = { name = \"dqn\", discount = 7.0 } }", "discount"),
            ("train = { algorithm = { name = \"linucb\" } }", "evaluation.horizon"),
            ("train = { epochs = 1, algorithm = { name = \"dqn\" } }", "epochs"),
        ];
        for (candidate, words) in candidates {
            let error = read(&format!("policy = \"p\"\n[[candidates]]\n{candidate}\n")).unwrap_err();
            assert!(error.contains(words) && error.contains("candidate"), "{words} is not in {error}");
        }
    }
}
