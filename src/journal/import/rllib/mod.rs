//! Offline data of Ray RLlib: the old API stack's JSON, and the new one's Parquet by columns or by whole episodes.
//!
//! A step becomes a decision, an episode a session, the step's reward a feedback event. What was seen is features of the
//! context; the actions are the candidates. An environment of slates, such as RecSim's, sees a user and documents: those
//! are features of the user and candidates with features.

mod episode;
mod numpy;
mod packed;
mod pickle;
mod step;

use std::path::Path;

use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value, json};
use slated_contract::event::{Candidate, Decision, Feedback, Shown, deterministic_id};
use slated_contract::feature::{Features, Reserved, flatten};

use self::step::{ACTIONS, DOCUMENTS, Step};
use super::rows::{json_of, parquet_batches};
use super::{FileReport, ImportError, ImportReport, Lines, LogWriter, Logged};
use crate::files;

const SOURCE: &str = "import:rllib";
/// The event type of a step's reward.
const REWARD: &str = "reward";
/// Why decisions without probabilities are not evaluable.
const NO_PROBABILITY: &str = "the log holds no action probabilities";
const ONLY_JOINT: &str = "the log holds no probabilities by position";
/// How far above 1 rounding to 32 bits may have put a probability.
const ROUNDED: f64 = 1e-5;

/// What the files do not say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RllibSettings {
    /// How many actions there are; the greatest that was taken, and one, where absent.
    pub actions: Option<usize>,
    /// The policy that acted, where the files name none; `rllib` where absent.
    pub policy: Option<String>,
}

/// Imports a file, or every file of a folder and those below it that ends in `.json` or `.parquet`. The same files give
/// the same segments, so importing them again changes nothing.
///
/// Steps that cannot be used are refused with the line (of a Parquet file, the number of the row) they are from, and the
/// rest imported; `advance` is told of every step.
///
/// # Errors
/// No such file, a file that does not read, a journal that cannot be written.
pub fn import_rllib(
    path: &Path,
    settings: &RllibSettings,
    journal: &Path,
    advance: &mut dyn FnMut(),
) -> Result<ImportReport, ImportError> {
    let found = files::find(path, &["json", "parquet"])?;
    if found.is_empty() {
        return Err(ImportError::NoFiles { path: path.to_owned(), format: "`.json` or `.parquet`" });
    }
    let mut actions = settings.actions.unwrap_or(0);
    if settings.actions.is_none() {
        for file in &found {
            for_each_step(file, &mut |_, step| {
                actions = actions.max(step.as_ref().map_or(0, least_actions));
                Ok(())
            })?;
        }
    }
    let mut report = ImportReport::default();
    for file in &found {
        report.files.push(import_file(file, files::name_within(path, file), actions, settings, journal, advance)?);
    }
    Ok(report)
}

/// How many actions there are at least, by what a step says.
fn least_actions(step: &Step) -> usize {
    let count = step.get(ACTIONS).and_then(Value::as_u64).unwrap_or(0);
    let taken = step.get("actions").map(|action| taken(action).unwrap_or_default()).unwrap_or_default();
    (count as usize).max(taken.into_iter().max().map_or(0, |action| action + 1))
}

fn import_file(
    path: &Path,
    name: String,
    actions: usize,
    settings: &RllibSettings,
    journal: &Path,
    advance: &mut dyn FnMut(),
) -> Result<FileReport, ImportError> {
    let digest = files::sha256(path).map_err(|source| ImportError::Io { path: path.to_owned(), source })?;
    let mut writer = LogWriter::new(journal, name, &digest, advance);
    let mut reading = Reading { actions, settings, digest: &digest, steps: 0, episode: 0 };
    for_each_step(path, &mut |line, step| {
        let row = step.and_then(|step| reading.step(&step)).map(Some);
        Ok(writer.add(line, row)?)
    })?;
    Ok(writer.finish()?)
}

/// Tells `each` of every step and its line.
fn for_each_step(
    path: &Path,
    each: &mut dyn FnMut(u64, Result<Step, String>) -> Result<(), ImportError>,
) -> Result<(), ImportError> {
    let mut tell = |line: u64, steps: Result<Vec<Result<Step, String>>, String>| match steps {
        Ok(steps) => steps.into_iter().try_for_each(|step| each(line, step)),
        Err(problem) => each(line, Err(problem)),
    };
    if path.extension().is_some_and(|extension| extension == "parquet") {
        return parquet_batches(path, &mut |first, batch| {
            let schema = batch.schema();
            let binary = schema.fields().iter().position(|field| {
                matches!(field.data_type(), DataType::Binary | DataType::LargeBinary) && schema.fields().len() == 1
            });
            if let Some(column) = binary {
                let column = batch.column(column);
                for (index, line) in (0..column.len()).zip(first..) {
                    let bytes = match column.data_type() {
                        DataType::Binary => column.as_binary::<i32>().value(index),
                        _ => column.as_binary::<i64>().value(index),
                    };
                    tell(line, step::of_episode(bytes))?;
                }
                return Ok(());
            }
            for (row, line) in json_of(path, &batch)?.into_iter().zip(first..) {
                let mut step = row.cells;
                step.remove("new_obs");
                tell(line, Ok(vec![step::unpacked(&mut step).map(|()| step)]))?;
            }
            Ok(())
        });
    }
    let mut lines = Lines::open(path)?;
    while let Some((number, line)) = lines.read()? {
        tell(number, line.and_then(step::of_batch))?;
    }
    Ok(())
}

struct Reading<'a> {
    actions: usize,
    settings: &'a RllibSettings,
    digest: &'a str,
    /// Steps so far: RLlib's data has no times, and each is a second after the one before it.
    steps: i64,
    /// Episodes that ended so far.
    episode: u64,
}

impl Reading<'_> {
    fn step(&mut self, step: &Step) -> Result<Logged, String> {
        let number = self.steps.to_string();
        let time = DateTime::UNIX_EPOCH + TimeDelta::seconds(self.steps);
        self.steps += 1;
        let session = self.session(step);
        if ["terminateds", "truncateds", "dones"].iter().any(|name| step.get(*name).is_some_and(|flag| *flag == true)) {
            self.episode += 1;
        }
        let mut seen = Seen::of(step.get("obs").ok_or("`obs` is missing")?)?;
        if seen.candidates.is_empty() {
            let item = |action: usize| Candidate { item: action.to_string(), features: Features::new(), score: None };
            seen.candidates = (0..self.actions).map(item).collect();
        }
        let actions = taken(step.get("actions").ok_or("`actions` is missing")?)?;
        let count = seen.candidates.len();
        if let Some(beyond) = actions.iter().find(|&&action| action >= count) {
            return Err(format!("`actions` holds {beyond}, there are {count} from 0"));
        }
        if let Some(twice) = actions.iter().enumerate().find(|(index, action)| actions[..*index].contains(action)) {
            return Err(format!("`actions` shows {} twice", twice.1));
        }
        let probability = probability(step)?;
        let not_evaluable = match (probability, actions.len()) {
            (None, _) => Some(NO_PROBABILITY),
            (Some(_), 1) => None,
            (Some(_), _) => Some(ONLY_JOINT),
        };
        let propensity = probability.unwrap_or(1.0);
        let shown = |(position, &action): (usize, &usize)| Shown {
            item: seen.candidates[action].item.clone(),
            position: i32::try_from(position).unwrap_or(i32::MAX),
            cascade_propensity: propensity,
            marginal_propensity: propensity,
        };
        let slate: Vec<Shown> = actions.iter().enumerate().map(shown).collect();
        let id = |kind: &str| deterministic_id(time, &[SOURCE, self.digest, kind, &number]).to_string();
        let policy = step.get("module_id").and_then(Value::as_str).or(self.settings.policy.as_deref());
        let decision = Decision {
            decision_id: id("decision"),
            time,
            source: SOURCE.to_owned(),
            policy: policy.unwrap_or("rllib").to_owned(),
            policy_version: 1,
            session_id: Some(session),
            user: seen.user,
            context: seen.context,
            candidates: seen.candidates,
            slate,
            propensity,
            not_evaluable: not_evaluable.map(str::to_owned),
            ..Decision::default()
        };
        let reward = step.get("rewards").ok_or("`rewards` is missing")?;
        let reward = reward.as_f64().ok_or_else(|| format!("`rewards` is {reward}, expected a number"))?;
        let feedback = feedback(&decision, id("reward"), time, reward);
        Ok(Logged { decisions: vec![decision], feedback: vec![feedback] })
    }

    /// The episode, and the agent where there are several.
    fn session(&self, step: &Step) -> String {
        let text = |name: &str| match step.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let mut session = text("eps_id").unwrap_or_else(|| format!("{:.8}-{}", self.digest, self.episode));
        for part in [text("module_id"), text("agent_id"), text("agent_index")].into_iter().flatten() {
            session.push('/');
            session.push_str(&part);
        }
        session
    }
}

fn feedback(decision: &Decision, feedback_id: String, time: DateTime<Utc>, value: f64) -> Feedback {
    let item = match decision.slate.as_slice() {
        [only] => Some(only.item.clone()),
        // Of all that was shown together.
        _ => None,
    };
    Feedback {
        feedback_id,
        decision_id: decision.decision_id.clone(),
        time,
        occurred: time,
        source: SOURCE.to_owned(),
        event: REWARD.to_owned(),
        value,
        item,
        position: None,
    }
}

/// The actions of a step: one, or those of a slate.
fn taken(action: &Value) -> Result<Vec<usize>, String> {
    let one = |action: &Value| {
        let whole = action.as_u64().or_else(|| {
            action.as_f64().filter(|number| *number >= 0.0 && number.fract() == 0.0).map(|number| number as u64)
        });
        let whole = whole.and_then(|whole| usize::try_from(whole).ok());
        whole.ok_or_else(|| format!("`actions` is {action}: only discrete actions, and slates of them, are items"))
    };
    match action {
        Value::Array(actions) if actions.is_empty() => Err("`actions` is empty".to_owned()),
        Value::Array(actions) => actions.iter().map(one).collect(),
        action => Ok(vec![one(action)?]),
    }
}

/// The probability of what was done, where the step says it.
fn probability(step: &Step) -> Result<Option<f64>, String> {
    let given = |name: &str| step.get(name).filter(|value| !value.is_null());
    let number =
        |name: &str, value: &Value| value.as_f64().ok_or_else(|| format!("`{name}` is {value}, expected a number"));
    let (name, found) = match (given("action_prob"), given("action_logp")) {
        (Some(value), _) => ("action_prob", number("action_prob", value)?),
        (None, Some(value)) => ("action_logp", number("action_logp", value)?.exp()),
        (None, None) => return Ok(None),
    };
    if found > 0.0 && found <= 1.0 + ROUNDED {
        Ok(Some(found.min(1.0)))
    } else {
        Err(format!("`{name}` says that what was done had the probability {found}"))
    }
}

/// What an agent saw.
struct Seen {
    user: Features,
    context: Features,
    candidates: Vec<Candidate>,
}

impl Seen {
    fn of(obs: &Value) -> Result<Self, String> {
        let Some((Value::Object(documents), rest)) = obs.as_object().and_then(|obs| {
            let documents = obs.get(DOCUMENTS)?;
            Some((documents, obs.iter().filter(|(name, _)| *name != DOCUMENTS)))
        }) else {
            let context = features("obs", obs)?;
            return Ok(Self { user: Features::new(), context, candidates: Vec::new() });
        };
        let (mut user, mut context) = (Features::new(), Map::new());
        for (name, value) in rest {
            match (name.as_str(), value) {
                ("user", Value::Object(_)) => user = flat("obs.user", value)?,
                ("user", _) => user = features("user", value)?,
                _ => {
                    context.insert(name.clone(), value.clone());
                }
            }
        }
        let candidate = |(item, value): (&String, &Value)| {
            let name = format!("obs.{DOCUMENTS}.{item}");
            let features = match value {
                Value::Object(_) => flat(&name, value)?,
                _ => features(DOCUMENTS, value)?,
            };
            Ok(Candidate { item: item.clone(), features, score: None })
        };
        let mut candidates = documents.iter().map(candidate).collect::<Result<Vec<_>, String>>()?;
        // An action is a place among the documents: `10` stands behind `9`.
        candidates.sort_by_key(|candidate| (candidate.item.len(), candidate.item.clone()));
        Ok(Self { user, context: flat("obs", &Value::Object(context))?, candidates })
    }
}

/// The features of a value under a name.
fn features(name: &str, value: &Value) -> Result<Features, String> {
    flat(name, &json!({ name: value }))
}

fn flat(path: &str, value: &Value) -> Result<Features, String> {
    if holds_null(value) {
        return Err(format!("`{path}` holds a number that is not finite"));
    }
    flatten(&numbered(value), Reserved::Nothing).map_err(|error| format!("`{path}`: {error}"))
}

/// Whether an array holds `null`, which stands for a number that is not finite.
fn holds_null(value: &Value) -> bool {
    match value {
        Value::Array(elements) => elements.iter().any(|element| element.is_null() || holds_null(element)),
        Value::Object(object) => object.values().any(holds_null),
        _ => false,
    }
}

/// The value with arrays of arrays as one, as a tensor's elements lie in memory, and arrays of objects as objects whose keys
/// are their places.
fn numbered(value: &Value) -> Value {
    match value {
        Value::Object(object) => object.iter().map(|(name, value)| (name.clone(), numbered(value))).collect(),
        Value::Array(elements) if elements.iter().any(Value::is_object) => {
            elements.iter().enumerate().map(|(index, value)| (index.to_string(), numbered(value))).collect()
        }
        Value::Array(elements) => {
            let inner = elements.iter().map(numbered).flat_map(|element| match element {
                Value::Array(inner) => inner,
                other => vec![other],
            });
            Value::Array(inner.collect())
        }
        other => other.clone(),
    }
}
