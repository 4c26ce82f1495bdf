//! `slated journal export`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use clap::{Args, ValueEnum};
use slated_contract::reward::RewardDefinition;

use crate::cli::Global;
use crate::cli::exit::{BadInput, Refused};
use crate::cli::progress::bar;
use crate::journal::dsjson::{self, DsjsonExport};
use crate::journal::exchange::{self, ExportReport, ExportSettings, export};
use crate::settings::Flag;

/// What to export, how, and where to.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  slated journal export --out backup
  slated journal export --format csv --kind feedback --after 2026-01-01 --before 2026-02-01 --out january.csv
  slated journal export --format parquet --policy shop --journal s3://bucket/journal --out shop
  slated journal export --format dsjson --settings evaluate.toml --out shop.dsjson

JSON lines, CSV and Parquet all hold every event exactly; `slated journal import` reads them back. Only closed segments
are exported. Ends with 5 where segments are damaged; the others are exported.")]
pub struct ExportArgs {
    /// The form of the files.
    #[arg(long, value_name = "FORMAT", default_value = "jsonl")]
    format: FormatName,
    /// An empty or new folder, which gets a folder for each kind and a file for each date; or, with `--kind` and for dsjson, a
    /// file.
    #[arg(long, value_name = "DIR|FILE")]
    out: PathBuf,
    /// Only this kind of event.
    #[arg(long, value_name = "KIND")]
    kind: Option<KindName>,
    /// Only events at this time or later: a UTC date or a time in RFC 3339.
    #[arg(long, value_name = "DATE", value_parser = time)]
    after: Option<DateTime<Utc>>,
    /// Only events before this time.
    #[arg(long, value_name = "DATE", value_parser = time)]
    before: Option<DateTime<Utc>>,
    /// Only this policy's: its decisions, feedback about them, and changes of its route.
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// For dsjson: settings of training or evaluation in TOML, whose `data.reward` says how feedback becomes reward; a
    /// click is worth 1 where there are none.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Folder of the journal, or its address in an object store.
    #[arg(long, value_name = "DIR|URL")]
    journal: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// The form of files of events.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum FormatName {
    /// JSON lines: one event a line.
    Jsonl,
    /// CSV: what is nested stands as JSON in its cell.
    Csv,
    /// Parquet, with the columns of the journal's own segments.
    Parquet,
    /// Decisions with their rewards as Vowpal Wabbit reads them.
    Dsjson,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KindName {
    /// What was shown.
    Decisions,
    /// What came of it.
    Feedback,
    /// Which policy versions answered.
    Changes,
}

/// A time in RFC 3339, or a date: its beginning, in UTC.
pub fn time(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(date) = text.parse::<NaiveDate>() {
        return Ok(date.and_time(NaiveTime::MIN).and_utc());
    }
    let time = DateTime::parse_from_rfc3339(text);
    time.map(|time| time.to_utc())
        .map_err(|_| "expected a date such as 2026-01-31, or a time such as 2026-01-31T12:00:00Z".to_owned())
}

/// Runs the subcommand.
pub fn run(global: &Global, args: &ExportArgs) -> anyhow::Result<()> {
    let settings = global.start([Flag::given("journal.folder", args.journal.as_ref())])?.settings;
    let journal = &settings.journal.folder;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the reader")?;
    let events = bar("exporting", None);
    let mut advance = || events.inc(1);
    let format = match args.format {
        FormatName::Jsonl => exchange::Format::Jsonl,
        FormatName::Csv => exchange::Format::Csv,
        FormatName::Parquet => exchange::Format::Parquet,
        FormatName::Dsjson => {
            let report = runtime.block_on(dsjson::export(journal, &for_vowpal_wabbit(args)?, &mut advance));
            events.finish_and_clear();
            let report = report?;
            super::print(&report, args.json)?;
            return complete(&report.export);
        }
    };
    if args.settings.is_some() {
        return Err(
            BadInput("`--settings` says what a reward is, which only `--format dsjson` holds".to_owned()).into()
        );
    }
    let kind = args.kind.map(|kind| match kind {
        KindName::Decisions => exchange::Kind::Decisions,
        KindName::Feedback => exchange::Kind::Feedback,
        KindName::Changes => exchange::Kind::Changes,
    });
    let wanted = ExportSettings {
        format,
        out: args.out.clone(),
        kind,
        after: args.after,
        before: args.before,
        policy: args.policy.clone(),
    };
    let report = runtime.block_on(export(journal, &wanted, &mut advance));
    events.finish_and_clear();
    let report = report?;
    super::print(&report, args.json)?;
    complete(&report)
}

fn complete(report: &ExportReport) -> anyhow::Result<()> {
    match report.damaged.len() {
        0 => Ok(()),
        damaged => Err(Refused(format!("{damaged} segments are damaged, and their events are not exported")).into()),
    }
}

fn for_vowpal_wabbit(args: &ExportArgs) -> anyhow::Result<DsjsonExport> {
    if args.kind.is_some() {
        return Err(BadInput(
            "`--kind` chooses no part of a dsjson line, which is a decision with its reward".to_owned(),
        )
        .into());
    }
    Ok(DsjsonExport {
        out: args.out.clone(),
        reward: args.settings.as_deref().map(reward).transpose()?.unwrap_or_default(),
        after: args.after,
        before: args.before,
        policy: args.policy.clone(),
    })
}

/// The reward definition of a settings file; the rest of it is for others.
fn reward(path: &Path) -> anyhow::Result<RewardDefinition> {
    let named = || path.display().to_string();
    let text =
        std::fs::read_to_string(path).with_context(|| format!("{}: the settings cannot be read", path.display()))?;
    let settings: toml::Table = toml::from_str(&text).with_context(named)?;
    let reward = settings.get("data").and_then(|data| data.get("reward"));
    let reward = reward.ok_or_else(|| BadInput(format!("{}: it has no `data.reward`", path.display())))?;
    reward.clone().try_into().with_context(named)
}
