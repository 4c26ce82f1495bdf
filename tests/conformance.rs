//! schemathesis asks the service what `openapi.yaml` allows and what it forbids, and holds each answer against it.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::Workplace;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

/// The Python that schemathesis is installed for.
fn python() -> PathBuf {
    let python = std::env::var_os("SLATED_TEST_API_PYTHON");
    python.map(PathBuf::from).expect("SLATED_TEST_API_PYTHON names a Python with schemathesis; run `make test`")
}

/// Lets a policy's requests leave out any feature.
fn lenient(manifest: &mut Value) {
    for group in ["user", "context", "session", "item"] {
        for feature in manifest["features"][group].as_array_mut().into_iter().flatten() {
            feature["missing"] = json!("zeros");
        }
    }
}

/// Makes of the policy `thompson` two versions of the one that the description's examples name.
fn exemplary(place: &Workplace) {
    let manifest = fs::read(place.path().join("models/thompson/1/policy.json")).unwrap();
    for version in [1, 2] {
        let folder = place.path().join(format!("models/open-bandit/{version}"));
        fs::create_dir_all(&folder).unwrap();
        fs::copy(place.path().join("models/thompson/1/model.onnx"), folder.join("model.onnx")).unwrap();
        let mut manifest: Value = serde_json::from_slice(&manifest).unwrap();
        manifest["name"] = json!("open-bandit");
        manifest["version"] = json!(version);
        lenient(&mut manifest);
        fs::write(folder.join("policy.json"), manifest.to_string()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_no_fault() {
    let python = python();
    let place = Workplace::new();
    exemplary(&place);
    fs::write(place.path().join("slated.toml"), "[security]\nkeys = \"keys.toml\"\n").unwrap();
    let roles = ["--role", "recommend", "--role", "feedback", "--role", "admin", "--role", "metrics"];
    let key = place.must(&[&["key", "new", "all", "--keys", "keys.toml"], &roles[..]].concat()).trim().to_owned();
    let service = place.serve(&["--policy", "open-bandit"]);
    let client = Client::builder().no_proxy().build().unwrap();
    for (kind, ids) in [("items", ["shirt-1", "shirt-2", "shirt-3"].as_slice()), ("users", &["user-42"])] {
        let put: Vec<Value> = ids.iter().map(|id| json!({"id": id, "features": {"price": 19.9}})).collect();
        let request = client.post(format!("{}/{kind}:batch", service.url)).bearer_auth(&key);
        assert_eq!(request.json(&json!({"put": put})).send().await.unwrap().status(), StatusCode::OK);
    }

    // The decision that the description's examples name.
    let page = json!({"event_id": "page-view-81723", "candidates": ["shirt-1", "shirt-2"], "slate_size": 1});
    let request = client.post(format!("{}/recommend", service.url)).bearer_auth(&key).json(&page);
    assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);

    let examples = std::env::var("SLATED_TEST_EXAMPLES").unwrap_or_else(|_| "20".to_owned());
    let report = place.path().join("report.json");
    let output = Command::new(python.with_file_name("schemathesis"))
        .arg("--config-file")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemathesis/settings.toml"))
        .args(["run", &format!("{}/openapi.yaml", service.url), "--checks", "all", "--mode", "all"])
        .args(["--phases", "examples,coverage,fuzzing,stateful", "--max-examples", &examples, "--seed", "20260131"])
        // The Personalizer's interface is not this project's to change: that it is as published, its own clients test.
        .args(["--exclude-tag", "compat"])
        .args(["--continue-on-failure", "--report", "json", "--report-json-path"])
        .arg(&report)
        .env("SLATED_KEY", &key)
        .env("PYTHONPATH", Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemathesis"))
        // A proxy would not reach this machine's own address.
        .env("NO_PROXY", "127.0.0.1")
        .current_dir(place.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    service.stop();
}
