//! Slates.

use std::collections::HashMap;

use slated_contract::slate::Propensities;
use slated_trainer::ope::slate::*;
use slated_trainer::ope::{Estimator, Log};

use crate::reference::{Columns, expected};

fn value(estimator: &dyn Estimator<SlateLog>, log: &SlateLog) -> f64 {
    estimator.contributions(log).unwrap().value().unwrap()
}

#[test]
fn estimates_are_those_of_the_open_bandit_pipeline() {
    let columns = Columns::read("obp_slates.parquet");
    let mut log = SlateLog::new();
    for slate in 0..columns.get("slate_id").len() / 3 {
        let items = 3 * slate..3 * (slate + 1);
        let policy = |prefix: &str| Propensities {
            cascade: columns.get(&format!("{prefix}pscore_cascade"))[items.clone()].to_vec(),
            marginal: columns.get(&format!("{prefix}pscore_item_position"))[items.clone()].to_vec(),
            draws: None,
            marginal_draws: None,
        };
        let round = SlateRound {
            id: "",
            rewards: &columns.get("reward")[items.clone()],
            behaviour: &policy(""),
            evaluation: &policy("evaluation_"),
            predictions: None,
            pseudo_inverse: None,
            user: None,
        };
        log.push(&round).unwrap();
    }
    let expected = expected::<f64>("obp_slates_expected.json");
    let estimators: [&dyn Estimator<SlateLog>; 6] = [
        &StandardIps,
        &IndependentIps,
        &RewardInteractionIps,
        &SelfNormalisedStandardIps,
        &SelfNormalisedIndependentIps,
        &SelfNormalisedRewardInteractionIps,
    ];
    assert_eq!(expected.len(), estimators.len());
    for estimator in estimators {
        let (ours, theirs) = (value(estimator, &log), expected[&estimator.name()]);
        assert!((ours - theirs).abs() < 1e-9, "{}: {ours} is not {theirs}", estimator.name());
    }
}

const ITEMS: usize = 5;
const SIZE: usize = 3;

/// A policy over all slates: how often of `total` each is shown.
struct Policy {
    slates: Vec<(Vec<usize>, u32)>,
    total: f64,
}

impl Policy {
    fn new(often: impl Fn(&[usize]) -> u32) -> Self {
        let mut slates = Vec::new();
        for code in 0..ITEMS.pow(SIZE as u32) {
            let slate = vec![code % ITEMS, code / ITEMS % ITEMS, code / ITEMS / ITEMS];
            if (0..SIZE).all(|at| !slate[..at].contains(&slate[at])) {
                let often = often(&slate);
                slates.push((slate, often));
            }
        }
        let total = slates.iter().map(|(_, often)| f64::from(*often)).sum();
        Self { slates, total }
    }

    fn probability(&self, of: impl Fn(&[usize]) -> bool) -> f64 {
        self.slates.iter().filter(|(slate, _)| of(slate)).map(|(_, often)| f64::from(*often)).sum::<f64>() / self.total
    }

    fn propensities(&self, slate: &[usize]) -> Propensities {
        Propensities {
            cascade: (1..=SIZE).map(|length| self.probability(|other| other[..length] == slate[..length])).collect(),
            marginal: (0..SIZE).map(|at| self.probability(|other| other[at] == slate[at])).collect(),
            draws: None,
            marginal_draws: None,
        }
    }

    fn moments(&self) -> SlateMoments {
        let slates = self.slates.iter().map(|(slate, often)| (slate.as_slice(), f64::from(*often) / self.total));
        SlateMoments::new(SIZE, ITEMS, slates).unwrap()
    }

    fn value(&self, rewards: &dyn Fn(&[usize]) -> [f64; SIZE]) -> f64 {
        let worth = |(slate, often): &(Vec<usize>, u32)| f64::from(*often) * rewards(slate).iter().sum::<f64>();
        self.slates.iter().map(worth).sum::<f64>() / self.total
    }
}

fn logging() -> Policy {
    Policy::new(|slate| 1 + (7 * slate[0] + 3 * slate[1] * slate[2] + slate[2]) as u32 % 5)
}

fn evaluation() -> Policy {
    Policy::new(|slate| (5 * slate[1] + 2 * slate[0] * slate[2] + slate[0]) as u32 % 4)
}

/// The population of `logging`. `scale` spoils the claimed propensities of the evaluation policy.
fn population(
    logging: &Policy,
    evaluation: &Policy,
    rewards: &dyn Fn(&[usize]) -> [f64; SIZE],
    model: &dyn Fn(&[usize], usize) -> f64,
) -> SlateLog {
    let (own, other) = (logging.moments(), evaluation.moments());
    let mut log = SlateLog::new();
    for (slate, often) in &logging.slates {
        let (behaviour, target) = (logging.propensities(slate), evaluation.propensities(slate));
        let shown: Vec<f64> = (0..SIZE).map(|at| model(&slate[..at], slate[at])).collect();
        let expected: Vec<f64> = (0..SIZE)
            .map(|at| {
                let before = evaluation.probability(|other| other[..at] == slate[..at]);
                let q = |item: usize| {
                    let next = evaluation.probability(|other| other[..at] == slate[..at] && other[at] == item);
                    if next > 0.0 { next / before * model(&slate[..at], item) } else { 0.0 }
                };
                (0..ITEMS).map(q).sum()
            })
            .collect();
        let round = SlateRound {
            id: "",
            rewards: &rewards(slate),
            behaviour: &behaviour,
            evaluation: &target,
            predictions: Some(SlatePredictions { shown: &shown, expected: &expected }),
            pseudo_inverse: Some(own.weight(&other, slate).unwrap()),
            user: None,
        };
        for _ in 0..*often {
            log.push(&round).unwrap();
        }
    }
    log
}

/// Whatever else is on the page.
fn apart(slate: &[usize]) -> [f64; SIZE] {
    [0, 1, 2].map(|at| (slate[at] as f64 - 1.0) / (at as f64 + 1.0))
}

/// By the item and those above it.
fn cascading(slate: &[usize]) -> [f64; SIZE] {
    [0, 1, 2].map(|at| slate[at] as f64 * if slate[..at].contains(&4) { 0.1 } else { 1.0 })
}

/// By the item and those below it.
fn upwards(slate: &[usize]) -> [f64; SIZE] {
    [0, 1, 2].map(|at| slate[at] as f64 * if slate[at..].contains(&4) { 0.1 } else { 1.0 })
}

#[test]
fn each_estimator_gives_the_truth_under_its_own_assumption() {
    let (logging, evaluation) = (logging(), evaluation());
    type Rewards = (&'static str, fn(&[usize]) -> [f64; SIZE]);
    let rewards: [Rewards; 3] = [("apart", apart), ("cascading", cascading), ("upwards", upwards)];
    let estimators: [(&dyn Estimator<SlateLog>, &[&str]); 9] = [
        (&StandardIps, &["apart", "cascading", "upwards"]),
        (&SelfNormalisedStandardIps, &["apart", "cascading", "upwards"]),
        (&RewardInteractionIps, &["apart", "cascading"]),
        (&SelfNormalisedRewardInteractionIps, &["apart", "cascading"]),
        (&CascadeDoublyRobust, &["apart", "cascading"]),
        (&IndependentIps, &["apart"]),
        (&SelfNormalisedIndependentIps, &["apart"]),
        (&PseudoInverse, &["apart"]),
        (&SelfNormalisedPseudoInverse, &["apart"]),
    ];
    for (kind, rewards) in rewards {
        let truth = evaluation.value(&rewards);
        // The model is wrong, which must not matter.
        let log =
            population(&logging, &evaluation, &rewards, &|before, item| (before.len() * 3 + item) as f64 * 0.7 - 1.0);
        for (estimator, right) in estimators {
            let error = (value(estimator, &log) - truth).abs();
            let exact = right.contains(&kind);
            assert!(if exact { error < 1e-9 } else { error > 1e-3 }, "{} on {kind}: off by {error}", estimator.name());
        }
    }
}

#[test]
fn a_total_that_is_never_seen_apart_is_enough_for_the_pseudo_inverse() {
    // All of the reward is put on the last item: the total is still a sum of effects of items at positions.
    let rewards = |slate: &[usize]| [0.0, 0.0, apart(slate).iter().sum()];
    let (logging, evaluation) = (logging(), evaluation());
    let log = population(&logging, &evaluation, &rewards, &|_, _| 0.0);
    let truth = evaluation.value(&apart);
    assert!((value(&PseudoInverse, &log) - truth).abs() < 1e-9);
    assert!((value(&IndependentIps, &log) - truth).abs() > 1e-3);
    // A uniform logging policy has a singular second moment.
    let uniform = Policy::new(|_| 1);
    let log = population(&uniform, &evaluation, &rewards, &|_, _| 0.0);
    assert!((value(&PseudoInverse, &log) - truth).abs() < 1e-9);
}

#[test]
fn independent_positions_have_a_closed_form() {
    // Positions drawn apart, repetitions allowed: p(s) = prod p_k(s_k).
    let chances =
        [[1, 2, 3, 1, 1], [2, 2, 1, 1, 2], [1, 1, 1, 4, 1]].map(|row| row.map(|often| f64::from(often) / 8.0));
    let slates: Vec<(Vec<usize>, f64)> = (0..ITEMS.pow(3))
        .map(|code| vec![code % ITEMS, code / ITEMS % ITEMS, code / ITEMS / ITEMS])
        .map(|slate| {
            let probability = (0..SIZE).map(|at| chances[at][slate[at]]).product();
            (slate, probability)
        })
        .collect();
    let moments =
        SlateMoments::new(SIZE, ITEMS, slates.iter().map(|(slate, probability)| (slate.as_slice(), *probability)))
            .unwrap();
    let evaluation = evaluation();
    for slate in [[0, 1, 2], [4, 3, 0], [2, 2, 1]] {
        let behaviour = Propensities {
            cascade: vec![0.5; SIZE],
            marginal: (0..SIZE).map(|at| chances[at][slate[at]]).collect(),
            draws: None,
            marginal_draws: None,
        };
        let weight = moments.weight(&evaluation.moments(), &slate).unwrap();
        let closed = independent_positions_weight(&evaluation.propensities(&slate), &behaviour);
        assert!((weight - closed).abs() < 1e-9, "{weight} is not {closed}");
    }
}

#[test]
fn the_right_model_makes_up_for_wrong_propensities() {
    let (logging, evaluation) = (logging(), evaluation());
    // q_k(a | before) = E[r_k + ... + r_K | items up to k], under the evaluation policy.
    let mut known: HashMap<Vec<usize>, f64> = HashMap::new();
    for (slate, _) in &logging.slates {
        for at in 0..SIZE {
            let mass = evaluation.probability(|other| other[..=at] == slate[..=at]);
            let tail = |(other, often): &(Vec<usize>, u32)| {
                f64::from(*often) / evaluation.total * cascading(other)[at..].iter().sum::<f64>()
            };
            let sum: f64 = evaluation.slates.iter().filter(|(other, _)| other[..=at] == slate[..=at]).map(tail).sum();
            // Where the policy never goes on, what comes is not defined; the item's own reward is.
            let q = if mass > 0.0 { sum / mass } else { cascading(slate)[at] };
            known.insert(slate[..=at].to_vec(), q);
        }
    }
    let model = |before: &[usize], item: usize| known.get(&[before, &[item]].concat()).copied().unwrap_or(0.0);
    // A logging policy that claims to be uniform.
    let claimed = Policy::new(|_| 1);
    let mut log = SlateLog::new();
    for (slate, often) in &logging.slates {
        let shown: Vec<f64> = (0..SIZE).map(|at| model(&slate[..at], slate[at])).collect();
        let expected: Vec<f64> = (0..SIZE)
            .map(|at| {
                let before = evaluation.probability(|other| other[..at] == slate[..at]);
                let next = |item| evaluation.probability(|other| other[..at] == slate[..at] && other[at] == item);
                if before == 0.0 {
                    0.0
                } else {
                    (0..ITEMS).map(|item| next(item) / before * model(&slate[..at], item)).sum()
                }
            })
            .collect();
        for _ in 0..*often {
            let round = SlateRound {
                id: "",
                rewards: &cascading(slate),
                behaviour: &claimed.propensities(slate),
                evaluation: &evaluation.propensities(slate),
                predictions: Some(SlatePredictions { shown: &shown, expected: &expected }),
                pseudo_inverse: None,
                user: None,
            };
            log.push(&round).unwrap();
        }
    }
    let truth = evaluation.value(&cascading);
    assert!((value(&CascadeDoublyRobust, &log) - truth).abs() < 1e-9);
    assert!((value(&RewardInteractionIps, &log) - truth).abs() > 1e-2);
}

#[test]
fn shorter_slates_count_for_the_positions_they_have() {
    let certain = |length: usize, weight: f64| {
        let behaviour =
            Propensities { cascade: vec![0.5; length], marginal: vec![0.5; length], draws: None, marginal_draws: None };
        let target = Propensities {
            cascade: vec![0.5 * weight; length],
            marginal: vec![0.5 * weight; length],
            draws: None,
            marginal_draws: None,
        };
        (behaviour, target)
    };
    let mut log = SlateLog::new();
    for (rewards, weight) in [(&[1.0, 2.0][..], 1.0), (&[4.0], 0.5), (&[3.0, 6.0], 2.0)] {
        let (behaviour, evaluation) = certain(rewards.len(), weight);
        let round = SlateRound {
            id: "",
            rewards,
            behaviour: &behaviour,
            evaluation: &evaluation,
            predictions: None,
            pseudo_inverse: None,
            user: None,
        };
        log.push(&round).unwrap();
    }
    assert_eq!(log.rows(), 3);
    assert_eq!(log.totals(), [3.0, 4.0, 9.0]);
    let first = (1.0 + 2.0 + 6.0) / 3.5;
    let second = 2.0 / 3.0 * (2.0 + 12.0) / 3.0;
    assert!((value(&SelfNormalisedIndependentIps, &log) - (first + second)).abs() < 1e-12);
    assert!((value(&IndependentIps, &log) - (1.0 + 2.0 + 2.0 + 6.0 + 12.0) / 3.0).abs() < 1e-12);
    assert!((value(&SelfNormalisedStandardIps, &log) - (3.0 + 2.0 + 18.0) / 3.5).abs() < 1e-12);
}
