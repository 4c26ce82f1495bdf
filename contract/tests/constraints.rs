//! Slates under constraints: what they keep to, and that their propensities are those of the process that draws them.

use std::collections::HashMap;

use slated_contract::slate::{
    AtMost, ConstraintError, Constraints, DecisionSeed, Diversity, DrawnSlate, Exploration, Required, Scores,
    constrained_propensities, draw_constrained, propensities,
};

const SEED: DecisionSeed = DecisionSeed::from_value(5);
const SCORES: [f32; 6] = [0.3, -0.2, 1.1, 0.8, 0.0, 0.5];

fn explorations() -> [Exploration; 3] {
    [
        Exploration::EpsilonGreedy { epsilon: 0.3 },
        Exploration::Softmax { temperature: 0.7 },
        Exploration::InverseGapWeighting { gamma: 4.0 },
    ]
}

/// Candidates 0 to 2 are of group 0, the others of group 1; one of 4 and 5 must stand at position 2; 1 is pinned.
fn every_kind() -> Constraints {
    let rows = [1.0, 0.0, 0.6, 0.8, 0.0, 1.0, 1.0, 1.0, -1.0, 0.2, 0.3, 0.3];
    Constraints {
        pinned: vec![(1, 1)],
        at_most: vec![AtMost { group: vec![Some(0), Some(0), Some(0), Some(1), Some(1), None], most: 2 }],
        required: vec![Required { position: 2, eligible: vec![false, false, false, false, true, true] }],
        diversity: Some(Diversity::new(0.6, &rows, 2).unwrap()),
    }
}

/// Every slate of `size` out of `candidates`, in order.
fn slates(candidates: usize, size: usize) -> Vec<Vec<usize>> {
    (0..size).fold(vec![Vec::new()], |shorter, _| {
        let longer = |slate: &Vec<usize>| {
            let with = |item| slate.iter().copied().chain([item]).collect::<Vec<_>>();
            (0..candidates).filter(|item| !slate.contains(item)).map(with).collect::<Vec<_>>()
        };
        shorter.iter().flat_map(longer).collect()
    })
}

#[test]
fn constraints_that_forbid_nothing_change_no_propensity() {
    let idle = Constraints { at_most: vec![AtMost { group: vec![Some(0); 6], most: 6 }], ..Constraints::default() };
    for exploration in explorations() {
        let scores = Scores::new(&SCORES, 6, &exploration).unwrap();
        for slate in slates(6, 3) {
            let plain = propensities(&exploration, &scores, &slate, SEED).unwrap();
            let ours = constrained_propensities(&exploration, &scores, &slate, 3, &idle, SEED).unwrap();
            assert_eq!(ours.marginal_draws, None);
            for (a, b) in [(&plain.cascade, &ours.cascade), (&plain.marginal, &ours.marginal)] {
                assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9), "{exploration:?} {slate:?}: {a:?}, {b:?}");
            }
        }
    }
}

#[test]
fn the_propensities_of_all_slates_sum_to_one_and_give_the_marginals() {
    let constraints = every_kind();
    constraints.check(4, 6).unwrap();
    for exploration in explorations() {
        let scores = Scores::new(&SCORES, 6, &exploration).unwrap();
        let all: Vec<_> = slates(6, 4)
            .into_iter()
            .map(|items| {
                let propensities =
                    constrained_propensities(&exploration, &scores, &items, 4, &constraints, SEED).unwrap();
                DrawnSlate { items, propensities }
            })
            .collect();
        let total: f64 = all.iter().map(|slate| slate.propensities.joint()).sum();
        assert!((total - 1.0).abs() < 1e-12, "{exploration:?}: {total}");
        for slate in all.iter().filter(|slate| slate.propensities.joint() > 0.0) {
            assert_eq!(slate.items[1], 1);
            for (position, &item) in slate.items.iter().enumerate() {
                let with = all.iter().filter(|other| other.items[position] == item);
                let expected: f64 = with.map(|other| other.propensities.joint()).sum();
                assert!((slate.propensities.marginal[position] - expected).abs() < 1e-12, "{exploration:?}");
            }
        }
    }
}

#[test]
fn slates_are_drawn_as_often_as_their_propensities_say() {
    const DRAWS: u32 = 20_000;
    let constraints = every_kind();
    for exploration in explorations() {
        let scores = Scores::new(&SCORES, 6, &exploration).unwrap();
        let mut counts: HashMap<Vec<usize>, (u32, f64)> = HashMap::new();
        for seed in 0..u64::from(DRAWS) {
            let seed = DecisionSeed::derive(seed, "drawn");
            let slate = draw_constrained(&exploration, &scores, 4, &constraints, seed).unwrap();
            let entry = counts.entry(slate.items.clone()).or_insert((0, slate.propensities.joint()));
            entry.0 += 1;
        }
        // Pearson's statistic over the slates that are expected at least five times.
        let expected = |propensity: f64| propensity * f64::from(DRAWS);
        let cells: Vec<_> = counts.values().filter(|(_, propensity)| expected(*propensity) >= 5.0).collect();
        let statistic: f64 = cells.iter().map(|(n, p)| (f64::from(*n) - expected(*p)).powi(2) / expected(*p)).sum();
        let degrees = cells.len() as f64;
        assert!(cells.len() > 3 && statistic < degrees + 4.0 * (2.0 * degrees).sqrt(), "{statistic} for {degrees}");
    }
}

#[test]
fn what_is_required_later_is_not_spent_before() {
    // Only candidate 2, the best, may stand last: it must be kept for there.
    let required = Required { position: 2, eligible: vec![false, false, true, false, false, false] };
    let constraints = Constraints { required: vec![required], ..Constraints::default() };
    for exploration in explorations().into_iter().chain([Exploration::Greedy]) {
        let scores = Scores::new(&SCORES, 6, &exploration).unwrap();
        for seed in 0..50 {
            let seed = DecisionSeed::derive(seed, "required");
            let slate = draw_constrained(&exploration, &scores, 3, &constraints, seed).unwrap();
            assert_eq!(slate.items[2], 2);
            assert!((slate.propensities.marginal[2] - 1.0).abs() < 1e-12);
        }
    }
}

#[test]
fn caps_leave_a_slate_shorter_rather_than_broken() {
    let constraints = Constraints {
        at_most: vec![AtMost { group: vec![Some(0), Some(0), Some(0), Some(1), Some(1), Some(1)], most: 1 }],
        ..Constraints::default()
    };
    let scores = Scores::new(&SCORES, 6, &Exploration::Greedy).unwrap();
    let drawn = draw_constrained(&Exploration::Greedy, &scores, 4, &constraints, SEED).unwrap();
    assert_eq!(drawn.items, [2, 3]);
    assert_eq!(drawn.propensities.joint(), 1.0);
}

#[test]
fn diversity_is_the_order_of_maximal_marginal_relevance() {
    // 0 and 1 are alike; 2 is at a right angle to both. With lambda 0.5 the penalty is the similarity itself.
    let rows = [1.0, 0.0, 2.0, 0.0, 0.0, 3.0];
    let constraints = Constraints { diversity: Some(Diversity::new(0.5, &rows, 2).unwrap()), ..Constraints::default() };
    let scores = Scores::new(&[1.0, 0.9, 0.2], 3, &Exploration::Greedy).unwrap();
    let drawn = draw_constrained(&Exploration::Greedy, &scores, 3, &constraints, SEED).unwrap();
    assert_eq!(drawn.items, [0, 2, 1]);
    for lambda in [0.0, -1.0, 1.5, f64::NAN] {
        assert!(matches!(Diversity::new(lambda, &rows, 2), Err(ConstraintError::Lambda(_))), "{lambda}");
    }
}

#[test]
fn marginals_of_too_many_prefixes_are_estimated_and_say_so() {
    let scores: Vec<f32> = (0..30).map(|i| (i as f32 * 0.37).sin()).collect();
    let idle = Constraints { at_most: vec![AtMost { group: vec![Some(0); 30], most: 30 }], ..Constraints::default() };
    let exploration = Exploration::Softmax { temperature: 0.5 };
    let scores = Scores::new(&scores, 30, &exploration).unwrap();
    let drawn = draw_constrained(&exploration, &scores, 5, &idle, SEED).unwrap();
    assert_eq!(drawn.propensities.marginal_draws, Some(1000));
    let exact = propensities(&exploration, &scores, &drawn.items, SEED).unwrap();
    for (estimate, exact) in drawn.propensities.marginal.iter().zip(&exact.marginal) {
        assert!((estimate / exact - 1.0).abs() < 0.05, "{estimate}, {exact}");
    }
    for (ours, exact) in drawn.propensities.cascade.iter().zip(&exact.cascade) {
        assert!((ours / exact - 1.0).abs() < 1e-9);
    }
}

#[test]
fn posterior_draws_keep_to_the_constraints_too() {
    let exploration = Exploration::PosteriorSampling { draws: 2 };
    // The row acted upon, and two draws: without candidate 2, the first agrees with it and the second does not.
    let values = [3.0, 2.0, 9.0, 5.0, 4.0, 9.0, 1.0, 2.0, 9.0];
    let scores = Scores::new(&values, 3, &exploration).unwrap();
    let constraints = Constraints { pinned: vec![(1, 2)], ..Constraints::default() };
    let drawn = draw_constrained(&exploration, &scores, 2, &constraints, SEED).unwrap();
    assert_eq!(drawn.items, [0, 2]);
    assert_eq!(drawn.propensities.cascade, [2.0 / 3.0, 2.0 / 3.0]);
    assert_eq!(drawn.propensities.marginal, [2.0 / 3.0, 1.0]);
    assert_eq!(drawn.propensities.draws, Some(2));
}

#[test]
fn constraints_that_contradict_each_other_are_refused() {
    let pin = |pinned| Constraints { pinned, ..Constraints::default() };
    for pins in [vec![(3, 0)], vec![(0, 0), (0, 1)], vec![(0, 0), (1, 0)]] {
        assert!(matches!(pin(pins).check(3, 6), Err(ConstraintError::Pin { .. })));
    }
    let required = |position, eligible: &[usize]| Required {
        position,
        eligible: (0..6).map(|candidate| eligible.contains(&candidate)).collect(),
    };
    let requires = |required| Constraints { required, ..Constraints::default() };
    assert!(matches!(requires(vec![required(3, &[1])]).check(3, 6), Err(ConstraintError::Position { .. })));
    // Two positions for one candidate.
    let twice = requires(vec![required(0, &[1]), required(2, &[1])]);
    assert_eq!(twice.check(3, 6), Err(ConstraintError::Required));
    assert_eq!(requires(vec![required(0, &[1, 2]), required(2, &[1])]).check(3, 6), Ok(()));
    let over = Constraints { at_most: vec![AtMost { group: vec![Some(0); 6], most: 1 }], ..pin(vec![(0, 0), (1, 1)]) };
    assert_eq!(over.check(3, 6), Err(ConstraintError::PinnedOverCap { most: 1 }));
}
