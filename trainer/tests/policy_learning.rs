//! Policies from a bandit's log, where the best is known and the log rarely shows it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use slated_contract::feature::Encoder;
use slated_trainer::learner::{Learner, Problem};
use slated_trainer::offline::{
    Episode, Experience, LoggedStep, OfflineAlgorithm, OfflineSettings, SessionEnd, train_offline,
};
use slated_trainer::online::Unobserved;
use slated_trainer::replay::{Logged, NStep, Propensity};
use slated_trainer::rollout::Observation;

const DECISIONS: u64 = 6000;

/// One of two states, and items by number.
fn seen(state: usize, items: usize) -> Observation {
    let one_hot = |at: usize, width: usize| (0..width).map(move |index| f32::from(u8::from(index == at)));
    Observation {
        state: one_hot(state, 2).collect(),
        items: (0..items).flat_map(|item| one_hot(item, items)).collect(),
        candidates: items,
        history: Vec::new(),
    }
}

/// How often an item is clicked: the first is the worst in state 0 and the best in state 1.
fn clicked(state: usize, item: usize, items: usize) -> f64 {
    let rank = if state == 0 { item } else { items - 1 - item };
    0.1 + 0.8 * rank as f64 / (items - 1) as f64
}

/// A log of decisions by `draw`, which says what is shown and how likely that is. Clicks are worth 1 more than `zero`.
fn log(
    items: usize,
    zero: f64,
    mut draw: impl FnMut(usize, &mut ChaCha8Rng) -> (Vec<usize>, Option<Propensity>),
) -> Experience {
    let mut generator = ChaCha8Rng::seed_from_u64(5);
    let episode = |user| {
        let state = generator.random_range(0..2);
        let (slate, propensity) = draw(state, &mut generator);
        let reward = |item: &usize| zero + f64::from(u8::from(generator.random_bool(clicked(state, *item, items))));
        let rewards: Vec<f64> = slate.iter().map(reward).collect();
        let logged = Logged {
            rewards: rewards.iter().map(|&reward| reward as f32).collect(),
            propensity,
            half: (user % 2) as u8,
        };
        let step = LoggedStep {
            observation: Arc::new(seen(state, items)),
            consumed: None,
            reward: rewards.iter().sum(),
            logged: Arc::new(logged),
            slate,
        };
        Episode { user, steps: vec![step] }
    };
    Experience {
        features: serde_json::from_value(json!({
            "user": [{"name": "state", "kind": "embedding", "dimensions": 2}], "context": [], "session": [],
            "item": [{"name": "item", "kind": "embedding", "dimensions": items}],
        }))
        .unwrap(),
        session: serde_json::from_value(json!({})).unwrap(),
        episodes: (0..DECISIONS).map(episode).collect(),
        reward: serde_json::from_value(json!({"weights": {"click": 1.0}})).unwrap(),
        feedback: 0,
        until: None,
    }
}

/// Of three items, the worst in 80 of 100 decisions and the best in 5.
fn worst_first(zero: f64) -> Experience {
    log(3, zero, |state, generator| {
        let shares = if state == 0 { [0.8, 0.15, 0.05] } else { [0.05, 0.15, 0.8] };
        let at: f64 = generator.random();
        let item = if at < shares[0] { 0 } else { 1 + usize::from(at >= shares[0] + shares[1]) };
        let propensity = shares[item] as f32;
        (vec![item], Some(Propensity { slate: propensity, marginal: vec![propensity] }))
    })
}

fn algorithm(name: &str, mut settings: Value) -> OfflineAlgorithm {
    settings["name"] = json!(name);
    settings["network"] = json!({"hidden": [16]});
    settings["optimisation"] = json!({"final_rate": 0.05, "adam": {"learning_rate": 1e-2}});
    serde_json::from_value(settings).unwrap()
}

/// Learns from a log; returns the learner and its last losses' mean.
fn learn(algorithm: &OfflineAlgorithm, log: &Experience) -> (Box<dyn Learner>, f64) {
    const UPDATES: u32 = 600;
    let problem = Problem::new(&Encoder::new(&log.features).unwrap(), 0, log.slate_size());
    let mut learner = algorithm.build(problem, 3).unwrap();
    let gathering = NStep::new(algorithm.transition_steps(), algorithm.discount());
    let (replay, _) = log.replays(&gathering, SessionEnd::Terminal, 0.0, algorithm.weighs_by_propensities());
    let mut generator = ChaCha8Rng::seed_from_u64(4);
    let mut last = 0.0;
    for update in 0..UPDATES {
        let sample = replay.sample(256, f64::from(update) / f64::from(UPDATES), &mut generator);
        let loss = learner.update(&replay, &sample).unwrap().loss;
        last += if update >= UPDATES - 100 { loss / 100.0 } else { 0.0 };
    }
    (learner, last)
}

/// The items of a state, the one of the highest score first.
fn ranked(learner: &mut dyn Learner, state: usize, items: usize) -> Vec<usize> {
    let scores = &learner.score(&[&seen(state, items)])[0].scores;
    let mut ranked: Vec<usize> = (0..items).collect();
    ranked.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    ranked
}

#[test]
fn the_best_item_is_found_in_a_log_that_shows_the_worst() {
    let log = worst_first(0.0);
    let (mut clone, _) = learn(&algorithm("bc", json!({})), &log);
    assert_eq!([ranked(&mut *clone, 0, 3)[0], ranked(&mut *clone, 1, 3)[0]], [0, 2], "cloning clones");
    for (name, settings) in [
        ("ips", json!({})),
        ("ips", json!({"self_normalised": false})),
        ("ips", json!({"penalty": 1.0})),
        ("doubly_robust", json!({})),
        ("top_k", json!({})),
        ("direct", json!({})),
    ] {
        let (mut learner, loss) = learn(&algorithm(name, settings.clone()), &log);
        let best = [ranked(&mut *learner, 0, 3)[0], ranked(&mut *learner, 1, 3)[0]];
        assert_eq!(best, [2, 0], "{name} {settings}");
        // The loss of one that weighs is minus what the policy is estimated to earn, which is 0.9 at best.
        if name != "direct" {
            assert!((loss + 0.9).abs() < 0.08, "{name} {settings}: {loss}");
        } else {
            let scores = &learner.score(&[&seen(0, 3)])[0].scores;
            assert!((0..3).all(|item| (f64::from(scores[item]) - clicked(0, item, 3)).abs() < 0.1), "{scores:?}");
        }
    }
}

/// Where every reward is negative, weights alone would teach to avoid whatever was logged.
#[test]
fn what_zero_means_in_rewards_does_not_matter_where_weights_are_normalised_or_rewards_modelled() {
    let log = worst_first(-5.0);
    for name in ["ips", "doubly_robust", "direct"] {
        let settings = if name == "ips" { json!({}) } else { json!({"reward_scale": 0.2}) };
        let (mut learner, _) = learn(&algorithm(name, settings), &log);
        let best = [ranked(&mut *learner, 0, 3)[0], ranked(&mut *learner, 1, 3)[0]];
        assert_eq!(best, [2, 0], "{name}");
    }
}

#[test]
fn the_best_two_of_four_are_found_from_slates_of_two() {
    // Without replacement, each order of two as likely as the other.
    let log = log(4, 0.0, |_, generator| {
        let first = generator.random_range(0..4);
        let second = (first + generator.random_range(1..4)) % 4;
        (vec![first, second], Some(Propensity { slate: 1.0 / 12.0, marginal: vec![0.25; 2] }))
    });
    for name in ["ips", "top_k", "direct"] {
        let (mut learner, _) = learn(&algorithm(name, json!({})), &log);
        for (state, best) in [(0, [2, 3]), (1, [0, 1])] {
            let mut found = ranked(&mut *learner, state, 4)[..2].to_vec();
            found.sort_unstable();
            assert_eq!(found, best, "{name}, state {state}");
        }
    }
    let problem = Problem::new(&Encoder::new(&log.features).unwrap(), 0, 2);
    let error = algorithm("doubly_robust", json!({})).build(problem, 1).err().unwrap().to_string();
    assert!(error.contains("`slate_size` is 2") && error.contains("top_k"), "{error}");
}

#[test]
fn a_log_without_propensities_is_learned_from_only_by_those_who_need_none() {
    let log = log(3, 0.0, |_, generator| (vec![generator.random_range(0..3)], None));
    let run = |name: &str| {
        let settings: OfflineSettings = serde_json::from_value(
            json!({"policy": "p", "updates": 5, "algorithm": {"name": name}, "episodes": {"validation": 0.0}}),
        )
        .unwrap();
        train_offline(&settings, &log, 1, None, &mut Unobserved, &AtomicBool::new(false)).map(drop)
    };
    for name in ["ips", "doubly_robust", "top_k"] {
        let error = run(name).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("propensities") && error.contains("`direct`"), "{error}");
    }
    run("direct").unwrap();
}
