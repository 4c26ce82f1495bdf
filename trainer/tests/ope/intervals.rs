//! Intervals: how often they hold the truth.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use slated_trainer::ope::single::*;
use slated_trainer::ope::{Estimator, IntervalMethod, IntervalSettings};

use crate::world::{self, WRONG, truth};

const REPEATS: usize = 200;

fn covered(
    estimator: &dyn Estimator<SingleLog>,
    method: IntervalMethod,
    truth: f64,
    log: impl Fn(usize) -> SingleLog,
) -> usize {
    let interval = IntervalSettings { confidence: 0.95, method };
    let holds = |repeat: &usize| {
        let interval = estimator.estimate(&log(*repeat), &interval).unwrap().interval;
        interval.lower <= truth && truth <= interval.upper
    };
    (0..REPEATS).filter(holds).count()
}

#[test]
fn intervals_hold_the_truth_as_often_as_they_say() {
    let estimators: [&dyn Estimator<SingleLog>; 4] =
        [&Ips, &SelfNormalisedIps, &DoublyRobust, &SelfNormalisedDoublyRobust];
    for estimator in estimators {
        for method in [IntervalMethod::StudentT, IntervalMethod::Bootstrap { resamples: 400, seed: 0 }] {
            let covered = covered(estimator, method, truth(), |repeat| world::drawn(300, repeat as u64, &WRONG));
            // 0.95 of 200 is 190, with a deviation of 3.1.
            assert!((179..=199).contains(&covered), "{} by {}: {covered}", estimator.name(), method.name());
        }
    }
    // The greatest weight is 4.8, so is the range of IPS: the bound then holds at any size of the log.
    let method = IntervalMethod::EmpiricalBernstein { range: Some(4.8) };
    assert!(covered(&Ips, method, truth(), |repeat| world::drawn(300, repeat as u64, &WRONG)) >= 198);
}

#[test]
fn users_who_are_alike_need_intervals_over_users() {
    // 30 users of 20 rounds each; what a user clicks is the user's own.
    let log = |repeat: usize, named: bool| {
        let mut generator = ChaCha8Rng::seed_from_u64(repeat as u64);
        let mut log = SingleLog::new();
        for user in 0..30 {
            let (name, rate) = (format!("user-{user}"), f64::from(generator.random_range(0_u8..=1)) * 0.8 + 0.1);
            for _ in 0..20 {
                let round = SingleRound {
                    reward: if generator.random::<f64>() < rate { 1.0 } else { 0.0 },
                    propensity: 0.5,
                    shown: generator.random_range(0..2),
                    evaluation: &[0.4, 0.6],
                    user: named.then_some(name.as_str()),
                    ..SingleRound::default()
                };
                log.push(&round).unwrap();
            }
        }
        log
    };
    for method in [IntervalMethod::StudentT, IntervalMethod::Bootstrap { resamples: 400, seed: 0 }] {
        for estimator in [&Ips as &dyn Estimator<SingleLog>, &SelfNormalisedIps] {
            let over_users = covered(estimator, method, 0.5, |repeat| log(repeat, true));
            assert!((177..=199).contains(&over_users), "{} by {}: {over_users}", estimator.name(), method.name());
            let over_rounds = covered(estimator, method, 0.5, |repeat| log(repeat, false));
            assert!(over_rounds < 140, "{} by {}: {over_rounds}", estimator.name(), method.name());
        }
    }
}

#[test]
fn a_paired_difference_is_surer_than_its_parts() {
    let log = world::drawn(2000, 1, &WRONG);
    let settings = IntervalSettings { confidence: 0.95, method: IntervalMethod::StudentT };
    let candidate = SelfNormalisedIps.contributions(&log).unwrap();
    let clipped = ClippedIps { threshold: 4.0 }.contributions(&log).unwrap();
    let width = |contributions| {
        let interval = settings.of(contributions, "", "round").unwrap();
        interval.upper - interval.lower
    };
    let difference = candidate.clone().minus(clipped.clone());
    let (a, b) = (candidate.value().unwrap(), clipped.value().unwrap());
    assert!((difference.value().unwrap() - (a - b)).abs() < 1e-12);
    assert!(width(&difference) < 0.5 * (width(&candidate) + width(&clipped)));
}
