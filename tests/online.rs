//! Learning by interaction: the same bytes after an interruption, the same scores in ONNX Runtime, and errors that name
//! what is wrong.

mod common;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use common::{close, must, python, slated};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use slated::serving::BundleScorer;
use slated_contract::policy::{Bundle, BundleWriter, Manifest, Parity, sha256_hex};
use slated_trainer::learner::{Checkpoint, Learner, Problem};
use slated_trainer::online::{
    Learned, OnlineAlgorithm, OnlineError, OnlineOutcome, OnlineSettings, Unobserved, train_online,
};
use slated_trainer::replay::{Replay, ReplaySettings, Transition};
use slated_trainer::rollout::{Lane, Observation, Scored, Scorer};
use tempfile::TempDir;

const DQN: &str = "name = \"dqn\"\nnetwork = { hidden = [16, 12] }";
const QUANTILES: &str = "name = \"dqn\"\nquantiles = 8\nsteps = 3\ntarget = { hard = 20 }\n\
                         network = { hidden = [16], dueling = true }";
const RECURRENT: &str = "name = \"dqn\"\nnetwork = { hidden = [16], history_units = 6 }";
const SLATE_Q: &str = "name = \"slate_q\"\nsteps = 2\nnetwork = { hidden = [16] }\n\
                       choice = { model = \"learned\", network = { hidden = [8] } }";
const SARSA: &str = "name = \"slate_q\"\ntarget_slate = \"sarsa\"\nmethod = \"top_k\"\n\
                     network = { hidden = [16], history_units = 6 }\n\
                     choice = { model = \"learned\", network = { hidden = [8], history_units = 4 } }";
const PROPORTIONAL: &str = "name = \"slate_q\"\nmethod = \"greedy\"\nnetwork = { hidden = [16] }\n\
    choice = { model = \"proportional\", user = \"interests\", item = \"topic\", minimum = -1.0, no_choice = 1.0 }";
const LOGIT: &str = "name = \"slate_q\"\nnetwork = { hidden = [16] }\n\
                     choice = { model = \"logit\", user = \"interests\", item = \"topic\", no_choice = 1.0 }";
const VARIANTS: [&str; 7] = [DQN, QUANTILES, RECURRENT, SLATE_Q, SARSA, PROPORTIONAL, LOGIT];

/// A run of a few seconds in the environment that the algorithm is for.
fn text(algorithm: &str) -> String {
    let environment = if algorithm.contains("slate_q") { "interest-evolution" } else { "lts-tutorial" };
    let session = if algorithm.contains("history_units") { "history = 5" } else { "history = 0" };
    let rates = if algorithm.contains("slate_q") { "[1.0]" } else { "[0.5, 0.7, 0.9]" };
    format!(
        "policy = \"p\"\nenvironment = \"{environment}\"\nsteps = 480\nlanes = 4\nwarm_up = 80\nupdates_per_step = 0.5\n\
         checkpoint_every = 160\nsession = {{ decay_rates = {rates}, {session} }}\n\
         replay = {{ capacity = 300, priority = 0.6 }}\nevaluation = {{ every = 160, episodes = 4, final_episodes = 4 }}\n\
         [algorithm]\noptimisation = {{ batch = 32 }}\nreward_scale = 0.05\n{algorithm}\n"
    )
}

fn settings(algorithm: &str) -> OnlineSettings {
    toml::from_str(&text(algorithm)).unwrap_or_else(|error| panic!("{algorithm}: {error}"))
}

fn run(settings: &OnlineSettings, checkpoint: Option<&[u8]>, stop: bool) -> OnlineOutcome {
    train_online(settings, 1, checkpoint, &mut Unobserved, &AtomicBool::new(stop)).unwrap()
}

fn finished(outcome: OnlineOutcome) -> Learned {
    let OnlineOutcome::Finished(learned) = outcome else { panic!("the run was stopped") };
    *learned
}

#[test]
fn an_interrupted_run_goes_on_to_the_same_bytes() {
    for algorithm in VARIANTS {
        let settings = settings(algorithm);
        let whole = finished(run(&settings, None, false));
        let (mut kept, mut stops) = (None, 0);
        let resumed = loop {
            match run(&settings, kept.as_deref(), true) {
                OnlineOutcome::Interrupted { checkpoint, .. } => (kept, stops) = (Some(checkpoint), stops + 1),
                finished_run => break finished(finished_run),
            }
        };
        assert_eq!(stops, 2, "{algorithm}: there are two checkpoints on the way");
        assert_eq!(resumed.manifest, whole.manifest, "{algorithm}");
        assert!(resumed.model == whole.model, "{algorithm}: another model");
    }
}

/// A learner that has learned a little, and what it may see.
fn learner(settings: &OnlineSettings) -> (Box<dyn Learner>, Vec<Observation>) {
    let environment = settings.environment.build().unwrap();
    let (spec, session) = (environment.spec().clone(), settings.session.clone().unwrap());
    let mut lane = Lane::new(environment, &spec.features, &session).unwrap();
    let problem = Problem {
        state_width: lane.encoder().state_width(),
        item_width: lane.encoder().item_width(),
        window: session.history,
        state_columns: lane.encoder().state_columns(),
        item_columns: lane.encoder().item_columns(),
        slate_size: spec.slate_size,
    };
    let mut learner = settings.algorithm.build(problem, 5).unwrap();
    let mut replay = Replay::new(ReplaySettings::default());
    let mut seen = Vec::new();
    for episode in 0..8 {
        lane.reset(episode).unwrap();
        for step in 0..8 {
            let observation = Arc::new(lane.observation().clone());
            let slate: Vec<usize> = (0..spec.slate_size).map(|at| (at + step) % spec.candidates).collect();
            let outcome = lane.step(&slate).unwrap();
            seen.push((*observation).clone());
            replay.push(Transition {
                observation,
                slate: slate.clone(),
                consumed: outcome.consumed,
                reward: outcome.reward as f32,
                discount: 0.9,
                next: Arc::new(lane.observation().clone()),
                next_slate: slate,
                logged: None,
            });
        }
    }
    let mut generator = ChaCha8Rng::seed_from_u64(1);
    for _ in 0..30 {
        learner.update(&replay, &replay.sample(32, 0.5, &mut generator)).unwrap();
    }
    // Candidate sets of any size, down to one.
    for (at, observation) in seen.iter_mut().enumerate() {
        observation.candidates -= at % observation.candidates;
        observation.items.truncate(observation.candidates * lane.encoder().item_width());
    }
    (learner, seen)
}

#[test]
fn every_graph_scores_in_onnx_runtime_as_in_training() {
    let folder = TempDir::new().unwrap();
    for (index, algorithm) in VARIANTS.into_iter().enumerate() {
        let settings = settings(algorithm);
        let manifest = finished(run(&settings, None, false)).manifest;
        let (mut learner, seen) = learner(&settings);
        let exported = learner.export().unwrap();
        let manifest = Manifest {
            name: format!("variant-{index}"),
            model_sha256: sha256_hex(&exported.model),
            parity: None::<Parity>,
            ..manifest
        };
        assert_eq!(exported.signature, manifest.signature, "{algorithm}");
        let place = BundleWriter::stage(folder.path(), &manifest, &exported.model, None).unwrap().publish().unwrap();
        let mut bundle = BundleScorer::load(&Bundle::read(&place).unwrap()).unwrap();
        let observations: Vec<&Observation> = seen.iter().collect();
        let (inside, outside) = (learner.score(&observations), bundle.score(&observations, &[]).unwrap());
        for (inside, outside) in inside.iter().zip(&outside) {
            close(&inside.scores, &outside.scores, algorithm);
            close(&inside.appeal, &outside.appeal, algorithm);
        }
        let spread = |scored: &[Scored]| {
            let all = || scored.iter().flat_map(|scored| scored.scores.iter().copied());
            all().fold(f32::MIN, f32::max) - all().fold(f32::MAX, f32::min)
        };
        assert!(spread(&inside) > 1e-3, "{algorithm}: all scores are the same");
    }
    let script = "import glob, onnx\npaths = glob.glob('variant-*/1/model.onnx')\n\
                  [onnx.checker.check_model(onnx.load(path), full_check=True) for path in paths]\nprint(len(paths))";
    let output = Command::new(python()).arg("-c").arg(script).current_dir(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), VARIANTS.len().to_string());
}

#[test]
fn a_diverging_run_stops_and_keeps_the_last_good_state() {
    let mut diverging = settings(DQN);
    let OnlineAlgorithm::Dqn(dqn) = &mut diverging.algorithm else { panic!("it is DQN") };
    dqn.optimisation.adam.learning_rate = 1e30;
    let error = train_online(&diverging, 1, None, &mut Unobserved, &AtomicBool::new(false)).unwrap_err();
    let OnlineError::Diverged { source, checkpoint, .. } = error else { panic!("{error}") };
    assert!(source.to_string().contains("learning_rate"), "{source}");
    let (mut learner, seen) = learner(&diverging_free(&diverging));
    learner.restore(&Checkpoint::decode(&checkpoint).unwrap()).unwrap();
    let scored = learner.score(&seen.iter().collect::<Vec<_>>());
    assert!(scored.iter().flat_map(|scored| &scored.scores).all(|score| score.is_finite()));

    let folder = TempDir::new().unwrap();
    let text = text(DQN).replace("batch = 32", "batch = 32, adam = { learning_rate = 1e30 }");
    let message = refused(folder.path(), &text, 1);
    assert!(message.contains("diverged") && message.contains("p.diverged.safetensors"), "{message}");
    assert!(folder.path().join("models/.checkpoints/p.diverged.safetensors").is_file());
    assert!(!folder.path().join("models/p").exists(), "a diverged policy was published");
}

/// The same settings with a rate that learns.
fn diverging_free(settings: &OnlineSettings) -> OnlineSettings {
    let mut settings = settings.clone();
    if let OnlineAlgorithm::Dqn(dqn) = &mut settings.algorithm {
        dqn.optimisation.adam.learning_rate = 1e-3;
    }
    settings
}

/// The message with which `slated train` refuses settings.
fn refused(folder: &Path, text: &str, code: i32) -> String {
    std::fs::write(folder.join("train.toml"), text).unwrap();
    let output = slated(folder, &["train", "--settings", "train.toml"]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{message}");
    message
}

#[test]
fn bad_settings_are_named_with_what_is_allowed() {
    let folder = TempDir::new().unwrap();
    let dqn = text(DQN);
    let cases = [
        (dqn.replace("warm_up", "warmup"), ["warmup", "expected one of"]),
        (dqn.replace("batch = 32", "batch = 32, adam = { learning_rate = -1.0 }"), ["learning_rate", "above 0"]),
        (dqn.replace("batch = 32", "batch = 0"), ["`optimisation.batch` is 0", "1 to 1000000"]),
        (dqn.replace("priority = 0.6", "priority = 1.5"), ["`replay.priority` is 1.5", "0 to 1"]),
        (dqn.replace("lanes = 4", "lanes = 0"), ["`lanes` is 0", "1 to 10000"]),
        (dqn.replace("[16, 12]", "[16, 0]"), ["`network.hidden`", "1 to 8192"]),
        (dqn.replace("[16, 12]", "[16], history_units = 4"), ["`network.history_units` is 4", "session.history"]),
        (dqn.replace("\"lts-tutorial\"", "\"lts-tutorail\""), ["lts-tutorail", "lts-tutorial"]),
        (
            dqn.replace("\"lts-tutorial\"", "{ name = \"long_term_satisfaction\", candidates = 3, slate_size = 4 }"),
            ["`slate_size` is 4", "3"],
        ),
        (
            dqn.replace("\"lts-tutorial\"", "{ name = \"long_term_satisfaction\", sensitivty = 1.0 }"),
            ["sensitivty", "expected one of"],
        ),
        (dqn.replace("\"lts-tutorial\"", "\"interest-evolution\""), ["`slate_size` is 3", "slate_q"]),
        (text(LOGIT).replace("item = \"topic\"", "item = \"colour\""), ["`choice.item`", "colour"]),
        (format!("{dqn}discount = 1.5\n"), ["`discount` is 1.5", "0 to 1"]),
    ];
    for (text, expected) in cases {
        let message = refused(folder.path(), &text, 3);
        assert!(expected.iter().all(|word| message.contains(word)), "{expected:?} is not in: {message}\n{text}");
        assert!(!folder.path().join("models/p").exists());
    }
    // A bundle of one environment has no business in another.
    std::fs::write(folder.path().join("train.toml"), dqn).unwrap();
    must(folder.path(), &["train", "--settings", "train.toml"]);
    let output = slated(folder.path(), &["simulate", "--environment", "interest-evolution", "--policy", "p"]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{message}");
    assert!(message.contains("clickbait_score") && message.contains("interest_evolution"), "{message}");
}
