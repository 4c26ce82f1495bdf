//! The session accumulator: the same events give the same state, wherever it runs and however often it is saved.

use chrono::{DateTime, Utc};
use proptest::prelude::*;
use slated_contract::feature::FeatureRef;
use slated_contract::session::{SessionAccumulator, SessionSettings};

const WIDTH: usize = 3;

#[derive(Debug, Clone)]
enum Happened {
    Shown { after_ms: i64 },
    Consumed { item: [f32; WIDTH], reward: f64 },
}

fn happened() -> impl Strategy<Value = Happened> {
    prop_oneof![
        (-1000_i64..100_000).prop_map(|after_ms| Happened::Shown { after_ms }),
        (proptest::array::uniform3(-1e3_f32..1e3), -1e3..1e3_f64)
            .prop_map(|(item, reward)| Happened::Consumed { item, reward }),
    ]
}

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000, 0).unwrap()
}

fn apply(session: &mut SessionAccumulator, now: &mut DateTime<Utc>, event: &Happened) {
    match event {
        Happened::Shown { after_ms } => {
            *now += chrono::TimeDelta::milliseconds(*after_ms);
            session.show(*now);
        }
        Happened::Consumed { item, reward } => session.respond(item, *reward),
    }
}

proptest! {
    #[test]
    fn saving_in_the_middle_changes_nothing(events in proptest::collection::vec(happened(), 0..40), cut in 0_usize..40) {
        let settings = SessionSettings { decay_rates: vec![0.0, 0.7, 1.0], history: 4 };
        let mut whole = SessionAccumulator::new(&settings, WIDTH).unwrap();
        let mut parts = whole.clone();
        let (mut now, mut same) = (start(), start());
        for (index, event) in events.iter().enumerate() {
            apply(&mut whole, &mut now, event);
            apply(&mut parts, &mut same, event);
            if index == cut {
                parts = serde_json::from_str(&serde_json::to_string(&parts).unwrap()).unwrap();
            }
        }
        prop_assert_eq!(&whole, &parts);
        prop_assert_eq!(whole.features(now), parts.features(now));
        prop_assert!(whole.history().len() <= 4);
        prop_assert!(whole.history().all(|row| row.len() == SessionSettings::history_width(WIDTH)));
        for (name, value) in whole.features(now).iter() {
            let finite = match value {
                FeatureRef::Number(number) => number.is_finite(),
                FeatureRef::Vector(vector) => vector.len() == WIDTH && vector.iter().all(|element| element.is_finite()),
                FeatureRef::Text(_) => false,
            };
            prop_assert!(finite, "{name}: {value:?}");
        }
    }

    #[test]
    fn a_rate_of_one_sums_and_a_rate_of_zero_forgets(rewards in proptest::collection::vec(-1e3..1e3_f64, 1..20)) {
        let settings = SessionSettings { decay_rates: vec![0.0, 1.0], history: 0 };
        let mut session = SessionAccumulator::new(&settings, WIDTH).unwrap();
        for &reward in &rewards {
            session.show(start());
            session.respond(&[1.0, 0.0, 0.0], reward);
        }
        let features = session.features(start());
        prop_assert_eq!(features.get("reward_decay_0"), Some(FeatureRef::Number(*rewards.last().unwrap())));
        prop_assert_eq!(features.get("reward_decay_1"), features.get("total_reward"));
        prop_assert_eq!(features.get("consumed_decay_0"), Some(FeatureRef::Vector(&[1.0, 0.0, 0.0])));
        prop_assert_eq!(features.get("consumed_decay_1"), Some(FeatureRef::Vector(&[rewards.len() as f32, 0.0, 0.0])));
    }
}
