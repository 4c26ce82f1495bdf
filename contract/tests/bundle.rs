//! Bundles on disk, and the published schema of their manifest.

use std::path::Path;

use serde_json::{Value, json};
use slated_contract::policy::{
    Bundle, BundleError, BundleWriter, MODEL, Manifest, json_schema, latest_version, sha256_hex, versions,
};
use tempfile::TempDir;

const MODEL_BYTES: &[u8] = b"a model";

fn manifest_json(version: u64) -> Value {
    json!({
        "format": 1,
        "name": "p",
        "version": version,
        "algorithm": {"name": "linucb", "settings": {"alpha": 1.0}},
        "discount": 0.0,
        "features": {
            "user": [{"name": "age", "kind": "numeric", "normalisation": {"method": "standard", "mean": 40.0, "deviation": 12.0}, "missing": "zeros"}],
            "session": [{"name": "consumed_decay_0.7", "kind": "embedding", "dimensions": 3}],
            "item": [
                {"name": "colour", "kind": "categorical", "vocabulary": ["red", "blue"], "unknown": "bucket", "missing": {"default": "red"}},
            ],
        },
        "session": {"decay_rates": [0.7]},
        "slate": {"max_size": 3, "max_candidates": 10},
        "exploration": {"method": "softmax", "temperature": 0.5},
        "signature": {"state_width": 4, "item_width": 3},
        "model_sha256": sha256_hex(MODEL_BYTES),
        "training": {
            "data_digest": "ab", "decisions": 1, "feedback": 1, "mean_reward": 0.5, "seed": 1,
            "reward": {"weights": {"click": 1.0}, "aggregation": "max", "wait_seconds": 60.0, "default": 0.0},
        },
        "evaluation": [{"estimator": "snips", "value": 0.1, "lower": 0.0, "upper": 0.2, "confidence": 0.95, "rounds": 10, "baseline": 0.1}],
        "parity": {"state": [0.0, 0.0, 0.0, 0.0], "items": [[1.0, 0.0, 0.0]], "scores": [0.0], "tolerance": 1e-5},
    })
}

fn manifest(version: u64) -> Manifest {
    serde_json::from_value(manifest_json(version)).unwrap()
}

fn publish(models: &Path, version: u64) {
    BundleWriter::stage(models, &manifest(version), MODEL_BYTES, Some(b"state")).unwrap().publish().unwrap();
}

#[test]
fn a_published_bundle_reads_back_whole() {
    let models = TempDir::new().unwrap();
    let writer = BundleWriter::stage(models.path(), &manifest(1), MODEL_BYTES, Some(b"state")).unwrap();
    assert!(versions(models.path(), "p").unwrap().is_empty(), "nothing is there before it is published");
    assert_eq!(Bundle::read(&writer.folder()).unwrap().manifest, manifest(1), "it can be tried before it is published");
    writer.publish().unwrap();
    publish(models.path(), 2);
    publish(models.path(), 10);
    assert_eq!(versions(models.path(), "p").unwrap(), [1, 2, 10]);
    assert_eq!(latest_version(models.path(), "p").unwrap(), 10);
    let bundle = Bundle::open(models.path(), "p", None).unwrap();
    assert_eq!((bundle.manifest.version, bundle.model.as_slice()), (10, MODEL_BYTES));
    assert_eq!((bundle.encoder.state_width(), bundle.encoder.item_width()), (4, 3));
    assert_eq!(bundle.learner().unwrap().unwrap(), b"state");
    assert!(!models.path().join(".staging").exists());
}

#[test]
fn a_dropped_bundle_leaves_nothing_and_two_can_be_staged_at_once() {
    let models = TempDir::new().unwrap();
    let first = BundleWriter::stage(models.path(), &manifest(1), MODEL_BYTES, None).unwrap();
    let second = BundleWriter::stage(models.path(), &manifest(2), MODEL_BYTES, None).unwrap();
    drop(first);
    second.publish().unwrap();
    assert_eq!(versions(models.path(), "p").unwrap(), [2]);
    assert!(!models.path().join(".staging").exists());
}

#[test]
fn a_version_is_never_rewritten() {
    let models = TempDir::new().unwrap();
    let late = BundleWriter::stage(models.path(), &manifest(1), MODEL_BYTES, None).unwrap();
    publish(models.path(), 1);
    assert!(matches!(late.publish(), Err(BundleError::Exists { .. })));
    assert!(matches!(
        BundleWriter::stage(models.path(), &manifest(1), MODEL_BYTES, None),
        Err(BundleError::Exists { .. })
    ));
}

#[test]
fn a_half_copied_or_misplaced_bundle_is_refused() {
    let models = TempDir::new().unwrap();
    publish(models.path(), 1);
    let folder = models.path().join("p/1");
    std::fs::write(folder.join(MODEL), &MODEL_BYTES[..3]).unwrap();
    assert!(matches!(Bundle::read(&folder), Err(BundleError::Hash { .. })));
    std::fs::remove_file(folder.join(MODEL)).unwrap();
    assert!(matches!(Bundle::read(&folder), Err(BundleError::Io { .. })));
    publish(models.path(), 2);
    std::fs::rename(models.path().join("p/2"), models.path().join("p/3")).unwrap();
    assert!(matches!(Bundle::open(models.path(), "p", Some(3)), Err(BundleError::Place { version: 2, .. })));
    assert!(matches!(Bundle::open(models.path(), "q", None), Err(BundleError::NoVersion { .. })));
    assert!(
        matches!(Bundle::open(models.path(), "../p", None), Err(BundleError::Manifest { .. })),
        "a name is no path"
    );
}

#[test]
fn a_manifest_that_cannot_be_used_names_the_field() {
    let cases = [
        ("/format", json!(2), "format"),
        ("/name", json!("a/b"), "name"),
        ("/version", json!(0), "version"),
        ("/discount", json!(1.5), "discount"),
        ("/slate/max_size", json!(11), "slate"),
        ("/signature/item_width", json!(4), "signature.item_width"),
        ("/exploration/temperature", json!(0.0), "temperature"),
        ("/exploration", json!({"method": "posterior_sampling", "draws": 10}), "noise"),
        ("/session/decay_rates", json!([0.5]), "consumed_decay_0.7"),
        ("/training/reward/wait_seconds", json!(-1.0), "wait_seconds"),
        ("/features/item/0/vocabulary", json!(["red", "red"]), "colour"),
    ];
    for (pointer, value, word) in cases {
        let mut json = manifest_json(1);
        *json.pointer_mut(pointer).unwrap() = value;
        let message = serde_json::from_value::<Manifest>(json).unwrap().check().unwrap_err().to_string();
        assert!(message.contains(word), "{pointer}: {word} is not in {message}");
    }
}

/// The schema in `docs/` is the one of the code. `UPDATE=1 cargo test -p slated-contract` writes it anew.
#[test]
fn the_published_schema_is_that_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/policy.schema.json");
    let schema = format!("{:#}\n", json_schema());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &schema).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), schema, "run `UPDATE=1 cargo test -p slated-contract`");
}

#[test]
fn the_schema_accepts_manifests_and_refuses_what_is_none() {
    let validator = jsonschema::validator_for(&json_schema()).unwrap();
    let valid = manifest_json(1);
    assert!(
        validator.is_valid(&valid),
        "{:?}",
        validator.iter_errors(&valid).map(|error| error.to_string()).collect::<Vec<_>>()
    );
    assert!(validator.is_valid(&serde_json::to_value(manifest(1)).unwrap()), "what is written is valid too");
    let edits: [(&str, Value); 5] = [
        ("/version", json!("one")),
        ("/exploration", json!({"method": "magic"})),
        ("/features/item/0/kind", json!("colour")),
        ("/features/user/0/missing", json!("often")),
        ("/slate", json!({"max_size": 3})),
    ];
    for (pointer, value) in edits {
        let mut json = manifest_json(1);
        *json.pointer_mut(pointer).unwrap() = value;
        assert!(!validator.is_valid(&json), "{pointer}");
    }
    let mut surprised = manifest_json(1);
    surprised["surprise"] = json!(1);
    assert!(!validator.is_valid(&surprised));
}
