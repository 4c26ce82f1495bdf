//! Logs of simulated users whose truth can be had: interest exploration, one item a slate.
//!
//! Every user has a taste of their own, so the decisions of one are not independent of each other. The items of one slate of
//! candidates are drawn anew each time, so nothing that is shown changes what comes after.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use slated_contract::slate::{Constraints, DecisionSeed, Exploration, Scores, draw_items, next_choice};
use slated_trainer::env::{EnvironmentSettings, InterestExplorationSettings};
use slated_trainer::ope::reward_model::{CrossFit, RewardModelSettings, fold_of};
use slated_trainer::ope::single::{SingleLog, SingleRound};

/// Candidates of a decision.
const CANDIDATES: usize = 5;
/// Decisions of a user.
pub const STEPS: u32 = 20;

/// Shows every candidate as often.
pub const LOGGING: Exploration = Exploration::EpsilonGreedy { epsilon: 1.0 };

/// A policy whose value is asked for; each takes the best candidate by its own number nine times in ten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// By the quality: better than the logging policy.
    Better,
    /// By a number that has nothing to do with the user's choice: exactly as good.
    Same,
    /// By the least quality: worse.
    Worse,
}

impl Target {
    pub const ALL: [Self; 3] = [Self::Better, Self::Same, Self::Worse];
    const EXPLORATION: Exploration = Exploration::EpsilonGreedy { epsilon: 0.1 };

    pub const fn name(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Same => "as good",
            Self::Worse => "worse",
        }
    }

    fn scores(self, seen: &Seen) -> [f32; CANDIDATES] {
        match self {
            Self::Better => seen.quality,
            Self::Same => seen.noise,
            Self::Worse => seen.quality.map(|quality| -quality),
        }
    }
}

/// What there is to see of the candidates of one decision.
#[derive(Debug, Clone, Copy)]
struct Seen {
    quality: [f32; CANDIDATES],
    topic: [bool; CANDIDATES],
    /// Drawn anew each time.
    noise: [f32; CANDIDATES],
}

impl Seen {
    /// What the reward model reads of a candidate.
    fn features(&self, candidate: usize) -> [f64; 3] {
        [1.0, f64::from(self.quality[candidate]), f64::from(u8::from(self.topic[candidate]))]
    }
}

/// A decision of the log.
struct Round {
    user: String,
    seen: Seen,
    shown: usize,
    reward: f64,
}

/// The decisions of `users` users under a policy.
fn run(
    users: u64,
    seed: u64,
    exploration: &Exploration,
    scores: impl Fn(&Seen) -> [f32; CANDIDATES],
) -> anyhow::Result<Vec<Round>> {
    let settings = InterestExplorationSettings {
        candidates: CANDIDATES,
        slate_size: 1,
        max_steps: STEPS,
        ..InterestExplorationSettings::default()
    };
    let mut environment = EnvironmentSettings::InterestExploration(settings).build()?;
    let mut rounds = Vec::with_capacity(users as usize * STEPS as usize);
    let mut ranks = Vec::new();
    for index in 0..users {
        let user = DecisionSeed::derive(seed, &index.to_string()).value();
        environment.reset(user);
        let mut generator = ChaCha8Rng::seed_from_u64(!user);
        for step in 0..STEPS {
            ranks.clear();
            environment.reference("best_quality", &mut ranks);
            let mut seen = Seen { quality: [0.0; CANDIDATES], topic: [false; CANDIDATES], noise: [0.0; CANDIDATES] };
            seen.quality.copy_from_slice(&ranks);
            for candidate in 0..CANDIDATES {
                // The well-made topic stands out by its quality.
                seen.topic[candidate] =
                    environment.item(candidate).get("cluster").is_some_and(|topic| topic == 0.0.into());
                seen.noise[candidate] = generator.random();
            }
            let scores = scores(&seen);
            let scores = Scores::new(&scores, CANDIDATES, exploration)?;
            let slate = draw_items(exploration, &scores, 1, DecisionSeed::derive(user, &step.to_string()))?;
            let outcome = environment.step(&slate)?;
            rounds.push(Round { user: index.to_string(), seen, shown: slate[0], reward: outcome.reward });
        }
    }
    Ok(rounds)
}

/// The value of a policy by showing it to so many users: mean reward a decision.
pub fn truth(target: Target, users: u64, seed: u64) -> anyhow::Result<f64> {
    let rounds = run(users, seed, &Target::EXPLORATION, |seen| target.scores(seen))?;
    Ok(rounds.iter().map(|round| round.reward).sum::<f64>() / rounds.len() as f64)
}

/// A log of the uniform policy as each target's evaluation sees it, with cross-fitted predictions.
pub fn logs(users: u64, seed: u64) -> anyhow::Result<Vec<SingleLog>> {
    let rounds = run(users, seed, &LOGGING, |_| [0.0; CANDIDATES])?;
    let settings = RewardModelSettings::default();
    let mut fit = CrossFit::new(settings, 3)?;
    let fold = |round: &Round| fold_of(&round.user, settings.folds);
    loop {
        for round in &rounds {
            fit.add(fold(round), &round.seen.features(round.shown), round.reward)?;
        }
        if !fit.end_pass()? {
            break;
        }
    }
    let see = |target: &Target| {
        let mut log = SingleLog::new();
        for round in &rounds {
            let scores = target.scores(&round.seen);
            let scores = Scores::new(&scores, CANDIDATES, &Target::EXPLORATION)?;
            let evaluation = next_choice(&Target::EXPLORATION, &scores, &[], &Constraints::default());
            let predictions: Vec<f64> =
                (0..CANDIDATES).map(|candidate| fit.predict(fold(round), &round.seen.features(candidate))).collect();
            log.push(&SingleRound {
                reward: round.reward,
                propensity: 1.0 / CANDIDATES as f64,
                shown: round.shown,
                evaluation: &evaluation.unwrap_or_default(),
                predictions: Some(&predictions),
                user: Some(&round.user),
                ..SingleRound::default()
            })?;
        }
        Ok(log)
    };
    Target::ALL.iter().map(see).collect()
}
