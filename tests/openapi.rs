//! `openapi.yaml` against itself, and against what the service answers.

mod common;

use std::collections::BTreeMap;
use std::fs;

use common::Workplace;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

fn document() -> Value {
    yaml_serde::from_str(include_str!("../openapi.yaml")).unwrap()
}

/// What a `$ref` points to; the value itself where it is none.
fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value.get("$ref").and_then(Value::as_str) {
        Some(reference) => {
            let target = document.pointer(reference.trim_start_matches('#'));
            target.unwrap_or_else(|| panic!("{reference} leads nowhere"))
        }
        None => value,
    }
}

fn parts<'a>(schema: &'a Value, keys: &[&str]) -> Vec<&'a Value> {
    let arrays = keys.iter().filter_map(|key| schema.get(key)).filter_map(Value::as_array);
    arrays.flatten().collect()
}

fn is_described(document: &Value, schema: &Value) -> bool {
    let target = resolve(document, schema);
    let own = [schema, target].iter().any(|schema| schema["description"].as_str().is_some_and(|text| !text.is_empty()));
    // One that may be null stands as one of two, and the description with the one that says what it is.
    own || parts(schema, &["oneOf"]).iter().any(|part| is_described(document, part))
}

fn has_example(document: &Value, schema: &Value) -> bool {
    let own = ["example", "examples", "enum", "const"].iter().any(|key| schema.get(key).is_some());
    let target = resolve(document, schema);
    let inherited = !std::ptr::eq(target, schema) && has_example(document, target);
    let elements = schema.get("items").into_iter().chain(schema.get("additionalProperties"));
    let properties = schema["properties"].as_object().filter(|properties| !properties.is_empty());
    own || inherited
        || elements.filter(|schema| schema.is_object()).any(|schema| has_example(document, schema))
        || parts(schema, &["oneOf", "anyOf", "allOf"]).iter().any(|part| has_example(document, part))
        || properties.is_some_and(|properties| properties.values().all(|schema| has_example(document, schema)))
}

/// Every property under a schema, by its path.
fn properties<'a>(schema: &'a Value, at: &str, found: &mut Vec<(String, &'a Value)>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let at = format!("{at}.{name}");
        properties(property, &at, found);
        found.push((at, property));
    }
    for part in parts(schema, &["oneOf", "anyOf", "allOf"]) {
        properties(part, at, found);
    }
    for part in ["items", "additionalProperties"].iter().filter_map(|key| schema.get(key)) {
        properties(part, at, found);
    }
}

/// How a route writes its errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Problem,
    Inference,
    Personalizer,
}

impl Form {
    /// The media type, and the schema's name.
    fn written(self) -> (&'static str, &'static str) {
        match self {
            Self::Problem => ("application/problem+json", "Problem"),
            Self::Inference => ("application/json", "InferenceError"),
            Self::Personalizer => ("application/json", "ErrorResponse"),
        }
    }
}

/// An operation, with the path and the method that it stands under.
struct Operation<'a> {
    path: &'a str,
    method: Method,
    is: &'a Value,
}

impl<'a> Operation<'a> {
    fn all(document: &'a Value) -> Vec<Self> {
        let mut all = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, is) in item.as_object().unwrap() {
                all.push(Self { path, method: method.to_uppercase().parse().unwrap(), is });
            }
        }
        assert!(all.len() > 15, "only {} operations", all.len());
        all
    }

    fn parameters(&self) -> Vec<&'a Value> {
        self.is["parameters"].as_array().into_iter().flatten().collect()
    }

    fn takes(&self, kind: &str) -> bool {
        self.parameters().iter().any(|parameter| parameter["in"] == kind)
    }

    fn has_body(&self) -> bool {
        self.is.get("requestBody").is_some()
    }

    fn needs_key(&self) -> bool {
        self.is.get("security").is_some()
    }

    fn form(&self) -> Form {
        match self.is["tags"][0].as_str() {
            Some("inference") => Form::Inference,
            Some("compat") => Form::Personalizer,
            _ => Form::Problem,
        }
    }

    fn lists(&self, status: u16) -> bool {
        self.is["responses"].get(status.to_string()).is_some()
    }

    /// Its URL with the examples in their places, and `in_path` in those of the path.
    fn url(&self, service: &str, in_path: Option<&str>) -> String {
        let (mut path, mut query) = (self.path.to_owned(), Vec::new());
        for parameter in self.parameters() {
            let (name, example) = (parameter["name"].as_str().unwrap(), &parameter["example"]);
            let example = example.as_str().map_or_else(|| example.to_string(), ToOwned::to_owned);
            match parameter["in"].as_str().unwrap() {
                "path" => path = path.replace(&format!("{{{name}}}"), in_path.unwrap_or(&example)),
                "query" if parameter["required"] == true => query.push(format!("{name}={}", example.replace(' ', "+"))),
                _ => {}
            }
        }
        let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
        format!("{service}{path}{query}")
    }
}

#[test]
fn every_field_is_described_with_an_example() {
    let document = document();
    let mut lacking = Vec::new();
    let mut seen = 0;
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        if !is_described(&document, schema) {
            lacking.push(format!("{name}: description"));
        }
        let mut found = Vec::new();
        properties(schema, name, &mut found);
        seen += found.len();
        for (at, property) in found {
            if !is_described(&document, property) {
                lacking.push(format!("{at}: description"));
            }
            if !has_example(&document, property) {
                lacking.push(format!("{at}: example"));
            }
        }
    }
    for operation in Operation::all(&document) {
        for parameter in operation.parameters() {
            let at = format!("{} {} {}", operation.method, operation.path, parameter["name"]);
            if parameter["description"].as_str().is_none_or(str::is_empty) {
                lacking.push(format!("{at}: description"));
            }
            if parameter.get("example").is_none() && !has_example(&document, &parameter["schema"]) {
                lacking.push(format!("{at}: example"));
            }
        }
    }
    for (name, header) in document["components"]["headers"].as_object().unwrap() {
        if header["description"].as_str().is_none_or(str::is_empty) || !has_example(&document, &header["schema"]) {
            lacking.push(format!("header {name}"));
        }
    }
    assert!(seen > 100, "only {seen} properties");
    assert!(lacking.is_empty(), "{}", lacking.join("\n"));
}

#[test]
fn every_operation_says_what_it_does_and_how_it_fails() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    let mut ids = BTreeMap::new();
    for operation in Operation::all(&document) {
        let at = format!("{} {}", operation.method, operation.path);
        for field in ["operationId", "summary", "description"] {
            assert!(operation.is[field].as_str().is_some_and(|text| !text.is_empty()), "{at}: {field}");
        }
        assert!(!operation.is["tags"].as_array().unwrap().is_empty(), "{at}");
        let id = operation.is["operationId"].as_str().unwrap().to_owned();
        if let Some(other) = ids.insert(id, at.clone()) {
            panic!("{at} has the id of {other}");
        }
        let form = operation.form();
        let mut must = vec![500];
        if operation.needs_key() {
            must.extend([401, 403, 429]);
        }
        // The one that takes no model does not read it.
        if operation.has_body() && !operation.path.ends_with("/model") {
            must.extend([400, 413, 415]);
        }
        if operation.takes("path") || operation.takes("query") {
            must.push(400);
        }
        if operation.takes("header") {
            // The Personalizer knows no 422.
            must.extend([if form == Form::Personalizer { 400 } else { 422 }, 503]);
        }
        let missing: Vec<u16> = must.into_iter().filter(|status| !operation.lists(*status)).collect();
        assert!(missing.is_empty(), "{at} does not list {missing:?}");
        for (status, response) in operation.is["responses"].as_object().unwrap() {
            let response = resolve(&document, response);
            assert!(response["description"].as_str().is_some_and(|text| !text.is_empty()), "{at}: {status}");
            assert!(response["headers"]["X-Request-Id"].is_object(), "{at}: {status}");
            let content = response.get("content").and_then(Value::as_object);
            if status.starts_with('2') {
                assert_eq!(content.is_some_and(|content| !content.is_empty()), status != "204", "{at}: {status}");
                continue;
            }
            let content = content.unwrap();
            assert_eq!(content.len(), 1, "{at}: {status}");
            let (media_type, schema) = form.written();
            let expected = format!("#/components/schemas/{schema}");
            assert_eq!(content[media_type]["schema"]["$ref"], expected, "{at}: {status}");
        }
    }
}

/// Sends what must fail, and holds the answer against what is listed.
async fn fails(document: &Value, operation: &Operation<'_>, request: RequestBuilder, expected: u16) {
    let at = format!("{} {}", operation.method, operation.path);
    let answer = request.send().await.unwrap();
    let (status, headers) = (answer.status(), answer.headers().clone());
    let text = answer.text().await.unwrap();
    assert_eq!(status, expected, "{at}: {text}");
    let listed = &operation.is["responses"][expected.to_string()];
    assert!(listed.is_object(), "{at} answered {expected}, which is not listed: {text}");
    let listed = resolve(document, listed);
    assert_eq!(headers["content-type"], operation.form().written().0, "{at}: {expected}");
    for header in listed["headers"].as_object().unwrap().keys() {
        assert!(headers.contains_key(header), "{at}: {expected} without {header}");
    }
    let problem: Value = serde_json::from_str(&text).unwrap();
    if operation.form() == Form::Inference {
        let said = problem["error"].as_str().is_some_and(|text| !text.is_empty());
        assert!(said && problem.as_object().unwrap().len() == 1, "{at}: {text}");
        return;
    }
    let described = document["components"]["schemas"]["Problem"]["properties"].as_object().unwrap();
    for name in problem.as_object().unwrap().keys() {
        assert!(described.contains_key(name), "{at}: {text}");
    }
    for name in ["type", "title", "detail"] {
        assert!(problem[name].as_str().is_some_and(|text| !text.is_empty()), "{at}: {text}");
    }
    assert_eq!(problem["status"], expected, "{at}: {text}");
    let kind = problem["type"].as_str().unwrap().trim_start_matches("urn:slated:problem:");
    let kinds = described["type"]["description"].as_str().unwrap();
    assert!(kinds.contains(&format!("`{kind}`")), "{at}: the kind {kind} is not described");
    // The URL and the body share a status.
    let example = &listed["content"]["application/problem+json"]["example"];
    if example.is_object() && expected != 400 {
        assert_eq!((&problem["type"], &problem["title"]), (&example["type"], &example["title"]), "{at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_failure_is_one_that_is_listed() {
    let place = Workplace::new();
    let settings = "[server]\nmax_body_bytes = 10000\n[security]\nkeys = \"keys.toml\"\n";
    fs::write(place.path().join("slated.toml"), settings).unwrap();
    let key = |name: &str, args: &[&str]| {
        place.must(&[&["key", "new", name, "--keys", "keys.toml"], args].concat()).trim().to_owned()
    };
    let all = ["--role", "recommend", "--role", "feedback", "--role", "admin", "--role", "metrics"];
    let able = key("able", &all);
    let slow = key("slow", &[&all[..], &["--requests-per-second", "1", "--burst", "1"]].concat());
    let unable = [("--role", "metrics"), ("--role", "admin")].map(|(flag, role)| key(role, &[flag, role]));
    let service = place.serve(&[]);
    let client = Client::builder().no_proxy().build().unwrap();

    let served = client.get(format!("{}/openapi.yaml", service.url)).send().await.unwrap();
    assert_eq!(served.headers()["content-type"], "application/yaml");
    let served: Value = yaml_serde::from_str(&served.text().await.unwrap()).unwrap();
    let document = document();
    for operation in Operation::all(&document) {
        let ask = |url: String| client.request(operation.method.clone(), url);
        let url = operation.url(&service.url, None);
        let at = format!("{} {}", operation.method, operation.path);

        // A service that needs keys says so; the description that ships leaves it open.
        let security = &served["paths"][operation.path][operation.method.as_str().to_lowercase()]["security"];
        let alternatives = security.as_array().map_or(0, Vec::len);
        let form = operation.form();
        let headers = if form == Form::Personalizer { 3 } else { 2 };
        assert_eq!(alternatives, if operation.needs_key() { headers } else { 0 }, "{at}");
        // How those fail is what tests/personalizer is about.
        if form == Form::Personalizer {
            continue;
        }

        let other = client.patch(&url).bearer_auth(&able).send().await.unwrap();
        assert_eq!(other.status(), StatusCode::METHOD_NOT_ALLOWED, "{at}");
        assert!(other.headers()["allow"].to_str().unwrap().contains(operation.method.as_str()), "{at}");
        let said: Value = other.json().await.unwrap();
        match form {
            Form::Inference => assert!(said["error"].is_string(), "{at}: {said}"),
            _ => assert_eq!(said["type"], "urn:slated:problem:method-not-allowed", "{at}"),
        }

        if !operation.needs_key() {
            let answer = ask(url).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK, "{at}");
            continue;
        }
        let sends = |request: RequestBuilder| if operation.has_body() { request.json(&json!({})) } else { request };
        fails(&document, &operation, sends(ask(url.clone())), 401).await;
        let role = if operation.path == "/metrics" { &unable[1] } else { &unable[0] };
        fails(&document, &operation, sends(ask(url.clone()).bearer_auth(role)), 403).await;
        let allowed = |url: &str| ask(url.to_owned()).bearer_auth(&able);
        if operation.takes("path") {
            fails(&document, &operation, sends(allowed(&operation.url(&service.url, Some("%ff")))), 400).await;
        }
        if operation.takes("header") {
            for bad in ["0", "-1", "1.5", "soon", ""] {
                fails(&document, &operation, sends(allowed(&url).header("x-request-timeout-ms", bad)), 422).await;
            }
        }
        if operation.takes("query") {
            let unknown = if url.contains('?') { format!("{url}&unknown=1") } else { format!("{url}?unknown=1") };
            fails(&document, &operation, sends(allowed(&unknown)), 400).await;
        }
        if operation.has_body() {
            let body = |kind: &str, text: String| allowed(&url).header("content-type", kind).body(text);
            // The protocol's clients name no media type, so what does not fit is what is compressed.
            let unfit = match form {
                Form::Inference => body("application/json", "{}".to_owned()).header("content-encoding", "gzip"),
                _ => body("text/plain", "{}".to_owned()),
            };
            fails(&document, &operation, unfit, 415).await;
            fails(&document, &operation, body("application/json", "{".to_owned()), 400).await;
            fails(&document, &operation, body("application/json", " ".repeat(10_001)), 413).await;
            let unknown = r#"{"unknown_field": 1}"#.to_owned();
            let status = if form == Form::Inference { 400 } else { 422 };
            fails(&document, &operation, body("application/json", unknown), status).await;
        }
        // Until its one request of a second is spent.
        let mut spent = false;
        for _ in 0..50 {
            let answer = sends(ask(url.clone()).bearer_auth(&slow)).send().await.unwrap();
            spent = answer.status() == StatusCode::TOO_MANY_REQUESTS;
            if spent {
                break;
            }
        }
        assert!(spent, "{at} never reached the key's limit");
        if operation.lists(404) {
            let request = sends(allowed(&operation.url(&service.url, Some("none"))));
            // A version is a number there, and a name to the protocol.
            let named = form == Form::Inference || !operation.path.contains("/versions/");
            if !operation.has_body() && named {
                fails(&document, &operation, request, 404).await;
            }
        }
    }
    service.stop();
}
