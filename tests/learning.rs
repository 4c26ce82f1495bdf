//! Round trip: what was served and fed back is what the trainer reads, and what it writes is served.

mod common;

use std::sync::atomic::AtomicBool;

use common::{Workplace, request};
use reqwest::StatusCode;
use serde_json::{Value, json};
use slated_trainer::dataset::{Dataset, DatasetSettings, Round};

async fn rounds(place: &Workplace, source: &str) -> Vec<Round> {
    let settings: DatasetSettings = serde_json::from_value(json!({
        "journal": place.path().join("journal"),
        "source": source,
        "reward": {"weights": {"click": 1.0, "dwell": 0.1}, "aggregation": "sum"},
    }))
    .unwrap();
    let mut dataset = Dataset::open(&settings).await.unwrap();
    let mut rounds = Vec::new();
    while let Some(batch) = dataset.next().await.unwrap() {
        rounds.extend(batch);
    }
    rounds
}

#[tokio::test]
async fn what_was_served_and_fed_back_is_what_the_trainer_reads() {
    let place = Workplace::new();
    let service = place.serve(&[]);
    let mut answers = Vec::new();
    for index in 0..10 {
        let id = format!("round-{index}");
        let mut body = request(&id);
        // A number that a careless JSON parser rounds differently.
        body["user"]["age"] = json!(203.873_454_922_328_22 + f64::from(index));
        answers.push((body.clone(), service.ok("/recommend", &body).await));
        if index % 2 == 0 {
            let item = answers[index as usize].1["slate"][1]["item"].clone();
            service.ok("/feedback", &json!([
                {"feedback_id": format!("{id}-click"), "decision_id": id, "event": "click", "item": item},
                {"feedback_id": format!("{id}-dwell"), "decision_id": id, "event": "dwell", "value": 20.0, "position": 0},
            ])).await;
        }
    }
    service.ok("/journal/seal", &Value::Null).await;
    let read = rounds(&place, "service").await;
    assert_eq!(read.len(), 10);
    for (round, (index, (body, answer))) in read.iter().zip(answers.iter().enumerate()) {
        let decision = &round.decision;
        assert_eq!(decision.decision_id, format!("round-{index}"));
        assert_eq!(json!(decision.user), body["user"]);
        assert_eq!(json!(decision.context), body["context"]);
        assert_eq!(json!(decision.propensity), answer["propensity"]);
        for (candidate, sent) in decision.candidates.iter().zip(body["candidates"].as_array().unwrap()) {
            assert_eq!(
                (json!(candidate.item), json!(candidate.features)),
                (sent["id"].clone(), sent["features"].clone())
            );
        }
        for (shown, answered) in decision.slate.iter().zip(answer["slate"].as_array().unwrap()) {
            assert_eq!(json!(shown.item), answered["item"]);
            assert_eq!(json!(shown.marginal_propensity), answered["marginal_propensity"]);
        }
        assert_eq!(round.rewards, if index % 2 == 0 { vec![2.0, 1.0] } else { vec![0.0, 0.0] });
    }
}

#[tokio::test]
async fn the_next_version_learns_from_the_services_own_journal_and_is_swapped_in() {
    let place = Workplace::new();
    let service = place.serve(&[]);
    for index in 0..40 {
        let id = format!("learn-{index}");
        let answer = service.ok("/recommend", &request(&id)).await;
        // Only item c is ever clicked.
        if let Some(shown) = answer["slate"].as_array().unwrap().iter().find(|shown| shown["item"] == "c") {
            service.ok("/feedback", &json!({"decision_id": id, "event": "click", "position": shown["position"]})).await;
        }
    }
    service.ok("/journal/seal", &Value::Null).await;
    let output = place.must(&[
        "train",
        "--policy",
        "thompson",
        "--algorithm",
        "linear_thompson",
        "--interaction",
        "additive",
        "--continue",
    ]);
    assert!(output.contains("models/thompson/2"), "{output}");
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(place.path().join("models/thompson/2/policy.json")).unwrap()).unwrap();
    assert_eq!((&manifest["training"]["decisions"], &manifest["training"]["continued_from"]), (&json!(560), &json!(1)));
    // Swapped under load: every answer names the version that made it, and none fails.
    let stream = async {
        let mut versions = Vec::new();
        // Until some answers after the swap: how long a load takes is the machine's affair.
        while versions.len() < 20_000 && versions.iter().filter(|version| **version == 2).count() < 20 {
            let id = format!("swap-{}", versions.len());
            versions.push(service.ok("/recommend", &request(&id)).await["policy_version"].as_u64().unwrap());
        }
        versions
    };
    let swap = async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        service.ok("/policies/thompson/versions/2/load", &Value::Null).await
    };
    let (versions, swapped) = tokio::join!(stream, swap);
    assert_eq!(swapped, json!({"name": "thompson", "version": 2}));
    assert!(versions.is_sorted() && versions.last() == Some(&2), "{versions:?}");
    let again = common::slated(
        place.path(),
        &["train", "--policy", "thompson", "--algorithm", "linear_thompson", "--interaction", "outer", "--continue"],
    );
    assert_eq!(again.status.code(), Some(3), "the interaction cannot change on the way");
}

#[tokio::test]
async fn a_bad_bundle_is_refused_and_the_live_one_goes_on() {
    let place = Workplace::new();
    let models = place.path().join("models");
    let second = |edit: &dyn Fn(&mut Value), model: Option<&[u8]>| {
        let folder = models.join("thompson/2");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let mut manifest: Value =
            serde_json::from_slice(&std::fs::read(models.join("thompson/1/policy.json")).unwrap()).unwrap();
        manifest["version"] = json!(2);
        edit(&mut manifest);
        std::fs::write(folder.join("policy.json"), manifest.to_string()).unwrap();
        let original = std::fs::read(models.join("thompson/1/model.onnx")).unwrap();
        std::fs::write(folder.join("model.onnx"), model.unwrap_or(&original)).unwrap();
    };
    let service = place.serve(&["--policy-version", "1"]);
    let ucb = std::fs::read(models.join("ucb/1/model.onnx")).unwrap();
    let hash = slated_contract::policy::sha256_hex(&ucb);
    type Edit<'a> = Box<dyn Fn(&mut Value) + 'a>;
    let cases: Vec<(Edit, Option<&[u8]>, &str)> = vec![
        (Box::new(|_| {}), Some(&ucb[..1000]), "SHA-256"),
        (Box::new(|manifest| manifest["model_sha256"] = json!(hash)), Some(&ucb), "lacks the tensor `noise`"),
        (Box::new(|manifest| manifest["parity"]["scores"][1] = json!(123.0)), None, "sample scores"),
        (Box::new(|manifest| manifest["signature"]["state_width"] = json!(3)), None, "signature.state_width"),
        (Box::new(|manifest| manifest["surprise"] = json!(1)), None, "surprise"),
        (Box::new(|manifest| manifest["exploration"] = json!({"method": "greedy"})), None, "noise"),
        (Box::new(|manifest| manifest["discount"] = json!(2)), None, "discount"),
        (Box::new(|manifest| manifest["name"] = json!("other")), None, "belongs into"),
    ];
    for (edit, model, word) in cases {
        second(&*edit, model);
        let (status, problem) = service.post("/policies/thompson/versions/2/load", &Value::Null).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(problem["detail"].as_str().unwrap().contains(word), "{word} is not in {problem}");
        let (_, policies) = service.get("/policies").await;
        assert_eq!(policies["policies"][0]["version"], 1);
        assert!(policies["policies"][0]["last_failure"]["reason"].as_str().unwrap().contains(word));
    }
    assert_eq!(service.ok("/recommend", &request("still")).await["policy_version"], 1);
}

#[test]
fn training_twice_gives_the_same_bytes() {
    let (one, two) = (Workplace::new(), Workplace::new());
    for policy in ["thompson", "ucb"] {
        for file in ["model.onnx", "policy.json", "learner.safetensors"] {
            let read =
                |place: &Workplace| std::fs::read(place.path().join(format!("models/{policy}/1/{file}"))).unwrap();
            assert_eq!(read(&one), read(&two));
        }
    }
    let fresh = Workplace::new();
    fresh.must(&["train", "--policy", "again", "--algorithm", "linear_thompson", "--interaction", "additive"]);
    let model = |policy: &str| std::fs::read(fresh.path().join(format!("models/{policy}/1/model.onnx"))).unwrap();
    assert_eq!(model("again"), model("thompson"));
}

#[test]
fn an_interrupted_run_goes_on_to_the_same_result() {
    use slated_trainer::progress::Silent;
    use slated_trainer::train::{Outcome, Start, TrainSettings, train};
    let place = Workplace::new();
    let settings: TrainSettings =
        serde_json::from_value(json!({"policy": "p", "data": {"journal": place.path().join("journal")}})).unwrap();
    let start = |checkpoint| Start { version: 1, continue_from: None, checkpoint };
    let Outcome::Finished(whole) = train(&settings, start(None), &mut Silent, &AtomicBool::new(false)).unwrap() else {
        panic!()
    };
    let stop = AtomicBool::new(true);
    let mut checkpoint = None;
    let mut stops = 0;
    let resumed = loop {
        match train(&settings, start(checkpoint.take()), &mut Silent, &stop).unwrap() {
            Outcome::Interrupted { checkpoint: next, .. } => {
                stops += 1;
                checkpoint = Some(next);
            }
            Outcome::Finished(trained) => break trained,
        }
    };
    assert_eq!(stops, 2, "520 examples hold two whole blocks");
    assert_eq!((resumed.model, resumed.learner, resumed.manifest), (whole.model, whole.learner, whole.manifest));
}

#[test]
fn an_interrupted_command_leaves_a_checkpoint_and_no_bundle() {
    let place = Workplace::new();
    let child = std::process::Command::new(env!("CARGO_BIN_EXE_slated"))
        .current_dir(place.path())
        .args(["train", "--policy", "stopped"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // The handler is there once the first stage is announced.
    let pid = child.id().to_string();
    let mut child = child;
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    lines.next();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let rest: String = lines.map_while(Result::ok).collect();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130), "{rest}");
    assert!(!place.path().join("models/stopped").exists());
    assert!(place.path().join("models/.checkpoints/stopped.safetensors").exists());
    place.must(&["train", "--policy", "stopped"]);
    place.must(&["train", "--policy", "whole"]);
    let model = |policy: &str| std::fs::read(place.path().join(format!("models/{policy}/1/model.onnx"))).unwrap();
    assert_eq!(model("stopped"), model("whole"));
    assert!(!place.path().join("models/.checkpoints/stopped.safetensors").exists());
}
