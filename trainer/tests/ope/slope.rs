//! Choosing the shrinkage.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use slated_trainer::ope::single::*;
use slated_trainer::ope::{Estimator, IntervalMethod, IntervalSettings, Slope};

/// Two actions, the evaluation policy fond of the one that the log hardly shows. Clicks of 0.5 and 0.4.
fn log(rounds: usize, rare: f64, seed: u64) -> SingleLog {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let mut log = SingleLog::new();
    for _ in 0..rounds {
        let shown = usize::from(generator.random::<f64>() < rare);
        let round = SingleRound {
            reward: if generator.random::<f64>() < [0.5, 0.4][shown] { 1.0 } else { 0.0 },
            propensity: [1.0 - rare, rare][shown],
            shown,
            evaluation: &[0.2, 0.8],
            predictions: Some(&[0.45, 0.45]),
            ..SingleRound::default()
        };
        log.push(&round).unwrap();
    }
    log
}

const TRUTH: f64 = 0.2 * 0.5 + 0.8 * 0.4;

fn error<E: Estimator<SingleLog>>(estimator: &E, rounds: usize, rare: f64) -> f64 {
    let one = |seed| (estimator.contributions(&log(rounds, rare, seed)).unwrap().value().unwrap() - TRUTH).powi(2);
    (0..40).map(one).sum::<f64>() / 40.0
}

#[test]
fn heavy_weights_are_shrunk_and_light_ones_left_alone() {
    // A good model and weights of 800: shrinking wins by orders of magnitude.
    let slope = Slope::switch_dr();
    assert!(error(&slope, 1000, 0.001) < 0.05 * error(&DoublyRobust, 1000, 0.001));
    let slope = Slope::optimistic_shrinkage();
    assert!(error(&slope, 1000, 0.001) < 0.05 * error(&DoublyRobust, 1000, 0.001));
    // Without a model shrinking only loses. The error stays within (sqrt(6) + 3) widths of IPS, and fades with them.
    let slopes: [(&str, &dyn Fn(usize) -> f64); 2] = [
        ("clipped", &|rounds| error(&Slope::clipped_ips(), rounds, 0.2)),
        ("sub-Gaussian", &|rounds| error(&Slope::sub_gaussian_ips(), rounds, 0.2)),
    ];
    for (name, slope) in slopes {
        let (few, many) = (slope(1000), slope(20_000));
        let width = |rounds| 1.96 * error(&Ips, rounds, 0.2).sqrt();
        assert!(few.sqrt() < 5.45 * width(1000) && many.sqrt() < 5.45 * width(20_000), "{name}: {few}, {many}");
        assert!(many < 0.2 * few, "{name}: {few}, {many}");
    }
}

#[test]
fn the_choice_is_named_and_its_interval_its_own() {
    let log = log(2000, 0.2, 7);
    let settings = IntervalSettings { confidence: 0.95, method: IntervalMethod::StudentT };
    let slope = Slope::sub_gaussian_dr();
    let (chosen, _) = slope.choose(&log).unwrap();
    let (ours, alone) = (slope.estimate(&log, &settings).unwrap(), chosen.estimate(&log, &settings).unwrap());
    assert_eq!((ours.value, ours.interval), (alone.value, alone.interval));
    assert_eq!(ours.name, format!("slope: {}", alone.name));
    assert_eq!(slope.name(), "slope(sub_gaussian_dr)");
    assert!(Slope::<Ips> { family: "none", members: Vec::new(), confidence: 0.95 }.choose(&log).is_err());
    assert!(Slope { confidence: 1.5, ..slope }.choose(&log).is_err());
}
