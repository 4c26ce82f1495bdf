//! The HTTP interface, from its OpenAPI description.

use std::fmt::Write;

use anyhow::Context;
use serde_json::{Map, Value};

use super::{cell, generated};
use crate::api;

const ABOUT: &str = "\
What `openapi.yaml` describes, for reading; the service shows it too, at `GET /openapi.yaml`. Errors are
`application/problem+json` ([Problem](#problem)). What a field means together with others is in
[serving](../serving.md); who may call what is in [security](../security.md).";

/// The page.
///
/// # Errors
/// A description that is no JSON, which would be a defect.
pub fn page() -> anyhow::Result<String> {
    let description =
        serde_json::to_value(api::openapi(api::KeysNeeded::Perhaps)).context("the description is no JSON")?;
    let mut text = generated("HTTP interface", ABOUT);
    let empty = Vec::new();
    for tag in description["tags"].as_array().unwrap_or(&empty) {
        let name = tag["name"].as_str().unwrap_or_default();
        // Writing into a string cannot fail.
        let _ = writeln!(text, "\n## {name}\n\n{}.", tag["description"].as_str().unwrap_or_default());
        for (path, methods) in description["paths"].as_object().into_iter().flatten() {
            for (method, operation) in methods.as_object().into_iter().flatten() {
                if operation["tags"][0] == name {
                    operation_section(&mut text, &description, method, path, operation);
                }
            }
        }
    }
    text.push_str("\n## Forms\n");
    for (name, schema) in description["components"]["schemas"].as_object().into_iter().flatten() {
        schema_section(&mut text, name, schema);
    }
    Ok(text)
}

fn operation_section(text: &mut String, description: &Value, method: &str, path: &str, operation: &Value) {
    let _ = writeln!(text, "\n### `{} {path}`\n", method.to_uppercase());
    let word = |key: &str| operation[key].as_str().map(str::trim).unwrap_or_default();
    let ending = if word("summary").ends_with('?') { "" } else { "." };
    let _ = writeln!(text, "{}{ending}", cell(word("summary")));
    if !word("description").is_empty() {
        let _ = writeln!(text, "\n{}", word("description"));
    }
    let parameters: Vec<&Value> = operation["parameters"].as_array().into_iter().flatten().collect();
    if !parameters.is_empty() {
        text.push_str("\n| parameter | in | form | what |\n|---|---|---|---|\n");
        for parameter in parameters {
            let word = |key: &str| cell(parameter[key].as_str().unwrap_or_default());
            let form = form(&parameter["schema"]);
            let _ = writeln!(text, "| `{}` | {} | {form} | {} |", word("name"), word("in"), word("description"));
        }
    }
    if let Some(body) = content(&operation["requestBody"]) {
        let _ = writeln!(text, "\nBody: {body}.");
    }
    text.push_str("\n| status | answer | when |\n|---|---|---|\n");
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        // What several routes answer alike stands among the components.
        let shared = response["$ref"].as_str().and_then(|at| description.pointer(at.trim_start_matches('#')));
        let response = shared.unwrap_or(response);
        let when = cell(response["description"].as_str().unwrap_or_default());
        let _ = writeln!(text, "| {status} | {} | {when} |", content(response).unwrap_or_default());
    }
}

/// The form of a body.
fn content(holder: &Value) -> Option<String> {
    let forms: Vec<String> = holder["content"].as_object()?.values().map(|media| form(&media["schema"])).collect();
    Some(forms.join(" or "))
}

fn schema_section(text: &mut String, name: &str, schema: &Value) {
    let _ = writeln!(text, "\n### {name}\n");
    if let Some(description) = schema["description"].as_str() {
        let _ = writeln!(text, "{}", cell(description));
    }
    let parts: Vec<&Value> =
        match (schema["allOf"].as_array(), schema["oneOf"].as_array().or(schema["anyOf"].as_array())) {
            (Some(all), _) => all.iter().collect(),
            (None, Some(one)) => {
                text.push_str("\nOne of:\n");
                one.iter().collect()
            }
            (None, None) => vec![schema],
        };
    for part in parts {
        if let Some(properties) = part["properties"].as_object() {
            if let Some(about) = part["description"].as_str().filter(|_| part != schema) {
                let _ = writeln!(text, "\n{}", cell(about));
            }
            fields(text, properties, part);
        } else if part["enum"].is_array() || part["$ref"].is_string() || part["type"] != "object" {
            let about = part["description"].as_str().filter(|_| part != schema).map(cell);
            let about = about.map(|about| format!(": {about}")).unwrap_or_default();
            let _ = writeln!(text, "\n{}{about}", form(part));
        }
    }
}

fn fields(text: &mut String, properties: &Map<String, Value>, schema: &Value) {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    text.push_str("\n| field | form | | what |\n|---|---|---|---|\n");
    for (field, property) in properties {
        let needed = if required.contains(&field.as_str()) { "required" } else { "" };
        let what = cell(property["description"].as_str().unwrap_or_default());
        let _ = writeln!(text, "| `{field}` | {} | {needed} | {what} |", form(property));
    }
}

/// The form of a value, in words, with a link where it has a section of its own.
fn form(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(" or ");
    }
    let parts = ["oneOf", "anyOf", "allOf"].iter().find_map(|key| schema[*key].as_array());
    if let Some(parts) = parts {
        let parts: Vec<String> = parts.iter().filter(|part| part["type"] != "null").map(form).collect();
        return parts.join(" or ");
    }
    let kinds = match &schema["type"] {
        Value::String(kind) => vec![kind.as_str()],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).filter(|kind| *kind != "null").collect(),
        _ => vec!["any"],
    };
    let name = |kind: &str| match kind {
        "array" => format!("list of {}", form(&schema["items"])),
        "string" if schema["format"] == "date-time" => "time".to_owned(),
        "object" if schema["additionalProperties"].is_object() => {
            format!("object of {}", form(&schema["additionalProperties"]))
        }
        other => other.to_owned(),
    };
    kinds.into_iter().map(name).collect::<Vec<_>>().join(" or ")
}
