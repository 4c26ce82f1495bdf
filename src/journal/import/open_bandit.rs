//! The Open Bandit Dataset (Saito, Aihara, Matsutani & Narita 2021, arXiv:2008.07146).
//!
//! A row is one impression: an item at one of three positions of a page, whether it was clicked, and the probability
//! with which the logging policy put it there. It becomes a decision whose slate is that one item at that position,
//! and a feedback event where it was clicked.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use csv::StringRecord;
use slated_contract::event::{Candidate, Decision, Feedback, Shown, deterministic_id};
use slated_contract::feature::{Features, FeaturesBuilder};
use slated_contract::policy::sha256_hex;

use super::{FileReport, ImportError, LogWriter, Logged};

const SOURCE: &str = "import:open-bandit";
const POSITIONS: std::ops::RangeInclusive<i32> = 1..=3;
const USER_FEATURES: usize = 4;

/// One log: a campaign under a logging policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CampaignLog {
    /// `random` or `bts`.
    pub policy: String,
    /// `all`, `men` or `women`.
    pub campaign: String,
    /// The folder that holds `<campaign>.csv` and `item_context.csv`.
    pub folder: PathBuf,
}

/// The logs in `folder`: of the whole dataset, of one policy, or one campaign's.
///
/// # Errors
/// There is none.
pub fn find_logs(folder: &Path) -> Result<Vec<CampaignLog>, ImportError> {
    let mut logs = Vec::new();
    let children = |folder: &Path| -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> =
            folder.read_dir().into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        paths.sort_unstable();
        paths
    };
    let mut level = vec![folder.to_owned()];
    for _ in 0..3 {
        logs.extend(level.iter().filter_map(|folder| log_in(folder)));
        level = level.iter().flat_map(|folder| children(folder)).filter(|path| path.is_dir()).collect();
    }
    if logs.is_empty() { Err(ImportError::NotFound(folder.to_owned())) } else { Ok(logs) }
}

fn log_in(folder: &Path) -> Option<CampaignLog> {
    let folder = fs::canonicalize(folder).ok()?;
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let campaign = name(&folder)?;
    let policy = name(folder.parent()?)?;
    let complete = folder.join(format!("{campaign}.csv")).is_file() && folder.join("item_context.csv").is_file();
    (complete && ["random", "bts"].contains(&policy.as_str())).then_some(CampaignLog { policy, campaign, folder })
}

/// Imports one log into closed segments of the journal. The same log gives the same ids, names and bytes, so importing
/// it again changes nothing; a service may have the journal open meanwhile.
///
/// Rows that cannot be used are refused with their line and reason, and the rest imported. `advance` is told of every
/// row.
///
/// # Errors
/// Files that cannot be read at all, or a journal that cannot be written.
pub fn import_log(log: &CampaignLog, journal: &Path, advance: &mut dyn FnMut()) -> Result<FileReport, ImportError> {
    let items = Items::read(&log.folder.join("item_context.csv"))?;
    let path = log.folder.join(format!("{}.csv", log.campaign));
    let digest = sha256_hex(&fs::read(&path).map_err(|source| ImportError::Io { path: path.clone(), source })?);
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(open(&path)?);
    let header = reader.headers().map_err(|error| file(&path, error.to_string()))?.clone();
    let columns = Columns::find(&header, &items).map_err(|problem| file(&path, problem))?;
    let rows = Rows { log, items: &items, columns, fields: header.len(), digest: &digest };
    let name = format!("{}/{}/{}.csv", log.policy, log.campaign, log.campaign);
    let mut writer = LogWriter::new(journal, name, &digest, advance);
    let mut record = StringRecord::new();
    loop {
        let more = reader.read_record(&mut record);
        let line = record.position().map_or(0, csv::Position::line);
        match more {
            Ok(false) => break,
            Ok(true) => writer.add(line, rows.convert(&record, writer.rows()).map(Some))?,
            // The reader goes on with the next record.
            Err(error) if !error.is_io_error() => writer.add(line, Err(error.to_string()))?,
            Err(error) => return Err(file(&path, error.to_string())),
        }
    }
    Ok(writer.finish()?)
}

fn open(path: &Path) -> Result<File, ImportError> {
    File::open(path).map_err(|source| ImportError::Io { path: path.to_owned(), source })
}

fn file(path: &Path, problem: String) -> ImportError {
    ImportError::File { path: path.to_owned(), problem }
}

/// The items of a campaign, in the order of their file.
struct Items {
    ids: Vec<String>,
    features: Vec<Features>,
    index: HashMap<String, usize>,
}

impl Items {
    fn read(path: &Path) -> Result<Self, ImportError> {
        let mut reader = csv::Reader::from_reader(open(path)?);
        let header = reader.headers().map_err(|error| file(path, error.to_string()))?.clone();
        let id_column = column(&header, "item_id").map_err(|problem| file(path, problem))?;
        let feature_columns: Vec<usize> =
            (0..header.len()).filter(|&at| header[at].starts_with("item_feature_")).collect();
        let mut items = Self { ids: Vec::new(), features: Vec::new(), index: HashMap::new() };
        for record in reader.records() {
            let record = record.map_err(|error| file(path, error.to_string()))?;
            let id = record[id_column].to_owned();
            let mut features = FeaturesBuilder::default();
            for &at in &feature_columns {
                match record[at].parse::<f64>() {
                    Ok(number) if number.is_finite() => features.set(&header[at], number),
                    _ => features.set(&header[at], &record[at]),
                }
            }
            if items.index.insert(id.clone(), items.ids.len()).is_some() {
                return Err(file(path, format!("item `{id}` stands twice")));
            }
            items.ids.push(id);
            items.features.push(features.finish());
        }
        if items.ids.is_empty() { Err(file(path, "it holds no item".to_owned())) } else { Ok(items) }
    }
}

/// Where the fields of a row stand.
struct Columns {
    timestamp: usize,
    item: usize,
    position: usize,
    click: usize,
    propensity: usize,
    user: Vec<usize>,
    /// By item, in the order of the items.
    affinity: Vec<usize>,
}

impl Columns {
    fn find(header: &StringRecord, items: &Items) -> Result<Self, String> {
        Ok(Self {
            timestamp: column(header, "timestamp")?,
            item: column(header, "item_id")?,
            position: column(header, "position")?,
            click: column(header, "click")?,
            propensity: column(header, "propensity_score")?,
            user: (0..USER_FEATURES)
                .map(|at| column(header, &format!("user_feature_{at}")))
                .collect::<Result<_, _>>()?,
            affinity: items
                .ids
                .iter()
                .map(|id| column(header, &format!("user-item_affinity_{id}")))
                .collect::<Result<_, _>>()?,
        })
    }
}

fn column(header: &StringRecord, name: &str) -> Result<usize, String> {
    header.iter().position(|known| known == name).ok_or_else(|| format!("its header lacks the column `{name}`"))
}

struct Rows<'a> {
    log: &'a CampaignLog,
    items: &'a Items,
    columns: Columns,
    fields: usize,
    digest: &'a str,
}

impl Rows<'_> {
    fn convert(&self, record: &StringRecord, row: u64) -> Result<Logged, String> {
        if record.len() != self.fields {
            return Err(format!("it has {} fields, expected {}", record.len(), self.fields));
        }
        let columns = &self.columns;
        let time = timestamp(&record[columns.timestamp])?;
        let item = &record[columns.item];
        if !self.items.index.contains_key(item) {
            return Err(format!("`item_id` {item} is not in item_context.csv"));
        }
        let position: i32 = number(record, columns.position, "position")?;
        if !POSITIONS.contains(&position) {
            return Err(format!("`position` is {position}, allowed are 1 to 3"));
        }
        let clicked = match &record[columns.click] {
            "0" => false,
            "1" => true,
            other => return Err(format!("`click` is `{other}`, allowed are 0 and 1")),
        };
        let propensity: f64 = number(record, columns.propensity, "propensity_score")?;
        if !(propensity > 0.0 && propensity <= 1.0) {
            return Err(format!("`propensity_score` is {propensity}, it must be above 0 and at most 1"));
        }
        let row = row.to_string();
        let id = |kind: &str| deterministic_id(time, &[SOURCE, self.digest, kind, &row]).to_string();
        let user = columns.user.iter().enumerate().map(|(at, &column)| (format!("user_feature_{at}"), &record[column]));
        let candidates = self.candidates(record)?;
        let decision = Decision {
            decision_id: id("decision"),
            time,
            source: SOURCE.to_owned(),
            policy: format!("open-bandit-{}", self.log.policy),
            policy_version: 1,
            model_sha256: None,
            exploration: None,
            seed: None,
            user_id: None,
            session_id: None,
            user: user.collect(),
            context: [("campaign", self.log.campaign.as_str()), ("position", &record[columns.position])]
                .into_iter()
                .collect(),
            session: Features::new(),
            candidates,
            slate: vec![Shown {
                item: item.to_owned(),
                position: position - 1,
                cascade_propensity: propensity,
                marginal_propensity: propensity,
            }],
            propensity,
            propensity_draws: None,
            ..Decision::default()
        };
        let feedback = clicked.then(|| Feedback {
            feedback_id: id("click"),
            decision_id: decision.decision_id.clone(),
            time,
            occurred: time,
            source: SOURCE.to_owned(),
            event: "click".to_owned(),
            value: 1.0,
            item: Some(item.to_owned()),
            position: None,
        });
        Ok(Logged { decisions: vec![decision], feedback: feedback.into_iter().collect() })
    }

    fn candidates(&self, record: &StringRecord) -> Result<Vec<Candidate>, String> {
        let items = self.items.ids.iter().zip(&self.items.features).zip(&self.columns.affinity);
        items
            .map(|((id, known), &column)| {
                let affinity: f64 = number(record, column, "user-item_affinity")?;
                if !affinity.is_finite() {
                    return Err(format!("`user-item_affinity_{id}` is {affinity}, it must be finite"));
                }
                let mut features = known.clone();
                features.insert("affinity", affinity);
                Ok(Candidate { item: id.clone(), features, score: None })
            })
            .collect()
    }
}

fn number<T: std::str::FromStr>(record: &StringRecord, column: usize, name: &str) -> Result<T, String> {
    record[column].parse().map_err(|_| format!("`{name}` is `{}`, which is not a number", &record[column]))
}

/// `2019-11-24 00:03:13.442536+00:00`, with or without a fraction.
fn timestamp(text: &str) -> Result<DateTime<Utc>, String> {
    let parsed = DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%:z");
    parsed.map(|time| time.to_utc()).map_err(|error| format!("`timestamp` is `{text}`: {error}"))
}
