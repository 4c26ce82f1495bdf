//! Learning from a log: through the journal as from memory, and served as it was learned.

mod common;

use std::process::Command;
use std::sync::atomic::AtomicBool;

use common::{close, must, python, slated};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use slated::serving::BundleScorer;
use slated_contract::feature::Encoder;
use slated_contract::policy::{Bundle, BundleWriter, Manifest, sha256_hex};
use slated_trainer::learner::Problem;
use slated_trainer::offline::{
    Experience, OfflineAlgorithm, OfflineOutcome, OfflineSettings, SessionEnd, read_journal, simulate, train_offline,
};
use slated_trainer::online::Unobserved;
use slated_trainer::progress::Silent;
use slated_trainer::replay::NStep;
use slated_trainer::rollout::{Actor, Observation, Scorer};
use tempfile::TempDir;

fn settings(name: &str, environment: &str) -> OfflineSettings {
    serde_json::from_value(json!({
        "policy": "p", "updates": 30,
        "algorithm": {"name": name, "network": {"hidden": [12]}, "optimisation": {"batch": 16}},
        "evaluation": {"environment": environment, "every": 0, "final_episodes": 2},
    }))
    .unwrap()
}

fn random(settings: &OfflineSettings, episodes: u64, seed: u64) -> Experience {
    simulate(settings, &[Actor::Random.into()], episodes, seed, 2).unwrap()
}

#[test]
fn the_journal_gives_the_sessions_that_were_simulated() {
    for (environment, algorithm) in [("lts-tutorial", "dqn"), ("interest-evolution", "bc")] {
        let folder = TempDir::new().unwrap();
        let args = ["simulate", "-e", environment, "-p", "random", "-n", "40", "--seed", "3", "--journal", "journal"];
        must(folder.path(), &args);
        let mut settings = settings(algorithm, environment);
        let data = json!({"journal": folder.path().join("journal"), "reward": {"weights": {"watch": 1.0}}});
        settings.data = Some(serde_json::from_value(data).unwrap());
        let (read, summary) = read_journal(&settings, &mut Silent).unwrap();
        let memory = random(&settings, 40, 3);
        assert_eq!((read.episodes.len(), read.steps()), (40, memory.steps()), "{environment}");
        assert_eq!((read.digest(), read.feedback), (memory.digest(), memory.feedback), "{environment}");
        assert_eq!(summary.counted_feedback, read.feedback);
        let first = |log: &Experience| log.episodes[0].steps[1].observation.state.clone();
        assert!(first(&read) == first(&memory) && first(&read).iter().any(|number| *number != 0.0));
    }
}

#[test]
fn a_policy_learned_from_a_random_log_is_far_better_than_the_log() {
    let folder = TempDir::new().unwrap();
    must(folder.path(), &["simulate", "-e", "lts-tutorial", "-p", "random", "-n", "600", "--journal", "journal"]);
    let text = r#"
policy = "p"
updates = 1500
algorithm = { name = "dqn", reward_scale = 0.02, network = { hidden = [32] }, target = { soft = 0.02 }, optimisation = { batch = 128, final_rate = 0.1, adam = { learning_rate = 3e-3 } } }
evaluation = { environment = "lts-tutorial", every = 500, episodes = 50, final_episodes = 200 }
data = { reward = { weights = { watch = 1.0 } } }
"#;
    std::fs::write(folder.path().join("train.toml"), text).unwrap();
    must(folder.path(), &["train", "--settings", "train.toml", "--journal", "journal"]);
    let args = ["simulate", "-e", "lts-tutorial", "-p", "random", "-p", "p", "--greedy", "-n", "300", "--json"];
    let report: Value = serde_json::from_str(&must(folder.path(), &args)).unwrap();
    // Random slates return 99, the optimum is 226.
    let found = report["runs"][1]["return"]["mean"].as_f64().unwrap();
    assert!(found > 180.0, "{found}");
    // What it learned from is no evidence for it, unless that is asked for.
    let evaluate = |args: &[&str]| {
        let all = ["evaluate", "--policy", "p", "--no-replay", "--journal", "journal"];
        let output = slated(folder.path(), &[&all[..], args].concat());
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, error) = evaluate(&[]);
    assert!(code == Some(3) && error.contains("the last that the policy has learned from"), "{code:?} {error}");
    let (code, error) = evaluate(&["--include-learned"]);
    assert!(matches!(code, Some(0 | 5)), "{code:?} {error}");
    let manifest = std::fs::read(folder.path().join("models/p/1/policy.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["training"]["decisions"], 6000);
    assert!(folder.path().join("runs/p-1/report.html").is_file());

    std::fs::write(folder.path().join("train.toml"), text.replace("reward_scale", "reward_scal")).unwrap();
    let output = slated(folder.path(), &["train", "--settings", "train.toml", "--journal", "journal"]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{message}");
    assert!(message.contains("reward_scal"), "{message}");
}

#[test]
fn every_graph_scores_in_onnx_runtime_as_in_training() {
    let folder = TempDir::new().unwrap();
    for name in OfflineAlgorithm::NAMES {
        let environment = if name == "slate_q" { "interest-evolution" } else { "lts-tutorial" };
        let settings = settings(name, environment);
        let log = random(&settings, 8, 2);
        let outcome = train_offline(&settings, &log, 1, None, &mut Unobserved, &AtomicBool::new(false)).unwrap();
        let OfflineOutcome::Finished(trained) = outcome else { panic!("it was stopped") };
        let encoder = Encoder::new(&log.features).unwrap();
        let mut learner = settings.algorithm.build(Problem::new(&encoder, 0, log.slate_size()), 5).unwrap();
        let gathering = NStep::new(settings.algorithm.transition_steps(), settings.algorithm.discount());
        let (replay, _) = log.replays(&gathering, SessionEnd::Terminal, 0.0, false);
        let mut generator = ChaCha8Rng::seed_from_u64(1);
        for _ in 0..30 {
            learner.update(&replay, &replay.sample(32, 0.5, &mut generator)).unwrap();
        }
        let exported = learner.export().unwrap();
        let manifest = Manifest {
            name: name.to_owned(),
            model_sha256: sha256_hex(&exported.model),
            parity: None,
            ..trained.manifest
        };
        assert_eq!(exported.signature, manifest.signature, "{name}");
        let place = BundleWriter::stage(folder.path(), &manifest, &exported.model, None).unwrap().publish().unwrap();
        let mut bundle = BundleScorer::load(&Bundle::read(&place).unwrap()).unwrap();
        // Candidate sets of any size, so that some of a batch are padded.
        let seen: Vec<Observation> = log
            .episodes
            .iter()
            .flat_map(|episode| &episode.steps)
            .take(60)
            .enumerate()
            .map(|(at, step)| {
                let whole = &*step.observation;
                let candidates = whole.candidates - at % whole.candidates;
                Observation {
                    candidates,
                    items: whole.items[..candidates * encoder.item_width()].to_vec(),
                    ..whole.clone()
                }
            })
            .collect();
        let observations: Vec<&Observation> = seen.iter().collect();
        let (inside, outside) = (learner.score(&observations), bundle.score(&observations, &[]).unwrap());
        for (inside, outside) in inside.iter().zip(&outside) {
            close(&inside.scores, &outside.scores, name);
            close(&inside.appeal, &outside.appeal, name);
        }
    }
    let script = "import glob, onnx\npaths = glob.glob('*/1/model.onnx')\n\
                  [onnx.checker.check_model(onnx.load(path), full_check=True) for path in paths]\nprint(len(paths))";
    let output = Command::new(python()).arg("-c").arg(script).current_dir(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), OfflineAlgorithm::NAMES.len().to_string());
}
