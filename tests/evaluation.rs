//! Is the log true, and does it support a new policy?

mod common;

use std::fs::File;
use std::path::{Path, PathBuf};

use common::{Service, Workplace, request, slated, without_manifests};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};
use slated_contract::event::{Decision, Event, SegmentReader, segments};

/// The segment that holds the service's own decisions.
fn segment(place: &Workplace) -> PathBuf {
    let dates = segments::<Decision>(&place.path().join("journal")).unwrap();
    let mut files = dates.into_iter().flat_map(|date| date.files);
    files.find(|path| read(path)[0].source == "service").expect("a segment of the service")
}

fn read(path: &Path) -> Vec<Decision> {
    SegmentReader::<Decision>::open(path, 1000).unwrap().flat_map(Result::unwrap).collect()
}

fn write(path: &Path, decisions: &[Decision]) {
    without_manifests(path.ancestors().nth(3).unwrap());
    let batch = Decision::encode(decisions).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

async fn serve_both(place: &Workplace) {
    let service = place.serve(&[]);
    service.ok("/policies/ucb/versions/1/load", &Value::Null).await;
    for index in 0..30 {
        for policy in ["thompson", "ucb"] {
            let mut body = request(&format!("{policy}-{index}"));
            body["policy"] = json!(policy);
            body["user"]["user_feature_0"] = json!(format!("{index}"));
            service.ok("/recommend", &body).await;
        }
    }
    service.ok("/journal/seal", &Value::Null).await;
    service.stop();
}

#[tokio::test]
async fn a_log_is_reproduced_and_one_altered_number_is_found() {
    let place = Workplace::new();
    serve_both(&place).await;
    let verify = |args: &[&str]| {
        let output = slated(place.path(), &[&["journal", "verify"], args].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), text, String::from_utf8(output.stderr).unwrap())
    };
    let report = |args: &[&str]| -> (Option<i32>, Value) {
        let (code, text, error) = verify(&[&["--json"], args].concat());
        (code, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text} {error}")))
    };
    let (code, found) = report(&["--seed", "7"]);
    assert_eq!((code, &found["reproduced"], &found["mismatched"]), (Some(0), &json!(60), &json!(0)), "{found}");
    assert_eq!(found["foreign"], json!({"import:open-bandit": 520}), "imports are counted, not judged");
    assert_eq!(found["decisions"], 580);
    let (code, found) = report(&["--seed", "8"]);
    assert_eq!((code, &found["mismatched"]), (Some(5), &json!(60)));
    assert_eq!(found["mismatches"][0]["field"], "seed");

    let path = segment(&place);
    let honest = read(&path);
    let at = honest.iter().position(|decision| decision.decision_id == "ucb-11").unwrap();
    let thompson = honest.iter().position(|decision| decision.decision_id == "thompson-4").unwrap();
    let alter = |at: usize, edit: &dyn Fn(&mut Decision)| {
        let mut altered = honest.clone();
        edit(&mut altered[at]);
        write(&path, &altered);
    };
    type Edit<'a> = (usize, &'a dyn Fn(&mut Decision), &'a str);
    let edits: [Edit; 9] = [
        (at, &|decision| decision.slate[1].marginal_propensity *= 1.001, "slate[1].marginal_propensity"),
        (at, &|decision| decision.slate[0].cascade_propensity *= 0.999, "slate[0].cascade_propensity"),
        (at, &|decision| decision.propensity = 0.5, "propensity"),
        (thompson, &|decision| decision.propensity += 1.0 / 101.0, "propensity"),
        (at, &|decision| decision.slate.swap(0, 1), "slate"),
        (at, &|decision| decision.candidates[2].score = Some(0.0), "candidates[2].score"),
        (at, &|decision| decision.exploration = Some("{\"method\":\"greedy\"}".to_owned()), "exploration"),
        (at, &|decision| decision.policy_version = 9, "policy_version"),
        (at, &|decision| decision.slate[0].position = 3, "slate[0].position"),
    ];
    for (at, edit, field) in edits {
        alter(at, edit);
        let (code, found) = report(&[]);
        assert_eq!((code, &found["mismatched"], &found["reproduced"]), (Some(5), &json!(1), &json!(59)), "{field}");
        let mismatches = found["mismatches"].as_array().unwrap();
        assert!(mismatches.iter().all(|one| one["decision_id"] == honest[at].decision_id), "{found}");
        assert!(mismatches.iter().any(|one| one["field"] == field), "{field} is not in {found}");
    }
    alter(at, &|decision| decision.slate[1].marginal_propensity *= 1.001);
    let (_, text, error) = verify(&[]);
    assert!(text.contains("decision `ucb-11`: `slate[1].marginal_propensity` is logged as"), "{text}");
    assert!(error.contains("1 of 580 decisions"), "{error}");
    assert_eq!(verify(&["--tolerance", "0.01"]).0, Some(0), "within a tolerance that is asked for");
    // A feature that changed changes what the model says.
    alter(at, &|decision| decision.candidates[0].features.insert("item_feature_0", 3.0));
    assert_eq!(report(&[]).0, Some(5));

    write(&path, &honest);
    std::fs::remove_dir_all(place.path().join("models/ucb")).unwrap();
    let (code, found) = report(&[]);
    assert_eq!((code, &found["reproduced"]), (Some(0), &json!(30)));
    let absent = found["absent"].as_object().unwrap();
    assert_eq!(absent.values().collect::<Vec<_>>(), [&json!(30)], "what is not at hand is counted: {found}");
    assert!(absent.keys().all(|key| key.starts_with("ucb version 1, model ")));
    assert_eq!(verify(&["--journal", "nowhere"]).0, Some(3));
}

/// Copies version 1 of `ucb` as another version that explores with `epsilon`.
fn publish(place: &Workplace, version: u64, epsilon: f64) {
    let folder = place.path().join(format!("models/ucb/{version}"));
    std::fs::create_dir_all(&folder).unwrap();
    let read = |file: &str| std::fs::read(place.path().join("models/ucb/1").join(file)).unwrap();
    let mut manifest: Value = serde_json::from_slice(&read("policy.json")).unwrap();
    manifest["version"] = json!(version);
    manifest["exploration"] = json!({"method": "epsilon_greedy", "epsilon": epsilon});
    std::fs::write(folder.join("policy.json"), manifest.to_string()).unwrap();
    std::fs::write(folder.join("model.onnx"), read("model.onnx")).unwrap();
}

/// Serves `rounds` slates of `size` to as many users, who click what the policy thinks best and hardly anything else.
async fn collect(service: &Service, rounds: usize, size: usize) {
    let mut all = request("scores");
    all["slate_size"] = json!(4);
    all["user_id"] = json!("nobody");
    let scored = service.ok("/recommend", &all).await;
    let slate = scored["slate"].as_array().unwrap();
    let score = |item: &&Value| item["score"].as_f64().unwrap();
    let best = slate.iter().max_by(|a, b| score(a).total_cmp(&score(b))).unwrap()["item"].clone();
    for index in 0..rounds {
        let id = format!("round-{size}-{index}");
        let mut body = request(&id);
        body["slate_size"] = json!(size);
        body["user_id"] = json!(format!("user-{index}"));
        let answer = service.ok("/recommend", &body).await;
        for shown in answer["slate"].as_array().unwrap() {
            if shown["item"] == best || index % 20 == 0 {
                let feedback = json!({"decision_id": id, "event": "click", "position": shown["position"]});
                service.ok("/feedback", &feedback).await;
            }
        }
    }
}

#[tokio::test]
async fn the_gate_lets_through_what_the_log_supports_and_nothing_else() {
    let place = Workplace::new();
    // Version 2 logs with much exploration; 3 would explore little, and 4 do nothing else.
    publish(&place, 2, 0.6);
    publish(&place, 3, 0.05);
    publish(&place, 4, 1.0);
    let service = place.serve(&["--policy", "ucb", "--policy-version", "2"]);
    collect(&service, 400, 1).await;
    service.ok("/journal/seal", &Value::Null).await;
    service.stop();
    let evaluate = |args: &[&str]| {
        let output = slated(place.path(), &[&["evaluate", "--source", "service"], args].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), text, String::from_utf8(output.stderr).unwrap())
    };
    let against_live = ["--policy", "ucb:3", "--baseline", "ucb:2"];
    let (code, text, error) = evaluate(&[&against_live[..], &["--json"]].concat());
    assert_eq!(code, Some(0), "{text} {error}");
    let found: Value = serde_json::from_str(&text).unwrap();
    let verdict = &found["verdict"];
    assert_eq!((&found["passed"], &verdict["row"], &verdict["rows"]), (&json!(true), &json!("slate"), &json!(401)));
    // The first request, for all four scores, makes it a log of slates; alone with single actions it is one of rounds.
    let (code, text, error) = evaluate(&[&against_live[..], &["--settings", "absent.toml"]].concat());
    assert_eq!(code, Some(1), "{text} {error}");
    assert!(error.contains("absent.toml"));

    let page = std::fs::read_to_string(place.path().join("evaluation.html")).unwrap();
    assert!(page.contains("ucb:3 may replace ucb:2") && page.contains("snsips"), "{page}");
    let (code, text, error) = evaluate(&["--policy", "ucb:4", "--baseline", "ucb:2"]);
    assert_eq!(code, Some(5), "{text} {error}");
    assert!(text.contains("improvement") && text.contains("FAILED") && text.contains("not expected to help"), "{text}");
    assert!(error.contains("does not support ucb:4 over ucb:2: improvement"), "{error}");
    let (code, text, _) = evaluate(&[&against_live[..], &["--threshold", "0.9"]].concat());
    assert_eq!(code, Some(5), "{text}");

    // The same against whatever was logged, into the manifest, from where the service tells it.
    let written = evaluate(&["--policy", "ucb:3", "--write", "--interval", "student_t", "--html", "other.html"]);
    assert_eq!(written.0, Some(0), "{} {}", written.1, written.2);
    assert!(place.path().join("other.html").exists());
    let manifest: Value = serde_json::from_str(&place.must(&["policy", "inspect", "ucb", "--version", "3"])).unwrap();
    let first = &manifest["evaluation"][0];
    assert_eq!((&first["interval"], &first["against"]["policy"]), (&json!("student_t"), &json!("logged")), "{first}");
    let value = |name: &str| first[name].as_f64().unwrap();
    assert!(value("lower") < value("value") && value("value") < value("upper") && value("baseline") < value("lower"));

    // One altered propensity, and the log is no evidence any more.
    let path = segment(&place);
    let mut decisions = read(&path);
    let honest = decisions.clone();
    decisions[7].propensity *= 0.5;
    decisions[7].slate[0].cascade_propensity *= 0.5;
    write(&path, &decisions);
    let (code, text, _) = evaluate(&against_live);
    assert_eq!(code, Some(5), "{text}");
    assert!(text.lines().any(|line| line.starts_with("replay") && line.contains("FAILED")), "{text}");
    let (code, text, _) = evaluate(&[&against_live[..], &["--no-replay"]].concat());
    assert!(text.contains("left out, as asked"), "{text}");
    assert_eq!(code, Some(0));
    decisions[7].propensity = 0.0;
    write(&path, &decisions);
    let (code, _, error) = evaluate(&against_live);
    assert_eq!(code, Some(3), "{error}");
    assert!(error.contains(&decisions[7].decision_id) && error.contains("propensity"), "{error}");
    write(&path, &honest);
}

#[tokio::test]
async fn single_actions_are_judged_doubly_robust_and_by_users() {
    let place = Workplace::new();
    publish(&place, 2, 0.6);
    publish(&place, 3, 0.05);
    let service = place.serve(&["--policy", "ucb", "--policy-version", "2"]);
    for index in 0..300 {
        let id = format!("one-{index}");
        let mut body = request(&id);
        body["slate_size"] = json!(1);
        body["user_id"] = json!(format!("user-{}", index % 100));
        let shown = service.ok("/recommend", &body).await["slate"][0].clone();
        if shown["marginal_propensity"].as_f64().unwrap() > 0.5 {
            service.ok("/feedback", &json!({"decision_id": id, "event": "click", "position": 0})).await;
        }
    }
    service.ok("/journal/seal", &Value::Null).await;
    let text = place.must(&["evaluate", "--policy", "ucb:3", "--source", "service", "--json"]);
    let found: Value = serde_json::from_str(&text).unwrap();
    let verdict = &found["verdict"];
    assert_eq!((&verdict["row"], &verdict["rows"], &verdict["users"]), (&json!("round"), &json!(300), &json!(100)));
    assert_eq!(verdict["comparisons"][0]["estimator"], "dr");
    let estimate = &verdict["comparisons"][0]["candidate"];
    let truth = 0.95 + 0.05 / 4.0;
    let bound = |name: &str| estimate["interval"][name].as_f64().unwrap();
    assert!(
        (estimate["value"].as_f64().unwrap() - truth).abs() < 0.05 && bound("upper") > bound("lower"),
        "{estimate}"
    );
    assert_eq!(estimate["units"], 100, "users are what is independent");
    let diagnostics = &verdict["diagnostics"];
    assert_eq!((&diagnostics["support"]["judged"], &diagnostics["support"]["violations"]), (&json!(300), &json!(0)));
    assert!(diagnostics["reliability"]["p_value"].as_f64().unwrap() > 0.001, "{diagnostics}");
    assert_eq!(found["replay"]["reproduced"], 300);

    // On the imported rows nothing is known of what else could have been shown, and there is nothing to replay.
    let held_out = slated(place.path(), &["evaluate", "--policy", "ucb:1", "--source", "import:open-bandit"]);
    assert_eq!(held_out.status.code(), Some(3), "it has learned from all of them");
    let all = slated(
        place.path(),
        &["evaluate", "--policy", "thompson", "--source", "import:open-bandit", "--include-learned"],
    );
    let text = String::from_utf8(all.stdout).unwrap();
    assert_eq!(all.status.code(), Some(5), "{text} {}", String::from_utf8_lossy(&all.stderr));
    assert!(text.contains("520 of other systems") && text.contains("n/a"), "{text}");
}

#[tokio::test]
async fn decisions_without_propensities_are_no_evidence() {
    let place = Workplace::new();
    publish(&place, 2, 0.6);
    publish(&place, 3, 0.05);
    let service = place.serve(&["--policy", "ucb", "--policy-version", "2"]);
    collect(&service, 120, 1).await;
    service.ok("/journal/seal", &Value::Null).await;
    service.stop();
    let evaluate = || {
        let args = ["evaluate", "--policy", "ucb:3", "--source", "service", "--json", "--no-replay"];
        let output = slated(place.path(), &args);
        let found: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code(), found, String::from_utf8(output.stderr).unwrap())
    };
    let path = segment(&place);
    let honest = read(&path);
    // As the service writes them when the policy was late: certain, which says nothing of the policy.
    let late = |decision: &Decision| {
        let mut decision = decision.clone();
        decision.not_evaluable = Some("the policy did not answer in time".to_owned());
        decision.propensity = 1.0;
        decision.slate.iter_mut().for_each(|shown| (shown.cascade_propensity, shown.marginal_propensity) = (1.0, 1.0));
        decision
    };
    let is_late = |index: usize| index.is_multiple_of(4);
    let all = honest.iter().enumerate();
    let marked: Vec<Decision> =
        all.clone().map(|(index, one)| if is_late(index) { late(one) } else { one.clone() }).collect();
    let kept: Vec<Decision> = all.filter(|(index, _)| !is_late(*index)).map(|(_, one)| one.clone()).collect();
    write(&path, &kept);
    let (_, without, error) = evaluate();
    assert_eq!((&without["excluded"], &without["dataset"]["not_evaluable"]), (&json!({}), &json!(0)), "{error}");
    write(&path, &marked);
    let (_, with, _) = evaluate();
    let late_ones = honest.len() - kept.len();
    assert_eq!(with["excluded"], json!({"the policy did not answer in time": late_ones}));
    assert_eq!(with["dataset"]["not_evaluable"], json!(late_ones));
    assert_eq!(with["dataset"]["decisions"], json!(honest.len()));
    // As if they were not there.
    assert_eq!((&with["verdict"], &with["data_digest"]), (&without["verdict"], &without["data_digest"]));

    write(&path, &honest.iter().map(late).collect::<Vec<_>>());
    let (code, _, error) = evaluate();
    assert_eq!(code, Some(3), "{error}");
    assert!(error.contains("not_evaluable"), "{error}");
}

#[test]
fn the_evidence_of_simulated_users_is_true_as_often_as_it_says() {
    let folder = tempfile::TempDir::new().unwrap();
    let args = ["demo", "evidence", "--logs", "60", "--users", "50", "--truth-users", "20000", "--work", "evidence"];
    let printed = common::must(folder.path(), &[&args[..], &["--threads", "2"]].concat());
    assert_eq!(printed, common::must(folder.path(), &[&args[..], &["--threads", "3"]].concat()));
    assert!(folder.path().join("evidence/evidence.png").is_file());
    let cells = |row: &str| -> Vec<f64> {
        // The last: the gate's table has nothing but numbers.
        let line = printed.lines().rfind(|line| line.starts_with(row)).unwrap_or_else(|| panic!("no {row}: {printed}"));
        line.split('|').filter_map(|cell| cell.trim().trim_end_matches('%').parse().ok()).collect()
    };
    // Of 60 logs, 95% is 57 with a deviation of 1.7.
    let doubly_robust = cells("| 1000 | `dr` |");
    assert!(doubly_robust[1] >= 86.0 && doubly_robust[2] >= 86.0, "{printed}");
    // The intervals of a model that is wrong do not know it.
    assert!(cells("| 1000 | `dm` |")[1] < 80.0, "{printed}");
    let [_, better, same, worse] = cells("| 1000 |")[..] else { panic!("{printed}") };
    assert!(better > 50.0 && same <= 12.0 && worse == 0.0, "{printed}");
}
