//! The autopilot beside a running service: killed in every step, refusing, taking back, pruning, and the whole loop.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Service, must, slated};
use serde_json::{Value, json};
use slated::autopilot::{CycleReport, Outcome, State, Step};
use slated::telemetry::described::AUTOPILOT;
use slated_contract::event::{RouteChange, SegmentReader, segments};
use slated_contract::policy::{BundleWriter, is_held, versions};
use slated_contract::slate::Exploration;
use slated_trainer::offline::{OfflineOutcome, OfflineSettings, simulate, train_offline};
use slated_trainer::online::Unobserved;
use slated_trainer::rollout::Actor;
use tempfile::TempDir;

const LEARNS: &str = r#"
[[candidates]]
name = "dqn"
[candidates.train]
updates = 1200
checkpoint_every = 100
evaluation = { every = 0 }
[candidates.train.algorithm]
name = "dqn"
discount = 0.99
reward_scale = 0.02
network = { hidden = [32, 32] }
target = { soft = 0.01 }
optimisation = { batch = 128, clip = 10.0, adam = { learning_rate = 2e-3 } }
"#;

const LEARNS_NOTHING: &str = r#"
[[candidates]]
[candidates.train]
updates = 1
evaluation = { every = 0 }
algorithm = { name = "dqn" }
"#;

/// A folder with a random policy `lts`, version 1, and a log of it.
fn place(sessions: u32) -> TempDir {
    let folder = TempDir::new().unwrap();
    let mut settings: OfflineSettings = serde_json::from_value(json!({
        "policy": "lts", "updates": 1, "algorithm": {"name": "dqn"}, "exploration": {"method": "greedy"},
        "evaluation": {"environment": "lts-tutorial", "final_episodes": 2}, "episodes": {"validation": 0.0},
    }))
    .unwrap();
    settings.exploration = Exploration::EpsilonGreedy { epsilon: 1.0 };
    let log = simulate(&settings, &[Actor::Random.into()], 1, 1, 1).unwrap();
    let never = AtomicBool::new(false);
    let learned = train_offline(&settings, &log, 1, None, &mut Unobserved, &never).unwrap();
    let OfflineOutcome::Finished(learned) = learned else { panic!("it was not asked to stop") };
    let models = folder.path().join("models");
    BundleWriter::stage(&models, &learned.manifest, &learned.model, None).unwrap().publish().unwrap();
    let sessions = sessions.to_string();
    must(folder.path(), &["simulate", "-e", "lts-tutorial", "-p", "lts:1", "-n", &sessions, "--journal", "journal"]);
    // A version that waits must not go live for being the newest.
    fs::write(folder.path().join("slated.toml"), "[models]\nwatch_seconds = 0.1\n").unwrap();
    folder
}

fn configure(folder: &Path, service: &Service, settings: &str, candidates: &str) {
    let text = format!(
        "policy = \"lts\"\nservice = \"{}\"\ntrigger = {{ every_seconds = 0.2, poll_seconds = 0.1 }}\n\
         exploration = {{ method = \"epsilon_greedy\", epsilon = 0.05 }}\n{settings}\n\
         evaluation.gate = {{ min_effective_sample_size = 30.0, min_effective_users = 10.0, min_effective_rewards = 5.0 }}\n\
         data = {{ settle_seconds = 0.3, forget_on_drift = false, reward = {{ weights = {{ watch = 1.0 }} }} }}\n{candidates}",
        service.url
    );
    fs::write(folder.join("autopilot.toml"), text).unwrap();
}

fn serve(folder: &Path) -> Service {
    Service::start(folder, &["--policy", "lts"])
}

fn report(folder: &Path, cycle: u64) -> CycleReport {
    let path = folder.join(format!("autopilot/cycles/{cycle}/report.json"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Every change of the route in the journal, as (action, who, id).
async fn changes(folder: &Path, service: &Service) -> Vec<(String, String, String)> {
    service.ok("/journal/seal", &Value::Null).await;
    let mut all = Vec::new();
    for path in segments::<RouteChange>(&folder.join("journal")).unwrap().into_iter().flat_map(|date| date.files) {
        for batch in SegmentReader::<RouteChange>::open(&path, 64).unwrap() {
            all.extend(batch.unwrap());
        }
    }
    all.sort_by_key(|change| change.time);
    all.into_iter().map(|change| (change.action, change.by, change.change_id)).collect()
}

/// Users who ask the service again and again, each a session of one decision; whether every request was answered.
struct Traffic {
    stop: Arc<AtomicBool>,
    sender: Option<std::thread::JoinHandle<u64>>,
}

impl Traffic {
    fn start(service: &Service) -> Self {
        let (stop, url) = (Arc::new(AtomicBool::new(false)), service.url.clone());
        let asked = Arc::clone(&stop);
        let sender = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = reqwest::Client::builder().no_proxy().build().unwrap();
                for index in 0_u64.. {
                    if asked.load(Ordering::Relaxed) {
                        return index;
                    }
                    let item = |place: u64| {
                        let score = 0.05 + 0.1 * place as f64;
                        json!({"id": format!("{place}"), "features": {"clickbait_score": score}})
                    };
                    let user = format!("user-{index}");
                    let body = json!({
                        "user_id": user, "session_id": user, "slate_size": 1,
                        "candidates": (0..10).map(item).collect::<Vec<_>>(),
                    });
                    let answer = client.post(format!("{url}/recommend")).json(&body).send().await.unwrap();
                    let status = answer.status();
                    assert!(status.is_success(), "{status}: {}", answer.text().await.unwrap());
                    tokio::time::sleep(Duration::from_millis(8)).await;
                }
                0
            })
        });
        Self { stop, sender: Some(sender) }
    }

    /// Ends it; fails where a request did.
    fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.sender.take().unwrap().join().expect("every request is answered")
    }
}

fn once(folder: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_slated"))
        .current_dir(folder)
        .args(["autopilot", "--once", "--log-level", "warn"])
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

/// Starts the autopilot and kills it as soon as it is in the step; the step in which it was.
fn kill_in(folder: &Path, step: Step) -> Option<Step> {
    let mut child = once(folder);
    let started = Instant::now();
    loop {
        let running = State::read(&folder.join("autopilot")).ok().and_then(|state| state.running);
        if let Some(cycle) = running.filter(|cycle| cycle.step >= step) {
            // Not always at its very beginning.
            std::thread::sleep(Duration::from_millis(match step {
                Step::Train | Step::Evaluate | Step::Canary => 150,
                _ => 0,
            }));
            child.kill().unwrap();
            child.wait().unwrap();
            return Some(cycle.step);
        }
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "it does not come to {step:?}");
        std::thread::sleep(Duration::from_micros(300));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_every_step_it_comes_to_the_same_as_never_killed() {
    let (killed, whole) = (place(600), place(600));
    let settings = "canary = { share = 0.5, min_requests = 40, guardrails = { max_error_rate = 0.01 } }";
    let services = [&killed, &whole].map(|folder| {
        let service = serve(folder.path());
        configure(folder.path(), &service, settings, LEARNS);
        service
    });
    // The data of both cycles are the log alone: traffic begins when they are cut.
    let first = kill_in(killed.path(), Step::Drift);
    let traffic = Traffic::start(&services[0]);
    let mut steps = vec![first];
    for step in [Step::Train, Step::Evaluate, Step::Publish, Step::Canary, Step::Promote, Step::Prune, Step::Report] {
        steps.push(kill_in(killed.path(), step));
    }
    let output = slated(killed.path(), &["autopilot", "--once", "--log-level", "warn"]);
    assert!(output.status.success() || steps.contains(&None), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(traffic.stop() > 0);
    for step in [Step::Train, Step::Evaluate, Step::Canary] {
        assert!(steps.contains(&Some(step)), "it was killed in {steps:?}");
    }
    let found = report(killed.path(), 1);
    assert_eq!(found.cycle.outcome, Some(Outcome::Promoted), "{found:?}");
    let models = killed.path().join("models");
    assert_eq!(versions(&models, "lts").unwrap(), [1, 2], "one version for one candidate");
    assert!(!is_held(&models, "lts", 2));
    let of_cycle = |all: &[(String, String, String)]| -> Vec<String> {
        let ours = all.iter().filter(|(_, by, id)| by == "autopilot" && id.starts_with("autopilot-lts-1-"));
        ours.map(|(action, ..)| action.clone()).collect()
    };
    let journalled = changes(killed.path(), &services[0]).await;
    assert_eq!(of_cycle(&journalled), ["canary", "promote", "cycle"], "each once: {journalled:?}");

    // The same without a kill, and without a trial.
    configure(whole.path(), &services[1], "canary = { share = 0.0 }", LEARNS);
    let output = must(whole.path(), &["autopilot", "--once", "--log-level", "warn"]);
    assert!(output.contains("promoted"), "{output}");
    let bytes = |folder: &TempDir| fs::read(folder.path().join("models/lts/2/model.onnx")).unwrap();
    assert!(bytes(&killed) == bytes(&whole), "the same data and seed, the same model");
    let (live, policy) = (services[1].get("/policies").await.1, report(whole.path(), 1));
    assert_eq!(live["policies"][0]["version"], 2);
    // The same question by hand; all that there is was learned from.
    let ask = ["evaluate", "--policy", "lts:2", "--baseline", "lts:1", "--horizon", "session"];
    assert!(must(whole.path(), &[&ask[..], &["--include-learned"]].concat()).contains("lts:2 may replace lts:1"));
    assert_eq!(slated(whole.path(), &ask).status.code(), Some(3), "no later decision is there");
    // What the gate saw of it: far better than random slates, and its value not far from the truth.
    let figure = &policy.cycle.candidates[0].evaluation[0];
    let against = figure.against.as_ref().unwrap();
    assert!(figure.estimator == "drl" && against.lower > 20.0 && figure.value < 230.0, "{figure:?}");
    let page = fs::read_to_string(whole.path().join("autopilot/cycles/1/report.html")).unwrap();
    assert!(page.contains("promoted") && page.contains("dqn-1"));
    let metrics = fs::read_to_string(whole.path().join("autopilot/metrics.prom")).unwrap();
    assert!(metrics.contains("slated_autopilot_last_outcome{policy=\"lts\",outcome=\"promoted\"} 1"), "{metrics}");
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let (name, labels) = line.split_once('{').unwrap();
        let labels = labels.split_once('}').unwrap().0.split("\",").filter_map(|label| label.split_once("=\""));
        let labels: Vec<&str> = labels.map(|(label, _)| label).collect();
        let described = AUTOPILOT.iter().find(|metric| metric.name == name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(described.labels, labels, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_better_is_refused_what_breaks_a_guardrail_taken_back_and_what_is_routed_never_removed() {
    let folder = place(600);
    let service = serve(folder.path());
    let path = folder.path();
    let traffic = Traffic::start(&service);
    let live = async || service.get("/policies").await.1["policies"][0]["version"].clone();
    let cycle = |settings: &str, candidates: &str| {
        configure(path, &service, settings, candidates);
        must(path, &["autopilot", "--once", "--log-level", "error"]);
    };

    cycle("canary = { share = 0.0 }", LEARNS_NOTHING);
    let refused = report(path, 1);
    assert!(matches!(&refused.cycle.outcome, Some(Outcome::Kept(why)) if why.contains("improvement")), "{refused:?}");
    assert_eq!(versions(&path.join("models"), "lts").unwrap(), [1], "nothing is published");

    // No request is answered in a nanosecond.
    let guardrails = "guardrails = { max_p99_ms = 1e-6, min_requests = 20 }";
    cycle(&format!("keep = 1\ncanary = {{ share = 0.5, min_requests = 1000000, {guardrails} }}"), LEARNS);
    let taken = report(path, 2);
    let why = taken.cycle.outcome.as_ref().and_then(Outcome::why).unwrap_or_default().to_owned();
    assert!(matches!(taken.cycle.outcome, Some(Outcome::RolledBack(_))) && why.contains("took longer"), "{why}");
    let rejected = taken.cycle.version;
    assert!(is_held(&path.join("models"), "lts", rejected));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(live().await, 1, "what was taken back does not come back for being the newest");

    cycle("keep = 1\ncanary = { share = 0.5, min_requests = 30 }", LEARNS);
    let third = report(path, 3);
    assert_eq!(third.cycle.outcome, Some(Outcome::Promoted), "{:?}", third.cycle.candidates);
    assert_eq!(live().await, third.cycle.version);
    // A rollback would need the route of the trial, and the trial's route version 1; nobody needs what was taken back.
    let there = versions(&path.join("models"), "lts").unwrap();
    assert_eq!((there, third.cycle.pruned), (vec![1, third.cycle.version], vec![rejected]));
    assert!(third.cycle.drift.is_some(), "the third cycle has an earlier one to compare with");
    assert!(traffic.stop() > 100);
    let actions: Vec<String> = changes(path, &service).await.into_iter().map(|(action, ..)| action).collect();
    let expected = ["cycle", "canary", "promote", "cycle", "canary", "promote", "cycle"];
    assert_eq!(actions, expected, "the promotion in the middle is the service's own, back to version 1");
}

#[test]
fn the_service_keeps_an_autopilot_beside_it() {
    let folder = place(100);
    // The service tells it where it listens.
    let text = format!("policy = \"lts\"\ntrigger = {{ every_seconds = 0.1, poll_seconds = 0.1 }}\n{LEARNS_NOTHING}");
    fs::write(
        folder.path().join("autopilot.toml"),
        text.replace("[[candidates]]", "data = { settle_seconds = 0.1 }\n[[candidates]]"),
    )
    .unwrap();
    let service = Service::start(folder.path(), &["--policy", "lts", "--autopilot", "autopilot.toml"]);
    let path = folder.path().join("autopilot/cycles/1/report.json");
    let started = Instant::now();
    while !path.exists() {
        assert!(started.elapsed() < Duration::from_secs(30), "no cycle ended");
        std::thread::sleep(Duration::from_millis(50));
    }
    let quiet = report(folder.path(), 1).quiet;
    assert_eq!(quiet.nice, Some(19), "renice is part of every Linux");
    assert!(quiet.processors.is_some_and(|list| list.parse::<usize>().is_ok()), "one processor");
    service.stop();
    // It has ended with the service, and let go of its folder.
    let output = slated(
        folder.path(),
        &["autopilot", "--once", "--service", "http://127.0.0.1:9", "--settings", "nothing.toml"],
    );
    assert_eq!(output.status.code(), Some(3));
    let lock = fs::File::open(folder.path().join("autopilot/.lock")).unwrap();
    lock.try_lock().expect("nobody holds it");
}

#[test]
fn the_demo_goes_from_random_slates_to_a_promotion_without_a_failed_request() {
    let folder = TempDir::new().unwrap();
    let output = must(folder.path(), &["demo", "autopilot", "--quick", "--work", "demo", "--log-level", "error"]);
    assert!(output.contains("promoted") && output.contains("; 0 failed\n"), "{output}");
    let plot = fs::read_to_string(folder.path().join("demo/autopilot.svg")).unwrap();
    assert!(plot.contains("promotion") && plot.contains("95% of it"));
}

/// So many sessions of one decision, each of which is worth this much.
async fn sessions(service: &Service, prefix: &str, count: usize, worth: f64) {
    let item =
        |place: usize| json!({"id": format!("{place}"), "features": {"clickbait_score": 0.05 + 0.1 * place as f64}});
    let candidates: Vec<Value> = (0..10).map(item).collect();
    for index in 0..count {
        let user = format!("{prefix}-{index}");
        let body = json!({"user_id": user, "session_id": user, "slate_size": 1, "candidates": candidates});
        let answer = service.ok("/recommend", &body).await;
        let value = worth + 0.01 * (index % 10) as f64;
        let feedback = json!({"decision_id": answer["decision_id"], "event": "watch", "value": value, "position": 0});
        service.ok("/feedback", &feedback).await;
        // Sessions of the last moments may go on, and do not count yet.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drift_of_the_rewards_makes_the_live_version_explore_more() {
    let folder = place(300);
    let service = serve(folder.path());
    let epsilon = |epsilon: f64| format!("{{ method = \"epsilon_greedy\", epsilon = {epsilon} }}");
    let settings = format!(
        "canary = {{ share = 0.5, min_requests = 1000000 }}\n\
         beginning = {{ cycles = 2, exploration = {}, after_drift = {} }}",
        epsilon(0.2),
        epsilon(0.5)
    );
    configure(folder.path(), &service, &settings, LEARNS_NOTHING);
    let settled = || tokio::time::sleep(Duration::from_millis(500));
    let cycle = || must(folder.path(), &["autopilot", "--once", "--log-level", "warn"]);
    sessions(&service, "before", 200, 10.0).await;
    settled().await;
    cycle();
    let first = report(folder.path(), 1).cycle;
    assert!(!first.explores && matches!(first.outcome, Some(Outcome::Kept(_))), "{first:?}");

    sessions(&service, "after", 200, 1.0).await;
    settled().await;
    cycle();
    let second = report(folder.path(), 2).cycle;
    assert!(second.explores && second.drift.as_ref().is_some_and(|drift| drift.of_rewards()), "{second:?}");
    assert_eq!(second.outcome, Some(Outcome::Promoted));
    let policies: Value = serde_json::from_str(&service.text("/policies").await).unwrap();
    assert_eq!(policies["policies"][0]["version"], second.version, "{policies}");
    let manifest = |version: u64| -> Value {
        let path = folder.path().join(format!("models/lts/{version}/policy.json"));
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    };
    let explorer = manifest(second.version);
    assert_eq!(explorer["exploration"], json!({"method": "epsilon_greedy", "epsilon": 0.5}));
    assert_eq!(explorer["model_sha256"], manifest(1)["model_sha256"]);

    // What came of another version does not count as a drift: it learns again.
    sessions(&service, "explored", 200, 1.0).await;
    settled().await;
    cycle();
    let third = report(folder.path(), 3).cycle;
    assert!(!third.explores && third.beginning && !third.candidates.is_empty(), "{third:?}");
    service.stop();
}
