//! Drift between two windows of rounds whose distributions are known.

use chrono::{DateTime, TimeDelta, Utc};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use slated_contract::event::{Candidate, Decision, Shown};
use slated_contract::feature::{FeatureValue, Features};
use slated_trainer::dataset::Round;
use slated_trainer::drift::{Drift, DriftSettings, DriftWindow, FeaturePart, compare};

/// What differs between windows.
#[derive(Clone, Copy)]
struct World {
    age: f64,
    mobile: f64,
    reward: f64,
    version: i64,
    epsilon: f64,
}

const WORLD: World = World { age: 40.0, mobile: 0.5, reward: 1.0, version: 1, epsilon: 0.5 };

/// So many sessions of five decisions, ten minutes apart, from a day on.
fn window(world: World, sessions: u32, day: i64, seed: u64) -> DriftWindow {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let mut window = DriftWindow::default();
    let settings = DriftSettings::default();
    for session in 0..sessions {
        let begun = DateTime::<Utc>::UNIX_EPOCH + TimeDelta::days(day) + TimeDelta::seconds(600 * i64::from(session));
        let who = format!("{day}-{session}");
        let noise = 4.0 * (generator.random::<f64>() - 0.5);
        for step in 0..5 {
            let mut draw = || generator.random::<f64>();
            let age = world.age + 10.0 * (draw() + draw() - 1.0);
            let device = if draw() < world.mobile { "mobile" } else { "desktop" };
            let explored = draw() < world.epsilon;
            let propensity = if explored { world.epsilon / 4.0 } else { 1.0 - world.epsilon + world.epsilon / 4.0 };
            let user: Features = [("age", FeatureValue::Number(age)), ("device", device.into())].into_iter().collect();
            let item = |id: &str| Candidate { item: id.to_owned(), features: Features::new(), score: None };
            let decision = Decision {
                decision_id: format!("{who}-{step}"),
                time: begun + TimeDelta::seconds(step),
                policy: "p".to_owned(),
                policy_version: world.version,
                session_id: Some(who.clone()),
                user,
                session: [("steps", step as f64 + 10.0 * world.reward)].into_iter().collect(),
                candidates: ["a", "b", "c", "d"].map(item).to_vec(),
                slate: vec![Shown {
                    item: "a".to_owned(),
                    position: 0,
                    cascade_propensity: propensity,
                    marginal_propensity: propensity,
                }],
                propensity,
                ..Decision::default()
            };
            let reward = world.reward + noise + draw();
            window.add(&Round { decision, rewards: vec![reward], responded: vec![true] }, &settings);
        }
    }
    window
}

fn drift(before: World, now: World) -> Drift {
    let (before, now) = (window(before, 600, 0, 1), window(now, 600, 30, 2));
    compare(&before, &before, &now, 60.0, &DriftSettings::default())
}

#[test]
fn what_did_not_change_does_not_drift_and_what_did_is_named() {
    let same = drift(WORLD, WORLD);
    assert!(!same.of_features() && !same.of_rewards(), "{same:?}");
    let by_name: Vec<(FeaturePart, &str)> = same.features.iter().map(|one| (one.part, one.name.as_str())).collect();
    assert_eq!(by_name, [(FeaturePart::User, "age"), (FeaturePart::User, "device"), (FeaturePart::Session, "steps")]);
    assert!(same.features[0].kolmogorov_smirnov.is_some_and(|(_, p)| p > 0.001), "{:?}", same.features[0]);
    assert!(same.rewards[0].lower < 0.0 && same.rewards[0].upper > 0.0);
    // Half the decisions explore: 1 / (4 p) is 2 for those and 0.4 for the others.
    let share = 0.5_f64.mul_add(2.0, 0.5 * 0.4).powi(2) / 0.5_f64.mul_add(4.0, 0.5 * 0.16);
    assert!((same.propensities.current.uniform_share - share).abs() < 0.02, "{:?}", same.propensities);
    assert_eq!((same.propensities.current.least, same.propensities.current.decisions), (0.125, 3000));

    let older = drift(WORLD, World { age: 48.0, ..WORLD });
    let drifted: Vec<&str> = older.features.iter().filter(|one| one.drifted).map(|one| one.name.as_str()).collect();
    assert_eq!((drifted, older.of_rewards()), (vec!["age"], false));
    let mobile = drift(WORLD, World { mobile: 0.95, ..WORLD });
    // (0.95 - 0.5) ln(0.95 / 0.5) + (0.05 - 0.5) ln(0.05 / 0.5)
    let by_hand = 0.45 * (0.95_f64 / 0.5).ln() - 0.45 * 0.1_f64.ln();
    let found = &mobile.features[1];
    assert!(found.drifted && (found.stability_index - by_hand).abs() < 0.1, "{found:?} {by_hand}");
    assert_eq!(found.kolmogorov_smirnov, None);
}

#[test]
fn rewards_drift_within_a_version_and_not_from_one_to_the_next() {
    let worse = drift(World { reward: 5.0, ..WORLD }, World { reward: 4.0, ..WORLD });
    let found = &worse.rewards[0];
    assert!(found.drifted && found.lower < -1.0 && -1.0 < found.upper && found.upper < 0.0, "{found:?}");
    assert!(!worse.of_features(), "the session's features changed by themselves: {:?}", worse.features);
    assert!(worse.features[2].stability_index > 1.0);
    let little = drift(World { reward: 50.0, ..WORLD }, World { reward: 49.0, ..WORLD });
    assert!(!little.of_rewards() && little.rewards[0].upper < 0.0, "certain, and too little to count");
    let other = drift(World { reward: 5.0, ..WORLD }, World { reward: 9.0, version: 2, ..WORLD });
    assert!(other.rewards.is_empty() && !other.of_rewards());
}
