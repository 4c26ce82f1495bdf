//! What can be set, from the settings' types.

use std::fmt::Write;

use anyhow::Context;
use serde_json::{Map, Value};

use super::{cell, generated};
use crate::settings::Settings;

const ABOUT: &str = "\
Every key of `slated.toml`. Layers, the later wins: defaults, `slated.toml` in the current folder (or `--config FILE`),
variables `SLATED_<SECTION>__<KEY>` (such as `SLATED_SERVER__LISTEN` for `server.listen`), flags. `slated config` prints
every setting in force and where it came from. An unknown key, in a file or a variable, is an error.";

/// Defaults that differ from machine to machine.
const OF_THE_MACHINE: [(&str, &str); 1] = [("runtime.sessions", "half of the processors")];

/// The page.
///
/// # Errors
/// Settings that are no JSON, which would be a defect.
pub fn page() -> anyhow::Result<String> {
    let schema = schemars::schema_for!(Settings).to_value();
    let defaults = serde_json::to_value(Settings::default()).context("the defaults are no JSON")?;
    let mut text = generated("Settings", ABOUT);
    let top: Vec<(&String, &Value)> = properties(&schema, &schema).into_iter().flatten().collect();
    let is_section = |property: &Value| properties(&schema, property).is_some();
    let plain = top.iter().filter(|(_, property)| !is_section(property)).copied();
    table(&mut text, &schema, plain, "", &defaults);
    for (name, property) in top.iter().filter(|(_, property)| is_section(property)) {
        section(&mut text, &schema, name, property, &defaults[name.as_str()]);
    }
    Ok(text)
}

fn section(text: &mut String, root: &Value, path: &str, property: &Value, defaults: &Value) {
    // Writing into a string cannot fail.
    let _ = writeln!(text, "\n## `[{path}]`\n\n{}", description(root, property));
    let fields: Vec<(&String, &Value)> = properties(root, property).into_iter().flatten().collect();
    let plain = fields.iter().filter(|(_, field)| properties(root, field).is_none()).copied();
    table(text, root, plain, path, defaults);
    for (name, field) in fields.iter().filter(|(_, field)| properties(root, field).is_some()) {
        section(text, root, &format!("{path}.{name}"), field, &defaults[name.as_str()]);
    }
}

fn table<'a>(
    text: &mut String,
    root: &Value,
    fields: impl Iterator<Item = (&'a String, &'a Value)>,
    path: &str,
    defaults: &Value,
) {
    text.push_str("\n| key | form | default | what |\n|---|---|---|---|\n");
    for (name, field) in fields {
        let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let default = OF_THE_MACHINE.iter().find(|(of_machine, _)| *of_machine == key).map_or_else(
            || match &defaults[name.as_str()] {
                Value::Null => "absent".to_owned(),
                value => format!("`{value}`"),
            },
            |(_, what)| (*what).to_owned(),
        );
        let mut what = description(root, field);
        let choices: Vec<String> = choices(root, field)
            .into_iter()
            .map(|(choice, about)| format!("`\"{choice}\"`: {}", about.trim_end_matches('.')))
            .collect();
        if !choices.is_empty() {
            let _ = write!(what, " {}.", choices.join("; "));
        }
        let _ = writeln!(text, "| `{key}` | {} | {} | {} |", form(root, field), cell(&default), cell(&what));
    }
}

/// What a schema refers to; itself where it is no reference.
fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let optional = schema["anyOf"].as_array().and_then(|any| any.iter().find(|one| one["type"] != "null"));
    let schema = optional.unwrap_or(schema);
    let target = schema["$ref"].as_str().and_then(|reference| root.pointer(reference.trim_start_matches('#')));
    target.unwrap_or(schema)
}

fn properties<'a>(root: &'a Value, schema: &'a Value) -> Option<&'a Map<String, Value>> {
    resolved(root, schema)["properties"].as_object()
}

/// The field's own description, else that of its type.
fn description(root: &Value, schema: &Value) -> String {
    let own = schema["description"].as_str();
    cell(own.or_else(|| resolved(root, schema)["description"].as_str()).unwrap_or_default())
}

/// The words that a setting may be, each with what it does.
fn choices<'a>(root: &'a Value, schema: &'a Value) -> Vec<(&'a str, String)> {
    let one_of = resolved(root, schema)["oneOf"].as_array().into_iter().flatten();
    one_of.filter_map(|choice| Some((choice["const"].as_str()?, description(root, choice)))).collect()
}

fn form(root: &Value, schema: &Value) -> String {
    let target = resolved(root, schema);
    let name = |kind: &str| match kind {
        "string" => "text".to_owned(),
        "boolean" => "true or false".to_owned(),
        "array" => format!("list of {}", form(root, &target["items"])),
        other => other.to_owned(),
    };
    match &target["type"] {
        Value::String(kind) => name(kind),
        Value::Array(kinds) => kinds
            .iter()
            .filter_map(Value::as_str)
            .filter(|kind| *kind != "null")
            .map(name)
            .collect::<Vec<_>>()
            .join(" or "),
        _ if !choices(root, schema).is_empty() => "text".to_owned(),
        _ => "any".to_owned(),
    }
}
