//! A policy whose scores depend on every number of the session's features and history.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;
use slated_contract::feature::{Feature, FeatureSchema};
use slated_contract::policy::{Algorithm, BundleWriter, FORMAT, Manifest, SlateLimits, TrainingRecord, sha256_hex};
use slated_contract::reward::RewardDefinition;
use slated_contract::session::SessionSettings;
use slated_contract::slate::Exploration;
use slated_contract::tensor::{HISTORY, ITEMS, SCORES, STATE, Signature};
use slated_trainer::onnx::{GraphBuilder, OnnxError};

/// The policy's name.
pub const NAME: &str = "remembers";
/// D: two features of an item.
pub const ITEM_WIDTH: usize = 2;

/// What it keeps of a session.
pub fn session(history: usize) -> SessionSettings {
    SessionSettings { decay_rates: vec![0.5, 0.9], history }
}

/// Clicks are worth 1 for each unit of their value, purchases 3; nothing counts that happens after an hour.
pub fn reward() -> RewardDefinition {
    RewardDefinition {
        weights: BTreeMap::from([("click".to_owned(), 1.0), ("purchase".to_owned(), 3.0)]),
        wait_seconds: Some(3600.0),
        ..RewardDefinition::default()
    }
}

/// Writes `<models>/remembers/<version>`, which keeps so many interactions.
pub fn write(models: &Path, version: u64, history: usize) {
    let manifest = manifest(version, history);
    let model = model(manifest.signature).unwrap();
    let manifest = Manifest { model_sha256: sha256_hex(&model), ..manifest };
    BundleWriter::stage(models, &manifest, &model, None).unwrap().publish().unwrap();
}

/// The manifest, without the model's hash.
pub fn manifest(version: u64, history: usize) -> Manifest {
    let number = |name: &str| json!({"name": name, "kind": "numeric", "normalisation": {"method": "identity"}});
    let vector = |name: &str| json!({"name": name, "kind": "embedding", "dimensions": ITEM_WIDTH});
    let features = |declared: Vec<serde_json::Value>| -> Vec<Feature> {
        declared.into_iter().map(|feature| serde_json::from_value(feature).unwrap()).collect()
    };
    let numbers = ["steps", "responses", "seconds_since_last", "last_consumed", "last_reward", "total_reward"];
    let decays = [number("reward_decay_0.5"), vector("consumed_decay_0.5"), vector("consumed_decay_0.9")];
    let features = FeatureSchema {
        session: features(numbers.into_iter().map(number).chain(decays).collect()),
        item: features(vec![number("x"), number("y")]),
        ..FeatureSchema::default()
    };
    let signature = Signature {
        state_width: 7 + 2 * ITEM_WIDTH,
        item_width: ITEM_WIDTH,
        history: Some(history),
        ..Signature::default()
    };
    let training = TrainingRecord {
        data_digest: "0".repeat(64),
        decisions: 1,
        feedback: 1,
        mean_reward: 0.0,
        reward: reward(),
        seed: 1,
        continued_from: None,
        learned_until: None,
    };
    Manifest {
        format: FORMAT,
        name: NAME.to_owned(),
        version,
        algorithm: Algorithm { name: "fixed".to_owned(), settings: serde_json::Value::Null },
        discount: 0.9,
        features,
        session: session(history),
        slate: SlateLimits { max_size: 4, max_candidates: 20 },
        exploration: Exploration::EpsilonGreedy { epsilon: 0.2 },
        objective: None,
        signature,
        model_sha256: String::new(),
        training: Some(training),
        origin: None,
        evaluation: Vec::new(),
        parity: None,
    }
}

/// `items . a + state . b + sum over rows h and columns f of history[h, f] c[h] d[f]`.
fn model(signature: Signature) -> Result<Vec<u8>, OnnxError> {
    let window = signature.history.unwrap_or(0);
    let width = SessionSettings::history_width(ITEM_WIDTH);
    let weights = |count: usize, scale: f32| -> Vec<f32> {
        (0..count).map(|index| scale * (1.0 + (index * 7 % 5) as f32 / 3.0)).collect()
    };
    let mut graph = GraphBuilder::new(NAME, signature);
    let (state, items, history) = (graph.input(STATE)?, graph.input(ITEMS)?, graph.input(HISTORY)?);
    let of_item = graph.constant("of_item", &[ITEM_WIDTH, 1], &weights(ITEM_WIDTH, 0.7))?;
    let of_state = graph.constant("of_state", &[signature.state_width, 1], &weights(signature.state_width, 0.3))?;
    let of_column = graph.constant("of_column", &[width, 1], &weights(width, 0.2))?;
    let of_row = graph.constant("of_row", &[window, 1], &weights(window, 1.1))?;
    let last = graph.integers("last", &[2]);
    let beside = graph.integers("beside", &[1]);
    let item = graph.node("MatMul", &[&items, &of_item]);
    let item = graph.node("Squeeze", &[&item, &last]);
    let state = graph.node("MatMul", &[&state, &of_state]);
    let rows = graph.node("MatMul", &[&history, &of_column]);
    let rows = graph.node("Mul", &[&rows, &of_row]);
    let both = graph.integers("both", &[1, 2]);
    let history = graph.node_with("ReduceSum", &[&rows, &both], "keepdims", 0);
    let history = graph.node("Unsqueeze", &[&history, &beside]);
    let scores = graph.node("Add", &[&item, &state]);
    let scores = graph.node("Add", &[&scores, &history]);
    graph.output(SCORES, &scores)?;
    graph.finish()
}
