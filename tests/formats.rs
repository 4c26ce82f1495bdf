//! What others make of our files: the ONNX checker and ONNX Runtime in Python, pandas, DuckDB.

mod common;

use std::process::Command;

use common::{Workplace, python, request};
use serde_json::{Value, json};

fn run(script: &str, place: &Workplace) -> String {
    let output = Command::new(python()).arg("-c").arg(script).current_dir(place.path()).output().expect("Python runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn models_pass_the_onnx_checker_and_equal_the_trainers_forward_pass() {
    let place = Workplace::new();
    // The outer interaction is another graph.
    for (policy, algorithm) in [("outer-thompson", "linear_thompson"), ("outer-ucb", "linucb")] {
        place.must(&["train", "--policy", policy, "--algorithm", algorithm, "--interaction", "outer"]);
    }
    let others = ["epsilon_greedy", "ucb1", "bernoulli_thompson", "square_cb", "neural_linear", "bootstrap_ensemble"];
    for algorithm in others {
        place.must(&["train", "--policy", algorithm, "--algorithm", algorithm]);
    }
    let output = run(
        r#"
import glob, json, numpy as np, onnx, onnxruntime
paths = sorted(glob.glob("models/*/1"))
for path in paths:
    model = onnx.load(path + "/model.onnx")
    onnx.checker.check_model(model, full_check=True)
    manifest = json.load(open(path + "/policy.json"))
    parity = manifest["parity"]
    session = onnxruntime.InferenceSession(path + "/model.onnx")
    inputs = {
        "state": np.array([parity["state"]], np.float32),
        "items": np.array([parity["items"]], np.float32),
    }
    if parity["noise"]:
        inputs["noise"] = np.array([parity["noise"]], np.float32)
    names = {i.name: i.shape for i in session.get_inputs()}
    assert set(names) == set(inputs), names
    assert names["items"][:2] == ["batch", "candidates"], names
    (scores,) = session.run(["scores"], inputs)
    expected = np.array(parity["scores"])
    scale = max(1.0, np.abs(expected).max())
    assert scores.shape == (1, len(expected)) and np.abs(scores[0] - expected).max() <= 1e-5 * scale, (scores, expected)
    # Batches and candidate counts are free, and rows do not touch each other.
    many = {name: np.repeat(value, 3, axis=0) for name, value in inputs.items()}
    many["items"] = np.concatenate([many["items"], np.zeros_like(many["items"][:, :1])], axis=1)
    (scores,) = session.run(["scores"], many)
    assert scores.shape == (3, len(expected) + 1) and np.abs(scores[2, :-1] - expected).max() <= 1e-5 * scale
    print(path)
"#,
        &place,
    );
    assert_eq!(output.lines().count(), 10, "{output}");
}

#[tokio::test]
async fn pandas_and_duckdb_read_the_journal() {
    let place = Workplace::new();
    let service = place.serve(&[]);
    for index in 0..5 {
        let id = format!("file-{index}");
        service.ok("/recommend", &request(&id)).await;
        service.ok("/feedback", &json!({"feedback_id": id, "decision_id": id, "event": "click", "position": 0})).await;
    }
    service.ok("/journal/seal", &Value::Null).await;
    let output = run(
        r#"
import duckdb, pandas
decisions = pandas.read_parquet("journal/decisions")
assert len(decisions) == 525, len(decisions)
served = decisions[decisions.source == "service"].sort_values("decision_id")
assert list(served.decision_id) == [f"file-{i}" for i in range(5)]
assert [item["position"] for item in served.slate.iloc[0]] == [0, 1]
assert str(decisions.time.dtype) == "datetime64[us, UTC]", decisions.time.dtype
rows = duckdb.sql("""
    select d.policy, count(*), count(f.feedback_id), min(d.propensity) > 0,
           any_value(d.slate[1].item), any_value(d."user"['user_feature_0'].text),
           any_value(d.candidates[1].features['affinity'].number)
    from read_parquet('journal/decisions/*/*.parquet', hive_partitioning = true) d
    left join read_parquet('journal/feedback/*/*.parquet', hive_partitioning = true) f using (decision_id)
    group by all order by all
""").fetchall()
assert [row[:4] for row in rows] == [("open-bandit-random", 520, 21, True), ("thompson", 5, 5, True)], rows
assert rows[1][4] in "abcd" and rows[1][5] == "x" and rows[1][6] == 0.0, rows
print("read")
"#,
        &place,
    );
    assert_eq!(output.trim(), "read");
}
