//! What the bandits learn, against values computed without them.

use serde_json::{Value, json};
use slated_contract::feature::Encoder;
use slated_contract::slate::{DecisionSeed, standard_normal};
use slated_trainer::bandit::{BanditLearner, BanditModel, Example, Widths};
use slated_trainer::train::AlgorithmSettings;

fn learner(settings: Value, state: usize, item: usize) -> Box<dyn BanditLearner> {
    let settings: AlgorithmSettings = serde_json::from_value(settings).unwrap();
    assert_eq!(settings.bandit().problem(), None);
    settings.bandit().learner(Widths { state, item }, 3).unwrap()
}

fn add(learner: &mut dyn BanditLearner, index: usize, item_id: &str, item: &[f32], reward: f64) {
    let decision_id = format!("decision-{index}");
    learner.add(&Example { decision_id: &decision_id, position: 0, item_id, state: &[], item, reward }).unwrap();
    learner.settle().unwrap();
}

/// The scores of items by id, without noise or with z for every place.
fn scores(learner: &mut dyn BanditLearner, ids: &[&str], z: f32) -> Vec<f64> {
    let encoder = Encoder::new(&learner.features().unwrap()).unwrap();
    let items: Vec<Vec<f32>> = ids
        .iter()
        .map(|id| {
            let mut row = Vec::new();
            encoder.encode_item(id, &slated_contract::feature::Features::new(), &mut row).unwrap();
            row
        })
        .collect();
    let model = learner.finish().unwrap();
    model.scores(&[], &items, &vec![z; model.signature().noise.unwrap_or(0)])
}

#[test]
fn tables_score_by_their_formulas() {
    let filled = |settings| {
        let mut learner = learner(settings, 0, 0);
        for (index, (id, reward)) in
            [("b", 1.0), ("a", 0.5), ("b", 0.0), ("b", 1.0), ("a", 1.0), ("b", 1.0)].into_iter().enumerate()
        {
            add(&mut *learner, index, id, &[], reward);
        }
        learner
    };
    let ids = ["a", "b", "never"];
    let close = |found: Vec<f64>, expected: [f64; 3], tolerance: f64| {
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < tolerance), "{found:?}, {expected:?}");
    };
    let mut greedy = filled(json!({"name": "epsilon_greedy", "prior_mean": 0.2, "prior_weight": 2.0}));
    close(scores(&mut *greedy, &ids, 0.0), [1.9 / 4.0, 3.4 / 6.0, 0.2], 1e-12);
    let mut ucb = filled(json!({"name": "ucb1", "scale": 2.0}));
    let bound = |mean: f64, plays: f64| mean + 2.0 * (2.0 * 6.0_f64.ln() / plays).sqrt();
    close(scores(&mut *ucb, &ids, 0.0), [bound(0.75, 2.0), bound(0.75, 4.0), bound(0.75, 2.0) + 1.0], 1e-12);
    // Medians of Beta(2.5, 1.5), Beta(4, 2) and Beta(1, 1), by numerical integration of the density.
    let mut thompson = filled(json!({"name": "bernoulli_thompson"}));
    close(scores(&mut *thompson, &ids, 0.0), [0.647_547_7, 0.686_189_8, 0.5], 1e-6);
}

#[test]
fn members_spread_as_the_mean_of_a_sample_does() {
    // An intercept alone: each member is a weighted mean of the rewards.
    let mut learner = learner(
        json!({"name": "bootstrap_ensemble", "members": 256, "scale": 0.0, "lambda": 1e-6, "interaction": "additive"}),
        0,
        0,
    );
    let count = 400;
    for index in 0..count {
        add(&mut *learner, index, "a", &[], f64::from(u8::from(index % 4 == 0)));
    }
    let model = learner.finish().unwrap();
    let draws = standard_normal(&mut DecisionSeed::from_value(1).noise_generator(), 20_000);
    let values: Vec<f64> = draws.iter().map(|&z| model.scores(&[], &[vec![]], &[z])[0]).collect();
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let deviation = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt();
    let expected = (0.25_f64 * 0.75 / count as f64).sqrt();
    assert!((mean - 0.25).abs() < 4.0 * expected / 16.0, "{mean}");
    // The deviation of 256 draws is known to 1 / sqrt(512).
    assert!((deviation / expected - 1.0).abs() < 4.0 / 512.0_f64.sqrt(), "{deviation}, {expected}");
}

/// Rewards that no linear model of x explains.
fn bent(x: f32) -> f64 {
    f64::from((2.0 * x).sin().abs())
}

fn bent_model(memory: usize) -> Box<dyn BanditModel> {
    let settings = json!({"name": "neural_linear", "hidden": [32, 16], "learning_rate": 0.003, "memory": memory});
    let mut learner = learner(settings, 0, 1);
    for index in 0..6000 {
        let x = ((index * 7919 % 2003) as f32 / 2003.0 - 0.5) * 4.0;
        add(&mut *learner, index, "a", &[x], bent(x));
    }
    learner.finish().unwrap()
}

#[test]
fn the_network_bends_and_a_small_memory_is_as_sure_as_a_large_one() {
    let (all, some) = (bent_model(6000), bent_model(1500));
    let points: Vec<Vec<f32>> = (0..40).map(|at| vec![-1.95 + at as f32 * 0.1]).collect();
    let spread = |model: &dyn BanditModel| {
        let mut generator = DecisionSeed::from_value(2).noise_generator();
        let width = model.signature().noise.unwrap();
        let mean = model.scores(&[], &points, &vec![0.0; width]);
        let error: f64 = points.iter().zip(&mean).map(|(x, score)| (score - bent(x[0])).powi(2)).sum();
        assert!((error / 40.0).sqrt() < 0.1, "{}", (error / 40.0).sqrt());
        let mut squares = vec![0.0; points.len()];
        for _ in 0..400 {
            let drawn = model.scores(&[], &points, &standard_normal(&mut generator, width));
            squares.iter_mut().zip(drawn.iter().zip(&mean)).for_each(|(sum, (a, b))| *sum += (a - b).powi(2) / 400.0);
        }
        (squares.iter().sum::<f64>() / points.len() as f64).sqrt()
    };
    let (all, some) = (spread(&*all), spread(&*some));
    // d features of unit noise over n examples: sqrt(d / n) or less.
    assert!(all < (17.0_f64 / 6000.0).sqrt() * 1.2, "{all}");
    assert!((some / all - 1.0).abs() < 0.25, "{some}, {all}");
}
