//! `slated simulate`, as a user and a data scientist see it.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{Service, contents, events, must, slated};
use serde_json::{Value, json};
use slated_contract::event::{Decision, Feedback};
use slated_contract::slate::{DecisionSeed, Exploration, Scores, draw};
use slated_trainer::dataset::{Dataset, DatasetSettings};
use tempfile::TempDir;

fn folder() -> TempDir {
    TempDir::new().expect("a folder")
}

/// Runs `slated simulate --json`.
fn simulate(folder: &Path, args: &[&str]) -> Value {
    let output = must(folder, &[&["simulate", "--json"], args].concat());
    serde_json::from_str(&output).unwrap_or_else(|_| panic!("not JSON: {output}"))
}

fn mean(report: &Value, run: usize) -> f64 {
    report["runs"][run]["return"]["mean"].as_f64().expect("a mean return")
}

/// Learns a greedy policy of the watch time from a journal.
fn train(folder: &Path, policy: &str) {
    let settings = format!(
        "policy = \"{policy}\"\nalgorithm = {{ name = \"linucb\", alpha = 0.0, interaction = \"additive\" }}\n\
         exploration = {{ method = \"softmax\", temperature = 10.0 }}\n\
         [data]\nreward = {{ weights = {{ watch = 1.0 }} }}\n"
    );
    std::fs::write(folder.join("train.toml"), settings).unwrap();
    must(folder, &["train", "--settings", "train.toml", "--journal", "journal"]);
}

#[test]
fn fixed_policies_stand_in_a_table_with_their_intervals() {
    let folder = folder();
    let args = ["--environment", "lts-tutorial", "--policy", "random", "--policy", "sweetest", "-n", "400"];
    let report = simulate(folder.path(), &[&args[..], &["--threads", "1"]].concat());
    assert_eq!(report, simulate(folder.path(), &[&args[..], &["--threads", "3"]].concat()));
    assert_eq!((&report["optimum"], &report["environment"]["time_budget"]), (&json!(225.98), &json!(10)));
    for (run, expected) in [(0, 99.66), (1, 56.52)] {
        let found = &report["runs"][run]["return"];
        let (lower, upper) = (found["lower"].as_f64().unwrap(), found["upper"].as_f64().unwrap());
        assert!(lower - 1.0 < expected && expected < upper + 1.0, "{found}");
        assert_eq!(found["count"], 400);
        assert_eq!(report["runs"][run]["length"]["mean"], 10.0);
    }
    let satisfaction = |run: usize| report["runs"][run]["latent"]["satisfaction"]["mean"].as_f64().unwrap();
    assert!(satisfaction(0) > satisfaction(1), "sweet sours");
    let table = must(folder.path(), &[&["simulate"], &args[..]].concat());
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].contains("slates of 1 from 20 candidates") && lines[0].contains("225.98"), "{table}");
    assert!(lines[2].contains("95% interval") && lines[2].contains("satisfaction"), "{table}");
    assert!(lines[3].starts_with("random ") && lines[4].starts_with("sweetest "), "{table}");
    assert!(lines[2..5].iter().all(|line| line.len() == lines[2].len()), "not aligned:\n{table}");
    // Without a policy, the random one; an environment from a file.
    std::fs::write(folder.path().join("mine.toml"), "name = \"interest_exploration\"\nmax_steps = 7").unwrap();
    let report = simulate(folder.path(), &["-e", "mine.toml", "-n", "1"]);
    let run = &report["runs"][0];
    assert_eq!((&run["policy"], &run["length"]["mean"]), (&json!("random"), &json!(7.0)));
    assert_eq!(run["return"]["upper"], Value::Null, "one episode has no interval");
}

#[tokio::test]
async fn a_mixture_is_journalled_with_the_propensities_of_whoever_acted() {
    let folder = folder();
    let journal = folder.path().join("journal");
    let args = ["-e", "interest-evolution", "--mix", "expert=0.3,random=0.7", "-n", "150", "--journal", "journal"];
    let report = simulate(folder.path(), &[&args[..], &["--threads", "2"]].concat());
    let run = &report["runs"][0];
    let (decisions, feedback) = (events::<Decision>(&journal), events::<Feedback>(&journal));
    assert_eq!(run["journal"]["decisions"], decisions.len());
    assert_eq!(run["journal"]["feedback"], feedback.len());
    assert_eq!(run["length"]["mean"].as_f64().unwrap() * 150.0, decisions.len() as f64);
    let mut sessions: BTreeMap<String, Vec<&Decision>> = BTreeMap::new();
    for decision in &decisions {
        assert_eq!((decision.source.as_str(), decision.candidates.len()), ("simulator", 10));
        sessions.entry(decision.session_id.clone().unwrap()).or_default().push(decision);
        let propensities: Vec<f64> =
            decision.slate.iter().flat_map(|shown| [shown.cascade_propensity, shown.marginal_propensity]).collect();
        match decision.policy.as_str() {
            "random" => {
                assert!((decision.propensity - 1.0 / 720.0).abs() < 1e-12);
                let expected = [0.1, 0.1, 1.0 / 90.0, 0.1, 1.0 / 720.0, 0.1];
                assert!(propensities.iter().zip(expected).all(|(p, e)| (p - e).abs() < 1e-12), "{propensities:?}");
            }
            "best_quality" => assert!(propensities.iter().all(|propensity| *propensity == 1.0)),
            other => panic!("{other} acted"),
        }
        // What is logged says how to draw it again.
        let exploration: Exploration = serde_json::from_str(decision.exploration.as_ref().unwrap()).unwrap();
        let scores: Vec<f32> = decision.candidates.iter().map(|candidate| candidate.score.unwrap()).collect();
        let seed = DecisionSeed::from_value(decision.seed.unwrap() as u64);
        let again = draw(&exploration, &Scores::new(&scores, 10, &exploration).unwrap(), 3, seed).unwrap();
        let items: Vec<&str> = again.items.iter().map(|&at| decision.candidates[at].item.as_str()).collect();
        assert_eq!(items, decision.slate.iter().map(|shown| shown.item.as_str()).collect::<Vec<_>>());
    }
    assert_eq!(sessions.len(), 150);
    for session in sessions.values() {
        assert!(session.iter().all(|decision| decision.policy == session[0].policy), "a session has one policy");
        let steps = session.iter().map(|decision| json!(decision.session)["steps"].as_f64().unwrap());
        assert!(steps.zip(0..).all(|(step, index)| step == f64::from(index)), "its steps are in order");
    }
    let of_expert = sessions.values().filter(|session| session[0].policy == "best_quality").count();
    assert_eq!(run["parts"][0]["return"]["count"], of_expert);
    assert!((28..=62).contains(&of_expert), "{of_expert} of 150 episodes at 30%");

    // The trainer reads of it what was returned.
    let settings: DatasetSettings =
        serde_json::from_value(json!({"journal": journal, "reward": {"weights": {"watch": 1.0}}})).unwrap();
    let mut dataset = Dataset::open(&settings).await.unwrap();
    let mut total = 0.0;
    while let Some(rounds) = dataset.next().await.unwrap() {
        total += rounds.iter().flat_map(|round| &round.rewards).sum::<f64>();
    }
    let returned = 150.0 * mean(&report, 0);
    assert!((total - returned).abs() < 1e-6, "{total}, returned were {returned}");

    // Once more, on another number of threads: the same bytes in the same files.
    let before = contents(&journal);
    must(folder.path(), &[&["simulate"], &args[..], &["--threads", "1"]].concat());
    assert_eq!(contents(&journal), before);
    must(folder.path(), &[&["simulate"], &args[..], &["--seed", "2"]].concat());
    assert_eq!(events::<Decision>(&journal).iter().filter(|again| decisions.contains(again)).count(), decisions.len());
}

#[tokio::test]
async fn a_bundle_runs_the_same_here_and_behind_a_live_service() {
    let folder = folder();
    let here = folder.path();
    simulate(here, &["-e", "lts-tutorial", "-n", "100", "--journal", "journal"]);
    train(here, "sweet");
    // With sweetness as its only feature, more of it is better.
    let report = simulate(
        here,
        &["-e", "lts-tutorial", "-p", "sweet", "-p", "sweetest", "-p", "sweet:1", "--greedy", "-n", "60"],
    );
    assert_eq!(report["runs"][0]["return"], report["runs"][1]["return"]);
    assert_eq!(report["runs"][0]["return"], report["runs"][2]["return"]);
    assert_eq!(report["runs"][2]["version"], 1);
    // As it explores, it is another policy.
    let explored = simulate(here, &["-e", "lts-tutorial", "-p", "sweet", "-n", "60"]);
    assert_ne!(explored["runs"][0]["return"], report["runs"][0]["return"]);
    let log =
        ["-e", "lts-tutorial", "--mix", "expert=0.5,random=0.5", "--expert", "sweet", "-n", "20", "--journal", "log"];
    simulate(here, &log);
    let by_bundle: Vec<Decision> = events(&here.join("log"));
    let by_bundle: Vec<&Decision> = by_bundle.iter().filter(|decision| decision.policy == "sweet").collect();
    assert!(!by_bundle.is_empty());
    assert!(by_bundle.iter().all(|decision| decision.model_sha256.is_some() && decision.propensity < 1.0));

    let manifest = here.join("models/sweet/1/policy.json");
    let mut greedy: Value = serde_json::from_slice(&std::fs::read(&manifest).unwrap()).unwrap();
    greedy["exploration"] = json!({"method": "greedy"});
    greedy["features"]["item"][0]["missing"] = json!("error");
    greedy["slate"]["max_size"] = json!(8);
    std::fs::write(manifest, greedy.to_string()).unwrap();
    let service = Service::start(here, &["--policy", "sweet", "--journal", "live"]);
    let url = service.url.clone();
    let args = ["-e", "lts-tutorial", "--url", &url, "-n", "60", "--users", "4"];
    let live = simulate(here, &args);
    assert_eq!(live["runs"][0]["return"], report["runs"][0]["return"]);
    assert_eq!(live["runs"][0]["latent"], report["runs"][0]["latent"]);
    assert_eq!(live["runs"][0]["version"], 1);
    // A second run is other users, not the first ones' requests sent again.
    simulate(here, &args);
    service.ok("/journal/seal", &Value::Null).await;
    let (decisions, feedback) = (events::<Decision>(&here.join("live")), events::<Feedback>(&here.join("live")));
    assert_eq!((decisions.len(), feedback.len()), (1200, 1200));
    assert!(feedback.iter().all(|event| event.event == "watch" && event.value > 0.0));
    let sessions: std::collections::BTreeSet<_> = decisions.iter().map(|decision| &decision.session_id).collect();
    assert_eq!(sessions.len(), 120);

    // What the policy cannot read is refused by its name, here and there.
    let refused = |args: &[&str], code: i32, parts: &[&str]| {
        let output = slated(here, &[&["simulate", "-n", "1"], args].concat());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
        assert!(parts.iter().all(|part| error.contains(part)), "{args:?}: {error}");
    };
    let unreadable = ["`interest_evolution`", "item feature `clickbait_score`"];
    refused(&["-e", "interest-evolution", "-p", "sweet"], 3, &unreadable);
    refused(&["-e", "interest-evolution", "--url", &url], 3, &["`interest_evolution`", "422", "clickbait_score"]);
    std::fs::write(here.join("wide.toml"), "name = \"long_term_satisfaction\"\nslate_size = 9").unwrap();
    refused(&["-e", "wide.toml", "-p", "sweet"], 3, &["`sweet`", "slates of at most 8", "shows 9 of 20"]);
    service.stop();
    refused(&["-e", "lts-tutorial", "--url", &url], 4, &["does not answer"]);
}

#[test]
fn what_cannot_be_simulated_says_why() {
    let folder = folder();
    let refused = |args: &[&str], code: i32, parts: &[&str]| {
        let output = slated(folder.path(), &[&["simulate"], args].concat());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
        assert!(parts.iter().all(|part| error.contains(part)), "{args:?}: {error}");
    };
    std::fs::write(folder.path().join("wide.toml"), "name = \"long_term_satisfaction\"\nslate_size = 21").unwrap();
    std::fs::write(folder.path().join("typo.toml"), "name = \"long_term_satisfaction\"\nslate = 2").unwrap();
    refused(&["-e", "go"], 3, &["`go`", "lts-tutorial"]);
    refused(&["-e", "absent.toml"], 1, &["absent.toml"]);
    refused(&["-e", "wide.toml"], 3, &["`slate_size` is 21", "1 to the 20 candidates"]);
    refused(&["-e", "typo.toml"], 3, &["typo.toml", "slate", "slate_size"]);
    let lts = |args: &[&'static str]| [&["-e", "lts"], args].concat();
    refused(&lts(&["-p", "best"]), 3, &["no policy `best`", "random, sweetest, kaliest"]);
    refused(&lts(&["-p", "best:new"]), 3, &["`new` is not a version"]);
    refused(&lts(&["--mix", "random=0.5"]), 3, &["[0.5]", "sum to 1"]);
    refused(&lts(&["--mix", "random"]), 3, &["`random` is not POLICY=SHARE"]);
    refused(&lts(&["--mix", "random=-1,kaliest=2"]), 3, &["from 0 to 1"]);
    refused(&lts(&["--url", "localhost:80"]), 3, &["http://127.0.0.1:8080"]);
    refused(&lts(&["-n", "0"]), 2, &["--episodes"]);
    refused(&lts(&["--url", "http://127.0.0.1:1", "--journal", "journal"]), 2, &["--journal"]);
}
