//! One line of a dsjson log, as Vowpal Wabbit's parser reads it.

use std::borrow::Cow;
use std::fmt;

use chrono::{DateTime, Utc};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use slated_contract::event::{Mode, Shown};

/// The key of what slated adds to a line; Vowpal Wabbit passes over it.
pub const OURS: &str = "_slated";

/// What the line says, by key. Of a key that stands twice, and of `p` and `_p`, the last counts.
#[derive(Debug, Default)]
pub struct Line {
    /// `EventId`.
    pub event_id: Option<String>,
    /// `Timestamp`.
    pub time: Option<DateTime<Utc>>,
    /// `_label_cost`: the negated reward.
    pub cost: Option<f64>,
    /// `_label_probability`.
    pub probability: Option<f64>,
    /// The chosen action, from 0: `_labelIndex`, or `_label_Action`, which counts from 1.
    pub chosen: Option<usize>,
    /// `a`: actions, the chosen one first where nothing else says which was; from 0 or 1.
    pub actions: Option<Vec<u64>>,
    /// `p`: their probabilities.
    pub probabilities: Option<Vec<f64>>,
    /// `c`: everything that is known of the request.
    pub context: Option<Map<String, Value>>,
    /// `_outcomes`: what came of each slot.
    pub outcomes: Option<Vec<Outcome>>,
    /// `pdrop`: the probability with which the event would have been left out of the log.
    pub drop: f64,
    /// `_skipLearn`.
    pub skip: bool,
    /// `VWState.m`: the model.
    pub model: Option<String>,
    /// Of a line that is about an earlier one: `RewardValue`.
    pub reward: Option<f64>,
    /// `EnqueuedTimeUtc`: when that was received.
    pub enqueued: Option<DateTime<Utc>>,
    /// Ours.
    pub ours: Ours,
}

/// What came of a slot.
#[derive(Debug, Default)]
pub struct Outcome {
    /// `_a`: actions, from 0, the chosen one first.
    pub actions: Vec<u64>,
    /// `_p`: their probabilities.
    pub probabilities: Vec<f64>,
    /// `_label_cost`.
    pub cost: Option<f64>,
    /// `_id`: the slot's.
    pub id: Option<String>,
    /// Ours.
    pub ours: Ours,
}

/// What slated knows and dsjson has no place for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ours {
    /// The decision's id, where `EventId` is that of its page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision_id: Option<String>,
    /// The decision's time, where `Timestamp` is that of its page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<DateTime<Utc>>,
    /// The decision's page, where the line holds no other of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_id: Option<String>,
    /// Its slot there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    #[serde(skip_serializing_if = "is_policy")]
    pub mode: Mode,
    /// Why `_skipLearn` is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_evaluable: Option<String>,
    /// What was shown, with all its propensities: the slots are the positions of one slate.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub slate: Vec<Shown>,
    /// The propensity of the whole slate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propensity: Option<f64>,
    /// How many draws the propensities are estimated from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propensity_draws: Option<i32>,
    /// How many draws the marginal propensities alone are estimated from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub marginal_draws: Option<i32>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_policy(mode: &Mode) -> bool {
    *mode == Mode::Policy
}

/// The pairs of an object, in order, those included whose key stands twice.
struct Pairs(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Pairs;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some((key, value)) = map.next_entry::<Cow<str>, Value>()? {
                    pairs.push((key.into_owned(), value));
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

impl Line {
    /// Reads a line.
    ///
    /// # Errors
    /// What is no JSON, and a key that holds what it may not, by its name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Pairs(pairs) = serde_json::from_str(text).map_err(|error| {
            // Its line is that of the file, which is told already.
            let error = error.to_string();
            error.rsplit_once(" at line ").map_or(error.as_str(), |(problem, _)| problem).to_owned()
        })?;
        let mut line = Self::default();
        let mut action = None;
        for (key, value) in pairs {
            if value.is_null() {
                continue;
            }
            let path = key.as_str();
            match path {
                "a" => line.actions = Some(integers(path, &value)?),
                // The last of either counts.
                "p" | "_p" => line.probabilities = Some(numbers(path, &value)?),
                "c" => match value {
                    Value::Object(context) => line.context = Some(context),
                    _ => return Err("`c` is no object".to_owned()),
                },
                "_outcomes" => line.outcomes = Some(outcomes(&value)?),
                "EventId" => line.event_id = Some(text_of(path, &value)?),
                "Timestamp" => line.time = Some(time(path, &value)?),
                "EnqueuedTimeUtc" => line.enqueued = Some(time(path, &value)?),
                "RewardValue" => line.reward = Some(number(path, &value)?),
                "pdrop" => {
                    line.drop = number(path, &value)?;
                    if !(0.0..1.0).contains(&line.drop) {
                        return Err(format!("`pdrop` is {}, it must be at least 0 and below 1", line.drop));
                    }
                }
                "_skipLearn" => {
                    line.skip =
                        value.as_bool().ok_or_else(|| format!("`_skipLearn` is {value}, expected a boolean"))?;
                }
                "VWState" => line.model = value.get("m").and_then(Value::as_str).map(str::to_owned),
                "pdf" => return Err(continuous(path)),
                OURS => line.ours = ours(path, value)?,
                _ if path.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("_label")) => {
                    match path[6..].to_ascii_lowercase().as_str() {
                        "_cost" => line.cost = Some(number(path, &value)?),
                        "_probability" => line.probability = Some(number(path, &value)?),
                        "_action" => action = Some(integer(path, &value)?),
                        "index" => line.chosen = Some(index(path, &value)?),
                        "_ca" => return Err(continuous(path)),
                        _ => return Err(format!("`{path}` is no label that a bandit has")),
                    }
                }
                _ => {}
            }
        }
        if let Some(action) = action {
            let from_zero = action.checked_sub(1).and_then(|action| usize::try_from(action).ok());
            let from_zero = from_zero.ok_or("`_label_Action` is 0, it counts from 1")?;
            if line.chosen.is_some_and(|chosen| chosen != from_zero) {
                let index = line.chosen.unwrap_or_default();
                return Err(format!(
                    "`_labelIndex` {index}, from 0, and `_label_Action` {action}, from 1, are two actions"
                ));
            }
            line.chosen = Some(from_zero);
        }
        Ok(line)
    }
}

fn continuous(path: &str) -> String {
    format!("`{path}` is of a continuous action, and slated chooses from items")
}

fn outcomes(value: &Value) -> Result<Vec<Outcome>, String> {
    let list = value.as_array().ok_or("`_outcomes` is no array")?;
    list.iter()
        .enumerate()
        .map(|(at, value)| {
            let path = |key: &str| format!("_outcomes[{at}].{key}");
            let object = value.as_object().ok_or_else(|| format!("`_outcomes[{at}]` is no object"))?;
            let given = |key: &str| object.get(key).filter(|value| !value.is_null());
            let mut outcome = Outcome::default();
            let actions = given("_a").ok_or_else(|| format!("`{}` is missing", path("_a")))?;
            outcome.actions = integers(&path("_a"), actions)?;
            let probabilities = given("_p").ok_or_else(|| format!("`{}` is missing", path("_p")))?;
            outcome.probabilities = numbers(&path("_p"), probabilities)?;
            outcome.cost = given("_label_cost").map(|cost| number(&path("_label_cost"), cost)).transpose()?;
            outcome.id = given("_id").map(|id| name(&path("_id"), id)).transpose()?;
            if let Some(value) = given(OURS) {
                outcome.ours = ours(&path(OURS), value.clone())?;
            }
            Ok(outcome)
        })
        .collect()
}

fn ours(path: &str, value: Value) -> Result<Ours, String> {
    serde_json::from_value(value).map_err(|error| format!("`{path}`: {error}"))
}

/// A text, or a number as its text.
pub fn name(path: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::Number(number) => Ok(number.to_string()),
        other => text_of(path, other),
    }
}

fn text_of(path: &str, value: &Value) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| format!("`{path}` is {value}, expected a text"))
}

fn time(path: &str, value: &Value) -> Result<DateTime<Utc>, String> {
    let text = text_of(path, value)?;
    let time = DateTime::parse_from_rfc3339(&text).map_err(|error| format!("`{path}` is `{text}`: {error}"))?;
    // The journal's times are to the microsecond.
    let micros = DateTime::from_timestamp_micros(time.timestamp_micros());
    micros.ok_or_else(|| format!("`{path}` is `{text}`, which is out of range"))
}

fn number(path: &str, value: &Value) -> Result<f64, String> {
    // `"NaN"` is what other systems write for a number that they could not compute.
    value.as_f64().ok_or_else(|| format!("`{path}` is {value}, expected a number"))
}

fn integer(path: &str, value: &Value) -> Result<u64, String> {
    let whole = value.as_u64().or_else(|| {
        value.as_f64().filter(|number| *number >= 0.0 && number.fract() == 0.0).map(|number| number as u64)
    });
    whole.ok_or_else(|| format!("`{path}` is {value}, expected a whole number from 0"))
}

/// An index, from 0.
pub fn index(path: &str, value: &Value) -> Result<usize, String> {
    usize::try_from(integer(path, value)?).map_err(|_| format!("`{path}` is {value}, which is too large"))
}

/// A list of numbers; one alone is a list of one.
fn numbers(path: &str, value: &Value) -> Result<Vec<f64>, String> {
    list(path, value, number)
}

/// A list of whole numbers from 0.
pub fn integers(path: &str, value: &Value) -> Result<Vec<u64>, String> {
    list(path, value, integer)
}

fn list<T>(path: &str, value: &Value, read: fn(&str, &Value) -> Result<T, String>) -> Result<Vec<T>, String> {
    let Value::Array(elements) = value else { return Ok(vec![read(path, value)?]) };
    let elements = elements.iter().filter(|element| !element.is_null()).enumerate();
    elements.map(|(at, element)| read(&format!("{path}[{at}]"), element)).collect()
}
