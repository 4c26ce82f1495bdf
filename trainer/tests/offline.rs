//! Learners from a log, where what they must find is known.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use slated_contract::feature::Encoder;
use slated_trainer::learner::{Learner, Problem};
use slated_trainer::offline::{
    Episode, Experience, LoggedStep, OfflineAlgorithm, OfflineOutcome, OfflineSettings, SessionEnd, simulate,
    train_offline,
};
use slated_trainer::online::Unobserved;
use slated_trainer::replay::{Logged, NStep, Propensity};
use slated_trainer::rollout::{Actor, Observation};
use xxhash_rust::xxh3::xxh3_64;

const DISCOUNT: f64 = 0.9;

/// What there is to see in one of three states: items A and B, in either order.
fn seen(state: usize, swapped: bool) -> Observation {
    let mut one_hot = vec![0.0; 3];
    one_hot[state] = 1.0;
    let items = if swapped { vec![0.0, 1.0, 1.0, 0.0] } else { vec![1.0, 0.0, 0.0, 1.0] };
    Observation { state: one_hot, items, candidates: 2, history: Vec::new() }
}

/// What else a log says of one item that was shown.
fn logged(reward: f64, propensity: f32) -> Arc<Logged> {
    let propensity = Some(Propensity { slate: propensity, marginal: vec![propensity] });
    Arc::new(Logged { rewards: vec![reward as f32], propensity, half: 0 })
}

/// Two decisions a session. In state 0, A pays 1 and leads to state 2, B pays nothing and leads to state 1; there A pays 4,
/// in state 2 it pays 0.5, and B nothing in either. So `q(0, A) = 1 + 0.9 * 0.5 = 1.45` and `q(0, B) = 0.9 * 4 = 3.6`.
///
/// The log shows A in state 0 in `shown_a` of 20 sessions, and either item as often in the others.
fn log(shown_a: usize) -> Experience {
    let step = |state: usize, a: bool, swapped: bool, reward: f64| LoggedStep {
        observation: Arc::new(seen(state, swapped)),
        slate: vec![usize::from(a == swapped)],
        consumed: Some(0),
        reward,
        logged: logged(reward, 0.5),
    };
    let episodes = (0..400).map(|index| {
        let (first_a, then_a, swapped) = (index % 20 < shown_a, index / 20 % 2 == 0, index / 40 % 2 == 0);
        let (state, pays) = if first_a { (2, 0.5) } else { (1, 4.0) };
        let steps = vec![
            step(0, first_a, swapped, f64::from(u8::from(first_a))),
            step(state, then_a, !swapped, if then_a { pays } else { 0.0 }),
        ];
        Episode { user: index as u64, steps }
    });
    Experience {
        features: serde_json::from_value(json!({
            "user": [{"name": "state", "kind": "embedding", "dimensions": 3}], "context": [], "session": [],
            "item": [{"name": "item", "kind": "embedding", "dimensions": 2}],
        }))
        .unwrap(),
        session: serde_json::from_value(json!({})).unwrap(),
        episodes: episodes.collect(),
        reward: serde_json::from_value(json!({"weights": {"click": 1.0}})).unwrap(),
        feedback: 0,
        until: None,
    }
}

fn algorithm(name: &str, mut settings: Value) -> OfflineAlgorithm {
    settings["name"] = json!(name);
    settings["network"] = json!({"hidden": [24]});
    settings["optimisation"] = json!({"batch": 64, "final_rate": 0.05, "adam": {"learning_rate": 1e-2}});
    if !["bc", "ips", "doubly_robust", "direct"].contains(&name) {
        settings["discount"] = json!(DISCOUNT);
    }
    serde_json::from_value(settings).unwrap()
}

/// Learns from a log with so many gradient steps.
fn learn(algorithm: &OfflineAlgorithm, log: &Experience, updates: u32) -> Box<dyn Learner> {
    let problem = Problem::new(&Encoder::new(&log.features).unwrap(), 0, 1);
    let mut learner = algorithm.build(problem, 3).unwrap();
    let gathering = NStep::new(algorithm.transition_steps(), algorithm.discount());
    let (replay, _) = log.replays(&gathering, SessionEnd::Terminal, 0.0, algorithm.weighs_by_propensities());
    let mut generator = ChaCha8Rng::seed_from_u64(4);
    for update in 0..updates {
        let sample = replay.sample(64, f64::from(update) / f64::from(updates), &mut generator);
        learner.update(&replay, &sample).unwrap();
    }
    learner
}

/// The scores of A and B in a state.
fn scores(learner: &mut dyn Learner, state: usize) -> [f32; 2] {
    let scored = learner.score(&[&seen(state, false), &seen(state, true)]);
    let (straight, swapped) = (&scored[0].scores, &scored[1].scores);
    assert!((straight[0] - swapped[1]).abs() < 1e-4, "the order of the candidates changes a score");
    [straight[0], straight[1]]
}

#[test]
fn all_who_look_ahead_find_what_pays_later_in_a_log_that_mostly_does_not_do_it() {
    let log = log(14);
    for (name, settings) in [
        ("dqn", json!({"target": {"hard": 50}})),
        ("bcq", json!({"target": {"hard": 50}, "threshold": 0.2})),
        ("cql", json!({"target": {"hard": 50}, "alpha": 0.01})),
        ("iql", json!({"target": {"hard": 50}, "expectile": 0.9, "temperature": 0.3})),
        ("awac", json!({"target": {"hard": 50}, "temperature": 0.3})),
        ("crr", json!({"target": {"hard": 50}})),
    ] {
        let mut learner = learn(&algorithm(name, settings), &log, 1500);
        let [first, second, third] = [0, 1, 2].map(|state| scores(&mut *learner, state));
        assert!(
            first[1] > first[0] && second[0] > second[1] && third[0] > third[1],
            "{name}: {first:?} {second:?} {third:?}"
        );
        if name == "dqn" {
            let off = [(first[0], 1.45), (first[1], 3.6), (second[0], 4.0), (second[1], 0.0), (third[0], 0.5)];
            assert!(off.iter().all(|(found, value)| (found - value).abs() < 0.1), "{off:?}");
        }
    }
}

#[test]
fn cloning_takes_over_the_shares_of_the_log() {
    let mut learner = learn(&algorithm("bc", json!({})), &log(14), 1500);
    for (state, share) in [(0, 0.7), (1, 0.5), (2, 0.5)] {
        let [a, b] = scores(&mut *learner, state);
        let found = 1.0 / (1.0 + (b - a).exp());
        assert!((found - share).abs() < 0.03, "state {state}: {found}, logged {share}");
    }
}

#[test]
fn marwil_clones_where_advantages_do_not_count_and_prefers_what_returned_more_where_they_do() {
    let log = log(10);
    let clone = learn(&algorithm("bc", json!({})), &log, 200).export().unwrap();
    let of_beta = |beta: f64| algorithm("marwil", json!({"beta": beta}));
    assert!(learn(&of_beta(0.0), &log, 200).export().unwrap() == clone, "beta 0 is behaviour cloning to the byte");
    // Of sessions that began with B the mean return is 0.9 * 2, with A 1 + 0.9 * 0.25, with the same share.
    let mut learner = learn(&of_beta(1.0), &log, 1500);
    let [a, b] = scores(&mut *learner, 0);
    assert!(b > a, "{a} {b}");
    let [a, b] = scores(&mut *learner, 1);
    assert!(a - b > 1.0, "{a} {b}");
}

#[test]
fn batch_constraints_hold_whatever_the_values_say() {
    // B is shown once in 20 sessions, which is 1/19 of what A is.
    let log = log(19);
    let threshold = |threshold: f64| algorithm("bcq", json!({"target": {"hard": 50}, "threshold": threshold}));
    let [a, b] = scores(&mut *learn(&threshold(0.3), &log, 1500), 0);
    assert!(a > b && b < -1e6, "{a} {b}");
    let [a, b] = scores(&mut *learn(&threshold(0.01), &log, 1500), 0);
    assert!(b > a && a > -10.0, "{a} {b}");
}

#[test]
fn conservative_values_of_what_was_never_shown_are_lower() {
    let log = log(20);
    let gap = |alpha: f64| {
        let algorithm = algorithm("cql", json!({"target": {"hard": 50}, "alpha": alpha}));
        let [a, b] = scores(&mut *learn(&algorithm, &log, 1000), 0);
        a - b
    };
    let (free, held) = (gap(0.0), gap(1.0));
    assert!(held > 2.0 && held > free + 1.0, "{free} {held}");
}

/// The settings of a short run over simulated sessions.
fn settings(name: &str) -> OfflineSettings {
    let environment = if ["bc", "marwil", "slate_q"].contains(&name) { "interest-evolution" } else { "lts-tutorial" };
    serde_json::from_value(json!({
        "policy": "p", "updates": 60, "checkpoint_every": 20,
        "algorithm": {"name": name, "network": {"hidden": [12]}, "optimisation": {"batch": 16}},
        "evaluation": {"environment": environment, "every": 30, "episodes": 4, "final_episodes": 4},
    }))
    .unwrap()
}

#[test]
fn an_interrupted_run_goes_on_to_the_same_bytes() {
    for name in OfflineAlgorithm::NAMES {
        let settings = settings(name);
        let log = simulate(&settings, &[Actor::Random.into()], 12, 5, 2).unwrap();
        assert_eq!(log, simulate(&settings, &[Actor::Random.into()], 12, 5, 1).unwrap(), "threads change the log");
        let run = |checkpoint: Option<&[u8]>, stop: bool| {
            train_offline(&settings, &log, 1, checkpoint, &mut Unobserved, &AtomicBool::new(stop)).unwrap()
        };
        let OfflineOutcome::Finished(whole) = run(None, false) else { panic!("it was stopped") };
        let (mut kept, mut stops) = (None, 0);
        let resumed = loop {
            match run(kept.as_deref(), true) {
                OfflineOutcome::Interrupted { checkpoint, .. } => (kept, stops) = (Some(checkpoint), stops + 1),
                OfflineOutcome::Finished(learned) => break learned,
            }
        };
        assert_eq!(stops, 2, "{name}");
        assert!(resumed.model == whole.model, "{name}: another model");
        assert_eq!(resumed.manifest, whole.manifest, "{name}");
        assert!(whole.validation_loss.is_some_and(f64::is_finite), "{name}");
    }
}

#[test]
fn users_are_split_by_their_ids_and_a_cut_session_has_no_end() {
    let log = log(10);
    let hashed: Vec<Episode> = log
        .episodes
        .iter()
        .enumerate()
        .map(|(index, episode)| Episode { user: xxh3_64(index.to_string().as_bytes()), ..episode.clone() })
        .collect();
    let log = Experience { episodes: hashed, ..log };
    let gathering = NStep::new(1, DISCOUNT);
    let (learned, kept_out) = log.replays(&gathering, SessionEnd::Terminal, 0.25, false);
    assert_eq!(learned.len() + kept_out.len(), 800);
    assert!((160..=240).contains(&kept_out.len()), "{} of 800", kept_out.len());
    let ends = |replay: &slated_trainer::replay::Replay| {
        (0..replay.len()).filter(|&index| replay.get(index).discount == 0.0).count()
    };
    assert_eq!(ends(&learned) + ends(&kept_out), 400);
    let (cut, _) = log.replays(&gathering, SessionEnd::Cut, 0.0, false);
    assert_eq!((cut.len(), ends(&cut)), (400, 0));
}

#[test]
fn what_cannot_be_learned_from_is_refused_by_name() {
    let refused = |mut value: Value, change: &dyn Fn(&mut Value)| {
        change(&mut value);
        let settings: OfflineSettings = match serde_json::from_value(value) {
            Ok(settings) => settings,
            Err(error) => return error.to_string(),
        };
        train_offline(&settings, &log(10), 1, None, &mut Unobserved, &AtomicBool::new(false)).unwrap_err().to_string()
    };
    let base = |name: &str| json!({"policy": "p", "updates": 10, "algorithm": {"name": name}});
    for (name, change, expected) in [
        ("iql", json!({"expectile": 1.0}), "`expectile` is 1, allowed are above 0 to below 1"),
        ("bcq", json!({"threshold": 1.5}), "`threshold` is 1.5, allowed are 0 to 1"),
        ("cql", json!({"alpha": -1.0}), "`alpha` is -1"),
        ("awac", json!({"temperature": 0.0}), "`temperature` is 0"),
        ("marwil", json!({"beta": -0.5}), "`beta` is -0.5"),
        ("crr", json!({"discount": 2.0}), "`discount` is 2, allowed are 0 to 1"),
        ("bc", json!({"discont": 0.9}), "discont"),
    ] {
        let message = refused(base(name), &|value| {
            let settings = change.as_object().unwrap().clone();
            value["algorithm"].as_object_mut().unwrap().extend(settings);
        });
        assert!(message.contains(expected), "{expected} is not in: {message}");
    }
    let message = refused(base("dqn"), &|value| value["episodes"] = json!({"validation": 1.0}));
    assert!(message.contains("`episodes.validation` is 1"), "{message}");
    let slates = settings("slate_q");
    let log = simulate(&slates, &[Actor::Random.into()], 2, 5, 1).unwrap();
    let single = OfflineSettings { algorithm: algorithm("iql", json!({})), ..slates };
    let error = train_offline(&single, &log, 1, None, &mut Unobserved, &AtomicBool::new(false)).unwrap_err();
    assert!(error.to_string().contains("`slate_size` is 3") && error.to_string().contains("slate_q"), "{error}");
}
