//! Other people's logs, from their files to a trained and evaluated policy.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{contents, events, must, slated};
use serde_json::{Value, json};
use slated_contract::event::{Decision, Feedback};
use slated_contract::feature::{FeatureRef, FeatureValue};
use tempfile::TempDir;

fn recorded(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/rllib").join(name).display().to_string()
}

/// The report of an import into `journal`.
fn import(place: &Path, args: &[&str]) -> Value {
    let all: Vec<&str> = ["journal", "import"].iter().chain(args).chain(&["--json"]).copied().collect();
    serde_json::from_str(&must(place, &all)).unwrap()
}

fn counts(file: &Value) -> [u64; 5] {
    ["rows", "decisions", "feedback", "passed_over", "refused"].map(|key| file[key].as_u64().unwrap())
}

/// What a step of the recordings says, whatever form it was recorded in.
fn steps(journal: &Path) -> Vec<(String, FeatureValue, String, f64, f64)> {
    let rewards: BTreeMap<String, f64> =
        events::<Feedback>(journal).into_iter().map(|feedback| (feedback.decision_id, feedback.value)).collect();
    let of = |decision: Decision| {
        let obs = decision.context.get("obs").unwrap().into();
        let reward = rewards[&decision.decision_id];
        let session = decision.session_id.unwrap();
        (session, obs, decision.slate[0].item.clone(), decision.propensity, reward)
    };
    events::<Decision>(journal).into_iter().map(of).collect()
}

#[test]
fn every_form_of_rllibs_recordings_holds_its_steps() {
    let place = TempDir::new().unwrap();
    let mut found = BTreeMap::new();
    for (file, episodes, rewards) in [
        ("plain.json", 12, 27.0),
        ("packed.json", 12, 27.0),
        ("agents.json", 6, -1.0),
        ("columns.parquet", 12, 19.0),
        ("columns-packed.parquet", 12, 19.0),
        ("episodes.parquet", 12, -1.0),
    ] {
        let report = import(place.path(), &["rllib", &recorded(file), "--journal", file]);
        assert_eq!(counts(&report["files"][0]), [5 * episodes, 5 * episodes, 5 * episodes, 0, 0], "{file}: {report}");
        let steps = steps(&place.path().join(file));
        let sessions: Vec<&String> = steps.iter().map(|(session, ..)| session).collect();
        let mut distinct = sessions.clone();
        distinct.dedup();
        assert_eq!(distinct.len() as u64, episodes, "{file}: the steps of an episode stand together");
        let total: f64 = steps.iter().map(|step| step.4).sum();
        assert!(rewards < 0.0 || total == rewards, "{file}: {total}");
        for (_, obs, item, propensity, reward) in &steps {
            // The environment pays for the action that the observation names; it was taken with 0.6 or 0.2.
            let FeatureValue::Vector(obs) = obs else { panic!("{file}: {obs:?}") };
            let action: usize = item.parse().unwrap();
            assert_eq!((obs.len(), f64::from(obs[action])), (3, *reward), "{file}");
            assert!([0.6, 0.2].iter().any(|known| (known - propensity).abs() < 1e-6), "{file}: {propensity}");
        }
        let decisions: Vec<Decision> = events(&place.path().join(file));
        assert!(decisions.iter().all(|decision| decision.candidates.len() == 3 && decision.not_evaluable.is_none()));
        found.insert(file, steps);
    }
    // Packed or not, the same.
    assert_eq!(found["plain.json"], found["packed.json"]);
    assert_eq!(found["columns.parquet"], found["columns-packed.parquet"]);
    let policies: Vec<String> =
        events::<Decision>(&place.path().join("agents.json")).into_iter().map(|decision| decision.policy).collect();
    assert!(policies.contains(&"left".to_owned()) && policies.contains(&"right".to_owned()), "{policies:?}");
    let before = contents(&place.path().join("episodes.parquet"));
    import(place.path(), &["rllib", &recorded("episodes.parquet"), "--journal", "episodes.parquet"]);
    assert!(contents(&place.path().join("episodes.parquet")) == before, "importing again changed something");
}

const FEATURES: &str = r#"
[features]
user = []
session = []
item = []
context = [{ name = "obs", kind = "embedding", dimensions = 3, missing = "error" }]
item_id = { kind = "categorical", vocabulary = ["0", "1", "2"], unknown = "error" }
"#;

#[test]
fn recordings_of_rllib_train_and_evaluate_a_policy() {
    let place = TempDir::new().unwrap();
    import(place.path(), &["rllib", &recorded("columns.parquet")]);
    import(place.path(), &["rllib", &recorded("episodes.parquet")]);
    let reward = "reward = { weights = { reward = 1.0 } }";
    let settings = format!(
        "policy = \"imported\"\nseed = 1\nupdates = 600\n[data]\njournal = \"journal\"\n{reward}\n[algorithm]\nname = \"dqn\"\ndiscount = 0.5\n{FEATURES}"
    );
    std::fs::write(place.path().join("offline.toml"), settings).unwrap();
    must(place.path(), &["train", "--settings", "offline.toml"]);
    let args = ["evaluate", "--policy", "imported", "--include-learned", "--json"];
    let report: Value = serde_json::from_slice(&slated(place.path(), &args).stdout).unwrap();
    // Whatever it shows is what pays: one at each step, as against 0.3 of those recorded.
    let comparisons = report["verdict"]["comparisons"].as_array().unwrap();
    let snips = comparisons.iter().find(|row| row["estimator"] == "snips").unwrap();
    assert!(snips["candidate"]["value"].as_f64().unwrap() > 0.8, "{snips}");
}

#[test]
fn steps_that_cannot_be_used_are_refused_by_line_and_the_rest_imported() {
    let place = TempDir::new().unwrap();
    let step = |obs: Value, action: Value, probability: Value| {
        json!({"type": "SampleBatch", "obs": [[0.5], obs], "actions": [0, action], "rewards": [1.0, 0.0],
            "action_prob": [0.5, probability], "eps_id": [7, 7], "terminateds": [false, true]})
        .to_string()
    };
    let lines = [
        step(json!([1.0]), json!(1), json!(0.5)),
        step(json!([1.0]), json!(0.25), json!(0.5)),
        step(json!([1.0]), json!(1), json!(1.5)),
        step(json!([null]), json!(1), json!(0.5)),
        "{\"type\": \"SampleBatch\", \"obs\": \"bm8gbHo0\", \"actions\": [0]}".to_owned(),
        "not json".to_owned(),
    ];
    std::fs::write(place.path().join("log.json"), lines.join("\n")).unwrap();
    let report = import(place.path(), &["rllib", "log.json"]);
    let file = &report["files"][0];
    assert_eq!(counts(file), [10, 5, 5, 0, 5], "{report:#}");
    for (index, (line, expected)) in [
        (2, "only discrete actions"),
        (3, "the probability 1.5"),
        (4, "not finite"),
        (5, "`obs`: its LZ4 frame"),
        (6, "expected"),
    ]
    .iter()
    .enumerate()
    {
        let refusal = &file["refusals"][index];
        assert_eq!(refusal["line"], *line, "{refusal}");
        assert!(refusal["reason"].as_str().unwrap().contains(expected), "{refusal}");
    }
}

#[test]
fn an_environment_of_slates_has_documents_for_candidates() {
    let place = TempDir::new().unwrap();
    let doc = |index: usize| (index.to_string(), json!([index as f64, 1.0]));
    let docs: serde_json::Map<String, Value> = (0..11).map(doc).map(|(name, doc)| (name, json!([doc]))).collect();
    let line = json!({"type": "SampleBatch", "actions": [[10, 2]], "rewards": [3.0], "eps_id": [1],
        "obs": {"user": [[0.1, 0.2]], "doc": docs, "response": [[{"click": 1, "time": 4.0}, {"click": 0, "time": 0.0}]]}});
    std::fs::write(place.path().join("log.json"), line.to_string()).unwrap();
    let report = import(place.path(), &["rllib", "log.json"]);
    assert_eq!(counts(&report["files"][0]), [1, 1, 1, 0, 0], "{report:#}");
    let decision = events::<Decision>(&place.path().join("journal")).pop().unwrap();
    assert_eq!(decision.user.get("user"), Some(FeatureRef::Vector(&[0.1, 0.2])));
    assert_eq!(decision.context.get("response.0.time"), Some(4.0.into()));
    let items: Vec<&str> = decision.slate.iter().map(|shown| shown.item.as_str()).collect();
    assert_eq!((items, decision.candidates.len()), (vec!["10", "2"], 11));
    assert_eq!(decision.candidates[10].features.get("doc"), Some(FeatureRef::Vector(&[10.0, 1.0])));
    assert_eq!(decision.not_evaluable.as_deref(), Some("the log holds no action probabilities"));
    let feedback = events::<Feedback>(&place.path().join("journal")).pop().unwrap();
    assert_eq!((feedback.value, feedback.item), (3.0, None));
}

/// A log of a shop in which each segment likes one of three items, as rows of decisions.
fn shop(rows: usize) -> Vec<Value> {
    let row = |index: usize| {
        let (segment, item) = (index % 3, index / 3 % 3);
        json!({"request": format!("r-{index}"), "at": 1_700_000_000_000_i64 + index as i64, "uid": format!("u-{}", index % 50),
            "segment": (["red", "green", "blue"][segment]), "items": ["a", "b", "c"], "shown": (["a", "b", "c"][item]),
            "p": 1.0 / 3.0, "clicked": item == segment})
    };
    (0..rows).map(row).collect()
}

const MAPPING: &str = r#"
[decision]
id = "request"
time = "at"
time_format = "milliseconds"
user_id = "uid"
policy = "random"
[features]
context = ["segment"]
[candidates]
column = "items"
separator = "|"
items = "items.csv"
item_id = "sku"
[shown]
column = "shown"
propensity = "p"
[rewards]
click = "clicked"
"#;

#[test]
fn the_same_table_as_csv_json_lines_and_parquet_trains_the_same_policy() {
    let place = TempDir::new().unwrap();
    std::fs::write(place.path().join("mapping.toml"), MAPPING).unwrap();
    std::fs::write(place.path().join("items.csv"), "sku,colour,price\na,red,1\nb,green,2.5\nc,blue,\n").unwrap();
    let rows = shop(1200);
    std::fs::write(place.path().join("log.jsonl"), rows.iter().map(Value::to_string).collect::<Vec<_>>().join("\n"))
        .unwrap();
    let columns = ["request", "at", "uid", "segment", "items", "shown", "p", "clicked"];
    let cell = |row: &Value, column: &str| match &row[column] {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(|item| item.as_str().unwrap()).collect::<Vec<_>>().join("|"),
        other => other.to_string(),
    };
    let line = |row: &Value| columns.map(|column| cell(row, column)).join(",");
    let csv: Vec<String> = std::iter::once(columns.join(",")).chain(rows.iter().map(line)).collect();
    std::fs::write(place.path().join("log.csv"), csv.join("\n")).unwrap();
    parquet(&place.path().join("log.parquet"), &rows);

    type Told = Vec<(String, f64, Option<String>)>;
    let mut seen: Option<(Vec<Decision>, Told)> = None;
    for file in ["log.csv", "log.jsonl", "log.parquet"] {
        let report = import(
            place.path(),
            &["mapped", file, "--mapping", "mapping.toml", "--journal", file.trim_start_matches("log.")],
        );
        assert_eq!(counts(&report["files"][0]), [1200, 1200, 400, 0, 0], "{file}: {report}");
        let journal = place.path().join(file.trim_start_matches("log."));
        let feedback =
            events::<Feedback>(&journal).into_iter().map(|one| (one.decision_id, one.value, one.item)).collect();
        let found = (events::<Decision>(&journal), feedback);
        assert!(seen.as_ref().is_none_or(|seen| *seen == found), "{file}");
        seen = Some(found);
    }
    let (decisions, _) = seen.unwrap();
    let first = decisions.iter().find(|decision| decision.decision_id == "r-0").unwrap();
    assert_eq!((first.user_id.as_deref(), first.policy.as_str(), first.propensity), (Some("u-0"), "random", 1.0 / 3.0));
    assert_eq!(first.time.timestamp_millis(), 1_700_000_000_000);
    assert_eq!(first.candidates[1].features.get("price"), Some(2.5.into()));
    assert_eq!(first.candidates[2].features.get("price"), None);

    must(place.path(), &["train", "--policy", "shop", "--algorithm", "linear_thompson", "--journal", "csv"]);
    let args = ["evaluate", "--policy", "shop", "--journal", "csv", "--include-learned", "--json"];
    let report: Value = serde_json::from_slice(&slated(place.path(), &args).stdout).unwrap();
    let comparisons = report["verdict"]["comparisons"].as_array().unwrap();
    let snips = comparisons.iter().find(|row| row["estimator"] == "snips").unwrap();
    // A third of what was shown at random was liked.
    assert!(snips["candidate"]["value"].as_f64().unwrap() > 0.8, "{snips}");
}

/// The rows as a Parquet file of no schema of ours.
fn parquet(path: &Path, rows: &[Value]) {
    use arrow::json::ReaderBuilder;
    use arrow::json::reader::infer_json_schema_from_iterator;

    let schema = infer_json_schema_from_iterator(rows.iter().map(Ok)).unwrap();
    let mut decoder =
        ReaderBuilder::new(std::sync::Arc::new(schema.clone())).with_batch_size(rows.len()).build_decoder().unwrap();
    decoder.serialize(rows).unwrap();
    let batch = decoder.flush().unwrap().unwrap();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, std::sync::Arc::new(schema), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn slates_lists_objects_and_places() {
    let place = TempDir::new().unwrap();
    let mapping = r#"
[decision]
time = "when"
time_format = "%d/%m/%Y %H:%M"
policy_column = "model"
session_id = "visit.id"
[features]
user = ["visit.user", "visit.device"]
[candidates]
column = "offers"
id = "sku"
[shown]
column = "order"
by_place = true
propensity = "chances"
[rewards]
click = "clicks"
dwell = "seconds"
purchase = "bought"
"#;
    std::fs::write(place.path().join("mapping.toml"), mapping).unwrap();
    let row = json!({"when": "03/02/2026 14:30", "model": "m-7", "visit": {"id": 12, "user": {"age": 30, "tags": ["new"]}, "device": "tablet"},
        "offers": [{"sku": "x", "price": 1}, {"sku": "y", "price": 2, "nested": {"size": "L"}}, {"sku": "z"}],
        "order": [2, 0], "chances": [0.5, 0.25], "clicks": [0, 1], "seconds": 8.5, "bought": ["z"]});
    std::fs::write(place.path().join("log.json"), row.to_string()).unwrap();
    let report = import(place.path(), &["mapped", "log.json", "--mapping", "mapping.toml"]);
    assert_eq!(counts(&report["files"][0]), [1, 1, 3, 0, 0], "{report:#}");
    let decision = events::<Decision>(&place.path().join("journal")).pop().unwrap();
    assert_eq!(decision.time.to_rfc3339(), "2026-02-03T14:30:00+00:00");
    assert_eq!((decision.policy.as_str(), decision.session_id.as_deref()), ("m-7", Some("12")));
    assert_eq!(decision.user.get("visit.user.age"), Some(30.0.into()));
    assert_eq!(decision.user.get("visit.user.tags.new"), Some(1.0.into()));
    assert_eq!(decision.candidates[1].features.get("nested.size"), Some("L".into()));
    let shown: Vec<(&str, i32, f64)> =
        decision.slate.iter().map(|shown| (shown.item.as_str(), shown.position, shown.cascade_propensity)).collect();
    assert_eq!((shown, decision.propensity), (vec![("z", 0, 0.5), ("x", 1, 0.125)], 0.125));
    let mut feedback: Vec<(String, f64, Option<String>)> = events::<Feedback>(&place.path().join("journal"))
        .into_iter()
        .map(|one| (one.event, one.value, one.item))
        .collect();
    feedback.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = [("click", 1.0, Some("x")), ("dwell", 8.5, None), ("purchase", 1.0, Some("z"))];
    assert_eq!(feedback, expected.map(|(event, value, item)| (event.to_owned(), value, item.map(str::to_owned))));
}

#[test]
fn rows_of_items_are_gathered_into_decisions() {
    let place = TempDir::new().unwrap();
    let mapping = r#"
rows = "item"
[decision]
id = "impression"
time = "ts"
time_format = "seconds"
[features]
context = ["query"]
[candidates]
column = "item"
features = ["score", "brand"]
[shown]
column = "rank"
first_position = 1
propensity = "p"
propensity_of = "independent"
[rewards]
click = "clicked"
"#;
    std::fs::write(place.path().join("mapping.toml"), mapping).unwrap();
    let csv = "impression,ts,query,item,score,brand,rank,p,clicked\n\
        i1,100,shoes,a,0.5,acme,2,0.25,0\n\
        i1,100,shoes,b,0.75,acme,1,0.5,1\n\
        i1,100,shoes,c,0.1,other,,,0\n\
        i2,101,bags,a,0.5,acme,first,1,0\n\
        i3,102,bags,c,0.1,other,1,1,1\n\
        i1,103,late,a,0.5,acme,1,1,0\n";
    std::fs::write(place.path().join("log.csv"), csv).unwrap();
    let report = import(place.path(), &["mapped", "log.csv", "--mapping", "mapping.toml"]);
    let file = &report["files"][0];
    assert_eq!(counts(file), [4, 2, 2, 0, 2], "{report:#}");
    assert_eq!((&file["refusals"][0]["line"], &file["refusals"][1]["line"]), (&json!(5), &json!(7)));
    assert!(file["refusals"][0]["reason"].as_str().unwrap().contains("`rank` is \"first\""), "{file}");
    assert!(file["refusals"][1]["reason"].as_str().unwrap().contains("on line 2 already"), "{file}");
    let decisions: Vec<Decision> = events(&place.path().join("journal"));
    let first = &decisions[0];
    let shown: Vec<(&str, i32, f64, f64)> = first
        .slate
        .iter()
        .map(|shown| (shown.item.as_str(), shown.position, shown.cascade_propensity, shown.marginal_propensity))
        .collect();
    assert_eq!(shown, [("b", 0, 0.5, 0.5), ("a", 1, 0.125, 0.25)]);
    assert_eq!((first.candidates.len(), first.context.get("query")), (3, Some("shoes".into())));
    assert_eq!(first.candidates[2].features.get("score"), Some(0.1.into()));
}

#[test]
fn rows_and_mappings_that_cannot_be_used_say_why() {
    let place = TempDir::new().unwrap();
    std::fs::write(
        place.path().join("mapping.toml"),
        MAPPING.replace("items = \"items.csv\"\nitem_id = \"sku\"\n", ""),
    )
    .unwrap();
    let good = &shop(1)[0];
    let with = |changes: &[(&str, Value)]| {
        let mut row = good.clone();
        changes.iter().for_each(|(key, value)| row[*key] = value.clone());
        row.to_string()
    };
    let lines = [
        good.to_string(),
        with(&[("request", json!("r-1")), ("p", json!(1.5))]),
        with(&[("request", json!("r-2")), ("shown", json!("q"))]),
        with(&[("request", json!("r-3")), ("p", json!([0.5, 0.5]))]),
        with(&[("request", json!("r-4")), ("at", json!("noon"))]),
        with(&[("request", json!("r-5")), ("clicked", json!("q"))]),
        with(&[("request", json!("r-6")), ("shown", Value::Null)]),
        with(&[("request", json!("r-7")), ("shown", json!(["a", "a"])), ("p", json!([0.5, 0.5]))]),
        with(&[]),
        "[]".to_owned(),
    ];
    std::fs::write(place.path().join("log.jsonl"), lines.join("\n")).unwrap();
    let report = import(place.path(), &["mapped", "log.jsonl", "--mapping", "mapping.toml"]);
    let file = &report["files"][0];
    assert_eq!(counts(file), [10, 1, 1, 0, 9], "{report:#}");
    let reasons = [
        "`propensity` is 1.5",
        "item `q` of `slate` is not among `candidates`",
        "`p` holds 2 probabilities for 1 items",
        "`at` is \"noon\"",
        "`clicked` is \"q\", which is neither a number nor an item shown",
        "`shown` is missing",
        "shown twice",
        "on line 1 already",
        "no JSON object",
    ];
    for (index, expected) in reasons.iter().enumerate() {
        let refusal = &file["refusals"][index];
        assert_eq!(refusal["line"], index + 2, "{refusal}");
        assert!(refusal["reason"].as_str().unwrap().contains(expected), "{expected}: {refusal}");
    }
    for (mapping, expected) in [
        ("[shown]\ncolumn = \"x\"\n", "`candidates` needs `column`"),
        ("[shown]\ncolumn = \"x\"\nprobability = \"p\"\n[candidates]\ncolumn = \"y\"\n", "probability"),
        ("rows = \"item\"\n[shown]\ncolumn = \"x\"\n[candidates]\ncolumn = \"y\"\n", "`decision.id`"),
        ("[shown]\ncolumn = \"x\"\n[candidates]\ncolumn = \"y\"\n[rewards]\n\"Big Click\" = \"z\"\n", "an event type"),
    ] {
        std::fs::write(place.path().join("wrong.toml"), mapping).unwrap();
        let output = slated(place.path(), &["journal", "import", "mapped", "log.jsonl", "--mapping", "wrong.toml"]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(3) && error.contains(expected), "{mapping}: {error}");
    }
    for (args, expected) in [
        (&["mapped", "log.jsonl"][..], "`--mapping` must name"),
        (&["rllib", "log.jsonl", "--user-id", "x"][..], "`--user-id` means nothing"),
        (&["mapped", "wrong.toml", "--mapping", "mapping.toml"][..], "ends in none of"),
    ] {
        let all: Vec<&str> = ["journal", "import"].iter().chain(args).copied().collect();
        let output = slated(place.path(), &all);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(3) && error.contains(expected), "{args:?}: {error}");
    }
}
