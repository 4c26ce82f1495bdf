//! `slated journal import`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::cli::Global;
use crate::cli::exit::BadInput;
use crate::cli::progress::bar;
use crate::journal::dsjson::{self, DsjsonSettings};
use crate::journal::exchange::{self, import_files};
use crate::journal::import::{ImportReport, RllibSettings, find_logs, import_log, import_mapped, import_rllib};
use crate::settings::Flag;

/// What to import, and into which journal.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slated journal import open-bandit .slated/open-bandit
  slated journal import jsonl backup --journal restored
  slated journal import open-bandit .slated/open-bandit/random/men --journal journal --json
  slated journal import dsjson ranker.dsjson --policy ranker --user-id User.id
  slated journal import rllib /data/cartpole --actions 2
  slated journal import mapped clicks.csv --mapping mapping.toml")]
pub struct ImportArgs {
    /// The log's format.
    format: Format,
    /// Where the log is: a folder, or a file of events.
    #[arg(value_name = "DIR|FILE")]
    dir: PathBuf,
    /// For mapped: which columns are what, in TOML.
    #[arg(long, value_name = "FILE")]
    mapping: Option<PathBuf>,
    /// For rllib: how many actions there are [default: the greatest that was taken, and one].
    #[arg(long, value_name = "COUNT")]
    actions: Option<usize>,
    /// For dsjson and rllib: the policy that decided, where the log names none [default: vw, rllib].
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// For dsjson: where in `c` the user's id stands, such as `User.id`.
    #[arg(long, value_name = "PATH")]
    user_id: Option<String>,
    /// For dsjson: where in `c` the session's id stands.
    #[arg(long, value_name = "PATH")]
    session_id: Option<String>,
    /// Folder of the journal.
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The Open Bandit Dataset: `<random or bts>/<all, men or women>/<campaign>.csv`.
    OpenBandit,
    /// Events as JSON lines, as `slated journal export` writes them.
    Jsonl,
    /// Events as CSV.
    Csv,
    /// Events as Parquet, with the columns of the journal's segments.
    Parquet,
    /// Logs of Vowpal Wabbit and of what is built on it.
    Dsjson,
    /// Offline data of Ray RLlib: JSON of the old API stack, Parquet of the new one.
    Rllib,
    /// Any CSV, JSON lines or Parquet, by a mapping.
    Mapped,
}

/// Runs the subcommand.
pub fn run(global: &Global, args: &ImportArgs) -> anyhow::Result<()> {
    let settings = global.start([Flag::given("journal.folder", args.journal.as_ref())])?.settings;
    check(args)?;
    let journal = &settings.journal.folder;
    if let Format::OpenBandit = args.format {
        return super::print(&import_open_bandit(&args.dir, journal)?, args.json);
    }
    let rows = bar("importing", None);
    let report = import(args, journal, &mut || rows.inc(1));
    rows.finish_and_clear();
    super::print(&report?, args.json)
}

/// Imports every Open Bandit log of a folder.
pub fn import_open_bandit(folder: &Path, journal: &Path) -> anyhow::Result<ImportReport> {
    let mut report = ImportReport::default();
    for log in find_logs(folder)? {
        let rows = bar(&format!("importing {}/{}", log.policy, log.campaign), None);
        report.files.push(import_log(&log, journal, &mut || rows.inc(1))?);
        rows.finish_and_clear();
    }
    Ok(report)
}

fn import(args: &ImportArgs, journal: &Path, advance: &mut dyn FnMut()) -> anyhow::Result<ImportReport> {
    let mut events =
        |format| -> anyhow::Result<ImportReport> { Ok(import_files(&args.dir, format, journal, advance)?) };
    match args.format {
        Format::OpenBandit => import_open_bandit(&args.dir, journal),
        Format::Jsonl => events(exchange::Format::Jsonl),
        Format::Csv => events(exchange::Format::Csv),
        Format::Parquet => events(exchange::Format::Parquet),
        Format::Dsjson => {
            let settings = DsjsonSettings {
                policy: args.policy.clone().unwrap_or_else(|| DsjsonSettings::default().policy),
                user_id: args.user_id.clone(),
                session_id: args.session_id.clone(),
            };
            Ok(dsjson::import(&args.dir, &settings, journal, advance)?)
        }
        Format::Rllib => {
            let settings = RllibSettings { actions: args.actions, policy: args.policy.clone() };
            Ok(import_rllib(&args.dir, &settings, journal, advance)?)
        }
        Format::Mapped => match &args.mapping {
            Some(mapping) => Ok(import_mapped(&args.dir, mapping, journal, advance)?),
            None => Err(BadInput("`--mapping` must name the file that says which columns are what".to_owned()).into()),
        },
    }
}

/// Refuses what the format has no use for.
fn check(args: &ImportArgs) -> Result<(), BadInput> {
    use Format::{Dsjson, Mapped, Rllib};
    let given: [(&str, bool, &[Format]); 5] = [
        ("--mapping", args.mapping.is_some(), &[Mapped]),
        ("--actions", args.actions.is_some(), &[Rllib]),
        ("--policy", args.policy.is_some(), &[Dsjson, Rllib]),
        ("--user-id", args.user_id.is_some(), &[Dsjson]),
        ("--session-id", args.session_id.is_some(), &[Dsjson]),
    ];
    match given.iter().find(|(_, given, formats)| *given && !formats.contains(&args.format)) {
        Some((flag, ..)) => Err(BadInput(format!("`{flag}` means nothing for this format; see `--help`"))),
        None => Ok(()),
    }
}
