//! One run: environments and learner, step by step.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};
use slated_contract::feature::FeatureSchema;
use slated_contract::policy::ManifestError;
use slated_contract::session::SessionSettings;
use slated_contract::slate::DrawError;
use thiserror::Error;

use super::actor::{Actor, seed_of};
use super::bundle::{Learned, learned};
use super::evaluate::Measure;
use super::settings::OnlineSettings;
use crate::env::{EnvironmentError, EnvironmentSpec};
use crate::learner::{Checkpoint, CheckpointError, Diverged, Learner, LearnerError, Problem, Update};
use crate::onnx::OnnxError;
use crate::replay::{NStep, Replay, ReplaySettings};
use crate::rollout::{Lane, LaneError, RolloutError, Summary};

/// Episodes over which the return of the learning policy is averaged.
const RECENT: usize = 100;

/// How a run ended.
#[derive(Debug)]
pub enum OnlineOutcome {
    /// It is done.
    Finished(Box<Learned>),
    /// It was stopped; the same settings lead on from the checkpoint, to the same bytes.
    Interrupted {
        /// For [`train_online`].
        checkpoint: Vec<u8>,
        /// Slates shown so far.
        steps: u64,
    },
}

/// A run that failed.
#[derive(Debug, Error)]
pub enum OnlineError {
    /// A setting.
    #[error("{0}")]
    Setting(String),
    /// The environment.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// An environment that the policy cannot be run in.
    #[error(transparent)]
    Lane(#[from] LaneError),
    /// Episodes that measure the policy.
    #[error(transparent)]
    Rollout(#[from] RolloutError),
    /// The learner's settings.
    #[error(transparent)]
    Learner(#[from] LearnerError),
    /// Learning broke down. The state from before it did is kept.
    #[error("{source}; the state at step {step} is kept")]
    Diverged {
        /// What happened.
        source: Diverged,
        /// The step of the kept state.
        step: u64,
        /// The kept state.
        checkpoint: Vec<u8>,
    },
    /// Scores that no slate can be drawn from.
    #[error("the policy in training cannot be drawn from: {0}")]
    Draw(#[from] DrawError),
    /// A checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The model.
    #[error("the model cannot be written: {0}")]
    Onnx(#[from] OnnxError),
    /// The manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

impl OnlineError {
    /// Whether the settings or the checkpoint are at fault, rather than what came of them.
    #[must_use]
    pub const fn is_input(&self) -> bool {
        matches!(self, Self::Setting(_) | Self::Environment(_) | Self::Lane(_) | Self::Learner(_) | Self::Checkpoint(_))
    }
}

/// How a run stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// Slates shown; gradient steps where a log is learned from.
    pub steps: u64,
    /// Episodes begun; all those of a log.
    pub episodes: u64,
    /// Gradient steps.
    pub updates: u64,
    /// Mean return of the last episodes of the learning policy; `None` before the first ends.
    pub mean_return: Option<f64>,
    /// Mean loss since the last figures.
    pub loss: Option<f64>,
    /// The loss over those who are kept out of learning from a log.
    pub validation_loss: Option<f64>,
    /// Mean length of the gradient since the last figures.
    pub gradient_norm: Option<f64>,
    /// Epsilon or temperature, where slates are shown.
    pub exploration: Option<f64>,
    /// What the greedy policy measured, where it has just been.
    pub evaluation: Option<Summary>,
}

/// Watches a run.
pub trait Observer {
    /// Some slates later.
    fn figures(&mut self, figures: &Figures);
}

/// A run that no one watches.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn figures(&mut self, _: &Figures) {}
}

/// Learns a policy in an environment. `stop` is looked at every [`OnlineSettings::checkpoint_every`] steps.
///
/// # Errors
/// A setting, an environment, or a checkpoint that cannot be used; learning that diverges.
pub fn train_online(
    settings: &OnlineSettings,
    version: u64,
    checkpoint: Option<&[u8]>,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Result<OnlineOutcome, OnlineError> {
    if let Some(problem) = settings.problem() {
        return Err(OnlineError::Setting(problem));
    }
    let mut run = Run::new(settings)?;
    if let Some(bytes) = checkpoint {
        run.restore(&Checkpoint::decode(bytes)?)?;
    }
    run.go(version, observer, stop)
}

/// Proves that a run can be made from the settings.
///
/// # Errors
/// The first setting, of the run, of its environment or of its learner, that cannot be used.
pub fn check_online(settings: &OnlineSettings) -> Result<(), OnlineError> {
    settings.problem().map_or_else(|| Run::new(settings).map(drop), |problem| Err(OnlineError::Setting(problem)))
}

/// What a policy of these settings reads.
pub(super) fn reads(settings: &OnlineSettings, spec: &EnvironmentSpec) -> (FeatureSchema, SessionSettings) {
    let features = settings.features.clone().unwrap_or_else(|| spec.features.clone());
    let session = settings.session.clone().unwrap_or_else(|| spec.session.clone());
    (features, session)
}

struct Run<'a> {
    settings: &'a OnlineSettings,
    actor: Actor,
    measure: Measure,
    learner: Box<dyn Learner>,
    replay: Replay,
    steps: u64,
    updates: u64,
    /// Gradient steps that are due, in part.
    owed: f64,
    /// Sum of all rewards that were seen, and how many episodes ended.
    reward: f64,
    ended: u64,
    recent: VecDeque<f64>,
    loss: RunningMean,
    norm: RunningMean,
    best: Option<Best>,
}

/// The state that measured best.
struct Best {
    mean: f64,
    state: Checkpoint,
}

/// A mean in the making.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RunningMean {
    sum: f64,
    count: u64,
}

impl RunningMean {
    pub fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    pub fn take(&mut self) -> Option<f64> {
        let mean = (self.count > 0).then(|| self.sum / self.count as f64);
        *self = Self::default();
        mean
    }
}

impl<'a> Run<'a> {
    fn new(settings: &'a OnlineSettings) -> Result<Self, OnlineError> {
        let spec = settings.environment.build()?.spec().clone();
        let (features, session) = reads(settings, &spec);
        let lane =
            || -> Result<Lane, OnlineError> { Ok(Lane::new(settings.environment.build()?, &features, &session)?) };
        let lanes = (0..settings.lanes).map(|_| lane()).collect::<Result<Vec<_>, _>>()?;
        let encoder = lanes[0].encoder();
        let problem = Problem::new(encoder, session.history, spec.slate_size);
        let learner = settings.algorithm.build(problem, seed_of(settings.seed, "networks", 0))?;
        let gathering = NStep::new(settings.algorithm.transition_steps(), settings.algorithm.discount());
        // A run shorter than the replay's capacity needs no more room than it has steps.
        let room = settings.replay.capacity.min(settings.steps as usize + 2 * settings.lanes);
        Ok(Self {
            settings,
            actor: Actor::new(lanes, &gathering, settings.seed, spec.slate_size),
            measure: Measure { environment: settings.environment.clone(), features, session },
            learner,
            replay: Replay::new(ReplaySettings { capacity: room, ..settings.replay }),
            steps: 0,
            updates: 0,
            owed: 0.0,
            reward: 0.0,
            ended: 0,
            recent: VecDeque::new(),
            loss: RunningMean::default(),
            norm: RunningMean::default(),
            best: None,
        })
    }

    fn progress(&self) -> f64 {
        self.steps as f64 / self.settings.steps as f64
    }

    fn go(
        mut self,
        version: u64,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<OnlineOutcome, OnlineError> {
        while self.steps < self.settings.steps {
            let good = self.learner_state();
            let begun = self.steps;
            if let Err(error) = self.stretch(observer) {
                return Err(match error {
                    OnlineError::Setting(_) => error,
                    error => self.kept(error, good, begun),
                });
            }
            if stop.load(Ordering::Relaxed) && self.steps < self.settings.steps {
                return Ok(OnlineOutcome::Interrupted { checkpoint: self.save().encode()?, steps: self.steps });
            }
        }
        if let Some(best) = self.best.take() {
            self.learner.restore(&best.state)?;
        }
        let episodes = self.settings.evaluation.final_episodes;
        let seed = seed_of(self.settings.seed, "final evaluation", 0);
        let returns = self.measure.greedy(&*self.learner, episodes, seed)?;
        let mean_reward = self.reward / self.steps as f64;
        let Measure { environment, features, session } = &self.measure;
        let mut sample = Lane::new(environment.build()?, features, session)?;
        sample.reset(seed)?;
        let learned = learned(self.settings, version, &mut *self.learner, &mut sample, returns, mean_reward)?;
        Ok(OnlineOutcome::Finished(Box::new(learned)))
    }

    /// Adds to a diverged run's error the state from before the stretch in which it did.
    fn kept(&mut self, error: OnlineError, good: Checkpoint, step: u64) -> OnlineError {
        let OnlineError::Diverged { source, .. } = error else { return error };
        match good.encode() {
            Ok(checkpoint) => OnlineError::Diverged { source, step, checkpoint },
            Err(error) => error.into(),
        }
    }

    /// Runs to the next checkpoint: new episodes in every lane, a sampling generator of its own.
    fn stretch(&mut self, observer: &mut dyn Observer) -> Result<(), OnlineError> {
        let mut generator = ChaCha8Rng::seed_from_u64(seed_of(self.settings.seed, "samples", self.steps));
        let end = (self.steps + self.settings.checkpoint_every).min(self.settings.steps);
        self.actor.restart()?;
        while self.steps < end {
            let before = self.steps;
            let exploration =
                (self.steps >= self.settings.warm_up).then(|| self.settings.behaviour.at(self.progress()));
            let brought = self.actor.step(&mut *self.learner, exploration)?;
            self.steps += self.settings.lanes as u64;
            for reward in brought.returns {
                self.reward += reward;
                self.ended += 1;
                self.recent.push_back(reward);
                if self.recent.len() > RECENT {
                    self.recent.pop_front();
                }
            }
            brought.transitions.into_iter().for_each(|transition| self.replay.push(transition));
            if self.steps >= self.settings.warm_up && !self.replay.is_empty() {
                self.owed += self.settings.updates_per_step * self.settings.lanes as f64;
            }
            while self.owed >= 1.0 {
                self.owed -= 1.0;
                self.learn(&mut generator)?;
            }
            let every = self.settings.evaluation.every;
            if every > 0 && before / every != self.steps / every {
                self.report(observer)?;
            }
        }
        let cut = self.actor.cut();
        cut.into_iter().for_each(|transition| self.replay.push(transition));
        Ok(())
    }

    fn learn(&mut self, generator: &mut ChaCha8Rng) -> Result<(), OnlineError> {
        let size = self.settings.algorithm.optimisation().batch;
        let sample = self.replay.sample(size, self.progress(), generator);
        let Update { loss, gradient_norm, errors } = self
            .learner
            .update(&self.replay, &sample)
            .map_err(|source| OnlineError::Diverged { source, step: self.steps, checkpoint: Vec::new() })?;
        self.replay.prioritise(&sample, &errors);
        self.updates += 1;
        self.loss.add(loss);
        self.norm.add(gradient_norm);
        Ok(())
    }

    fn report(&mut self, observer: &mut dyn Observer) -> Result<(), OnlineError> {
        // Always the same episodes, so that two measurements differ by the policy alone.
        let seed = seed_of(self.settings.seed, "evaluations", 0);
        let returns = self.measure.greedy(&*self.learner, self.settings.evaluation.episodes, seed)?;
        if self.settings.evaluation.keep_best && self.best.as_ref().is_none_or(|best| returns.mean > best.mean) {
            self.best = Some(Best { mean: returns.mean, state: self.learner_state() });
        }
        let exploration = match self.settings.behaviour.at(self.progress()) {
            slated_contract::slate::Exploration::EpsilonGreedy { epsilon } => Some(epsilon),
            slated_contract::slate::Exploration::Softmax { temperature } => Some(temperature),
            _ => None,
        };
        let recent = &self.recent;
        observer.figures(&Figures {
            steps: self.steps,
            episodes: self.actor.episodes,
            updates: self.updates,
            mean_return: (!recent.is_empty()).then(|| recent.iter().sum::<f64>() / recent.len() as f64),
            loss: self.loss.take(),
            validation_loss: None,
            gradient_norm: self.norm.take(),
            exploration,
            evaluation: Some(returns),
        });
        Ok(())
    }

    fn learner_state(&self) -> Checkpoint {
        let mut checkpoint = Checkpoint::default();
        self.learner.save(&mut checkpoint);
        checkpoint
    }

    fn save(&self) -> Checkpoint {
        let mut checkpoint = self.learner_state();
        checkpoint.counts("settings", digest(self.settings));
        checkpoint.counts("run", vec![self.steps, self.updates, self.actor.episodes, self.ended]);
        checkpoint.counts("sums", vec![self.owed.to_bits(), self.reward.to_bits()]);
        self.replay.save(&mut checkpoint);
        if let Some(best) = &self.best {
            checkpoint.count("best.mean", best.mean.to_bits());
            checkpoint.nest("best", &best.state);
        }
        checkpoint
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), OnlineError> {
        if checkpoint.get_counts("settings")? != digest(self.settings) {
            return Err(CheckpointError::Settings.into());
        }
        self.learner.restore(checkpoint)?;
        let (run, sums) = (checkpoint.get_counts("run")?, checkpoint.get_counts("sums")?);
        let (&[steps, updates, episodes, ended], &[owed, reward]) = (run, sums) else {
            return Err(CheckpointError::Absent("run".to_owned()).into());
        };
        (self.steps, self.updates, self.ended) = (steps, updates, ended);
        self.actor.episodes = episodes;
        (self.owed, self.reward) = (f64::from_bits(owed), f64::from_bits(reward));
        self.replay.restore(checkpoint)?;
        self.best = match checkpoint.read_count("best.mean") {
            Ok(mean) => Some(Best { mean: f64::from_bits(mean), state: checkpoint.nested("best") }),
            Err(_) => None,
        };
        Ok(())
    }
}

/// Names the settings of a run, for its checkpoints.
fn digest(settings: &OnlineSettings) -> Vec<u64> {
    let text = serde_json::json!(settings).to_string();
    Sha256::digest(text).iter().map(|&byte| u64::from(byte)).collect()
}
