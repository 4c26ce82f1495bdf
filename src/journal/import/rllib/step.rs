//! What an agent saw, did and earned at one step, out of each form in which RLlib writes it.

use serde_json::{Map, Value};

use super::{episode, packed};

/// A step by the names of RLlib's columns, arrays as lists.
pub type Step = Map<String, Value>;

/// Where an environment of slates, such as RecSim's, has what can be shown.
pub const DOCUMENTS: &str = "doc";

/// How many actions there are, where the file says it.
pub const ACTIONS: &str = "_actions";

/// The steps of a line of JSON: a `SampleBatch`, or the batches of several agents.
///
/// # Errors
/// What is neither.
pub fn of_batch(line: &str) -> Result<Vec<Result<Step, String>>, String> {
    let mut batch: Map<String, Value> = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let Some(Value::Object(batches)) = batch.remove("policy_batches") else { return columns(batch, None) };
    let mut steps = Vec::new();
    for (policy, batch) in batches {
        let Value::Object(batch) = batch else { return Err(format!("`policy_batches.{policy}` is no object")) };
        let of_policy = columns(batch, Some(&policy)).map_err(|error| format!("`policy_batches.{policy}`: {error}"))?;
        steps.extend(of_policy);
    }
    Ok(steps)
}

fn columns(mut batch: Map<String, Value>, policy: Option<&str>) -> Result<Vec<Result<Step, String>>, String> {
    batch.remove("type");
    batch.remove("count");
    // What was seen afterwards is what is seen next.
    batch.remove("new_obs");
    unpacked(&mut batch)?;
    let Some(Value::Array(actions)) = batch.get("actions") else {
        return Err("`actions` is missing or no list".to_owned());
    };
    let steps = (0..actions.len()).map(|index| {
        let mut step = Step::new();
        for (name, column) in &batch {
            let value =
                element(column, index).ok_or_else(|| format!("`{name}` has no element {index}, as `actions` has"))?;
            step.insert(name.clone(), value);
        }
        if let Some(policy) = policy {
            step.insert("module_id".to_owned(), policy.into());
        }
        Ok(step)
    });
    Ok(steps.collect())
}

/// Unpacks what is packed.
///
/// # Errors
/// What does not unpack, by its name.
pub fn unpacked(step: &mut Step) -> Result<(), String> {
    for name in ["obs", "actions", "infos"] {
        if let Some(value) = step.get_mut(name)
            && let Value::String(text) = value
        {
            *value = packed::unpack(text).map_err(|error| format!("`{name}`: {error}"))?;
        }
    }
    Ok(())
}

/// The element of a column, or of each column of a dictionary.
fn element(column: &Value, index: usize) -> Option<Value> {
    match column {
        Value::Array(elements) => elements.get(index).cloned(),
        Value::Object(columns) => {
            let elements = columns.iter().map(|(name, column)| Some((name.clone(), element(column, index)?)));
            elements.collect::<Option<Map<_, _>>>().map(Value::Object)
        }
        _ => None,
    }
}

/// The steps of a recorded episode.
///
/// # Errors
/// What is no episode.
pub fn of_episode(bytes: &[u8]) -> Result<Vec<Result<Step, String>>, String> {
    let state = episode::unpack(bytes)?;
    // Before `lookback` stands what an earlier chunk of the episode ended with.
    let buffer = |state: &Value, name: &str| {
        let buffer = state.get(name)?;
        Some((buffer.get("data")?.clone(), buffer.get("lookback").and_then(Value::as_u64).unwrap_or(0) as usize))
    };
    let of = |name: &str| buffer(&state, name).ok_or_else(|| format!("the episode has no `{name}`"));
    let (observations, actions, rewards) = (of("observations")?, of("actions")?, of("rewards")?);
    let outputs = state.get("extra_model_outputs").and_then(Value::as_object).cloned().unwrap_or_default();
    let Value::Array(taken) = &actions.0 else { return Err("`actions` of the episode is no list".to_owned()) };
    let steps = taken.len().saturating_sub(actions.1);
    let is = |name: &str| state.get(name).cloned().unwrap_or_default();
    let step = |index: usize| {
        let mut step = Step::new();
        let mut put = |name: &str, (column, lookback): &(Value, usize)| match element(column, lookback + index) {
            Some(value) => {
                step.insert(name.to_owned(), value);
                Ok(())
            }
            None => Err(format!("`{name}` of the episode has no element {index}, as `actions` has")),
        };
        put("obs", &observations)?;
        put("actions", &actions)?;
        put("rewards", &rewards)?;
        for name in ["action_logp", "action_prob"] {
            if let Some(output) = buffer(&Value::Object(outputs.clone()), name) {
                put(name, &output)?;
            }
        }
        let last = index + 1 == steps;
        step.insert("eps_id".to_owned(), is("id_"));
        step.insert("agent_id".to_owned(), is("agent_id"));
        step.insert("module_id".to_owned(), is("module_id"));
        step.insert("terminateds".to_owned(), (last && is("is_terminated") == true).into());
        step.insert("truncateds".to_owned(), (last && is("is_truncated") == true).into());
        if let Some(count) = state.get("_action_space").and_then(|space| space.get("n")) {
            step.insert(ACTIONS.to_owned(), count.clone());
        }
        Ok(step)
    };
    Ok((0..steps).map(step).collect())
}
