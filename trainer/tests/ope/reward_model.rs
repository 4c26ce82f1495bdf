//! Cross-fitted reward models.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use slated_trainer::ope::reward_model::*;
use slated_trainer::ope::single::*;
use slated_trainer::ope::{Estimator, IntervalMethod, IntervalSettings};

fn fit(
    settings: RewardModelSettings,
    width: usize,
    examples: &[(u32, Vec<f64>, f64)],
) -> Result<CrossFit, RewardModelError> {
    let mut fit = CrossFit::new(settings, width)?;
    loop {
        for (fold, phi, reward) in examples {
            fit.add(*fold, phi, *reward)?;
        }
        if !fit.end_pass()? {
            return Ok(fit);
        }
    }
}

fn settings(kind: RewardModelKind, lambda: f64) -> RewardModelSettings {
    RewardModelSettings { kind, lambda, folds: 2 }
}

#[test]
fn a_part_is_predicted_by_what_it_has_not_seen() {
    // Part 0 holds rewards of 1, part 1 of 3: each is told the other's.
    let examples: Vec<_> = (0..2000).map(|row| (row % 2, vec![1.0], f64::from(1 + 2 * (row % 2)))).collect();
    let ridge = fit(settings(RewardModelKind::Ridge, 1e-6), 1, &examples).unwrap();
    assert!((ridge.predict(0, &[1.0]) - 3.0).abs() < 1e-6);
    assert!((ridge.predict(1, &[1.0]) - 1.0).abs() < 1e-6);
    assert_eq!(fold_of("user-1", 3), fold_of("user-1", 3));
    let parts: Vec<u32> = (0..300).map(|user| fold_of(&format!("user-{user}"), 3)).collect();
    for part in 0..3 {
        assert!((70..=130).contains(&parts.iter().filter(|own| **own == part).count()));
    }
}

#[test]
fn ridge_finds_a_linear_reward_and_logistic_a_logistic_one() {
    let mut generator = ChaCha8Rng::seed_from_u64(1);
    let weights = [-1.0, 2.0, 0.5];
    let (mut linear, mut clicks) = (Vec::new(), Vec::new());
    for row in 0..20_000 {
        let phi = vec![1.0, generator.random_range(-1.0..1.0), generator.random_range(-1.0..1.0)];
        let product: f64 = phi.iter().zip(weights).map(|(x, weight)| x * weight).sum();
        let click = generator.random::<f64>() < 1.0 / (1.0 + (-product).exp());
        linear.push((row % 2, phi.clone(), product));
        clicks.push((row % 2, phi, f64::from(u8::from(click))));
    }
    let ridge = fit(settings(RewardModelKind::Ridge, 1e-6), 3, &linear).unwrap();
    assert!((ridge.predict(0, &[1.0, 0.3, -0.2]) - (-1.0 + 0.6 - 0.1)).abs() < 1e-6);
    let logistic = fit(settings(RewardModelKind::Logistic, 1.0), 3, &clicks).unwrap();
    for (fold, phi) in [(0, [1.0, 0.8, 0.0]), (1, [1.0, -0.9, 0.9]), (0, [1.0, 0.0, 0.0])] {
        let product: f64 = phi.iter().zip(weights).map(|(x, weight)| x * weight).sum();
        let truth = 1.0 / (1.0 + (-product).exp());
        let found = logistic.predict(fold, &phi);
        assert!((found - truth).abs() < 0.04, "{phi:?}: {found} is not {truth}");
    }
}

#[test]
fn logistic_regression_finds_the_optimum_even_where_classes_part() {
    // Reward 1 exactly where x > 0: without the ridge the weights would have no end.
    let examples: Vec<_> = (0..400)
        .map(|row| {
            let x = f64::from(row) / 200.0 - 1.0 + 0.0025;
            (row % 2, vec![1.0, 10.0 * x], f64::from(u8::from(x > 0.0)))
        })
        .collect();
    let model = fit(settings(RewardModelKind::Logistic, 0.01), 2, &examples).unwrap();
    // At the optimum the gradient `sum (p - r) phi + lambda w` is zero; w from two predictions.
    let logit = |p: f64| (p / (1.0 - p)).ln();
    let intercept = logit(model.predict(0, &[1.0, 0.0]));
    let slope = logit(model.predict(0, &[0.0, 1.0]));
    let others = examples.iter().filter(|(fold, ..)| *fold != 0);
    let gradient = others.fold([0.01 * intercept, 0.01 * slope], |[a, b], (_, phi, reward)| {
        let error = model.predict(0, phi) - reward;
        [a + error * phi[0], b + error * phi[1]]
    });
    assert!(slope > 1.0 && gradient.iter().all(|part| part.abs() < 1e-3), "{gradient:?} at {intercept} {slope}");
}

#[test]
fn what_cannot_be_fitted_says_why() {
    for (settings, word) in [
        (RewardModelSettings { lambda: 0.0, ..RewardModelSettings::default() }, "lambda"),
        (RewardModelSettings { folds: 1, ..RewardModelSettings::default() }, "folds"),
    ] {
        assert!(CrossFit::new(settings, 1).unwrap_err().to_string().contains(word));
    }
    let logistic = settings(RewardModelKind::Logistic, 1.0);
    assert!(fit(logistic, 1, &[(0, vec![1.0], 2.0)]).unwrap_err().to_string().contains("ridge"));
    assert_eq!(fit(logistic, 1, &[(0, vec![1.0], 1.0)]).unwrap_err(), RewardModelError::Empty(0));
    let ridge = settings(RewardModelKind::Ridge, 1.0);
    assert_eq!(fit(ridge, 1, &[(1, vec![1.0], 1.0)]).unwrap_err(), RewardModelError::Empty(1));
    let infinite = fit(ridge, 1, &[(0, vec![f64::INFINITY], 1.0), (1, vec![1.0], 1.0)]);
    assert!(matches!(infinite, Err(RewardModelError::Linear(_))));
}

#[test]
fn a_fitted_model_makes_doubly_robust_surer_than_weighting() {
    // The reward is mostly a function of the action: a model of it takes the noise of the weights away.
    let mut generator = ChaCha8Rng::seed_from_u64(3);
    let rounds: Vec<(usize, f64)> = (0..3000)
        .map(|_| {
            let shown = generator.random_range(0..4);
            (shown, shown as f64 + generator.random_range(-0.5..0.5))
        })
        .collect();
    let phi = |action: usize| (0..4).map(|at| f64::from(u8::from(at == action))).collect::<Vec<f64>>();
    let fold = |row: usize| fold_of(&row.to_string(), 2);
    let examples: Vec<_> =
        rounds.iter().enumerate().map(|(row, (shown, reward))| (fold(row), phi(*shown), *reward)).collect();
    let model = fit(settings(RewardModelKind::Ridge, 1.0), 4, &examples).unwrap();
    let mut log = SingleLog::new();
    for (row, (shown, reward)) in rounds.iter().enumerate() {
        let predictions: Vec<f64> = (0..4).map(|action| model.predict(fold(row), &phi(action))).collect();
        let round = SingleRound {
            reward: *reward,
            propensity: 0.25,
            shown: *shown,
            evaluation: &[0.05, 0.05, 0.1, 0.8],
            predictions: Some(&predictions),
            ..SingleRound::default()
        };
        log.push(&round).unwrap();
    }
    let settings = IntervalSettings { confidence: 0.95, method: IntervalMethod::StudentT };
    let (dr, ips) = (DoublyRobust.estimate(&log, &settings).unwrap(), Ips.estimate(&log, &settings).unwrap());
    let truth = 0.05 + 0.2 + 2.4;
    assert!((dr.value - truth).abs() < 4.0 * dr.standard_error, "{dr:?}");
    assert!(dr.standard_error < 0.25 * ips.standard_error);
}
