//! Every bandit: learned from a journal, gone on with, interrupted, served, journalled and verified.

mod common;

use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::AtomicBool;

use chrono::DateTime;
use common::{Service, must, slated};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};
use slated_contract::event::{Candidate, Decision, Event, Feedback, Shown};
use slated_contract::slate::{DecisionSeed, Exploration, Scores, draw};
use slated_trainer::progress::Silent;
use slated_trainer::train::{Outcome, Start, TrainSettings, Trained, train};
use tempfile::TempDir;

const ITEMS: usize = 8;
const BEST: usize = 5;
const SHOWN: usize = 3;
/// 1,001 decisions of three positions leave every learner in the middle of a block and of a mini-batch.
const FIRST: usize = 1001;
const WHOLE: usize = 2000;

/// The algorithms, with settings under which a few thousand examples tell.
fn algorithms() -> Vec<Value> {
    vec![
        json!({"name": "epsilon_greedy"}),
        json!({"name": "ucb1"}),
        json!({"name": "bernoulli_thompson", "spare": 3}),
        json!({"name": "linucb"}),
        json!({"name": "linear_thompson", "interaction": "additive"}),
        json!({"name": "square_cb", "interaction": "additive"}),
        json!({"name": "neural_linear", "hidden": [16, 8], "learning_rate": 0.003, "memory": 2000}),
        json!({"name": "bootstrap_ensemble", "members": 5, "interaction": "additive"}),
    ]
}

fn name(algorithm: &Value) -> String {
    algorithm["name"].as_str().unwrap().to_owned()
}

fn click_rate(item: usize) -> f64 {
    if item == BEST { 0.8 } else { 0.05 + 0.05 * item as f64 }
}

fn item(index: usize) -> Value {
    json!({"id": format!("item-{index}"), "features": {"kind": format!("kind-{index}"), "price": index as f64 / 4.0}})
}

fn user(index: usize) -> Value {
    json!({"segment": if index.is_multiple_of(3) { "x" } else { "y" }})
}

/// Writes the decisions of a uniform policy, and the clicks on what it showed.
fn log(journal: &Path, decisions: std::ops::Range<usize>) {
    let scores = [0.0; ITEMS];
    let uniform = Exploration::EpsilonGreedy { epsilon: 1.0 };
    let scores = Scores::new(&scores, ITEMS, &uniform).unwrap();
    let (mut shown, mut clicks) = (Vec::new(), Vec::new());
    for index in decisions.clone() {
        let time = DateTime::from_timestamp(1_700_000_000 + index as i64, 0).unwrap();
        let seed = DecisionSeed::from_value(index as u64 * 7919);
        let drawn = draw(&uniform, &scores, SHOWN, seed).unwrap();
        let candidate = |index| -> Candidate {
            let item = item(index);
            let features = serde_json::from_value(item["features"].clone()).unwrap();
            Candidate { item: item["id"].as_str().unwrap().to_owned(), features, score: Some(0.0) }
        };
        let candidates: Vec<Candidate> = (0..ITEMS).map(candidate).collect();
        let decision_id = format!("logged-{index:05}");
        let mut generator = seed.noise_generator();
        for (position, &item) in drawn.items.iter().enumerate() {
            if rand::RngExt::random::<f64>(&mut generator) < click_rate(item) {
                clicks.push(Feedback {
                    feedback_id: format!("{decision_id}-{position}"),
                    decision_id: decision_id.clone(),
                    time,
                    occurred: time,
                    source: "test".to_owned(),
                    event: "click".to_owned(),
                    value: 1.0,
                    item: None,
                    position: Some(position as i32),
                });
            }
        }
        shown.push(Decision {
            decision_id,
            time,
            source: "test".to_owned(),
            policy: "uniform".to_owned(),
            policy_version: 1,
            user: serde_json::from_value(user(index)).unwrap(),
            slate: Shown::from_drawn(&drawn, &candidates),
            candidates,
            propensity: drawn.propensities.joint(),
            ..Decision::default()
        });
    }
    write(journal, decisions.start, &shown);
    write(journal, decisions.start, &clicks);
}

fn write<E: Event>(journal: &Path, name: usize, events: &[E]) {
    let folder = journal.join(E::KIND).join("date=2023-11-14");
    fs::create_dir_all(&folder).unwrap();
    let batch = E::encode(events).unwrap();
    let file = File::create(folder.join(format!("{name:05}.parquet"))).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn settings(journal: &Path, algorithm: &Value) -> TrainSettings {
    let mut settings = json!({"policy": "p", "data": {"journal": journal}, "algorithm": algorithm, "seed": 9});
    if !["epsilon_greedy", "ucb1", "bernoulli_thompson"].contains(&algorithm["name"].as_str().unwrap()) {
        let kinds: Vec<String> = (0..ITEMS).map(|index| format!("kind-{index}")).collect();
        settings["features"] = json!({
            "user": [{"name": "segment", "kind": "categorical", "vocabulary": ["x", "y"]}],
            "item": [
                {"name": "kind", "kind": "categorical", "vocabulary": kinds},
                {"name": "price", "kind": "numeric"},
            ],
        });
    }
    serde_json::from_value(settings).unwrap()
}

fn learn(settings: &TrainSettings, start: Start) -> Trained {
    match train(settings, start, &mut Silent, &AtomicBool::new(false)).unwrap() {
        Outcome::Finished(trained) => *trained,
        Outcome::Interrupted { .. } => panic!("nothing stops it"),
    }
}

fn start(version: u64, base: Option<&Trained>, checkpoint: Option<Vec<u8>>) -> Start {
    Start { version, continue_from: base.map(|base| (base.manifest.version, base.learner.clone())), checkpoint }
}

#[test]
fn going_on_from_a_version_gives_the_same_bytes_as_one_pass() {
    let folder = TempDir::new().unwrap();
    let (part, whole) = (folder.path().join("part"), folder.path().join("whole"));
    log(&part, 0..FIRST);
    log(&whole, 0..FIRST);
    log(&whole, FIRST..WHOLE);
    for algorithm in algorithms() {
        let first = learn(&settings(&part, &algorithm), start(1, None, None));
        let both = settings(&whole, &algorithm);
        let continued = learn(&both, start(2, Some(&first), None));
        let once = learn(&both, start(2, None, None));
        assert_eq!(continued.summary.decisions, (WHOLE - FIRST) as u64);
        assert_ne!(first.model, continued.model, "{algorithm} learned nothing further");
        assert_eq!(continued.model, once.model, "{algorithm}");
        let record = |trained: &Trained| trained.manifest.training.clone().unwrap();
        assert_eq!(record(&continued).decisions, record(&once).decisions);
        assert!((record(&continued).mean_reward - record(&once).mean_reward).abs() < 1e-12);
        assert_eq!(record(&continued).continued_from, Some(1));
    }
}

#[test]
fn an_interrupted_run_goes_on_to_the_same_bytes() {
    let folder = TempDir::new().unwrap();
    log(folder.path(), 0..700);
    for algorithm in algorithms() {
        let settings = settings(folder.path(), &algorithm);
        let whole = learn(&settings, start(1, None, None));
        let stop = AtomicBool::new(true);
        let (mut checkpoint, mut stops) = (None, 0);
        let resumed = loop {
            match train(&settings, start(1, None, checkpoint.take()), &mut Silent, &stop).unwrap() {
                Outcome::Interrupted { checkpoint: next, .. } => {
                    stops += 1;
                    checkpoint = Some(next);
                }
                Outcome::Finished(trained) => break *trained,
            }
        };
        assert!(stops > 4, "{algorithm} was stopped {stops} times");
        assert_eq!(resumed.model, whole.model, "{algorithm}");
        assert_eq!((resumed.learner, resumed.manifest), (whole.learner, whole.manifest), "{algorithm}");
    }
}

#[tokio::test]
async fn each_is_served_prefers_the_best_item_and_can_be_verified() {
    let folder = TempDir::new().unwrap();
    let place = folder.path();
    log(&place.join("journal"), 0..WHOLE);
    for algorithm in algorithms() {
        let policy = name(&algorithm).replace('_', "-");
        let mut settings = json!(settings(&place.join("journal"), &algorithm));
        settings["policy"] = json!(policy);
        settings["data"]["source"] = json!("test");
        settings["slate"] = json!({"max_size": 4, "max_candidates": 90});
        let settings: TrainSettings = serde_json::from_value(settings).unwrap();
        fs::write(place.join("train.toml"), toml::to_string(&settings).unwrap()).unwrap();
        must(place, &["train", "--settings", "train.toml"]);
        let service = Service::start(place, &["--policy", &policy]);
        let mut best = 0;
        for index in 0..40 {
            let body = json!({
                "event_id": format!("{policy}-{index}"),
                "user": user(index),
                // Two that are in the log, the best, and two that no policy has seen.
                "candidates": [
                    item(0), item(7), {"id": "new-1", "features": item(1)["features"]}, item(BEST),
                    {"id": "new-2", "features": item(2)["features"]},
                ],
                "slate_size": SHOWN,
            });
            let answer = service.ok("/recommend", &body).await;
            let slate: Vec<&str> =
                answer["slate"].as_array().unwrap().iter().map(|shown| shown["item"].as_str().unwrap()).collect();
            assert_eq!(slate.iter().collect::<std::collections::HashSet<_>>().len(), SHOWN);
            assert!(answer["propensity"].as_f64().unwrap() > 0.0);
            if policy == "ucb1" {
                assert!(slate[0].starts_with("new") || slate[1].starts_with("new"), "what is new is tried: {slate:?}");
            }
            // What was never shown may well be tried first; of what is known, the best must be.
            best += i32::from(slate.iter().find(|item| !item.starts_with("new")) == Some(&"item-5"));
        }
        assert!(best >= 32, "{policy} preferred the best item {best} times of 40");
        if policy == "square-cb" {
            // Too many prefixes to sum over: the marginal propensities say from how many they are estimated.
            let candidates: Vec<Value> = (0..90)
                .map(|index| json!({"id": format!("many-{index}"), "features": item(index % 8)["features"]}))
                .collect();
            let mut body = json!({"event_id": "many", "user": user(0), "candidates": candidates, "slate_size": 4});
            let answer = service.ok("/recommend", &body).await;
            assert_eq!((&answer["marginal_draws"], answer.get("propensity_draws")), (&json!(1000), None), "{answer}");
            // Under rules the same exploration draws among what they leave.
            body["event_id"] = json!("ruled");
            body["pinned"] = json!([{"item": "many-3", "position": 1}]);
            let answer = service.ok("/recommend", &body).await;
            assert_eq!(answer["slate"][1]["item"], "many-3");
            assert_eq!(answer["slate"][0]["cascade_propensity"], answer["slate"][1]["cascade_propensity"]);
        }
        service.stop();
    }
    let report: Value = serde_json::from_str(&must(place, &["journal", "verify", "--json"])).unwrap();
    let made = 40 * algorithms().len() + 2;
    assert_eq!((&report["reproduced"], &report["mismatched"]), (&json!(made), &json!(0)), "{report}");

    // On later decisions of the uniform policy, each is estimated to be far better than it.
    log(&place.join("journal"), WHOLE..WHOLE + 1000);
    for algorithm in algorithms() {
        let policy = name(&algorithm).replace('_', "-");
        let output = slated(place, &["evaluate", "--policy", &policy, "--log-policy", "uniform", "--json"]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let compared = report["verdict"]["comparisons"].as_array().unwrap();
        let found = compared.iter().find(|comparison| comparison["candidate"]["name"] == "sniips").unwrap();
        let bound = |side: &str, bound: &str| found[side]["interval"][bound].as_f64().unwrap();
        assert!(bound("candidate", "lower") > bound("baseline", "upper") + 0.3, "{policy}: {found}");
    }
}

#[test]
fn what_cannot_be_learned_says_why() {
    let folder = TempDir::new().unwrap();
    let place = folder.path();
    log(&place.join("journal"), 0..50);
    for (algorithm, words) in [
        (json!({"name": "epsilon_greedy", "epsilon": 1.5}), "`algorithm.epsilon` is 1.5, allowed are 0 to 1"),
        (json!({"name": "ucb1", "scale": -1.0}), "`algorithm.scale` is -1, it must be finite and at least 0"),
        (json!({"name": "bernoulli_thompson", "successes": 0.0}), "`algorithm.successes` is 0, allowed are 0.1"),
        (json!({"name": "square_cb", "gamma": -1.0}), "`algorithm.gamma` is -1"),
        (json!({"name": "square_cb", "lambda": 0.0}), "`algorithm.lambda` is 0, it must be finite and above 0"),
        (json!({"name": "neural_linear", "hidden": []}), "`algorithm.hidden` has 0 layers, allowed are 1 to 8"),
        (json!({"name": "neural_linear", "batch": 0}), "`algorithm.batch` is 0, allowed are 1 to 65536"),
        (json!({"name": "bootstrap_ensemble", "members": 1}), "`algorithm.members` is 1, allowed are 2 to 256"),
    ] {
        let error = train(
            &settings(&place.join("journal"), &algorithm),
            start(1, None, None),
            &mut Silent,
            &AtomicBool::new(false),
        )
        .unwrap_err();
        assert!(error.to_string().contains(words), "{algorithm}: {error}");
    }
    let refused = |text: &str, continued: bool| {
        fs::write(place.join("bad.toml"), format!("policy = \"p\"\n{text}")).unwrap();
        let args: &[&str] = if continued { &["--continue"] } else { &[] };
        let output = slated(place, &[&["train", "--settings", "bad.toml"], args].concat());
        assert_eq!(output.status.code(), Some(3), "{text}");
        String::from_utf8(output.stderr).unwrap()
    };
    let message = refused("algorithm = { name = \"ucb1\", interaction = \"outer\" }", false);
    assert!(message.contains("interaction"), "{message}");
    let message = refused("algorithm = { name = \"ucb1\" }\n[features]\nuser = []\n", false);
    assert!(message.contains("`features` cannot be given"), "{message}");
    let index = "[features]\nitem_id = { kind = \"index\", vocabulary = [\"a\"], spare = 1 }\n";
    let message = refused(index, false);
    assert!(message.contains("`item_id` is of kind `index`") && message.contains("`hashed`"), "{message}");
    let twice = "[data.reward]\nweights = { click = 3.0 }\n";
    let message = refused(&format!("algorithm = {{ name = \"bernoulli_thompson\" }}\n{twice}"), false);
    assert!(message.contains("logged-") && message.contains("is 3") && message.contains("0 to 1"), "{message}");

    must(place, &["train", "--policy", "p", "--algorithm", "ucb1"]);
    log(&place.join("journal"), 50..60);
    let message = refused("algorithm = { name = \"linucb\" }", true);
    assert!(message.contains("`algorithm.name` is \"linucb\"") && message.contains("\"table\""), "{message}");
    // Tables go on from one another.
    must(place, &["train", "--policy", "p", "--algorithm", "bernoulli_thompson", "--continue"]);

    must(place, &["train", "--policy", "q", "--algorithm", "bootstrap_ensemble", "--interaction", "additive"]);
    log(&place.join("journal"), 60..70);
    fs::write(
        place.join("members.toml"),
        "algorithm = { name = \"bootstrap_ensemble\", members = 4, interaction = \"additive\" }",
    )
    .unwrap();
    let output = slated(place, &["train", "--policy", "q", "--settings", "members.toml", "--continue"]);
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("`algorithm.members` is 4") && message.contains("learned with 10"), "{message}");
}
