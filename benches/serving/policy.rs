//! The bundles that the benchmarks serve: a multi-layer perceptron with fixed weights.

use std::path::Path;

use slated_contract::feature::{Extra, Feature, FeatureKind, FeatureSchema, Missing, Normalisation, OutOfRange};
use slated_contract::policy::{Algorithm, BundleWriter, FORMAT, Manifest, SlateLimits, sha256_hex};
use slated_contract::session::SessionSettings;
use slated_contract::slate::Exploration;
use slated_contract::tensor::{ITEMS, SCORES, STATE, Signature};
use slated_trainer::onnx::{GraphBuilder, OnnxError, Value};

const STATE_WIDTH: usize = 32;
const ITEM_WIDTH: usize = 16;
const HIDDEN: usize = 128;

/// Writes `<models>/mlp/<version>`. The scores of a version are those of version 1, times its number.
pub fn write(models: &Path, version: u64, exploration: Exploration) -> anyhow::Result<()> {
    let signature = Signature { state_width: STATE_WIDTH, item_width: ITEM_WIDTH, ..Signature::default() };
    let model = model(signature, version as f32)?;
    let numeric = |index: usize| Feature {
        name: format!("f{index}"),
        kind: FeatureKind::Numeric {
            normalisation: Normalisation::default(),
            range: None,
            out_of_range: OutOfRange::default(),
        },
        missing: Missing::Error,
    };
    let manifest = Manifest {
        format: FORMAT,
        name: "mlp".to_owned(),
        version,
        algorithm: Algorithm { name: "fixed".to_owned(), settings: serde_json::Value::Null },
        discount: 0.0,
        features: FeatureSchema {
            user: (0..STATE_WIDTH).map(numeric).collect(),
            item: (0..ITEM_WIDTH).map(numeric).collect(),
            extra: Extra::default(),
            ..FeatureSchema::default()
        },
        session: SessionSettings::default(),
        slate: SlateLimits { max_size: 20, max_candidates: 2000 },
        exploration,
        objective: None,
        signature,
        model_sha256: sha256_hex(&model),
        training: None,
        origin: None,
        evaluation: Vec::new(),
        parity: None,
    };
    BundleWriter::stage(models, &manifest, &model, None)?.publish()?;
    Ok(())
}

/// `relu(relu([state, item] W1 + b) W2) w3`; the first product is taken apart, so that the state's share is computed
/// once for all candidates.
fn model(signature: Signature, scale: f32) -> Result<Vec<u8>, OnnxError> {
    let mut graph = GraphBuilder::new("mlp", signature);
    let (state, items) = (graph.input(STATE)?, graph.input(ITEMS)?);
    let of_state = weights(&mut graph, "of_state", STATE_WIDTH, HIDDEN, 1.0)?;
    let of_item = weights(&mut graph, "of_item", ITEM_WIDTH, HIDDEN, 1.0)?;
    let second = weights(&mut graph, "second", HIDDEN, HIDDEN, 1.0)?;
    let last = weights(&mut graph, "last", HIDDEN, 1, scale)?;
    let (middle, end) = (graph.integers("middle", &[1]), graph.integers("end", &[2]));
    let state = graph.node("MatMul", &[&state, &of_state]);
    let state = graph.node("Unsqueeze", &[&state, &middle]);
    let item = graph.node("MatMul", &[&items, &of_item]);
    let hidden = graph.node("Add", &[&item, &state]);
    let hidden = graph.node("Relu", &[&hidden]);
    let hidden = graph.node("MatMul", &[&hidden, &second]);
    let hidden = graph.node("Relu", &[&hidden]);
    let scores = graph.node("MatMul", &[&hidden, &last]);
    let scores = graph.node("Squeeze", &[&scores, &end]);
    graph.output(SCORES, &scores)?;
    graph.finish()
}

fn weights(graph: &mut GraphBuilder, name: &str, rows: usize, columns: usize, scale: f32) -> Result<Value, OnnxError> {
    let value = |index: usize| scale * ((index * 7919 % 1009) as f32 / 1009.0 - 0.5) / (rows as f32).sqrt();
    graph.constant(name, &[rows, columns], &(0..rows * columns).map(value).collect::<Vec<_>>())
}
