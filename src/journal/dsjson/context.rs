//! The features of a line, `c`, to and from those of a decision.
//!
//! The objects `user` and `session` of `c` are the user's and the session's features; everything else is the context's,
//! by its path, whether it stands in an object `context` or not. A key that begins with `_` is no feature, as in Vowpal
//! Wabbit. An action's `i`, where it only repeats the tag, as other services add it for the learner, is none either.

use serde_json::{Map, Value, json};
use slated_contract::event::Candidate;
use slated_contract::feature::{Features, Reserved, flatten, nest};

use super::line::{index, integers, name};

/// The item feature that says to which slot an action belongs, where the slots' actions are apart.
pub const SLOT_ID: &str = "_slot_id";
/// The objects of `c` that are groups of their own.
const GROUPS: [&str; 3] = ["user", "session", "context"];

/// What `c` holds.
#[derive(Debug, Default)]
pub struct Context {
    pub user: Features,
    pub context: Features,
    pub session: Features,
    pub actions: Vec<Action>,
    pub slots: Vec<Slot>,
}

/// An element of `_multi`.
#[derive(Debug)]
pub struct Action {
    /// `_tag`.
    tag: Option<String>,
    features: Features,
    /// `_slot_id`.
    pub slot: Option<usize>,
}

/// An element of `_slots`.
#[derive(Debug)]
pub struct Slot {
    /// `_id`.
    pub id: Option<String>,
    /// `_inc`: the actions that it may show; all where absent.
    pub included: Option<Vec<usize>>,
    pub features: Features,
}

impl Context {
    /// Reads `c`.
    ///
    /// # Errors
    /// What it lacks, or holds and may not, by its path.
    pub fn read(c: &Map<String, Value>) -> Result<Self, String> {
        let mut found = Self::default();
        let mut rest = Map::new();
        for (key, value) in c {
            match key.as_str() {
                "_multi" => found.actions = elements("c._multi", value)?.map(action).collect::<Result<_, _>>()?,
                "_slots" => found.slots = elements("c._slots", value)?.map(slot).collect::<Result<_, _>>()?,
                "user" if is_group(value) => found.user = features("c.user", value)?,
                "session" if is_group(value) => found.session = features("c.session", value)?,
                "context" if is_group(value) => found.context = features("c.context", value)?,
                _ => {
                    rest.insert(key.clone(), value.clone());
                }
            }
        }
        let rest = features("c", &Value::Object(rest))?;
        if let Some((name, _)) = rest.iter().find(|(name, _)| found.context.get(name).is_some()) {
            return Err(format!("`c`: feature `{name}` is given twice"));
        }
        found.context = found.context.overlaid_with(&rest);
        if found.actions.is_empty() {
            return Err("`c._multi` holds no action".to_owned());
        }
        Ok(found)
    }

    /// The candidates, in their order. Their items are the tags where each has one of its own, otherwise their numbers
    /// from 0.
    #[must_use]
    pub fn candidates(&self) -> Vec<Candidate> {
        let mut tags: Vec<&str> = self.actions.iter().filter_map(|action| action.tag.as_deref()).collect();
        tags.sort_unstable();
        tags.dedup();
        let tagged = tags.len() == self.actions.len();
        let item = |(at, action): (usize, &Action)| match &action.tag {
            Some(tag) if tagged => tag.clone(),
            _ => at.to_string(),
        };
        let items = self.actions.iter().enumerate().map(item);
        let candidate = |(item, action): (String, &Action)| {
            let mut features = action.features.clone();
            if let Some(slot) = action.slot {
                features.insert(SLOT_ID, slot as f64);
            }
            Candidate { item, features, score: None }
        };
        items.zip(&self.actions).map(candidate).collect()
    }
}

fn is_group(value: &Value) -> bool {
    match value {
        Value::Object(_) => true,
        Value::Array(elements) => !elements.is_empty() && elements.iter().all(|element| element.is_object()),
        _ => false,
    }
}

fn features(path: &str, value: &Value) -> Result<Features, String> {
    flatten(value, Reserved::Underscored).map_err(|error| format!("`{path}`: {error}"))
}

type Element<'a> = (String, &'a Map<String, Value>);

fn elements<'a>(path: &'a str, list: &'a Value) -> Result<impl Iterator<Item = Element<'a>>, String> {
    let list = list.as_array().ok_or_else(|| format!("`{path}` is no array"))?;
    if let Some(at) = list.iter().position(|element| !element.is_object()) {
        return Err(format!("`{path}[{at}]` is no object"));
    }
    let objects = list.iter().enumerate().filter_map(|(at, element)| Some((at, element.as_object()?)));
    Ok(objects.map(move |(at, object)| (format!("{path}[{at}]"), object)))
}

fn action((path, object): Element) -> Result<Action, String> {
    if object.contains_key("__aid") {
        return Err(format!("`{path}.__aid` stands for an action that another log holds; write the actions out"));
    }
    let tag = object.get("_tag").and_then(Value::as_str).filter(|tag| !tag.is_empty()).map(str::to_owned);
    let slot = object.get(SLOT_ID).map(|slot| index(&format!("{path}.{SLOT_ID}"), slot)).transpose()?;
    let repeats =
        tag.as_ref().is_some_and(|tag| object.get("i").is_some_and(|i| *i == by_id(tag) || *i == json!({"id": tag})));
    let kept = object.iter().filter(|(key, _)| !(repeats && *key == "i"));
    let kept = kept.map(|(key, value)| (key.clone(), value.clone())).collect();
    Ok(Action { tag, features: features(&path, &Value::Object(kept))?, slot })
}

fn slot((path, object): Element) -> Result<Slot, String> {
    let id = object.get("_id").map(|id| name(&format!("{path}._id"), id)).transpose()?;
    let included = object.get("_inc").map(|included| integers(&format!("{path}._inc"), included)).transpose()?;
    let included =
        included.map(|included| included.into_iter().map(|action| usize::try_from(action).unwrap_or(usize::MAX)));
    let features = features(&path, &Value::Object(object.clone()))?;
    Ok(Slot { id, included: included.map(Iterator::collect), features })
}

/// What tells an action by its item alone.
fn by_id(item: &str) -> Value {
    json!({"constant": 1, "id": item})
}

/// The shared part of `c`.
#[must_use]
pub fn shared(user: &Features, context: &Features, session: &Features) -> Map<String, Value> {
    let first = |name: &str| name.split('.').next().map(str::to_owned).unwrap_or_default();
    let taken = context.iter().any(|(name, _)| GROUPS.contains(&first(name).as_str()));
    let mut c = nest(context, Reserved::Underscored);
    if taken {
        c = Map::from_iter([("context".to_owned(), Value::Object(c))]);
    }
    for (group, features) in [("user", user), ("session", session)] {
        let nested = nest(features, Reserved::Underscored);
        if !nested.is_empty() {
            c.insert(group.to_owned(), Value::Object(nested));
        }
    }
    c
}

/// An element of `_multi`: the item as its tag and, unless it has features of such names, as what a learner tells it by.
#[must_use]
pub fn action_of(candidate: &Candidate) -> Map<String, Value> {
    let mut action = Map::from_iter([("_tag".to_owned(), Value::from(candidate.item.as_str()))]);
    let nested = nest(&candidate.features, Reserved::Underscored);
    if !nested.keys().any(|key| key == "i" || key.starts_with("i.")) {
        action.insert("i".to_owned(), by_id(&candidate.item));
    }
    action.extend(nested);
    action
}
