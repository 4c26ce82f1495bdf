//! Slates and their propensities, against enumeration, against frequencies, and against another implementation.

use slated_contract::slate::{
    Constraints, DecisionSeed, DrawError, Exploration, Propensities, Scores, SlateMethod, SlateObjective, draw,
    next_choice, plackett_luce, propensities, standard_normal, target_propensities,
};

const SOFTMAX: Exploration = Exploration::Softmax { temperature: 1.0 };

fn of(exploration: Exploration, scores: &[f32], slate: &[usize]) -> Propensities {
    let scores = Scores::new(scores, scores.len(), &exploration).unwrap();
    propensities(&exploration, &scores, slate, DecisionSeed::from_value(1)).unwrap()
}

/// The probability of the next item of a slate, from the definition alone.
fn next_probability(exploration: Exploration, scores: &[f32], taken: &[usize], next: usize) -> f64 {
    let left: Vec<usize> = (0..scores.len()).filter(|item| !taken.contains(item)).collect();
    match exploration {
        Exploration::Softmax { temperature } => {
            let greatest = left.iter().map(|&item| f64::from(scores[item])).fold(f64::NEG_INFINITY, f64::max);
            let weight = |item: usize| ((f64::from(scores[item]) - greatest) / temperature).exp();
            weight(next) / left.iter().map(|&item| weight(item)).sum::<f64>()
        }
        Exploration::EpsilonGreedy { epsilon } => {
            let best = left
                .iter()
                .copied()
                .reduce(|best, item| if scores[item] > scores[best] { item } else { best })
                .unwrap();
            epsilon / left.len() as f64 + if next == best { 1.0 - epsilon } else { 0.0 }
        }
        Exploration::InverseGapWeighting { gamma } => {
            let value = |item: usize| f64::from(scores[item]);
            let best = left.iter().copied().reduce(|best, item| if value(item) > value(best) { item } else { best });
            let chance = |item: usize| 1.0 / (left.len() as f64 + gamma * (value(best.unwrap()) - value(item)));
            if Some(next) == best {
                1.0 - left.iter().filter(|item| Some(**item) != best).map(|&item| chance(item)).sum::<f64>()
            } else {
                chance(next)
            }
        }
        _ => unreachable!("only closed forms are enumerated"),
    }
}

/// Every slate of the size with its probability.
fn enumerate(exploration: Exploration, scores: &[f32], size: usize) -> Vec<(Vec<usize>, f64)> {
    let mut slates = vec![(Vec::new(), 1.0)];
    for _ in 0..size {
        slates = slates
            .iter()
            .flat_map(|(slate, probability): &(Vec<usize>, f64)| {
                (0..scores.len()).filter(|item| !slate.contains(item)).map(move |item| {
                    let longer = slate.iter().copied().chain([item]).collect();
                    (longer, probability * next_probability(exploration, scores, slate, item))
                })
            })
            .collect();
    }
    slates
}

fn close(found: f64, expected: f64, tolerance: f64) -> bool {
    (found - expected).abs() <= tolerance * expected.abs().max(1e-3)
}

#[test]
fn closed_forms_equal_enumeration() {
    let rankings: [&[f32]; 4] = [
        &[0.3, -1.2, 2.0, 0.0, 0.7, 0.1],
        &[1.0, 1.0, 1.0, 1.0, 1.0],
        &[30.0, -30.0, 10.0, 0.0, 29.0, 3.0],
        &[5.0, 4.0, 4.0, 4.0, 3.0, 3.0],
    ];
    let methods = [
        SOFTMAX,
        Exploration::Softmax { temperature: 0.3 },
        Exploration::Softmax { temperature: 25.0 },
        Exploration::EpsilonGreedy { epsilon: 0.0 },
        Exploration::EpsilonGreedy { epsilon: 0.1 },
        Exploration::EpsilonGreedy { epsilon: 1.0 },
        Exploration::InverseGapWeighting { gamma: 0.0 },
        Exploration::InverseGapWeighting { gamma: 12.0 },
    ];
    for scores in rankings {
        for exploration in methods {
            let slates = enumerate(exploration, scores, 4);
            for (slate, probability) in &slates {
                let found = of(exploration, scores, slate);
                assert_eq!(found.draws, None);
                assert!(
                    close(found.joint(), *probability, 1e-12),
                    "{exploration:?} {scores:?} {slate:?}: {found:?} {probability}"
                );
                for position in 0..slate.len() {
                    let sum = |keep: &dyn Fn(&[usize]) -> bool| {
                        slates.iter().filter(|(other, _)| keep(other)).map(|(_, p)| p).sum::<f64>()
                    };
                    let prefix = sum(&|other| other[..=position] == slate[..=position]);
                    let marginal = sum(&|other| other[position] == slate[position]);
                    assert!(
                        close(found.cascade[position], prefix, 1e-11),
                        "{exploration:?} {scores:?} {slate:?} prefix {position}"
                    );
                    assert!(
                        close(found.marginal[position], marginal, 1e-9),
                        "{exploration:?} {scores:?} {slate:?} position {position}: {} is not {marginal}",
                        found.marginal[position]
                    );
                }
            }
        }
    }
}

#[test]
fn marginals_of_a_position_sum_to_one() {
    for candidates in [3_usize, 20, 200] {
        let scores: Vec<f32> = (0..candidates).map(|item| ((item * 7919 % 101) as f32) / 20.0).collect();
        let size = candidates.min(10);
        for exploration in
            [SOFTMAX, Exploration::Softmax { temperature: 0.05 }, Exploration::EpsilonGreedy { epsilon: 0.2 }]
        {
            let mut sums = vec![0.0; size];
            for item in 0..candidates {
                // A slate with the item at each position in turn; what stands elsewhere does not matter to the marginal.
                for (position, sum) in sums.iter_mut().enumerate() {
                    let mut slate: Vec<usize> = (0..candidates).filter(|other| *other != item).take(size - 1).collect();
                    slate.insert(position, item);
                    *sum += of(exploration, &scores, &slate).marginal[position];
                }
            }
            for (position, sum) in sums.iter().enumerate() {
                assert!(
                    (sum - 1.0).abs() < 1e-9,
                    "{exploration:?}, {candidates} candidates, position {position}: {sum}"
                );
            }
        }
    }
}

#[test]
fn hopeless_candidates_keep_finite_propensities() {
    let found = of(SOFTMAX, &[700.0, 0.0, -700.0, 1.0], &[2, 1, 0, 3]);
    for probability in found.cascade.iter().chain(&found.marginal) {
        assert!((0.0..=1.0).contains(probability), "{found:?}");
    }
    assert!(of(SOFTMAX, &[f32::MAX, f32::MIN], &[0, 1]).joint() == 1.0);
}

#[test]
fn softmax_equals_obp() {
    let parse = |line: &str| line.split(',').map(|field| field.trim().parse::<f64>().unwrap()).collect::<Vec<_>>();
    let logits: Vec<Vec<f64>> = include_str!("data/logits.csv").lines().skip(1).map(parse).collect();
    let rows: Vec<Vec<f64>> = include_str!("data/slates.csv").lines().skip(1).map(parse).collect();
    let mut compared = 0;
    for slate in rows.chunks_exact(3) {
        let logits = &logits[slate[0][0] as usize][1..];
        let items: Vec<usize> = slate.iter().map(|row| row[2] as usize).collect();
        let found = plackett_luce(logits, &items).unwrap();
        for (position, row) in slate.iter().enumerate() {
            assert!(
                (found.joint() - row[3]).abs() < 1e-9,
                "joint of slate {}: {} is not {}",
                row[0],
                found.joint(),
                row[3]
            );
            assert!((found.marginal[position] - row[4]).abs() < 1e-9, "marginal of slate {}", row[0]);
            assert!((found.cascade[position] - row[5]).abs() < 1e-9, "cascade of slate {}", row[0]);
            compared += 1;
        }
    }
    assert_eq!(compared, 3000);
}

/// Draws many slates and compares how often each item stood at each position, and each slate came, with the
/// propensities, within five standard errors.
fn frequencies(exploration: Exploration, scores: &[f32], size: usize, exact: bool) {
    const SEEDS: u64 = 20_000;
    let rows = exploration.score_rows();
    let mut slates = std::collections::HashMap::<Vec<usize>, (u32, f64)>::new();
    for seed in 0..SEEDS {
        let seed = DecisionSeed::from_value(seed * 7919 + 13);
        let noise = standard_normal(&mut seed.noise_generator(), rows * scores.len());
        let matrix: Vec<f32> = if exact {
            scores.to_vec()
        } else {
            noise.chunks(scores.len()).flat_map(|row| row.iter().zip(scores).map(|(z, s)| z + s)).collect()
        };
        let scores = Scores::new(&matrix, scores.len(), &exploration).unwrap();
        let drawn = draw(&exploration, &scores, size, seed).unwrap();
        let entry = slates.entry(drawn.items).or_default();
        entry.0 += 1;
        entry.1 += drawn.propensities.joint();
    }
    assert!(slates.len() > 1);
    for (slate, (count, sum)) in slates.iter().filter(|(_, (count, _))| *count > 100) {
        let frequency = f64::from(*count) / SEEDS as f64;
        let propensity = sum / f64::from(*count);
        let error = (propensity * (1.0 - propensity) / SEEDS as f64).sqrt();
        // An estimate from 100 draws carries its own bias, (1 - p) / 101 at most.
        let bias = if exact { 0.0 } else { 1.0 / 101.0 };
        assert!(
            (frequency - propensity).abs() < 5.0 * error + bias,
            "{exploration:?} {slate:?}: shown {frequency}, said {propensity}"
        );
    }
}

#[test]
fn slates_come_as_often_as_their_propensities_say() {
    let scores = [0.5, -0.3, 1.2, 0.1];
    frequencies(SOFTMAX, &scores, 2, true);
    frequencies(Exploration::Softmax { temperature: 0.5 }, &scores, 3, true);
    frequencies(Exploration::EpsilonGreedy { epsilon: 0.3 }, &scores, 2, true);
    frequencies(Exploration::InverseGapWeighting { gamma: 5.0 }, &scores, 3, true);
    frequencies(Exploration::PosteriorSampling { draws: 100 }, &scores, 2, false);
}

#[test]
fn the_inverse_of_an_estimated_propensity_is_nearly_unbiased() {
    // Importance weighting divides by the propensity: over many logs, the mean weight of a slate shown with
    // probability p must be 1 / p.
    let exploration = Exploration::PosteriorSampling { draws: 64 };
    let scores = [0.0_f32, 0.6];
    let (mut shown, mut weights) = (0_u32, 0.0);
    let decisions = 20_000_u64;
    for seed in 0..decisions {
        let seed = DecisionSeed::from_value(seed);
        let noise = standard_normal(&mut seed.noise_generator(), 65 * 2);
        let matrix: Vec<f32> = noise.chunks(2).flat_map(|row| [row[0] + scores[0], row[1] + scores[1]]).collect();
        let drawn = draw(&exploration, &Scores::new(&matrix, 2, &exploration).unwrap(), 1, seed).unwrap();
        assert_eq!(drawn.propensities.draws, Some(64));
        if drawn.items == [0] {
            shown += 1;
            weights += 1.0 / drawn.propensities.joint();
        }
    }
    // Sum of weights over decisions estimates P(anything) = 1.
    let total = weights / decisions as f64;
    assert!((total - 1.0).abs() < 0.03, "{total}, item 0 shown {shown} times");
}

#[test]
fn the_same_seed_gives_the_same_slate_and_bits() {
    let scores: Vec<f32> = (0..20).map(|item| (item as f32).sin()).collect();
    for exploration in [
        Exploration::Greedy,
        SOFTMAX,
        Exploration::EpsilonGreedy { epsilon: 0.5 },
        Exploration::InverseGapWeighting { gamma: 10.0 },
    ] {
        let scores = Scores::new(&scores, 20, &exploration).unwrap();
        let seed = DecisionSeed::derive(42, "decision");
        let once = draw(&exploration, &scores, 5, seed).unwrap();
        assert_eq!(once, draw(&exploration, &scores, 5, seed).unwrap());
        assert_eq!(once.propensities, propensities(&exploration, &scores, &once.items, seed).unwrap());
    }
    let other = |id: String| {
        draw(&SOFTMAX, &Scores::new(&scores, 20, &SOFTMAX).unwrap(), 5, DecisionSeed::derive(42, &id)).unwrap().items
    };
    assert!((0..20).map(|id| other(id.to_string())).collect::<std::collections::HashSet<_>>().len() > 10);
}

#[test]
fn seeds_fit_every_json_reader() {
    for id in 0..1000 {
        assert!(DecisionSeed::derive(u64::MAX, &id.to_string()).value() < 1 << 53);
    }
}

#[test]
fn greedy_breaks_ties_by_order_and_is_certain() {
    let scores = [1.0, 3.0, 3.0, 2.0];
    let wrapped = Scores::new(&scores, 4, &Exploration::Greedy).unwrap();
    let drawn = draw(&Exploration::Greedy, &wrapped, 3, DecisionSeed::from_value(0)).unwrap();
    assert_eq!(drawn.items, [1, 2, 3]);
    assert_eq!(
        drawn.propensities,
        Propensities { cascade: vec![1.0; 3], marginal: vec![1.0; 3], draws: None, marginal_draws: None }
    );
}

#[test]
fn what_cannot_be_drawn_is_refused() {
    let scores = [0.0, 1.0];
    let wrapped = Scores::new(&scores, 2, &SOFTMAX).unwrap();
    let seed = DecisionSeed::from_value(1);
    for size in [0, 3] {
        assert_eq!(draw(&SOFTMAX, &wrapped, size, seed), Err(DrawError::Size { size, candidates: 2 }));
    }
    assert_eq!(propensities(&SOFTMAX, &wrapped, &[1, 1], seed), Err(DrawError::Item { candidate: 1, candidates: 2 }));
    assert_eq!(propensities(&SOFTMAX, &wrapped, &[2], seed), Err(DrawError::Item { candidate: 2, candidates: 2 }));
    assert!(matches!(Scores::new(&[0.0, f32::NAN], 2, &SOFTMAX), Err(DrawError::NotFinite { candidate: 1, .. })));
    assert!(matches!(Scores::new(&[0.0], 2, &SOFTMAX), Err(DrawError::Shape { given: 1, rows: 1, candidates: 2 })));
    assert!(matches!(plackett_luce(&[0.0, f64::INFINITY], &[0]), Err(DrawError::NotFinite { candidate: 1, .. })));
}

/// Every slate of the size, as sets in order of index.
fn subsets(candidates: usize, size: usize) -> Vec<Vec<usize>> {
    (0..1_u32 << candidates)
        .filter(|bits| bits.count_ones() as usize == size)
        .map(|bits| (0..candidates).filter(|item| bits & (1 << item) != 0).collect())
        .collect()
}

#[test]
fn the_exact_objective_finds_the_best_of_all_slates() {
    let mut generator = DecisionSeed::from_value(5).slate_generator();
    let mut greedy_fell_short = 0;
    for _ in 0..300 {
        let scores = standard_normal(&mut generator, 8).iter().map(|z| 3.0 * z).collect::<Vec<f32>>();
        let appeal: Vec<f32> = standard_normal(&mut generator, 8).iter().map(|z| z.exp()).collect();
        for no_choice in [0.0, 0.5, 2.0] {
            for size in [1, 3, 8] {
                let of = |method| {
                    let objective = SlateObjective { method, no_choice };
                    objective.worth(&scores, &appeal, &objective.best(&scores, &appeal, size))
                };
                let objective = SlateObjective { method: SlateMethod::Exact, no_choice };
                let best = subsets(8, size)
                    .iter()
                    .map(|slate| objective.worth(&scores, &appeal, slate))
                    .fold(f64::NEG_INFINITY, f64::max);
                let (exact, greedy, top_k) = (of(SlateMethod::Exact), of(SlateMethod::Greedy), of(SlateMethod::TopK));
                assert!((exact - best).abs() < 1e-6 * best.abs().max(1.0), "{exact} is not {best}");
                assert!(greedy <= exact + 1e-9 && top_k <= exact + 1e-9);
                greedy_fell_short += i32::from(greedy < exact - 1e-6);
            }
        }
    }
    assert!(greedy_fell_short > 0, "the cases are too easy to tell the methods apart");
}

#[test]
fn an_objective_without_appeal_or_choice_is_worth_nothing() {
    let objective = SlateObjective { method: SlateMethod::Exact, no_choice: 0.0 };
    let ranks = objective.rank(&[1.0, 2.0], &[0.0, -1.0], 1);
    assert!(ranks.iter().all(|rank| rank.is_finite()), "{ranks:?}");
    assert_eq!(objective.worth(&[1.0, 2.0], &[0.0, 0.0], &[1]), 0.0);
    assert!(SlateObjective { no_choice: -1.0, ..objective }.check().unwrap_err().to_string().contains("no_choice"));
}

#[test]
fn next_choices_are_those_of_the_definition() {
    let scores = [0.3, -1.2, 2.0, 2.0, 0.7];
    for exploration in [
        SOFTMAX,
        Exploration::Softmax { temperature: 0.01 },
        Exploration::EpsilonGreedy { epsilon: 0.3 },
        Exploration::EpsilonGreedy { epsilon: 0.0 },
        Exploration::InverseGapWeighting { gamma: 3.0 },
    ] {
        let (checked, free) = (Scores::new(&scores, scores.len(), &exploration).unwrap(), Constraints::default());
        for taken in [&[][..], &[2], &[3, 0], &[4, 3, 2, 1]] {
            let chances = next_choice(&exploration, &checked, taken, &free).unwrap();
            assert!((chances.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            for (item, chance) in chances.iter().enumerate() {
                let expected =
                    if taken.contains(&item) { 0.0 } else { next_probability(exploration, &scores, taken, item) };
                assert!((chance - expected).abs() < 1e-12, "{exploration:?} after {taken:?}: {item} has {chance}");
            }
        }
        assert_eq!(next_choice(&exploration, &checked, &[0, 1, 2, 3, 4], &free), None);
        assert_eq!(
            target_propensities(&exploration, &checked, &[4, 0], 2, &free, DecisionSeed::from_value(1)),
            propensities(&exploration, &checked, &[4, 0], DecisionSeed::from_value(1)),
            "what is exact is the same on both sides"
        );
    }
}

#[test]
fn targets_of_posterior_sampling_count_every_draw_and_may_be_zero() {
    let exploration = Exploration::PosteriorSampling { draws: 3 };
    #[rustfmt::skip]
    let rows = [
        3.0, 2.0, 1.0,
        3.0, 1.0, 2.0,
        1.0, 3.0, 2.0,
        3.0, 2.0, 1.0,
    ];
    let scores = Scores::new(&rows, 3, &exploration).unwrap();
    let free = Constraints::default();
    assert_eq!(next_choice(&exploration, &scores, &[], &free), Some(vec![0.75, 0.25, 0.0]));
    assert_eq!(next_choice(&exploration, &scores, &[0], &free), None);
    let of = |slate: &[usize], constraints: &Constraints| {
        target_propensities(&exploration, &scores, slate, 2, constraints, DecisionSeed::from_value(1)).unwrap()
    };
    let target = of(&[0, 1], &free);
    assert_eq!((target.cascade, target.marginal), (vec![0.75, 0.5], vec![0.75, 0.5]));
    let never = of(&[2, 1], &free);
    assert_eq!((never.cascade, never.marginal), (vec![0.0, 0.0], vec![0.0, 0.5]));
    // With candidate 0 pinned below, the rest is ranked above it.
    let pinned = Constraints { pinned: vec![(1, 0)], ..Constraints::default() };
    let target = of(&[1, 0], &pinned);
    assert_eq!((target.cascade, target.marginal), (vec![0.75, 0.75], vec![0.75, 1.0]));
    assert_eq!(next_choice(&exploration, &scores, &[], &pinned), Some(vec![0.0, 0.75, 0.25]));
}

#[test]
fn marginals_of_too_many_prefixes_are_near_those_of_enumeration() {
    let scores: Vec<f32> = (0..20).map(|item| (item as f32 * 0.37).sin()).collect();
    let exploration = Exploration::InverseGapWeighting { gamma: 10.0 };
    let checked = Scores::new(&scores, 20, &exploration).unwrap();
    let slates = enumerate(exploration, &scores, 4);
    for shown in [[4, 5, 3, 0], [17, 4, 12, 5]] {
        let found = propensities(&exploration, &checked, &shown, DecisionSeed::from_value(8)).unwrap();
        assert_eq!((found.draws, found.marginal_draws), (None, Some(1000)));
        for (position, &item) in shown.iter().enumerate() {
            let exact: f64 = slates.iter().filter(|(slate, _)| slate[position] == item).map(|(_, p)| p).sum();
            let ratio = found.marginal[position] / exact;
            assert!((ratio - 1.0).abs() < 0.1, "{shown:?} at {position}: {} is not {exact}", found.marginal[position]);
        }
        let (_, exact) = slates.iter().find(|(slate, _)| *slate == shown).unwrap();
        assert!(close(found.joint(), *exact, 1e-12));
    }
}
