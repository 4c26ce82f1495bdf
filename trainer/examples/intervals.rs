//! How often intervals hold the truth where clicks are rare and weights heavy:
//! `cargo run --release -p slated-trainer --example intervals`. Prints Markdown.
//!
//! 34 items, shown uniformly at random, with click rates around 0.5% as in the Open Bandit Dataset; the policy to evaluate
//! shows 5 of them in most rounds. A reward model knows each item's rate but for a third.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use slated_trainer::ope::single::*;
use slated_trainer::ope::{Estimator, IntervalMethod, IntervalSettings, OpeError};

const ITEMS: usize = 34;
const FAVOURED: usize = 5;
const REPEATS: usize = 400;

fn main() -> Result<(), OpeError> {
    let rates: Vec<f64> = (0..ITEMS).map(|item| 0.002 + 0.001 * (item % 7) as f64).collect();
    let wrong = |(item, rate): (usize, &f64)| rate * if item % 2 == 0 { 4.0 / 3.0 } else { 2.0 / 3.0 };
    let model: Vec<f64> = rates.iter().enumerate().map(wrong).collect();
    let (often, seldom) = (0.9 / FAVOURED as f64, 0.1 / (ITEMS - FAVOURED) as f64);
    let evaluation: Vec<f64> = (0..ITEMS).map(|item| if item < FAVOURED { often } else { seldom }).collect();
    let truth: f64 = evaluation.iter().zip(&rates).map(|(pi, rate)| pi * rate).sum();
    let methods = [
        IntervalMethod::StudentT,
        IntervalMethod::Bootstrap { resamples: 500, seed: 0 },
        IntervalMethod::EmpiricalBernstein { range: None },
    ];
    let estimators: [&dyn Estimator<SingleLog>; 4] =
        [&Ips, &SelfNormalisedIps, &DoublyRobust, &SelfNormalisedDoublyRobust];
    println!("Of {REPEATS} logs: intervals of 95% that hold the truth, and those that lie wholly above it.\n");
    println!("| rounds | estimator | `student_t` | `bootstrap` | `empirical_bernstein` |\n|---|---|---|---|---|");
    for rounds in [1000, 5000, 20_000] {
        let mut held = vec![[(0_usize, 0_usize); 3]; estimators.len()];
        for repeat in 0..REPEATS {
            let mut generator = ChaCha8Rng::seed_from_u64(repeat as u64);
            let mut log = SingleLog::new();
            for _ in 0..rounds {
                let shown = generator.random_range(0..ITEMS);
                log.push(&SingleRound {
                    reward: if generator.random::<f64>() < rates[shown] { 1.0 } else { 0.0 },
                    propensity: 1.0 / ITEMS as f64,
                    shown,
                    evaluation: &evaluation,
                    predictions: Some(&model),
                    ..SingleRound::default()
                })?;
            }
            for (estimator, held) in estimators.iter().zip(&mut held) {
                for (method, (inside, above)) in methods.iter().zip(held.iter_mut()) {
                    let settings = IntervalSettings { confidence: 0.95, method: *method };
                    let interval = estimator.estimate(&log, &settings)?.interval;
                    *inside += usize::from(interval.lower <= truth && truth <= interval.upper);
                    *above += usize::from(interval.lower > truth);
                }
            }
        }
        for (estimator, held) in estimators.iter().zip(&held) {
            let share = |count: usize| 100.0 * count as f64 / REPEATS as f64;
            let cells = held.map(|(inside, above)| format!("{:.1}%, {:.1}%", share(inside), share(above)));
            println!("| {rounds} | `{}` | {} |", estimator.name(), cells.join(" | "));
        }
    }
    Ok(())
}
