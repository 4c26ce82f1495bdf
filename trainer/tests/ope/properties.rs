//! What holds whatever the log.

use proptest::prelude::*;
use slated_trainer::ope::single::*;
use slated_trainer::ope::{Estimator, IntervalMethod, IntervalSettings};

#[derive(Debug, Clone)]
struct Row {
    reward: f64,
    shown: usize,
    logging: Vec<f64>,
    evaluation: Vec<f64>,
    model: Vec<f64>,
}

fn distribution(floor: f64) -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(0.0..1.0_f64, 4).prop_map(move |weights| {
        let sum: f64 = weights.iter().map(|weight| weight + floor).sum();
        weights.iter().map(|weight| (weight + floor) / sum).collect()
    })
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (-5.0..5.0_f64, 0..4_usize, distribution(0.05), distribution(1e-6), prop::collection::vec(-5.0..5.0, 4));
    let row =
        row.prop_map(|(reward, shown, logging, evaluation, model)| Row { reward, shown, logging, evaluation, model });
    prop::collection::vec(row, 2..40)
}

fn log(rows: &[Row], shift: f64) -> SingleLog {
    let mut log = SingleLog::new();
    for row in rows {
        let model: Vec<f64> = row.model.iter().map(|q| q + shift).collect();
        let round = SingleRound {
            reward: row.reward + shift,
            propensity: row.logging[row.shown],
            shown: row.shown,
            evaluation: &row.evaluation,
            behaviour: Some(&row.logging),
            predictions: Some(&model),
            ..SingleRound::default()
        };
        log.push(&round).unwrap();
    }
    log
}

fn value(estimator: &dyn Estimator<SingleLog>, log: &SingleLog) -> f64 {
    estimator.contributions(log).unwrap().value().unwrap()
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * (1.0 + a.abs().max(b.abs()))
}

proptest! {
    #[test]
    fn families_meet_at_their_ends(rows in rows()) {
        let log = log(&rows, 0.0);
        let (dr, dm, ips) = (value(&DoublyRobust, &log), value(&DirectMethod, &log), value(&Ips, &log));
        let ends: [(&dyn Estimator<SingleLog>, f64); 8] = [
            (&SwitchDoublyRobust { threshold: f64::INFINITY }, dr),
            (&SwitchDoublyRobust { threshold: 1e-12 }, dm),
            (&OptimisticShrinkage { lambda: f64::INFINITY }, dr),
            (&OptimisticShrinkage { lambda: 1e15 }, dr),
            (&OptimisticShrinkage { lambda: 0.0 }, dm),
            (&SubGaussianDoublyRobust { lambda: 0.0 }, dr),
            (&SubGaussianIps { lambda: 0.0 }, ips),
            (&ClippedIps { threshold: 1e9 }, ips),
        ];
        for (estimator, expected) in ends {
            prop_assert!(near(value(estimator, &log), expected), "{}", estimator.name());
        }
    }

    #[test]
    fn self_normalisation_stays_within_the_rewards_and_moves_with_them(rows in rows(), shift in -3.0..3.0_f64) {
        let (here, there) = (log(&rows, 0.0), log(&rows, shift));
        let snips = value(&SelfNormalisedIps, &here);
        let rewards = rows.iter().map(|row| row.reward);
        prop_assert!(snips <= rewards.clone().fold(f64::MIN, f64::max) + 1e-9);
        prop_assert!(snips >= rewards.fold(f64::MAX, f64::min) - 1e-9);
        for estimator in [
            &SelfNormalisedIps as &dyn Estimator<SingleLog>,
            &DirectMethod,
            &DoublyRobust,
            &SelfNormalisedDoublyRobust,
            &OptimisticShrinkage { lambda: 2.0 },
        ] {
            prop_assert!(near(value(estimator, &there), value(estimator, &here) + shift), "{}", estimator.name());
        }
    }

    #[test]
    fn the_logging_policy_itself_has_the_mean_reward(mut rows in rows()) {
        rows.iter_mut().for_each(|row| row.evaluation.clone_from(&row.logging));
        let log = log(&rows, 0.0);
        let mean = rows.iter().map(|row| row.reward).sum::<f64>() / rows.len() as f64;
        prop_assert!(near(value(&Ips, &log), mean));
        prop_assert!(near(value(&SelfNormalisedIps, &log), mean));
        let diagnostics = log.diagnostics().unwrap();
        prop_assert!(near(diagnostics.weights.effective_sample_size, rows.len() as f64));
        prop_assert!(diagnostics.weights.p_value > 0.999);
        prop_assert_eq!(diagnostics.support.violations, 0);
    }

    #[test]
    fn neither_order_nor_users_change_the_value(rows in rows()) {
        let forwards = log(&rows, 0.0);
        let mut backwards = rows.clone();
        backwards.reverse();
        let backwards = log(&backwards, 0.0);
        let clusters: Vec<u32> = (0..rows.len() as u32).map(|row| row % 3.min(rows.len() as u32)).collect();
        for estimator in
            [&Ips as &dyn Estimator<SingleLog>, &SelfNormalisedIps, &DoublyRobust, &SelfNormalisedDoublyRobust]
        {
            let found = value(estimator, &forwards);
            prop_assert!(near(found, value(estimator, &backwards)), "{}", estimator.name());
            let contributions = estimator.contributions(&forwards).unwrap();
            prop_assert!(near(found, contributions.by_cluster(&clusters).value().unwrap()), "{}", estimator.name());
            let linearised = contributions.linearised().unwrap();
            prop_assert!(near(found, linearised.iter().sum::<f64>() / linearised.len() as f64), "{}", estimator.name());
        }
    }

    #[test]
    fn an_interval_holds_its_estimate(rows in rows()) {
        let log = log(&rows, 0.0);
        for method in [
            IntervalMethod::StudentT,
            IntervalMethod::EmpiricalBernstein { range: None },
            IntervalMethod::Bootstrap { resamples: 100, seed: 0 },
        ] {
            let settings = IntervalSettings { confidence: 0.99, method };
            let estimate = DoublyRobust.estimate(&log, &settings).unwrap();
            prop_assert!(estimate.interval.lower <= estimate.value && estimate.value <= estimate.interval.upper);
        }
    }
}
