//! Single actions.

use slated_trainer::ope::single::*;
use slated_trainer::ope::{Estimator, IntervalMethod, IntervalSettings};

use crate::reference::{Columns, WithInterval, expected};
use crate::world::{self, ACTIONS, CONTEXTS, EVALUATION, LOGGING, MEANS, WRONG, truth};

const ITEMS: usize = 34;

fn open_bandit() -> SingleLog {
    let columns = Columns::read("open_bandit_men.parquet");
    let mut log = SingleLog::new();
    for row in 0..columns.get("round").len() {
        let (evaluation, predictions) = (columns.row("pi_", ITEMS, row), columns.row("q_", ITEMS, row));
        let round = SingleRound {
            reward: columns.get("reward")[row],
            propensity: columns.get("pscore")[row],
            shown: columns.get("item")[row] as usize,
            evaluation: &evaluation,
            predictions: Some(&predictions),
            ..SingleRound::default()
        };
        log.push(&round).unwrap();
    }
    log
}

fn value(estimator: &dyn Estimator<SingleLog>, log: &SingleLog) -> f64 {
    estimator.contributions(log).unwrap().value().unwrap()
}

#[test]
fn estimates_are_those_of_the_open_bandit_pipeline() {
    let log = open_bandit();
    let expected = expected::<WithInterval>("open_bandit_men_expected.json");
    let method = IntervalMethod::Bootstrap { resamples: 2000, seed: 12345 };
    let interval = IntervalSettings { confidence: 0.95, method };
    let estimators: [(&str, &dyn Estimator<SingleLog>); 10] = [
        ("ipw", &Ips),
        ("ipw_clipped_10", &ClippedIps { threshold: 10.0 }),
        ("snipw", &SelfNormalisedIps),
        ("dm", &DirectMethod),
        ("dr", &DoublyRobust),
        ("sndr", &SelfNormalisedDoublyRobust),
        ("switch_dr_5", &SwitchDoublyRobust { threshold: 5.0 }),
        ("dros_5", &OptimisticShrinkage { lambda: 5.0 }),
        ("sgdr_0.1", &SubGaussianDoublyRobust { lambda: 0.1 }),
        ("sgipw_0.1", &SubGaussianIps { lambda: 0.1 }),
    ];
    assert_eq!(expected.len(), estimators.len());
    for (name, estimator) in estimators {
        let (ours, theirs) = (estimator.estimate(&log, &interval).unwrap(), &expected[name]);
        assert!((ours.value - theirs.value).abs() < 1e-9, "{name}: {} is not {}", ours.value, theirs.value);
        let (lower, upper) = (theirs.bootstrap95.lower, theirs.bootstrap95.upper);
        println!(
            "{name:16} {:.6} {:.6} | {:.6} {:.6} | {:.3} {:.3}",
            lower,
            ours.interval.lower,
            upper,
            ours.interval.upper,
            (ours.interval.lower - lower) / (upper - lower),
            (ours.interval.upper - upper) / (upper - lower)
        );
        // Within 10% of the half width: both bounds carry the noise of 2,000 resamples, and some are near zero.
        let near = |ours: f64, theirs: f64| (ours - theirs).abs() < 0.1 * (upper - lower) / 2.0;
        assert!(near(ours.interval.lower, lower), "{name}: {:?} is not {lower}", ours.interval);
        assert!(near(ours.interval.upper, upper), "{name}: {:?} is not {upper}", ours.interval);
    }
}

#[test]
fn what_is_unbiased_gives_the_truth_on_the_population() {
    let log = world::population(&WRONG, &LOGGING);
    let estimators: [&dyn Estimator<SingleLog>; 6] = [
        &Ips,
        &SelfNormalisedIps,
        &DoublyRobust,
        &SelfNormalisedDoublyRobust,
        &SwitchDoublyRobust { threshold: f64::INFINITY },
        &OptimisticShrinkage { lambda: f64::INFINITY },
    ];
    for estimator in estimators {
        let found = value(estimator, &log);
        assert!((found - truth()).abs() < 1e-12, "{}: {found} is not {}", estimator.name(), truth());
    }
    // What shrinks is biased, and so is a wrong model.
    let biased: [&dyn Estimator<SingleLog>; 4] = [
        &ClippedIps { threshold: 1.5 },
        &SubGaussianIps { lambda: 0.2 },
        &SwitchDoublyRobust { threshold: 1.5 },
        &DirectMethod,
    ];
    for estimator in biased {
        assert!((value(estimator, &log) - truth()).abs() > 0.02, "{}", estimator.name());
    }
}

#[test]
fn doubly_robust_needs_one_of_the_two() {
    let wrong = [[0.25; ACTIONS]; CONTEXTS];
    let right_model = world::population(&MEANS, &wrong);
    assert!((value(&Ips, &right_model) - truth()).abs() > 0.05);
    for estimator in [&DirectMethod as &dyn Estimator<SingleLog>, &DoublyRobust, &SelfNormalisedDoublyRobust] {
        let found = value(estimator, &right_model);
        assert!((found - truth()).abs() < 1e-12, "{}: {found}", estimator.name());
    }
    let neither = world::population(&WRONG, &wrong);
    assert!((value(&DoublyRobust, &neither) - truth()).abs() > 0.05);
}

#[test]
fn marginalised_weights_see_through_actions_that_were_never_logged() {
    // Actions 0 and 1 are of one category, 2 and 3 of another; the reward knows the category alone, and the log never
    // shows action 3.
    let (categories, means) = ([0, 0, 1, 1], [0.25, 0.75]);
    let (logging, evaluation) = ([0.5, 0.25, 0.25, 0.0], [0.1, 0.2, 0.3, 0.4]);
    let mut log = SingleLog::new();
    for shown in 0..3 {
        let given: Vec<f64> =
            categories.iter().map(|category| f64::from(u8::from(*category == categories[shown]))).collect();
        for row in 0..(16.0 * logging[shown]) as usize {
            let round = SingleRound {
                reward: if row % 4 < (4.0 * means[categories[shown]]) as usize { 1.0 } else { 0.0 },
                propensity: logging[shown],
                shown,
                evaluation: &evaluation,
                behaviour: Some(&logging),
                embedding: Some((embedding_probability(&evaluation, &given), embedding_probability(&logging, &given))),
                ..SingleRound::default()
            };
            log.push(&round).unwrap();
        }
    }
    let truth = 0.3 * 0.25 + 0.7 * 0.75;
    assert!((value(&MarginalisedIps, &log) - truth).abs() < 1e-12);
    assert!((value(&SelfNormalisedMarginalisedIps, &log) - truth).abs() < 1e-12);
    assert!((value(&Ips, &log) - (truth - 0.4 * 0.75)).abs() < 1e-12, "IPS lacks what was never shown");
    let diagnostics = log.diagnostics().unwrap();
    assert_eq!((diagnostics.support.violations, diagnostics.support.judged), (16, 16));
    assert!((diagnostics.support.unsupported - 0.4).abs() < 1e-12);
    assert!((diagnostics.weights.mean - 0.6).abs() < 1e-12, "so much of the policy is seen");
}

#[test]
fn diagnostics_find_propensities_that_cannot_be_true() {
    let honest = world::drawn(4000, 5, &WRONG).diagnostics().unwrap();
    assert!(honest.weights.p_value > 0.01 && honest.uniform.unwrap().p_value > 0.01, "{honest:?}");
    assert!((honest.weights.mean - 1.0).abs() < 4.0 * honest.weights.standard_error);
    let population = world::population(&WRONG, &LOGGING).diagnostics().unwrap();
    assert!((population.weights.mean - 1.0).abs() < 1e-12 && population.weights.p_value > 0.999);
    // E[w^2] over the population is what the effective sample size is made of.
    let squares: f64 = (0..CONTEXTS)
        .flat_map(|x| (0..ACTIONS).map(move |a| EVALUATION[x][a].powi(2) / LOGGING[x][a] / CONTEXTS as f64))
        .sum();
    let rows = population.weights.rows as f64;
    assert!((population.weights.effective_sample_size - rows / squares).abs() < 1e-9);
    assert_eq!(population.weights.largest, 0.6 / 0.125);

    // The same rows with propensities that are somebody's guess, and with the probabilities of all candidates.
    let guess = [[0.25; ACTIONS]; CONTEXTS];
    let mut log = SingleLog::new();
    let mut reliable = SingleLog::new();
    for context in 0..CONTEXTS {
        for shown in 0..ACTIONS {
            for _ in 0..(800.0 * LOGGING[context][shown]) as usize {
                let round = world::round(context, shown, 0.0, &WRONG, &guess);
                log.push(&SingleRound { behaviour: Some(&guess[context]), ..round }).unwrap();
                let round = world::round(context, shown, 0.0, &WRONG, &LOGGING);
                reliable.push(&SingleRound { behaviour: Some(&LOGGING[context]), ..round }).unwrap();
            }
        }
    }
    assert!(log.diagnostics().unwrap().weights.p_value < 1e-3);
    let test = reliable.diagnostics().unwrap().reliability.unwrap();
    assert!(test.p_value > 0.99, "{test:?}");
    assert_eq!(test.bins.iter().map(|bin| bin.shown).sum::<u64>(), 1600);
    let all = log.diagnostics().unwrap();
    assert_eq!(all.uniform.unwrap().mean, 1.0, "a uniform guess is of one mind with the uniform policy");
    assert!(all.reliability.unwrap().p_value > 0.99, "one bin alone cannot tell");
    // Swapped probabilities are told from what was shown.
    let mut swapped = SingleLog::new();
    for _ in 0..100 {
        for (shown, rows) in [(0, 1), (1, 3)] {
            for _ in 0..rows {
                let behaviour = [0.75, 0.25];
                let round = SingleRound {
                    propensity: behaviour[shown],
                    shown,
                    evaluation: &[0.5, 0.5],
                    behaviour: Some(&behaviour),
                    ..SingleRound::default()
                };
                swapped.push(&round).unwrap();
            }
        }
    }
    let swapped = swapped.diagnostics().unwrap();
    assert!(swapped.reliability.unwrap().p_value < 1e-9 && swapped.uniform.unwrap().p_value < 1e-9);
}

#[test]
fn a_log_of_certain_decisions_supports_nothing_else() {
    let mut log = SingleLog::new();
    for _ in 0..10 {
        log.push(&SingleRound { propensity: 1.0, evaluation: &[0.25, 0.75], ..SingleRound::default() }).unwrap();
    }
    let support = log.diagnostics().unwrap().support;
    assert_eq!((support.violations, support.judged, support.unsupported), (10, 10, 0.75));
}
