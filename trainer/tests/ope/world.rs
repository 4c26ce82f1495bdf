//! A bandit whose truth is known.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use slated_trainer::ope::single::{SingleLog, SingleRound};

pub const CONTEXTS: usize = 2;
pub const ACTIONS: usize = 4;

/// The probability of a reward of 1, by context and action.
pub const MEANS: [[f64; ACTIONS]; CONTEXTS] = [[0.25, 0.5, 0.75, 0.25], [0.5, 0.25, 0.25, 0.75]];
/// The logging policy.
pub const LOGGING: [[f64; ACTIONS]; CONTEXTS] = [[0.5, 0.25, 0.125, 0.125], [0.125, 0.5, 0.25, 0.125]];
/// The policy to evaluate.
pub const EVALUATION: [[f64; ACTIONS]; CONTEXTS] = [[0.1, 0.2, 0.6, 0.1], [0.3, 0.0, 0.2, 0.5]];
/// A reward model that is wrong.
pub const WRONG: [[f64; ACTIONS]; CONTEXTS] = [[0.9, -0.3, 0.1, 0.4], [0.2, 0.8, 0.6, -1.0]];

/// The value of the policy to evaluate.
pub fn truth() -> f64 {
    let value =
        |context: usize| EVALUATION[context].iter().zip(MEANS[context]).map(|(pi, mean)| pi * mean).sum::<f64>();
    (0..CONTEXTS).map(value).sum::<f64>() / CONTEXTS as f64
}

/// A round, with a reward model and the propensity that the log claims.
pub fn round<'a>(
    context: usize,
    shown: usize,
    reward: f64,
    model: &'a [[f64; ACTIONS]; CONTEXTS],
    propensities: &[[f64; ACTIONS]; CONTEXTS],
) -> SingleRound<'a> {
    SingleRound {
        reward,
        propensity: propensities[context][shown],
        shown,
        evaluation: &EVALUATION[context],
        predictions: Some(&model[context]),
        ..SingleRound::default()
    }
}

/// The population, with a reward model and the propensities that the log claims.
pub fn population(model: &[[f64; ACTIONS]; CONTEXTS], propensities: &[[f64; ACTIONS]; CONTEXTS]) -> SingleLog {
    let mut log = SingleLog::new();
    for context in 0..CONTEXTS {
        for shown in 0..ACTIONS {
            let rows = (8.0 * LOGGING[context][shown]) as usize;
            let clicked = (4.0 * MEANS[context][shown]) as usize;
            for reward in (0..4 * rows).map(|row| if row % 4 < clicked { 1.0 } else { 0.0 }) {
                log.push(&round(context, shown, reward, model, propensities)).unwrap();
            }
        }
    }
    log
}

/// Rounds drawn from the logging policy.
pub fn drawn(rounds: usize, seed: u64, model: &[[f64; ACTIONS]; CONTEXTS]) -> SingleLog {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let mut log = SingleLog::new();
    for _ in 0..rounds {
        let context = generator.random_range(0..CONTEXTS);
        let shown = choose(&LOGGING[context], generator.random());
        let reward = if generator.random::<f64>() < MEANS[context][shown] { 1.0 } else { 0.0 };
        log.push(&round(context, shown, reward, model, &LOGGING)).unwrap();
    }
    log
}

/// The action at a uniform number from 0 to 1.
pub fn choose(policy: &[f64], uniform: f64) -> usize {
    let mut below = 0.0;
    let passed = |probability: &&f64| {
        below += **probability;
        below <= uniform
    };
    policy.iter().take_while(passed).count().min(policy.len() - 1)
}
