//! Environments side by side, shown slates by the policy that is being learned.

use std::sync::Arc;

use slated_contract::slate::{DecisionSeed, DrawError, Exploration, Scores, draw_items};

use crate::learner::Learner;
use crate::replay::{NStep, Step, Transition};
use crate::rollout::{Lane, LaneError, Observation};

use super::run::OnlineError;

/// The lanes of a run. Which episode a lane runs next depends on nothing but the order of the lanes, so that a run is
/// the same whatever it runs on.
pub(super) struct Actor {
    lanes: Vec<Acting>,
    seed: u64,
    slate_size: usize,
    /// Episodes begun.
    pub episodes: u64,
}

struct Acting {
    lane: Lane,
    gathering: NStep,
    episode: u64,
    step: u64,
    reward: f64,
}

/// What one step of all lanes brought.
#[derive(Debug, Default)]
pub(super) struct Brought {
    pub transitions: Vec<Transition>,
    /// The returns of the episodes that ended.
    pub returns: Vec<f64>,
}

/// The seed of the `index`-th thing of a kind in a run seeded with `seed`.
pub(crate) fn seed_of(seed: u64, kind: &str, index: u64) -> u64 {
    DecisionSeed::derive(seed, &format!("{kind}/{index}")).value()
}

impl Actor {
    pub fn new(lanes: Vec<Lane>, gathering: &NStep, seed: u64, slate_size: usize) -> Self {
        let acting = |lane| Acting { lane, gathering: gathering.clone(), episode: 0, step: 0, reward: 0.0 };
        Self { lanes: lanes.into_iter().map(acting).collect(), seed, slate_size, episodes: 0 }
    }

    /// Begins a new episode in each lane.
    pub fn restart(&mut self) -> Result<(), LaneError> {
        for acting in &mut self.lanes {
            acting.begin(self.seed, &mut self.episodes)?;
        }
        Ok(())
    }

    /// Cuts the running episodes short.
    pub fn cut(&mut self) -> Vec<Transition> {
        let mut transitions = Vec::new();
        for acting in &mut self.lanes {
            let last = Arc::new(acting.lane.observation().clone());
            acting.gathering.cut(&last, |transition| transitions.push(transition));
        }
        transitions
    }

    /// Shows one slate in each lane, drawn by the learner's scores, or at random where there is no exploration given.
    pub fn step(
        &mut self,
        learner: &mut dyn Learner,
        exploration: Option<Exploration>,
    ) -> Result<Brought, OnlineError> {
        let seen: Vec<Arc<Observation>> =
            self.lanes.iter().map(|acting| Arc::new(acting.lane.observation().clone())).collect();
        let ranks = match exploration {
            Some(_) => ranks(learner, &seen, self.slate_size),
            None => seen.iter().map(|observation| vec![0.0; observation.candidates]).collect(),
        };
        // Epsilon-greedy with an epsilon of 1 is uniform whatever the scores.
        let exploration = exploration.unwrap_or(Exploration::EpsilonGreedy { epsilon: 1.0 });
        let mut brought = Brought::default();
        for ((acting, observation), ranks) in self.lanes.iter_mut().zip(seen).zip(ranks) {
            let seed = DecisionSeed::from_value(seed_of(self.seed, "decision", acting.episode << 20 | acting.step));
            let slate = choose(&exploration, &ranks, self.slate_size, seed)?;
            let outcome = acting.lane.step(&slate)?;
            acting.step += 1;
            acting.reward += outcome.reward;
            let keep = |transition| brought.transitions.push(transition);
            let (consumed, reward) = (outcome.consumed, outcome.reward);
            acting.gathering.push(Step { observation, slate, consumed, reward, logged: None }, keep);
            if outcome.done {
                brought.returns.push(acting.reward);
                let last = Arc::new(acting.lane.observation().clone());
                acting.gathering.end(&last, |transition| brought.transitions.push(transition));
                acting.begin(self.seed, &mut self.episodes)?;
            }
        }
        Ok(brought)
    }
}

impl Acting {
    fn begin(&mut self, seed: u64, episodes: &mut u64) -> Result<(), LaneError> {
        self.episode = *episodes;
        *episodes += 1;
        self.step = 0;
        self.reward = 0.0;
        self.lane.reset(seed_of(seed, "episode", self.episode))
    }
}

/// What the slates of some observations are drawn by.
pub(super) fn ranks(learner: &mut dyn Learner, seen: &[Arc<Observation>], slate_size: usize) -> Vec<Vec<f32>> {
    let observations: Vec<&Observation> = seen.iter().map(|observation| &**observation).collect();
    let objective = learner.objective();
    let scored = learner.score(&observations);
    let rank = |scored: crate::rollout::Scored| match &objective {
        Some(objective) => objective.rank(&scored.scores, &scored.appeal, slate_size),
        None => scored.scores,
    };
    scored.into_iter().map(rank).collect()
}

/// Draws a slate.
pub(super) fn choose(
    exploration: &Exploration,
    ranks: &[f32],
    slate_size: usize,
    seed: DecisionSeed,
) -> Result<Vec<usize>, DrawError> {
    draw_items(exploration, &Scores::new(ranks, ranks.len(), exploration)?, slate_size, seed)
}
