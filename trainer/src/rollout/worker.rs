//! One worker of a rollout: blocks of episodes, several at a time, each step of all of them scored in one batch.

use slated_contract::slate::{DecisionSeed, Scores, draw};

use super::run::{Episode, Rollout, RolloutError};
use super::seed::{decision_seed, episode_seed, part_draw};
use super::{Actor, Decided, Lane, Observer, Part, Scorer};

/// Episodes in a block. A block is run by one worker from beginning to end, so that what is scored together does not
/// depend on the number of workers.
pub(super) const BLOCK: u64 = 128;

/// Runs blocks of episodes.
pub(super) struct Worker<'r, 'a, 'p> {
    rollout: &'r Rollout<'a>,
    parts: &'r [Part<'p>],
    /// By part; made when first needed.
    scorers: Vec<Option<Box<dyn Scorer>>>,
    slots: Vec<Slot>,
}

/// A place for one episode at a time.
struct Slot {
    /// By part, because each reads the environment by its own schema; made when first needed.
    lanes: Vec<Option<Lane>>,
    running: Option<Running>,
}

struct Running {
    episode: Episode,
    seed: u64,
    decision: DecisionSeed,
    scores: Vec<f32>,
}

impl<'r, 'a, 'p> Worker<'r, 'a, 'p> {
    pub fn new(rollout: &'r Rollout<'a>, parts: &'r [Part<'p>]) -> Self {
        let slot = || Slot { lanes: parts.iter().map(|_| None).collect(), running: None };
        Self {
            rollout,
            parts,
            scorers: parts.iter().map(|_| None).collect(),
            slots: (0..rollout.lanes.max(1)).map(|_| slot()).collect(),
        }
    }

    /// Runs a block; its episodes, in the order of their numbers.
    pub fn block(&mut self, block: u64) -> Result<Vec<Episode>, RolloutError> {
        let mut observer = self.rollout.observe.map(|make| make(block));
        let mut waiting = block * BLOCK..self.rollout.episodes.min((block + 1) * BLOCK);
        let mut ended = Vec::new();
        loop {
            for slot in self.slots.iter_mut().filter(|slot| slot.running.is_none()) {
                let Some(episode) = waiting.next() else { break };
                slot.begin(self.rollout, self.parts, episode)?;
            }
            if self.slots.iter().all(|slot| slot.running.is_none()) {
                break;
            }
            for part in 0..self.parts.len() {
                self.score(part)?;
            }
            for slot in &mut self.slots {
                if let Some(episode) = slot.step(self.rollout, self.parts, observer.as_deref_mut())? {
                    (self.rollout.ended)(&episode);
                    ended.push(episode);
                }
            }
        }
        if let Some(observer) = &mut observer {
            observer.finish().map_err(RolloutError::Observer)?;
        }
        ended.sort_unstable_by_key(|episode| episode.index);
        Ok(ended)
    }

    /// Scores the candidates of every episode of a part.
    fn score(&mut self, part: usize) -> Result<(), RolloutError> {
        let actor = self.parts[part].actor;
        let (mut lanes, mut runs) = (Vec::new(), Vec::new());
        for slot in &mut self.slots {
            if let (Some(lane), Some(running)) = (&slot.lanes[part], &mut slot.running)
                && running.episode.part == part
            {
                lanes.push(lane);
                runs.push(running);
            }
        }
        let Actor::Model(model) = actor else {
            return lanes
                .into_iter()
                .zip(runs)
                .try_for_each(|(lane, running)| actor.score_alone(lane, &mut running.scores));
        };
        if lanes.is_empty() {
            return Ok(());
        }
        let scorer = match &mut self.scorers[part] {
            Some(scorer) => scorer,
            empty => empty.insert((model.scorer)()?),
        };
        let seeds: Vec<DecisionSeed> = runs.iter().map(|running| running.decision).collect();
        let scores = model.score(scorer.as_mut(), &lanes, &seeds)?;
        for (running, scores) in runs.into_iter().zip(scores) {
            running.scores = scores;
        }
        Ok(())
    }
}

impl Slot {
    fn begin(&mut self, rollout: &Rollout, parts: &[Part], index: u64) -> Result<(), RolloutError> {
        let seed = episode_seed(rollout.seed, index);
        let part = part_of(parts, part_draw(seed));
        let lane = match &mut self.lanes[part] {
            Some(lane) => lane,
            empty => {
                let environment = (rollout.environment)()?;
                let (features, session) = match &parts[part].actor {
                    Actor::Model(model) => (model.features.clone(), model.session.clone()),
                    _ => (environment.spec().features.clone(), environment.spec().session.clone()),
                };
                empty.insert(Lane::new(environment, &features, &session)?)
            }
        };
        lane.reset(seed)?;
        self.running = Some(Running {
            episode: Episode { index, part, ..Episode::default() },
            seed,
            decision: decision_seed(seed, 0),
            scores: Vec::new(),
        });
        Ok(())
    }

    /// Shows the slate that the scores give; the episode, where that ended it.
    fn step(
        &mut self,
        rollout: &Rollout,
        parts: &[Part],
        mut observer: Option<&mut (dyn Observer + '_)>,
    ) -> Result<Option<Episode>, RolloutError> {
        let Some(mut running) = self.running.take() else { return Ok(None) };
        let episode = &mut running.episode;
        let Some(lane) = self.lanes[episode.part].as_mut() else { return Ok(None) };
        let spec = lane.environment().spec();
        let exploration = parts[episode.part].actor.exploration();
        let scores = Scores::new(&running.scores, spec.candidates, &exploration)?;
        let slate = draw(&exploration, &scores, spec.slate_size, running.decision)?;
        if let Some(observer) = observer.as_deref_mut() {
            let decided = Decided {
                episode: episode.index,
                step: episode.steps,
                part: episode.part,
                lane,
                slate: &slate,
                scores: scores.first(),
                seed: running.decision,
            };
            observer.decided(&decided).map_err(RolloutError::Observer)?;
        }
        let outcome = lane.step(&slate.items)?;
        if let Some(observer) = observer {
            observer.responded(&outcome).map_err(RolloutError::Observer)?;
        }
        episode.add(&outcome);
        if rollout.latent {
            episode.add_latent(&lane.environment().latent());
        }
        if outcome.done {
            return Ok(Some(running.episode));
        }
        running.decision = decision_seed(running.seed, episode.steps);
        self.running = Some(running);
        Ok(None)
    }
}

/// The part that a draw from 0 up to 1 falls on.
fn part_of(parts: &[Part], mut draw: f64) -> usize {
    let found = parts.iter().position(|part| {
        draw -= part.share;
        draw < 0.0
    });
    // Shares may sum to a little less than 1; the last part that has one takes what is left.
    found.unwrap_or_else(|| parts.iter().rposition(|part| part.share > 0.0).unwrap_or(0))
}
