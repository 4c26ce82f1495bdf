//! Input that nothing can be concluded from is refused by row and field, or reported.

use slated_contract::slate::Propensities;
use slated_trainer::ope::single::*;
use slated_trainer::ope::slate::*;
use slated_trainer::ope::{Estimator, IntervalSettings, Log, OpeError};

const EVEN: [f64; 2] = [0.5, 0.5];

fn good() -> SingleRound<'static> {
    SingleRound { id: "bad", reward: 1.0, propensity: 0.5, shown: 1, evaluation: &EVEN, ..SingleRound::default() }
}

#[test]
fn a_round_is_refused_by_number_id_and_field() {
    let mut log = SingleLog::new();
    log.push(&good()).unwrap();
    let cases = [
        (SingleRound { reward: f64::NAN, ..good() }, "`reward` is NaN"),
        (SingleRound { reward: f64::INFINITY, ..good() }, "`reward` is inf"),
        (SingleRound { propensity: 0.0, ..good() }, "`propensity` is 0;"),
        (SingleRound { propensity: 1.01, ..good() }, "`propensity` is 1.01;"),
        (SingleRound { propensity: f64::NAN, ..good() }, "`propensity` is NaN"),
        (SingleRound { shown: 2, ..good() }, "`shown` is 2, there are 2"),
        (SingleRound { evaluation: &[], ..good() }, "`shown`"),
        (SingleRound { evaluation: &[0.5, 0.6], ..good() }, "`evaluation` sums to 1.1"),
        (SingleRound { evaluation: &[1.5, -0.5], ..good() }, "`evaluation` of candidate 0 is 1.5"),
        (SingleRound { behaviour: Some(&[0.9, 0.1]), ..good() }, "`behaviour` of the action shown is 0.1"),
        (SingleRound { behaviour: Some(&[0.4, 0.5]), ..good() }, "`behaviour` sums to 0.9"),
        (SingleRound { behaviour: Some(&[1.0]), ..good() }, "`behaviour` has 1 probabilities for 2"),
        (SingleRound { predictions: Some(&EVEN), ..good() }, "`predictions` is given, but rows before it have none"),
        (SingleRound { predictions: Some(&[0.1, f64::NAN]), ..good() }, "`predictions` of candidate 1 is NaN"),
        (SingleRound { predictions: Some(&[0.1]), ..good() }, "`predictions` has 1 entries"),
        (SingleRound { embedding: Some((0.1, 0.0)), ..good() }, "`embedding` is 0;"),
    ];
    for (round, words) in cases {
        let error = log.push(&round).unwrap_err().to_string();
        assert!(error.starts_with("round 1 (`bad`): ") && error.contains(words), "{words} is not in {error}");
    }
    assert_eq!(log.rows(), 1, "a refused round leaves nothing behind");
    let mut log = SingleLog::new();
    log.push(&SingleRound { predictions: Some(&EVEN), ..good() }).unwrap();
    assert!(log.push(&good()).unwrap_err().to_string().contains("`predictions` is absent"));
}

#[test]
fn a_slate_is_refused_by_number_id_and_field() {
    let propensities = |cascade: &[f64], marginal: &[f64]| Propensities {
        cascade: cascade.to_vec(),
        marginal: marginal.to_vec(),
        draws: None,
        marginal_draws: None,
    };
    let fine = propensities(&[0.5, 0.25], &[0.5, 0.5]);
    let mut log = SlateLog::new();
    let good = SlateRound {
        id: "bad",
        rewards: &[1.0, 0.0],
        behaviour: &fine,
        evaluation: &fine,
        predictions: None,
        pseudo_inverse: None,
        user: None,
    };
    log.push(&good).unwrap();
    let zero = propensities(&[0.5, 0.0], &[0.5, 0.0]);
    log.push(&SlateRound { evaluation: &zero, ..good }).unwrap();
    let (growing, unlikely) = (propensities(&[0.25, 0.5], &[0.5, 0.5]), propensities(&[0.5, 0.25], &[0.5, 0.2]));
    let (short, above) = (propensities(&[0.5], &[0.5]), propensities(&[1.5, 0.25], &[1.5, 0.5]));
    let cases = [
        (SlateRound { rewards: &[], ..good }, "`rewards` is empty"),
        (SlateRound { rewards: &[1.0, f64::NAN], ..good }, "`rewards` is NaN"),
        (SlateRound { rewards: &[1.0], ..good }, "`behaviour` has 2 and 2 probabilities for 1 items"),
        (SlateRound { evaluation: &short, ..good }, "`evaluation` has 1 and 1"),
        (SlateRound { behaviour: &zero, ..good }, "`behaviour` cascade probability of position 1 is 0;"),
        (SlateRound { behaviour: &above, ..good }, "cascade probability of position 0 is 1.5"),
        (SlateRound { behaviour: &growing, ..good }, "position 1 is 0.5, that of the items before it is 0.25"),
        (SlateRound { evaluation: &unlikely, ..good }, "marginal probability of position 1 is 0.2, less than"),
        (
            SlateRound { predictions: Some(SlatePredictions { shown: &[1.0], expected: &[1.0, 1.0] }), ..good },
            "`predictions` have 1 and 2 entries",
        ),
        (SlateRound { pseudo_inverse: Some(1.0), ..good }, "`pseudo_inverse` is given"),
    ];
    for (slate, words) in cases {
        let error = log.push(&slate).unwrap_err().to_string();
        assert!(error.starts_with("slate 2 (`bad`): ") && error.contains(words), "{words} is not in {error}");
    }
    assert_eq!(log.rows(), 2);
    assert!(matches!(CascadeDoublyRobust.contributions(&log), Err(OpeError::Missing { field: "predictions", .. })));
    assert!(matches!(PseudoInverse.contributions(&log), Err(OpeError::Missing { field: "pseudo_inverse", .. })));
}

#[test]
fn no_rows_no_overlap_and_no_model_are_errors_and_not_numbers() {
    let settings = IntervalSettings::default();
    let empty = SingleLog::new();
    assert_eq!(Ips.estimate(&empty, &settings), Err(OpeError::Empty("round")));
    assert_eq!(SelfNormalisedIps.estimate(&empty, &settings), Err(OpeError::Empty("round")));
    assert!(empty.diagnostics().is_err());
    assert!(SlateLog::new().diagnostics(Dependence::Slate).is_err());
    let mut apart = SingleLog::new();
    for _ in 0..5 {
        apart.push(&SingleRound { evaluation: &[1.0, 0.0], ..good() }).unwrap();
    }
    assert_eq!(SelfNormalisedIps.estimate(&apart, &settings), Err(OpeError::NoOverlap("snips".to_owned())));
    assert!(matches!(DoublyRobust.estimate(&apart, &settings), Err(OpeError::Missing { .. })));
    assert!(matches!(MarginalisedIps.estimate(&apart, &settings), Err(OpeError::Missing { .. })));
    // One row in twenty has a weight: a resample without any is likely enough to make the bounds meaningless.
    let mut thin = SingleLog::new();
    for row in 0..20 {
        let evaluation: &[f64] = if row == 0 { &EVEN } else { &[1.0, 0.0] };
        thin.push(&SingleRound { evaluation, ..good() }).unwrap();
    }
    assert!(matches!(SelfNormalisedIps.estimate(&thin, &settings), Err(OpeError::Resamples { .. })));
}

#[test]
fn parameters_outside_their_range_are_refused() {
    let mut log = SingleLog::new();
    log.push(&SingleRound { predictions: Some(&EVEN), ..good() }).unwrap();
    let estimators: [&dyn Estimator<SingleLog>; 7] = [
        &ClippedIps { threshold: 0.0 },
        &ClippedIps { threshold: f64::NAN },
        &SwitchDoublyRobust { threshold: -1.0 },
        &SubGaussianIps { lambda: 1.1 },
        &SubGaussianDoublyRobust { lambda: f64::NAN },
        &OptimisticShrinkage { lambda: -0.1 },
        &OptimisticShrinkage { lambda: f64::NAN },
    ];
    for estimator in estimators {
        let refused = estimator.contributions(&log);
        assert!(matches!(refused, Err(OpeError::Parameter { .. })), "{}", estimator.name());
    }
}
