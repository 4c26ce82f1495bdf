//! `slated policy`.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use slated_contract::policy::{self, Bundle};

use super::{Global, route, wrap};
use crate::serving::LoadedPolicy;
use crate::settings::Flag;

/// Look at policy bundles, and say which versions of a running service answer.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// List the policies of a folder, and every version of each.
    List(ModelsArgs),
    /// Prove that a bundle can be served, and print its manifest.
    Inspect(InspectArgs),
    /// Make a bundle of a model that another framework trained, such as PyTorch or scikit-learn.
    Wrap(Box<wrap::WrapArgs>),
    /// Print the JSON Schema of `policy.json`.
    Schema,
    /// Make a policy that has learned nothing yet, which reads whatever it is sent, for the Personalizer's routes to begin with.
    #[cfg(feature = "compat")]
    Start(StartArgs),
    /// Let one version answer every request of a running service.
    Promote(route::PromoteArgs),
    /// Go back to the route before the last change, at once.
    Rollback(route::RollbackArgs),
    /// Let versions share the requests; a user stays with one.
    Split(route::SplitArgs),
    /// Give a version a share on trial, and take it back by itself where it breaks a guardrail.
    Canary(route::CanaryArgs),
    /// Compute and journal versions beside what is shown.
    Shadow(route::ShadowArgs),
    /// Show the caller's own order, and journal the policy's choice beside it.
    Apprentice(route::ApprenticeArgs),
}

/// Where the bundles are.
#[derive(Debug, Args)]
pub struct ModelsArgs {
    /// Folder of policy bundles.
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slated policy inspect open-bandit
  slated policy inspect open-bandit --version 2 --models /srv/models")]
pub struct InspectArgs {
    /// The policy.
    name: String,
    /// Its version; the latest where absent.
    #[arg(long, value_name = "N")]
    version: Option<u64>,
    #[command(flatten)]
    models: ModelsArgs,
}

#[cfg(feature = "compat")]
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slated policy start personalizer
  slated policy start personalizer --epsilon 0.1 --context-buckets 64 --item-buckets 48")]
pub struct StartArgs {
    /// The policy; its next version where there is one.
    name: String,
    /// The share of decisions that explore.
    #[arg(long, value_name = "SHARE", default_value_t = 0.2)]
    epsilon: f64,
    /// Buckets that features of the context are hashed into.
    #[arg(long, value_name = "N", default_value_t = 32)]
    context_buckets: u32,
    /// Buckets that features of an item are hashed into.
    #[arg(long, value_name = "N", default_value_t = 32)]
    item_buckets: u32,
    /// The most candidates.
    #[arg(long, value_name = "N", default_value_t = 200)]
    max_candidates: usize,
    #[command(flatten)]
    models: ModelsArgs,
}

/// Runs the subcommand.
pub fn run(global: &Global, command: &PolicyCommand) -> anyhow::Result<()> {
    let folder = |args: &ModelsArgs| -> anyhow::Result<PathBuf> {
        Ok(global.start([Flag::given("models.folder", args.models.as_ref())])?.settings.models.folder)
    };
    match command {
        PolicyCommand::List(args) => list(&folder(args)?),
        PolicyCommand::Inspect(args) => inspect(&folder(&args.models)?, args),
        PolicyCommand::Wrap(args) => wrap::run(global, args),
        PolicyCommand::Schema => {
            println!("{:#}", policy::json_schema());
            Ok(())
        }
        #[cfg(feature = "compat")]
        PolicyCommand::Start(args) => start(&folder(&args.models)?, args),
        PolicyCommand::Promote(args) => route::promote(global, args),
        PolicyCommand::Rollback(args) => route::rollback(global, args),
        PolicyCommand::Split(args) => route::split(global, args),
        PolicyCommand::Canary(args) => route::canary(global, args),
        PolicyCommand::Shadow(args) => route::shadow(global, args),
        PolicyCommand::Apprentice(args) => route::apprentice(global, args),
    }
}

fn list(models: &std::path::Path) -> anyhow::Result<()> {
    let entries =
        models.read_dir().with_context(|| format!("{}: the folder of models cannot be read", models.display()))?;
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    println!("{:24} {:>7}  {:16} {:20} {:>9}  model", "policy", "version", "algorithm", "exploration", "decisions");
    for name in names {
        for version in policy::versions(models, &name)? {
            match Bundle::open(models, &name, Some(version)) {
                Ok(Bundle { manifest, .. }) => println!(
                    "{name:24} {version:>7}  {:16} {:20} {:>9}  {:.12}",
                    manifest.algorithm.name,
                    manifest.exploration.method(),
                    manifest
                        .training
                        .as_ref()
                        .map_or_else(|| "-".to_owned(), |training| training.decisions.to_string()),
                    manifest.model_sha256,
                ),
                Err(error) => println!("{name:24} {version:>7}  cannot be served: {error}"),
            }
        }
    }
    Ok(())
}

#[cfg(feature = "compat")]
fn start(models: &std::path::Path, args: &StartArgs) -> anyhow::Result<()> {
    use crate::compat::{Begin, Kept, begin};
    use slated_contract::slate::Exploration;

    policy::check_policy_name(&args.name)?;
    crate::serving::library::environment()?;
    let kept = Kept::new(args.name.clone());
    let made = begin(
        models,
        &Begin {
            policy: args.name.clone(),
            algorithm: kept.algorithm()?,
            features: Begin::hashed(args.context_buckets, args.item_buckets),
            exploration: Exploration::EpsilonGreedy { epsilon: args.epsilon },
            reward: kept.reward(),
            max_candidates: args.max_candidates,
        },
    )?;
    println!("wrote {}", models.join(&made.name).join(made.version.to_string()).display());
    Ok(())
}

fn inspect(models: &std::path::Path, args: &InspectArgs) -> anyhow::Result<()> {
    let policy = LoadedPolicy::load(models, &args.name, args.version, &crate::serving::EngineSettings::default())?;
    println!("{}", serde_json::to_string_pretty(&policy.manifest)?);
    Ok(())
}
