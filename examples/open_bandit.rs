//! Off-policy evaluation on real data: `make evaluation`.
//!
//! For each campaign of the Open Bandit Dataset, the random policy's log is asked what the deployed Bernoulli Thompson
//! sampling policy would earn, and the answer held against what it did earn in its own log, as the dataset's paper does
//! (Saito, Aihara, Matsutani & Narita 2021, arXiv:2008.07146). Then each bandit learner is trained from the first half of
//! the random log and evaluated on the other half. Prints Markdown.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::{Context, bail};
use serde_json::json;
use slated::evaluation::{EvidenceSettings, RewardModel, gather};
use slated::journal::import::{CampaignLog, find_logs, import_log};
use slated::serving::{EngineSettings, LoadedPolicy};
use slated_contract::policy::BundleWriter;
use slated_trainer::dataset::{Dataset, DatasetSettings, Round, SchemaInference};
use slated_trainer::offline::{OfflineOutcome, OfflineSettings, read_journal, train_offline};
use slated_trainer::online::Unobserved;
use slated_trainer::ope::gate::{Evidence, Figure, GateSettings, judge};
use slated_trainer::ope::reward_model::RewardModelSettings;
use slated_trainer::ope::single::*;
use slated_trainer::ope::{Contributions, Estimate, Estimator, IntervalSettings, Slope, estimate};
use slated_trainer::progress::Silent;
use slated_trainer::train::{AlgorithmSettings, Outcome, Start, TrainSettings, train};

const ROWS: &str = ".slated/open-bandit";
const CAMPAIGNS: [&str; 3] = ["all", "men", "women"];

fn main() -> anyhow::Result<()> {
    let work = tempfile::tempdir()?;
    let logs = find_logs(Path::new(ROWS)).context("run `make setup` first")?;
    let log = |policy: &str, campaign: &str| {
        let found = logs.iter().find(|log| log.policy == policy && log.campaign == campaign);
        found.with_context(|| format!("{ROWS} lacks the log of `{policy}` on `{campaign}`"))
    };
    let runtime = tokio::runtime::Runtime::new()?;
    println!("Clicks an impression, in thousandths, with 95% intervals (bootstrap).\n");
    deployed(&runtime, work.path(), log)?;
    println!();
    learned(&runtime, work.path(), log)
}

fn settings(journal: &Path) -> anyhow::Result<DatasetSettings> {
    Ok(serde_json::from_value(json!({ "journal": journal }))?)
}

/// Imports a log into a journal of its own.
fn import(log: &CampaignLog, work: &Path, name: &str) -> anyhow::Result<DatasetSettings> {
    let journal = work.join("journals").join(name);
    let report = import_log(log, &journal, &mut || {})?;
    if report.refused > 0 {
        bail!("{}: {} rows were refused", report.file, report.refused);
    }
    settings(&journal)
}

async fn rounds(data: &DatasetSettings) -> anyhow::Result<Vec<Round>> {
    let mut dataset = Dataset::open(data).await?;
    let mut rounds = Vec::new();
    while let Some(batch) = dataset.next().await? {
        rounds.extend(batch);
    }
    Ok(rounds)
}

/// The probabilities of a policy that looks at the position alone, averaged over the time of its log: how often it showed
/// each item there. The deployed policy went on learning, so the propensity of an item changes from row to row, and only
/// that of the item shown is logged.
fn policy_by_position(rounds: &[Round]) -> anyhow::Result<HashMap<i32, Vec<f64>>> {
    let mut shares: HashMap<i32, Vec<f64>> = HashMap::new();
    for Round { decision, .. } in rounds {
        let shown = &decision.slate[0];
        let index = decision.candidates.iter().position(|candidate| candidate.item == shown.item);
        let counts = shares.entry(shown.position).or_insert_with(|| vec![0.0; decision.candidates.len()]);
        counts[index.context("an item that is no candidate was shown")?] += 1.0;
    }
    for counts in shares.values_mut() {
        let total: f64 = counts.iter().sum();
        counts.iter_mut().for_each(|count| *count /= total);
    }
    Ok(shares)
}

type Estimators = Vec<Box<dyn Estimator<SingleLog>>>;

fn estimators() -> Estimators {
    vec![
        Box::new(Ips),
        Box::new(SelfNormalisedIps),
        Box::new(DirectMethod),
        Box::new(DoublyRobust),
        Box::new(SelfNormalisedDoublyRobust),
        Box::new(Slope::switch_dr()),
        Box::new(Slope::optimistic_shrinkage()),
    ]
}

fn cell(estimate: &Estimate) -> String {
    let [value, lower, upper] = [estimate.value, estimate.interval.lower, estimate.interval.upper].map(|x| 1000.0 * x);
    format!("{value:.2} [{lower:.2}, {upper:.2}]")
}

/// The deployed policy, from the random log and from its own.
fn deployed<'a>(
    runtime: &tokio::runtime::Runtime,
    work: &Path,
    log: impl Fn(&str, &str) -> anyhow::Result<&'a CampaignLog>,
) -> anyhow::Result<()> {
    let interval = IntervalSettings::default();
    let mut columns = Vec::new();
    for campaign in CAMPAIGNS {
        let random = import(log("random", campaign)?, work, &format!("random-{campaign}"))?;
        let own = import(log("bts", campaign)?, work, &format!("bts-{campaign}"))?;
        let (random_rounds, own_rounds) = (runtime.block_on(rounds(&random))?, runtime.block_on(rounds(&own))?);
        let policy = policy_by_position(&own_rounds)?;
        let mut inference = SchemaInference::default();
        random_rounds.iter().try_for_each(|round| inference.add(round))?;
        let mut model = RewardModel::new(&inference.schema(), RewardModelSettings::default())?;
        runtime.block_on(model.fit(&random, &mut Silent))?;
        let mut single = SingleLog::new();
        for round in &random_rounds {
            let shown = &round.decision.slate[0];
            let index = round.decision.candidates.iter().position(|candidate| candidate.item == shown.item);
            single.push(&SingleRound {
                id: &round.decision.decision_id,
                reward: round.rewards[0],
                propensity: round.decision.propensity,
                shown: index.unwrap_or_default(),
                evaluation: &policy[&shown.position],
                predictions: Some(&model.predict(round)?[0]),
                ..SingleRound::default()
            })?;
        }
        let mean = |rounds: &[Round]| {
            let rewards = Contributions::mean(rounds.iter().map(|round| round.rewards[0]).collect());
            estimate("mean".to_owned(), &rewards, &single, &interval)
        };
        let truth = mean(&own_rounds)?;
        let mut column = vec![cell(&mean(&random_rounds)?), cell(&truth)];
        for estimator in estimators() {
            let estimate = estimator.estimate(&single, &interval)?;
            let error = (estimate.value - truth.value).abs() / truth.value;
            column.push(format!("{} {:.0}%", cell(&estimate), 100.0 * error));
        }
        let weights = single.diagnostics()?.weights;
        column.push(format!("{:.0} of {}", weights.effective_sample_size, weights.rows));
        column.push(format!("{:.1}", weights.largest));
        columns.push(column);
    }
    println!("| | {} |\n|---|---|---|---|", CAMPAIGNS.join(" | "));
    let mut names = vec!["random policy, on its own log".to_owned(), "Bernoulli TS, on its own log".to_owned()];
    names.extend(
        estimators().iter().map(|estimator| format!("Bernoulli TS from the random log: `{}`", estimator.name())),
    );
    names.extend(["effective sample size".to_owned(), "largest weight".to_owned()]);
    for (row, name) in names.iter().enumerate() {
        let cells: Vec<&str> = columns.iter().map(|column: &Vec<String>| column[row].as_str()).collect();
        println!("| {name} | {} |", cells.join(" | "));
    }
    Ok(())
}

/// The learners, each with its settings.
/// What learns.
enum Learns {
    /// A bandit, by regression.
    Bandit(AlgorithmSettings),
    /// A policy's network, by gradient steps over the log.
    FromLog(Box<OfflineSettings>),
}

impl Learns {
    /// Trains and publishes a policy of this name.
    fn train(self, policy: &str, data: &DatasetSettings, models: &Path) -> anyhow::Result<()> {
        let stop = AtomicBool::new(false);
        let (manifest, model) = match self {
            Self::Bandit(algorithm) => {
                let mut training: TrainSettings = serde_json::from_value(json!({"policy": policy, "data": data}))?;
                training.algorithm = algorithm;
                let start = Start { version: 1, ..Start::default() };
                let Outcome::Finished(trained) = train(&training, start, &mut Silent, &stop)? else {
                    bail!("training was interrupted");
                };
                (trained.manifest, trained.model)
            }
            Self::FromLog(settings) => {
                let settings = OfflineSettings { policy: policy.to_owned(), data: Some(data.clone()), ..*settings };
                let (experience, _) = read_journal(&settings, &mut Silent)?;
                let outcome = train_offline(&settings, &experience, 1, None, &mut Unobserved, &stop)?;
                let OfflineOutcome::Finished(trained) = outcome else { bail!("training was interrupted") };
                (trained.manifest, trained.model)
            }
        };
        BundleWriter::stage(models, &manifest, &model, None)?.publish()?;
        Ok(())
    }
}

/// Those that learn by gradient steps, all with the same network and steps; what weighs shows what it has learned to draw.
fn from_log() -> anyhow::Result<Vec<(&'static str, Learns)>> {
    let drawn = json!({"method": "softmax", "temperature": 1.0});
    let greedy = json!({"method": "epsilon_greedy", "epsilon": 0.05});
    [("ips", &drawn), ("doubly_robust", &drawn), ("top_k", &drawn), ("direct", &greedy)]
        .into_iter()
        .map(|(name, exploration)| {
            let optimisation = json!({"batch": 1024, "final_rate": 0.1, "adam": {"learning_rate": 1e-3}});
            let algorithm = json!({"name": name, "network": {"hidden": [32]}, "optimisation": optimisation});
            let settings = json!({
                "policy": "p", "updates": 500, "algorithm": algorithm, "exploration": exploration,
                "episodes": {"validation": 0.0},
            });
            Ok((name, Learns::FromLog(serde_json::from_value(settings)?)))
        })
        .collect()
}

fn learners() -> anyhow::Result<Vec<(&'static str, Learns)>> {
    // One impression in some 200 is clicked: what is explored with has the spread of such a reward, and not of one.
    [
        ("epsilon_greedy", json!({"name": "epsilon_greedy", "prior_mean": 0.004, "prior_weight": 200.0})),
        ("ucb1, scale 0.05", json!({"name": "ucb1", "scale": 0.05})),
        (
            "bernoulli_thompson, Beta(1, 250)",
            json!({"name": "bernoulli_thompson", "successes": 1.0, "failures": 250.0}),
        ),
        ("linucb, alpha 0.05", json!({"name": "linucb", "alpha": 0.05, "interaction": "additive"})),
        ("linucb, alpha 0.05, outer", json!({"name": "linucb", "alpha": 0.05, "interaction": "outer"})),
        ("linear_thompson, scale 0.07", json!({"name": "linear_thompson", "scale": 0.07, "interaction": "additive"})),
        (
            "linear_thompson, scale 0.07, outer",
            json!({"name": "linear_thompson", "scale": 0.07, "interaction": "outer"}),
        ),
        ("square_cb, gamma 10000", json!({"name": "square_cb", "gamma": 10000.0, "interaction": "additive"})),
        ("bootstrap_ensemble", json!({"name": "bootstrap_ensemble", "interaction": "additive"})),
        ("neural_linear, scale 0.07", json!({"name": "neural_linear", "scale": 0.07})),
    ]
    .into_iter()
    .map(|(name, value)| Ok((name, Learns::Bandit(serde_json::from_value(value)?))))
    .chain(from_log()?.into_iter().map(Ok))
    .collect()
}

/// A log cut in two: the first half of its rows, and the rest.
fn halves(log: &CampaignLog, work: &Path) -> anyhow::Result<[CampaignLog; 2]> {
    let text = fs::read_to_string(log.folder.join(format!("{}.csv", log.campaign)))?;
    let (header, rows) = text.split_once('\n').context("a log without header")?;
    let rows: Vec<&str> = rows.lines().collect();
    let (first, second) = rows.split_at(rows.len() / 2);
    let write = |name: &str, rows: &[&str]| -> anyhow::Result<CampaignLog> {
        let folder: PathBuf = work.join(name).join(&log.policy).join(&log.campaign);
        fs::create_dir_all(&folder)?;
        fs::copy(log.folder.join("item_context.csv"), folder.join("item_context.csv"))?;
        fs::write(folder.join(format!("{}.csv", log.campaign)), format!("{header}\n{}\n", rows.join("\n")))?;
        Ok(CampaignLog { folder, ..log.clone() })
    };
    Ok([write("first", first)?, write("second", second)?])
}

/// Each learner, trained from the first half of the random log and evaluated on the second.
fn learned<'a>(
    runtime: &tokio::runtime::Runtime,
    work: &Path,
    log: impl Fn(&str, &str) -> anyhow::Result<&'a CampaignLog>,
) -> anyhow::Result<()> {
    println!("| campaign | learner | `dr` | `snips` | improvement over random, `dr` | effective sample size | gate |");
    println!("|---|---|---|---|---|---|---|");
    let models = work.join("models");
    for campaign in CAMPAIGNS {
        let [first, second] = halves(log("random", campaign)?, work)?;
        let data = import(&first, work, &format!("first-{campaign}"))?;
        let held_out = import(&second, work, &format!("second-{campaign}"))?;
        for (index, (name, learns)) in learners()?.into_iter().enumerate() {
            let policy = format!("{campaign}-{index}");
            learns.train(&policy, &data, &models)?;
            let engine = EngineSettings { max_batch: 128, ..EngineSettings::default() };
            let policy = LoadedPolicy::load(&models, &policy, None, &engine)?;
            let settings =
                EvidenceSettings { data: held_out.clone(), reward_model: RewardModelSettings::default(), seed: 0 };
            let evidence: Evidence = runtime.block_on(gather(&policy, None, &settings, None, &mut Silent))?.evidence;
            let verdict = judge(&evidence, None, (name, "random"), &GateSettings::default())?;
            let figure = |figure: &Figure| figure.estimate().map_or_else(|| figure.to_string(), cell);
            let by = |name: &str| verdict.comparisons.iter().find(|row| row.estimator == name);
            let of = |name: &str| by(name).map_or_else(String::new, |row| figure(&row.candidate));
            println!(
                "| {campaign} | {name} | {} | {} | {} | {:.0} of {} | {} |",
                of("dr"),
                of("snips"),
                by("dr").map_or_else(String::new, |row| figure(&row.improvement)),
                verdict.diagnostics.weights.effective_sample_size,
                verdict.rows,
                if verdict.passed() { "passed".to_owned() } else { format!("no: {}", verdict.failed().join(", ")) },
            );
        }
    }
    Ok(())
}
