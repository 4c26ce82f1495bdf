//! The policy bundle: `models/<name>/<version>/` with `model.onnx` and `policy.json`.

mod bundle;
mod manifest;

pub use bundle::{
    Bundle, BundleError, BundleWriter, HELD, LEARNER, MANIFEST, MODEL, hold, is_held, latest_version, read_manifest,
    record_evaluation, sha256_hex, versions,
};
pub use manifest::{
    Algorithm, Comparison, Evaluation, FORMAT, LearnedUntil, Manifest, ManifestError, Origin, Parity, SlateLimits,
    TrainingRecord, check_policy_name, json_schema,
};
