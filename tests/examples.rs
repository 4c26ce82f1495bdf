//! The examples: trained in their own framework, exported, wrapped, served, and asked.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Service, models_python, must, torch_python};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Trains an example and wraps it, by the commands of its README; then serves it, and holds the scores of every answer
/// against those that the framework gave.
async fn walk(example: &str, python: PathBuf, policy: &str) -> TempDir {
    let place = TempDir::new().unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(example);
    let mut train = Command::new(python);
    train.arg(folder.join("train.py")).args(["--out", "out"]).current_dir(place.path());
    let output = tokio::task::spawn_blocking(move || train.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let schema = folder.join("schema.toml");
    let args =
        ["policy", "wrap", "out/model.onnx", "--schema", schema.to_str().unwrap(), "--samples", "out/samples.jsonl"];
    let said = must(place.path(), &args);
    assert!(said.contains(&format!("wrote models/{policy}/1")), "{said}");

    let samples = std::fs::read_to_string(place.path().join("out/samples.jsonl")).unwrap();
    let samples: Vec<Value> = samples.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(samples.len() >= 5);
    let service = Service::start(place.path(), &["--policy", policy]);
    for sample in samples {
        let candidates = sample["candidates"].as_array().unwrap();
        let size = candidates.len().min(10);
        let body = json!({
            "user": sample["user"],
            "context": sample.get("context").unwrap_or(&json!({})),
            "candidates": candidates,
            "slate_size": size,
        });
        let answer = service.ok("/recommend", &body).await;
        let slate = answer["slate"].as_array().unwrap();
        assert_eq!(slate.len(), size);
        assert!(answer["propensity"].as_f64().unwrap() > 0.0 && answer["propensity_draws"].is_null(), "{answer}");
        for shown in slate {
            let place = candidates.iter().position(|candidate| candidate["id"] == shown["item"]).unwrap();
            let (found, expected) = (shown["score"].as_f64().unwrap(), sample["scores"][place].as_f64().unwrap());
            assert!((found - expected).abs() <= 1e-5 * expected.abs().max(1.0), "{found} for {expected}");
        }
    }
    drop(service);
    place
}

fn inspect(place: &Path, policy: &str) -> Value {
    serde_json::from_str(&must(place, &["policy", "inspect", policy])).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "PyTorch takes 4 GB, for PyPI has no small build of it for Linux: `make test-torch`"]
async fn a_model_of_pytorch_is_served_with_pytorchs_scores() {
    let place = walk("pytorch", torch_python(), "session-reranker").await;
    let manifest = inspect(place.path(), "session-reranker");
    assert_eq!(manifest["origin"]["scorer"], "lists");
    assert_eq!(manifest["origin"]["samples"], 8);
    assert!(manifest["origin"]["producer"].as_str().unwrap().starts_with("pytorch"), "{manifest}");
    assert_eq!(manifest["signature"]["mask"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_of_scikit_learn_is_served_with_its_probabilities() {
    let place = walk("scikit-learn", models_python(), "click-probability").await;
    let manifest = inspect(place.path(), "click-probability");
    assert_eq!(manifest["origin"]["scorer"], "rows");
    assert_eq!(manifest["origin"]["outputs"]["scores"], "output_probability, column 1");
    assert!(manifest["origin"]["producer"].as_str().unwrap().starts_with("skl2onnx"), "{manifest}");
}
