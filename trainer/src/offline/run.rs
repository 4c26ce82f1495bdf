//! One run: a learner over a log, gradient step by gradient step.

use std::sync::atomic::{AtomicBool, Ordering};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};
use slated_contract::feature::Encoder;

use super::bundle::{LearnedOffline, learned};
use super::episodes::Experience;
use super::error::OfflineError;
use super::settings::OfflineSettings;
use crate::learner::{Checkpoint, CheckpointError, Learner, Problem, Update};
use crate::online::{Figures, Measure, Observer, RunningMean, seed_of};
use crate::replay::{NStep, Replay, Sample};
use crate::rollout::Summary;

/// How a run ended.
#[derive(Debug)]
pub enum OfflineOutcome {
    /// It is done.
    Finished(Box<LearnedOffline>),
    /// It was stopped; the same settings over the same log lead on from the checkpoint, to the same bytes.
    Interrupted {
        /// For [`train_offline`].
        checkpoint: Vec<u8>,
        /// Gradient steps so far.
        updates: u64,
    },
}

/// Learns a policy from a log. `stop` is looked at every [`OfflineSettings::checkpoint_every`] gradient steps. What is learned
/// is the last state: nothing is chosen by an evaluation.
///
/// # Errors
/// A setting, a log or a checkpoint that cannot be used; learning that diverges.
pub fn train_offline(
    settings: &OfflineSettings,
    experience: &Experience,
    version: u64,
    checkpoint: Option<&[u8]>,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Result<OfflineOutcome, OfflineError> {
    check_offline(settings)?;
    let mut run = Run::new(settings, experience)?;
    if let Some(bytes) = checkpoint {
        run.restore(&Checkpoint::decode(bytes)?)?;
    }
    run.go(version, observer, stop)
}

/// Checks the settings, as far as that can be done without the log.
///
/// # Errors
/// The first setting that cannot be used.
pub fn check_offline(settings: &OfflineSettings) -> Result<(), OfflineError> {
    match settings.problem() {
        Some(problem) => Err(OfflineError::Setting(problem)),
        None => settings.known_features().map(drop),
    }
}

struct Run<'a> {
    settings: &'a OfflineSettings,
    experience: &'a Experience,
    /// SHA-256 of the log.
    digest: Vec<u64>,
    learner: Box<dyn Learner>,
    replay: Replay,
    /// Of those who are kept out.
    validation: Replay,
    measure: Option<Measure>,
    updates: u64,
    loss: RunningMean,
    norm: RunningMean,
}

impl<'a> Run<'a> {
    fn new(settings: &'a OfflineSettings, experience: &'a Experience) -> Result<Self, OfflineError> {
        let encoder = Encoder::new(&experience.features)?;
        let problem = Problem::new(&encoder, experience.session.history, experience.slate_size().max(1));
        let learner = settings.algorithm.build(problem, seed_of(settings.seed, "networks", 0))?;
        let gathering = NStep::new(settings.algorithm.transition_steps(), settings.algorithm.discount());
        let weighed = settings.algorithm.weighs_by_propensities();
        let (replay, validation) =
            experience.replays(&gathering, settings.episodes.end, settings.episodes.validation, weighed);
        if replay.is_empty() && weighed && experience.weighable() == 0 {
            return Err(OfflineError::Unweighable(settings.algorithm.name()));
        }
        if replay.is_empty() {
            let kept_out = |episode: &&super::Episode| episode.is_kept_out(settings.episodes.validation);
            let kept_out = experience.episodes.iter().filter(kept_out).count();
            return Err(OfflineError::Nothing { sessions: experience.episodes.len(), kept_out });
        }
        let measure = settings.evaluation.environment.as_ref().map(|environment| Measure {
            environment: environment.clone(),
            features: experience.features.clone(),
            session: experience.session.clone(),
        });
        let text = serde_json::json!([settings, experience.digest()]).to_string();
        Ok(Self {
            settings,
            experience,
            digest: Sha256::digest(text).iter().map(|&byte| u64::from(byte)).collect(),
            learner,
            replay,
            validation,
            measure,
            updates: 0,
            loss: RunningMean::default(),
            norm: RunningMean::default(),
        })
    }

    fn go(
        mut self,
        version: u64,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<OfflineOutcome, OfflineError> {
        while self.updates < self.settings.updates {
            self.stretch(observer)?;
            if stop.load(Ordering::Relaxed) && self.updates < self.settings.updates {
                let updates = self.updates;
                return Ok(OfflineOutcome::Interrupted { checkpoint: self.save().encode()?, updates });
            }
        }
        let seed = seed_of(self.settings.seed, "final evaluation", 0);
        let returns = self.returns(self.settings.evaluation.final_episodes, seed)?;
        let validation = self.validation_loss();
        let learned = learned(self.settings, self.experience, version, &mut *self.learner, returns, validation)?;
        Ok(OfflineOutcome::Finished(Box::new(learned)))
    }

    /// Runs to the next checkpoint, with a sampling generator of its own.
    fn stretch(&mut self, observer: &mut dyn Observer) -> Result<(), OfflineError> {
        let (good, begun) = (self.save(), self.updates);
        let mut generator = ChaCha8Rng::seed_from_u64(seed_of(self.settings.seed, "samples", self.updates));
        let end = (self.updates + self.settings.checkpoint_every).min(self.settings.updates);
        let batch = self.settings.algorithm.optimisation().batch;
        while self.updates < end {
            let progress = self.updates as f64 / self.settings.updates as f64;
            let sample = self.replay.sample(batch, progress, &mut generator);
            let Update { loss, gradient_norm, .. } = match self.learner.update(&self.replay, &sample) {
                Ok(update) => update,
                Err(source) => {
                    return Err(OfflineError::Diverged { source, update: begun, checkpoint: good.encode()? });
                }
            };
            self.updates += 1;
            self.loss.add(loss);
            self.norm.add(gradient_norm);
            let every = self.settings.evaluation.every;
            if every > 0 && self.updates.is_multiple_of(every) {
                self.report(observer)?;
            }
        }
        Ok(())
    }

    fn report(&mut self, observer: &mut dyn Observer) -> Result<(), OfflineError> {
        // Always the same episodes, so that two measurements differ by the policy alone.
        let seed = seed_of(self.settings.seed, "evaluations", 0);
        observer.figures(&Figures {
            steps: self.updates,
            episodes: self.experience.episodes.len() as u64,
            updates: self.updates,
            loss: self.loss.take(),
            validation_loss: self.validation_loss(),
            gradient_norm: self.norm.take(),
            evaluation: self.returns(self.settings.evaluation.episodes, seed)?,
            ..Figures::default()
        });
        Ok(())
    }

    fn returns(&self, episodes: usize, seed: u64) -> Result<Option<Summary>, OfflineError> {
        let Some(measure) = &self.measure else { return Ok(None) };
        Ok(Some(measure.greedy(&*self.learner, episodes, seed)?))
    }

    /// The loss over those who are kept out: what a copy of the learner finds before it takes a step.
    fn validation_loss(&self) -> Option<f64> {
        let count = self.validation.len();
        let size = count.min(self.settings.evaluation.transitions);
        let indices: Vec<usize> = (0..size).map(|index| index * count / size).collect();
        let sample = Sample { weights: vec![1.0; size], indices, progress: 1.0 };
        (size > 0).then(|| self.learner.copy().update(&self.validation, &sample).map_or(f64::NAN, |update| update.loss))
    }

    fn save(&self) -> Checkpoint {
        let mut checkpoint = Checkpoint::default();
        self.learner.save(&mut checkpoint);
        checkpoint.counts("run", self.digest.clone());
        checkpoint.count("run.updates", self.updates);
        checkpoint
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), OfflineError> {
        if checkpoint.get_counts("run")? != self.digest {
            return Err(CheckpointError::Settings.into());
        }
        self.learner.restore(checkpoint)?;
        self.updates = checkpoint.read_count("run.updates")?;
        Ok(())
    }
}
