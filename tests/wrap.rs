//! Models from elsewhere: each way in which one may be exported is wrapped, proven, and served with its framework's scores;
//! or refused, with the tensor at fault and nothing written.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use common::{Service, contents, python, slated};
use serde_json::{Value, json};
use slated_contract::policy::Bundle;
use tempfile::TempDir;

/// The models, made once, and how each is to be wrapped.
fn made() -> &'static (TempDir, Vec<Value>) {
    static MADE: OnceLock<(TempDir, Vec<Value>)> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = TempDir::new().unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wrap/models.py");
        let output = Command::new(python()).arg(script).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let cases = serde_json::from_slice(&std::fs::read(folder.path().join("cases.json")).unwrap()).unwrap();
        (folder, cases)
    })
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// Wraps one of the models into a folder of bundles; the exit code and what it said.
fn wrap(models: &Path, case: &Value, more: &[&str]) -> (Option<i32>, String) {
    let (folder, _) = made();
    let name = text(&case["name"]);
    let (model, schema, samples) = (format!("{name}.onnx"), format!("{name}.toml"), format!("{name}.jsonl"));
    let mut args = vec!["policy", "wrap", &model, "--schema", &schema, "--name", name];
    args.extend(["--models", models.to_str().unwrap()]);
    if case["samples"] == json!(true) {
        args.extend(["--samples", &samples]);
    }
    args.extend(case["args"].as_array().unwrap().iter().map(text));
    args.extend(more);
    let output = slated(folder.path(), &args);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.code(), said)
}

fn samples(case: &Value) -> Vec<Value> {
    let path = made().0.path().join(format!("{}.jsonl", text(&case["name"])));
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn wrapped() -> impl Iterator<Item = &'static Value> {
    made().1.iter().filter(|case| case["error"].is_null())
}

#[test]
fn what_is_wrapped_keeps_to_the_signature_and_says_what_was_found() {
    let models = TempDir::new().unwrap();
    let mut count = 0;
    for case in wrapped() {
        let name = text(&case["name"]);
        let (code, said) = wrap(models.path(), case, &[]);
        assert_eq!(code, Some(0), "{name}: {said}");
        let bundle = Bundle::open(models.path(), name, None).unwrap();
        let origin = bundle.manifest.origin.clone().unwrap();
        assert_eq!(
            (origin.producer.as_str(), origin.scorer.as_str()),
            ("framework 1.0", text(&case["scorer"])),
            "{name}"
        );
        let samples = samples(case);
        assert_eq!(origin.samples as usize, samples.len(), "{name}");
        assert!(origin.greatest_deviation <= 1e-5, "{name}");
        // The sample that the service will hold itself against is one of the framework's.
        let parity = bundle.manifest.parity.clone().unwrap();
        let numbers = |value: &Value| {
            value.as_array().unwrap().iter().map(|score| score.as_f64().unwrap() as f32).collect::<Vec<_>>()
        };
        assert!(samples.iter().any(|sample| numbers(&sample["scores"]) == parity.scores), "{name}");
        let source = std::fs::read(made().0.path().join(format!("{name}.onnx"))).unwrap();
        assert_eq!(bundle.model == source, case["as_is"] == json!(true), "{name}");
        count += 1;
    }
    assert!(count >= 25, "{count}");
    assert!(!models.path().join(".staging").exists());

    // Others can read what was written: ONNX's own checker finds nothing.
    let script = "import glob, onnx\npaths = glob.glob('*/1/model.onnx')\n\
                  [onnx.checker.check_model(onnx.load(path), full_check=True) for path in paths]\nprint(len(paths))";
    let output = Command::new(python()).arg("-c").arg(script).current_dir(models.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), count.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrapped_is_served_with_the_frameworks_scores() {
    let place = TempDir::new().unwrap();
    let models = place.path().join("models");
    // What a request cannot carry (rows of a history, draws of noise, an appeal) is left to the proof.
    let served: Vec<&Value> = wrapped().filter(|case| case["needs_history"] != json!(true)).collect();
    for case in &served {
        assert_eq!(wrap(&models, case, &[]).0, Some(0));
    }
    let names: Vec<&str> = served.iter().map(|case| text(&case["name"])).collect();
    let settings = format!("[models]\nothers = {names:?}\n");
    std::fs::write(place.path().join("slated.toml"), settings).unwrap();
    let service = Service::start(place.path(), &["--policy", names[0]]);
    for case in &served {
        let name = text(&case["name"]);
        for sample in samples(case) {
            let candidates = sample["candidates"].as_array().unwrap();
            let body = json!({
                "policy": name,
                "user": sample["user"],
                "candidates": candidates,
                "slate_size": candidates.len(),
            });
            let answer = service.ok("/recommend", &body).await;
            for (candidate, score) in candidates.iter().zip(sample["scores"].as_array().unwrap()) {
                let slate = answer["slate"].as_array().unwrap();
                let shown = slate.iter().find(|shown| shown["item"] == candidate["id"]).unwrap();
                let (found, expected) = (shown["score"].as_f64().unwrap(), score.as_f64().unwrap());
                assert!((found - expected).abs() <= 1e-5 * expected.abs().max(1.0), "{name}: {found} for {expected}");
            }
        }
    }
}

#[test]
fn what_cannot_be_wrapped_is_refused_with_the_tensor_and_nothing_is_written() {
    let models = TempDir::new().unwrap();
    let mut count = 0;
    for case in made().1.iter().filter(|case| !case["error"].is_null()) {
        let (code, said) = wrap(models.path(), case, &[]);
        assert_eq!(code, case["code"].as_i64().map(|code| code as i32), "{case}: {said}");
        assert!(said.contains(text(&case["error"])), "{case}: {said}");
        assert!(contents(models.path()).is_empty(), "{case}");
        count += 1;
    }
    assert!(count >= 20, "{count}");
}

fn case(name: &str) -> &'static Value {
    made().1.iter().find(|case| case["name"] == name).unwrap()
}

#[test]
fn versions_count_on_are_never_rewritten_and_can_be_held_back() {
    let models = TempDir::new().unwrap();
    let rows = case("rows");
    for version in 1..=2 {
        let (code, said) = wrap(models.path(), rows, &[]);
        assert!(code == Some(0) && said.contains(&format!("rows/{version}")), "{said}");
    }
    let before = contents(models.path());
    let (code, said) = wrap(models.path(), rows, &["--version", "2"]);
    assert!(code == Some(3) && said.contains("a published version is never rewritten"), "{said}");
    assert_eq!(contents(models.path()), before);
    let (code, said) = wrap(models.path(), rows, &["--version", "9", "--held", "--exploration", "softmax:0.5"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(models.path().join("rows/9/held").exists());
    let manifest = Bundle::open(models.path(), "rows", Some(9)).unwrap().manifest;
    assert_eq!(json!(manifest.exploration), json!({"method": "softmax", "temperature": 0.5}));
    assert_eq!(manifest.algorithm.name, "framework");
    // The same model, settings and samples give the same bytes.
    let again = TempDir::new().unwrap();
    wrap(again.path(), rows, &[]);
    let first = |models: &Path| contents(&models.join("rows/1"));
    assert_eq!(first(models.path()), first(again.path()));
}

/// A folder with the model `rows`, its schema, and samples of one's own.
fn with_samples(lines: &str) -> (TempDir, Vec<String>) {
    let folder = TempDir::new().unwrap();
    for end in ["onnx", "toml"] {
        std::fs::copy(made().0.path().join(format!("rows.{end}")), folder.path().join(format!("rows.{end}"))).unwrap();
    }
    std::fs::write(folder.path().join("samples.jsonl"), lines).unwrap();
    let args = ["policy", "wrap", "rows.onnx", "--schema", "rows.toml", "--name", "rows", "--samples", "samples.jsonl"];
    (folder, args.map(str::to_owned).to_vec())
}

#[test]
fn what_is_wrong_with_a_sample_is_said_with_its_line_and_field() {
    let good = samples(case("rows")).remove(2);
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut line = good.clone();
        change(&mut line);
        format!("{good}\n\n{line}\n")
    };
    for (lines, expected) in [
        (changed(&|line| line["user"]["age"] = json!("old")), "line 3: `user.age` is a text, expected a number"),
        (changed(&|line| drop(line["user"].as_object_mut().unwrap().remove("age"))), "line 3: `user.age` is missing"),
        (changed(&|line| line["candidates"][1]["features"]["price"] = json!([1.0])), "`candidates[1].features.price`"),
        (changed(&|line| line["candidates"] = json!([])), "line 3: `candidates` is empty"),
        (changed(&|line| line["scores"] = json!([1.0])), "line 3: `scores` has 1 numbers, expected 3"),
        (changed(&|line| line["appeal"] = json!([1.0])), "line 3: `appeal` has 1 numbers, expected 0"),
        (changed(&|line| line["noise"] = json!([1.0])), "line 3: `noise` has 1 numbers, expected 0"),
        (changed(&|line| line["scores"][0] = json!(1e60)), "line 3: scores[0]: number out of range"),
        (changed(&|line| line["slate"] = json!(1)), "unknown field `slate`"),
        (format!("{good}\n{{"), "line 2: "),
        ("\n".to_owned(), "it holds no sample"),
    ] {
        let (folder, args) = with_samples(&lines);
        let output = slated(folder.path(), &args.iter().map(String::as_str).collect::<Vec<_>>());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains(expected), "{said:?} does not say {expected:?}");
        assert!(!folder.path().join("models").exists());
    }
}

#[test]
fn a_score_beyond_the_tolerance_is_refused_and_within_a_wider_one_is_not() {
    let mut off = samples(case("rows")).remove(4);
    off["scores"][3] = json!(off["scores"][3].as_f64().unwrap() + 1e-3);
    let (folder, mut args) = with_samples(&off.to_string());
    let run = |args: &[String]| slated(folder.path(), &args.iter().map(String::as_str).collect::<Vec<_>>());
    let output = run(&args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(5) && said.contains("line 1: `scores[3]`"), "{said}");
    assert!(!folder.path().join("models").exists());
    args.extend(["--tolerance".to_owned(), "0.002".to_owned()]);
    let output = run(&args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let manifest = Bundle::open(&folder.path().join("models"), "rows", None).unwrap().manifest;
    let found = manifest.origin.unwrap().greatest_deviation;
    assert!((found - 1e-3).abs() < 1e-5, "{found}");
    assert!((manifest.parity.unwrap().tolerance - 0.002).abs() < 1e-9);
    for bad in ["0", "-1", "1", "NaN"] {
        let mut args = args.clone();
        *args.last_mut().unwrap() = bad.to_owned();
        assert!(!run(&args).status.success(), "{bad}");
    }
}

#[test]
fn weights_are_taken_from_beside_the_model_and_from_nowhere_else() {
    let folder = TempDir::new().unwrap();
    let source = made().0.path();
    let copy = |from: &str, to: &str| std::fs::copy(source.join(from), folder.path().join(to)).unwrap();
    copy("weights-beside.onnx", "model.onnx");
    copy("weights-beside.toml", "schema.toml");
    let args = ["policy", "wrap", "model.onnx", "--schema", "schema.toml", "--name", "p"];
    let refused = |expected: &str| {
        let output = slated(folder.path(), &args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(3) && said.contains(expected), "{said}");
        assert!(!folder.path().join("models").exists());
    };
    refused("the weights of `w` are in weights-beside.bin");
    std::fs::write(folder.path().join("weights-beside.bin"), [0; 3]).unwrap();
    refused("are needed");
    copy("weights-beside.bin", "weights-beside.bin");
    assert!(slated(folder.path(), &args).status.success());
    assert!(Bundle::open(&folder.path().join("models"), "p", None).is_ok());

    // The same number of bytes, so that the model's other lengths stay true.
    let model = std::fs::read(source.join("weights-beside.onnx")).unwrap();
    for place in ["/etc/passwd_______", "../eights-beside.b"] {
        let text = "weights-beside.bin".as_bytes();
        let at = model.windows(text.len()).position(|window| window == text).unwrap();
        let mut moved = model.clone();
        moved[at..at + text.len()].copy_from_slice(place.as_bytes());
        std::fs::write(folder.path().join("model.onnx"), moved).unwrap();
        let output = slated(folder.path(), &args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(3) && said.contains("it must lie in the model's folder"), "{said}");
    }
    for (bytes, expected) in [(&b"not a model"[..], "not an ONNX model"), (b"", "it has no graph")] {
        std::fs::write(folder.path().join("model.onnx"), bytes).unwrap();
        let output = slated(folder.path(), &args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(3) && said.contains(expected), "{said}");
    }
    // A model that was cut short anywhere is refused as well.
    for length in (1..model.len()).step_by(7) {
        std::fs::write(folder.path().join("model.onnx"), &model[..length]).unwrap();
        let output = slated(folder.path(), &args);
        assert!(!output.status.success(), "{length} of {} bytes were wrapped", model.len());
        assert!(output.status.code() != Some(101), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(versions(&folder.path().join("models")), [PathBuf::from("1")]);
}

fn versions(models: &Path) -> Vec<PathBuf> {
    let entries = models.join("p").read_dir().unwrap().map(|entry| PathBuf::from(entry.unwrap().file_name()));
    entries.collect()
}
