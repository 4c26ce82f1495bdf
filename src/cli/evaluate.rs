//! `slated evaluate`: the gate.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde::Deserialize;
use slated_contract::policy::{Bundle, record_evaluation};
use slated_contract::reward::RewardDefinition;
use slated_trainer::bandit::LearnerState;
use slated_trainer::dataset::DatasetSettings;
use slated_trainer::ope::gate::{GateSettings, Verdict, judge};
use slated_trainer::ope::reward_model::RewardModelSettings;
use slated_trainer::ope::slate::Dependence;
use slated_trainer::ope::{IntervalMethod, IntervalSettings};

use super::Global;
use super::exit::Refused;
use super::progress::Drawn;
use crate::evaluation::{EvidenceSettings, Gathered, SessionEvidenceSettings, evaluations, gather, gather_sessions};
use crate::journal::verify::{Verifier, VerifySettings};
use crate::serving::{EngineSettings, LoadedPolicy};
use crate::settings::Flag;

/// Whatever was logged, as a baseline.
const LOGGED: &str = "logged";

/// Say from the log whether a policy is better than the one it would replace.
///
/// Ends with 0 only where the evidence supports it: the lower bound of the improvement, the effective sample size, the
/// support, the calibration of the logged propensities and the replay of the log must all hold. Otherwise it says which
/// test failed and what would help, and ends with 5.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slated evaluate --policy shop:2 --baseline shop:1
  slated evaluate --policy shop --baseline logged --threshold 0.001 --write
  slated evaluate --policy shop:2 --baseline shop:1 --horizon session
  slated evaluate --policy shop --settings evaluate.toml --json

A settings file holds the same and more:
  seed = 0
  [data]
  reward = { weights = { click = 1.0, purchase = 10.0 }, wait_seconds = 3600.0 }
  policy = \"shop\"          # only decisions of this policy
  [gate]
  threshold = 0.0
  min_effective_sample_size = 100.0
  interval = { confidence = 0.95, method = { name = \"student_t\" } }
  [reward_model]
  kind = \"ridge\"
  lambda = 1.0
  folds = 3")]
pub struct EvaluateArgs {
    /// The policy that wants to be promoted; the latest version where none is given.
    #[arg(long, value_name = "NAME[:VERSION]")]
    policy: String,
    /// The policy it would replace, or `logged` for whatever was logged.
    #[arg(long, value_name = "NAME[:VERSION]|logged", default_value = LOGGED)]
    baseline: String,
    /// Evaluation settings in TOML; the flags below go over them.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Folder of the journal, or its address in an object store.
    #[arg(long, value_name = "DIR|URL")]
    journal: Option<PathBuf>,
    /// Memory for joining feedback to decisions; beyond it the join spills to disk.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(64..))]
    memory_limit: Option<u32>,
    /// Folder of policy bundles.
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// Only decisions of this policy.
    #[arg(long, value_name = "NAME")]
    log_policy: Option<String>,
    /// Only decisions that this wrote, such as `service` or `import:open-bandit`.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Evaluate also on decisions that the policy has learned from: its figures will be too good.
    #[arg(long)]
    include_learned: bool,
    /// What the lower bound of the improvement must exceed, in reward a decision.
    #[arg(long, value_name = "REWARD")]
    threshold: Option<f64>,
    /// The intervals' confidence, such as 0.95.
    #[arg(long, value_name = "SHARE")]
    confidence: Option<f64>,
    /// How intervals are made.
    #[arg(long, value_name = "METHOD")]
    interval: Option<IntervalName>,
    /// For slates: what the reward of an item may depend on.
    #[arg(long, value_name = "WHAT")]
    reward_depends_on: Option<DependenceName>,
    /// Whether a policy's value is what its decisions earn, or the return of whole sessions, in which a decision answers for
    /// what it leads to; for slates of one item.
    #[arg(long, value_name = "WHAT", default_value = "decision")]
    horizon: Horizon,
    /// Do not replay the log; the verdict says so.
    #[arg(long)]
    no_replay: bool,
    /// Where the report goes.
    #[arg(long, value_name = "FILE", default_value = "evaluation.html")]
    html: PathBuf,
    /// Print the verdict as JSON.
    #[arg(long)]
    json: bool,
    /// Put the result into the policy's manifest, whatever it is.
    #[arg(long)]
    write: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Horizon {
    /// Each decision by itself.
    Decision,
    /// Whole sessions.
    Session,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum IntervalName {
    Bootstrap,
    StudentT,
    EmpiricalBernstein,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DependenceName {
    /// The whole slate: no assumption, and by far the most data.
    Slate,
    /// The item and those above it.
    Cascade,
    /// The item and its position.
    Position,
}

/// What a settings file holds.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileSettings {
    seed: u64,
    data: FileData,
    gate: GateSettings,
    reward_model: RewardModelSettings,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileData {
    journal: Option<PathBuf>,
    cache: Option<PathBuf>,
    reward: Option<RewardDefinition>,
    policy: Option<String>,
    source: Option<String>,
    memory_limit_mib: Option<usize>,
}

/// Evaluates, reports, and says no where the evidence does not suffice.
pub fn run(global: &Global, args: &EvaluateArgs) -> anyhow::Result<()> {
    let flags =
        [Flag::given("models.folder", args.models.as_ref()), Flag::given("journal.folder", args.journal.as_ref())];
    let service = global.start(flags)?.settings;
    let models = &service.models.folder;
    let file = read_settings(args.settings.as_deref())?;
    let gate = gate_settings(file.gate, args);
    gate.interval.check()?;
    let candidate = load(models, &args.policy)?;
    let baseline = if args.baseline == LOGGED { None } else { Some(load(models, &args.baseline)?) };
    let after = if args.include_learned { None } else { learned_until(models, &candidate)? };
    if let Some((time, _)) = &after {
        eprintln!("evaluating on decisions after {time}, the last that the policy has learned from");
    }
    let FileData { journal, cache, reward, policy, source, memory_limit_mib } = file.data;
    let journal = args.journal.clone().or(journal).unwrap_or(service.journal.folder);
    let mut data: DatasetSettings = serde_json::from_value(serde_json::json!({ "journal": journal }))?;
    let learned_for = candidate.manifest.training.as_ref().map(|training| training.reward.clone());
    data.reward = reward.or(learned_for).unwrap_or_default();
    data.policy = args.log_policy.clone().or(policy);
    data.source = args.source.clone().or(source);
    data.after = after;
    data.cache = cache;
    data.memory_limit_mib =
        args.memory_limit.map(|mib| mib as usize).or(memory_limit_mib).unwrap_or(data.memory_limit_mib);
    let verify = VerifySettings { models: models.clone(), tolerance: 1e-6, service_seed: None };
    let verifier = if args.no_replay { None } else { Some(Verifier::new(verify)?) };
    let settings = EvidenceSettings { data, reward_model: file.reward_model, seed: file.seed };

    let runtime = tokio::runtime::Runtime::new().context("cannot start the reader")?;
    let mut progress = Drawn::default();
    let gathered = runtime.block_on(async {
        match args.horizon {
            Horizon::Decision => gather(&candidate, baseline.as_ref(), &settings, verifier, &mut progress).await,
            Horizon::Session => {
                let sessions = SessionEvidenceSettings::of(settings.data, settings.seed);
                let policies: Vec<&LoadedPolicy> = [&candidate].into_iter().chain(&baseline).collect();
                let gathered = gather_sessions(&policies, &sessions, verifier, &mut progress).await?;
                Ok(gathered.pair(0, baseline.as_ref().map(|_| 1)))
            }
        }
    });
    progress.finish();
    let gathered = gathered?;
    let names = (title(&candidate), baseline.as_ref().map_or_else(|| LOGGED.to_owned(), title));
    let replay = gathered.replay.as_ref().map(|replay| replay.counts());
    let verdict = judge(&gathered.evidence, replay, (&names.0, &names.1), &gate)?;
    report(args, &gathered, &verdict)?;
    if args.write {
        let folder = models.join(&candidate.manifest.name).join(candidate.manifest.version.to_string());
        record_evaluation(&folder, evaluations(&verdict, &gathered.digest))?;
        eprintln!("wrote {}", folder.join(slated_contract::policy::MANIFEST).display());
    }
    if verdict.passed() {
        return Ok(());
    }
    let failed = verdict.failed().join(", ");
    Err(Refused(format!("the evidence does not support {} over {}: {failed}", names.0, names.1)).into())
}

fn report(args: &EvaluateArgs, gathered: &Gathered, verdict: &Verdict) -> anyhow::Result<()> {
    fs::write(&args.html, verdict.html()).with_context(|| format!("{} cannot be written", args.html.display()))?;
    if args.json {
        let value = serde_json::json!({
            "passed": verdict.passed(),
            "verdict": verdict,
            "dataset": gathered.summary,
            "excluded": gathered.excluded,
            "data_digest": gathered.digest,
            "replay": gathered.replay,
        });
        println!("{value:#}");
    } else {
        println!("{}", gathered.summary);
        for (why, count) in &gathered.excluded {
            println!("left out             {count:>10}  {why}");
        }
        println!("\n{verdict}");
    }
    eprintln!("wrote {}", args.html.display());
    Ok(())
}

fn read_settings(path: Option<&Path>) -> anyhow::Result<FileSettings> {
    let Some(path) = path else { return Ok(FileSettings::default()) };
    let text = fs::read_to_string(path).with_context(|| format!("{}: the settings cannot be read", path.display()))?;
    toml::from_str(&text).with_context(|| path.display().to_string())
}

fn gate_settings(mut gate: GateSettings, args: &EvaluateArgs) -> GateSettings {
    gate.threshold = args.threshold.unwrap_or(gate.threshold);
    let IntervalSettings { confidence, method } = gate.interval;
    gate.interval.confidence = args.confidence.unwrap_or(confidence);
    gate.interval.method = match args.interval {
        // A bootstrap's own settings in the file stay.
        Some(IntervalName::Bootstrap) if matches!(method, IntervalMethod::Bootstrap { .. }) => method,
        Some(IntervalName::Bootstrap) => IntervalMethod::bootstrap(),
        Some(IntervalName::StudentT) => IntervalMethod::StudentT,
        Some(IntervalName::EmpiricalBernstein) if matches!(method, IntervalMethod::EmpiricalBernstein { .. }) => method,
        Some(IntervalName::EmpiricalBernstein) => IntervalMethod::EmpiricalBernstein { range: None },
        None => method,
    };
    gate.dependence = match args.reward_depends_on {
        Some(DependenceName::Slate) => Dependence::Slate,
        Some(DependenceName::Cascade) => Dependence::Cascade,
        Some(DependenceName::Position) => Dependence::Position,
        None => gate.dependence,
    };
    gate
}

/// Loads `NAME` or `NAME:VERSION`.
fn load(models: &Path, policy: &str) -> anyhow::Result<LoadedPolicy> {
    let (name, version) = match policy.split_once(':') {
        Some((name, version)) => {
            let number = version.parse::<u64>();
            (name, Some(number.with_context(|| format!("`{policy}`: the version `{version}` is not a number"))?))
        }
        None => (policy, None),
    };
    let engine = EngineSettings { max_batch: 64, ..EngineSettings::default() };
    Ok(LoadedPolicy::load(models, name, version, &engine)?)
}

fn title(policy: &LoadedPolicy) -> String {
    format!("{}:{}", policy.manifest.name, policy.manifest.version)
}

/// The last decision that a policy has learned from, where its bundle says so.
fn learned_until(
    models: &Path,
    policy: &LoadedPolicy,
) -> anyhow::Result<Option<(chrono::DateTime<chrono::Utc>, String)>> {
    let learner = Bundle::open(models, &policy.manifest.name, Some(policy.manifest.version))?.learner()?;
    // Learners without a state to go on from leave it in the manifest.
    let recorded = policy.manifest.training.as_ref().and_then(|training| training.learned_until.clone());
    let recorded = recorded.map(|until| (until.time, until.decision_id));
    Ok(learner.and_then(|bytes| LearnerState::decode(&bytes).ok()).and_then(|state| state.notes.until).or(recorded))
}
