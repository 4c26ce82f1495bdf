//! `slated train`.

mod offline;
mod online;
#[cfg(feature = "compat")]
mod personalizer;

pub(super) use offline::train_and_publish_offline;
pub(super) use online::{PublishedOnline, baseline, train_and_publish_online};

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use clap::{Args, ValueEnum};
use slated_contract::policy::{Bundle, BundleWriter, Manifest, latest_version, versions};
use slated_trainer::offline::{OfflineAlgorithm, OfflineSettings, check_offline, read_journal};
use slated_trainer::online::OnlineSettings;
use slated_trainer::rollout::Summary;
use slated_trainer::train::{AlgorithmSettings, Outcome, Start, TrainSettings, Trained, train};

use super::Global;
use super::exit::{BadInput, Interrupted};
use super::progress::Drawn;
use crate::serving::{EngineSettings, LoadedPolicy, library};
use crate::settings::Flag;

/// Learn a policy, from the journal or in a simulated environment, and write it as a bundle.
///
/// Ctrl-C leaves a checkpoint; the same command goes on from it to the same result.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slated train --policy open-bandit
  slated train --policy open-bandit --algorithm linucb --interaction additive --seed 7
  slated train --policy open-bandit --algorithm bernoulli_thompson
  slated train --policy open-bandit --continue
  slated train --settings train.toml
  slated train --policy lts --environment lts-tutorial --algorithm dqn --run runs/lts
  slated train --policy shop --algorithm cql --journal journal
  slated train --personalizer

A settings file for learning from the journal holds the same and more:
  policy = \"open-bandit\"
  seed = 1
  algorithm = { name = \"linucb\", alpha = 1.0, lambda = 1.0, interaction = \"outer\" }
  [data]
  journal = \"journal\"
  reward = { weights = { click = 1.0, purchase = 10.0 }, aggregation = \"sum\", wait_seconds = 3600.0 }
  [exploration]
  method = \"softmax\"
  temperature = 0.1

With one of the algorithms dqn, slate_q, bc, marwil, bcq, cql, iql, awac and crr, and without `environment`, the journal is
learned from session by session; docs/offline.md lists the keys:
  policy = \"shop\"
  updates = 20000
  algorithm = { name = \"cql\", discount = 0.99, alpha = 0.1 }
  episodes = { gap_seconds = 1800, validation = 0.1 }
  [data]
  journal = \"journal\"

A settings file with `environment` learns by interaction; docs/learning.md lists its keys:
  policy = \"lts\"
  environment = \"lts-tutorial\"
  steps = 40000
  algorithm = { name = \"dqn\", discount = 0.99, network = { hidden = [128, 128] } }")]
pub struct TrainArgs {
    /// Training settings in TOML; the flags below go over them.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Name of the policy.
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// What learns.
    #[arg(long, value_name = "NAME")]
    algorithm: Option<AlgorithmName>,
    /// How state and item interact.
    #[arg(long, value_name = "KIND")]
    interaction: Option<InteractionName>,
    /// Seed of every random choice.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Environment to learn in by interaction, instead of from the journal: the name of a preset.
    #[arg(long, value_name = "PRESET")]
    environment: Option<String>,
    /// Folder for the report of a run in an environment or over sessions; `runs/<policy>-<version>` where absent.
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Folder of the journal, or its address in an object store.
    #[arg(long, value_name = "DIR|URL")]
    journal: Option<PathBuf>,
    /// Memory for joining feedback to decisions; beyond it the join spills to disk.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(64..))]
    memory_limit: Option<u32>,
    /// Folder of policy bundles.
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// Learn as the Personalizer's routes say: their reward, learning settings and exploration, and the features of the
    /// policy's latest version, wherever the settings do not say otherwise.
    #[cfg(feature = "compat")]
    #[arg(long)]
    personalizer: bool,
    /// Go on from the latest version: learn only what was decided after it.
    #[arg(long = "continue")]
    continue_latest: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum AlgorithmName {
    EpsilonGreedy,
    Ucb1,
    BernoulliThompson,
    Linucb,
    LinearThompson,
    SquareCb,
    NeuralLinear,
    BootstrapEnsemble,
    Dqn,
    SlateQ,
    Bc,
    Marwil,
    Bcq,
    Cql,
    Iql,
    Awac,
    Crr,
    Ips,
    DoublyRobust,
    TopK,
    Direct,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum InteractionName {
    Additive,
    Outer,
}

/// Trains, proves the bundle in ONNX Runtime, and publishes it.
pub fn run(global: &Global, args: &TrainArgs) -> anyhow::Result<()> {
    let flags =
        [Flag::given("models.folder", args.models.as_ref()), Flag::given("journal.folder", args.journal.as_ref())];
    let service = global.start(flags)?.settings;
    let table = settings_table(args)?;
    #[cfg(feature = "compat")]
    let table = if args.personalizer {
        personalizer::settings(table, &service.journal.folder, &service.models.folder)?
    } else {
        table
    };
    let stop = Arc::new(AtomicBool::new(false));
    watch_interrupt(&stop)?;
    if table.contains_key("environment") {
        return learn_online(table, args, &service.models.folder, &stop);
    }
    if learns_offline(&table) {
        return learn_offline(table, args, &service.journal.folder, &service.models.folder, &stop);
    }
    let settings: TrainSettings =
        with_journal(table, args, &service.journal.folder).try_into().context("training settings")?;
    let published = train_and_publish(&settings, &service.models.folder, args.continue_latest, &stop)?;
    println!("{}", published.trained.summary);
    println!("wrote {}", published.folder.display());
    Ok(())
}

fn learn_online(table: toml::Table, args: &TrainArgs, models: &Path, stop: &AtomicBool) -> anyhow::Result<()> {
    let settings: OnlineSettings = table.try_into().context("training settings")?;
    if args.continue_latest {
        let message =
            "`--continue` goes on from a version's journal; a run in an environment resumes from its checkpoint";
        return Err(BadInput(message.to_owned()).into());
    }
    let version = versions(models, &settings.policy)?.last().map_or(1, |latest| latest + 1);
    let run = args.run.clone().unwrap_or_else(|| Path::new("runs").join(format!("{}-{version}", settings.policy)));
    let published = train_and_publish_online(&settings, models, &run, true, stop)?;
    let Summary { mean, lower, upper, count, .. } = published.learned.returns;
    println!(
        "mean return {mean:.2} ({lower:.2} to {upper:.2}) in {count} episodes, learned in {:.1} s",
        published.seconds
    );
    println!("wrote {} and {}", published.folder.display(), run.join("report.html").display());
    Ok(())
}

fn learn_offline(
    table: toml::Table,
    args: &TrainArgs,
    journal: &Path,
    models: &Path,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    let settings: OfflineSettings = with_journal(table, args, journal).try_into().context("training settings")?;
    if args.continue_latest {
        let message = "`--continue` is for bandits; a run over a log resumes from its checkpoint, or learns it anew";
        return Err(BadInput(message.to_owned()).into());
    }
    check_offline(&settings)?;
    let version = versions(models, &settings.policy)?.last().map_or(1, |latest| latest + 1);
    let run = args.run.clone().unwrap_or_else(|| Path::new("runs").join(format!("{}-{version}", settings.policy)));
    let mut progress = Drawn::default();
    let read = read_journal(&settings, &mut progress);
    progress.finish();
    let (experience, summary) = read.with_context(|| format!("policy `{}` was not trained", settings.policy))?;
    println!("{summary}");
    println!("sessions             {:>10}  mean return {:.4}", experience.episodes.len(), experience.mean_return());
    let published = train_and_publish_offline(&settings, &experience, models, &run, true, stop)?;
    if let Some(loss) = published.learned.validation_loss {
        println!("validation loss      {loss:>10.6}");
    }
    if let Some(Summary { mean, lower, upper, count, .. }) = published.learned.returns {
        println!("mean return {mean:.2} ({lower:.2} to {upper:.2}) in {count} simulated episodes");
    }
    println!("learned in {:.1} s", published.seconds);
    println!("wrote {} and {}", published.folder.display(), run.join("report.html").display());
    Ok(())
}

/// A bundle in its place.
pub struct Published {
    /// What was trained.
    pub trained: Trained,
    /// Where it lies.
    pub folder: PathBuf,
}

/// Trains the next version of the policy and publishes it once ONNX Runtime has reproduced the trainer's scores.
pub fn train_and_publish(
    settings: &TrainSettings,
    models: &Path,
    continue_latest: bool,
    stop: &AtomicBool,
) -> anyhow::Result<Published> {
    library::environment()?;
    let checkpoint = checkpoint_of(models, &settings.policy);
    let start = Start {
        version: versions(models, &settings.policy)?.last().map_or(1, |latest| latest + 1),
        continue_from: continue_latest.then(|| base(models, &settings.policy)).transpose()?,
        checkpoint: fs::read(&checkpoint).ok(),
    };
    if start.checkpoint.is_some() {
        tracing::info!(path = %checkpoint.display(), "going on from the checkpoint of an interrupted run");
    }
    let mut progress = Drawn::default();
    let outcome = train(settings, start, &mut progress, stop).with_context(|| {
        format!("policy `{}` was not trained (checkpoint: {})", settings.policy, checkpoint.display())
    });
    progress.finish();
    match outcome? {
        Outcome::Interrupted { checkpoint: bytes, decisions } => {
            save(&checkpoint, &bytes)?;
            let message =
                format!("{decisions} decisions are learned; the same command goes on from {}", checkpoint.display());
            Err(Interrupted(message).into())
        }
        Outcome::Finished(trained) => {
            let folder = publish(models, &trained.manifest, &trained.model, Some(&trained.learner), &checkpoint)?;
            Ok(Published { trained: *trained, folder })
        }
    }
}

fn base(models: &Path, policy: &str) -> anyhow::Result<(u64, Vec<u8>)> {
    let version = latest_version(models, policy)?;
    let learner = Bundle::open(models, policy, Some(version))?.learner()?;
    let learner =
        learner.with_context(|| format!("version {version} of `{policy}` has no learner's state to continue from"))?;
    Ok((version, learner))
}

/// Puts a bundle in its place once ONNX Runtime has reproduced the trainer's scores, and removes the run's checkpoint.
fn publish(
    models: &Path,
    manifest: &Manifest,
    model: &[u8],
    learner: Option<&[u8]>,
    checkpoint: &Path,
) -> anyhow::Result<PathBuf> {
    let writer = BundleWriter::stage(models, manifest, model, learner)?;
    LoadedPolicy::load_folder(&writer.folder(), &EngineSettings::default())
        .context("the new bundle cannot be served")?;
    let folder = writer.publish()?;
    if checkpoint.exists() {
        fs::remove_file(checkpoint).with_context(|| format!("{} cannot be removed", checkpoint.display()))?;
    }
    Ok(folder)
}

/// Where an interrupted run of a policy leaves its checkpoint.
fn checkpoint_of(models: &Path, policy: &str) -> PathBuf {
    models.join(".checkpoints").join(format!("{policy}.safetensors"))
}

/// Writes the checkpoint so that there is always a whole one.
fn save(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    std::io::Write::write_all(&mut file, bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(())
}

/// The settings file with the flags that both ways of learning have.
fn settings_table(args: &TrainArgs) -> anyhow::Result<toml::Table> {
    let mut table = match &args.settings {
        Some(path) => {
            let text =
                fs::read_to_string(path).with_context(|| format!("{}: the settings cannot be read", path.display()))?;
            text.parse::<toml::Table>().with_context(|| path.display().to_string())?
        }
        None => toml::Table::new(),
    };
    if let Some(policy) = &args.policy {
        table.insert("policy".to_owned(), policy.as_str().into());
    }
    if let Some(seed) = args.seed {
        table.insert("seed".to_owned(), toml::Value::try_from(seed)?);
    }
    if let Some(environment) = &args.environment {
        table.insert("environment".to_owned(), environment.as_str().into());
    }
    if args.algorithm.is_some() || args.interaction.is_some() {
        let algorithm = table.entry("algorithm").or_insert_with(|| toml::Table::new().into());
        if let Some(algorithm) = algorithm.as_table_mut() {
            if let Some(name) = args.algorithm {
                algorithm.insert("name".to_owned(), name_of(name).into());
            }
            if let Some(interaction) = args.interaction {
                algorithm.insert("interaction".to_owned(), name_of(interaction).into());
            }
        }
    }
    Ok(table)
}

/// Whether the algorithm is one that learns sequential decisions from a log.
fn learns_offline(table: &toml::Table) -> bool {
    let name = table.get("algorithm").and_then(|algorithm| algorithm.get("name")).and_then(toml::Value::as_str);
    name.is_some_and(|name| OfflineAlgorithm::NAMES.contains(&name))
}

/// Names the journal where the settings do not, or the flag does.
fn with_journal(mut table: toml::Table, args: &TrainArgs, journal: &Path) -> toml::Table {
    let data = table.entry("data").or_insert_with(|| toml::Table::new().into());
    if let Some(data) = data.as_table_mut()
        && (args.journal.is_some() || !data.contains_key("journal"))
    {
        data.insert("journal".to_owned(), journal.display().to_string().into());
    }
    if let (Some(data), Some(mib)) = (data.as_table_mut(), args.memory_limit) {
        data.insert("memory_limit_mib".to_owned(), i64::from(mib).into());
    }
    if let Some(algorithm) = table.get_mut("algorithm").and_then(toml::Value::as_table_mut) {
        algorithm.entry("name").or_insert_with(|| AlgorithmSettings::default().name().into());
    }
    table
}

fn name_of(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// The first SIGINT asks the run to stop; a second one ends the process.
pub(super) fn watch_interrupt(stop: &Arc<AtomicBool>) -> anyhow::Result<()> {
    let stop = Arc::clone(stop);
    ctrlc::set_handler(move || {
        if stop.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("stopping at the next checkpoint; once more ends at once");
    })
    .context("cannot watch for Ctrl-C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_knows_every_algorithm_that_learns_from_a_log() {
        for name in OfflineAlgorithm::NAMES {
            assert!(AlgorithmName::from_str(name, false).is_ok(), "{name}");
        }
    }
}
