//! Who acts in an episode, and how its scores become a slate.

use slated_contract::feature::FeatureSchema;
use slated_contract::session::SessionSettings;
use slated_contract::slate::{DecisionSeed, Exploration, SlateObjective, drawn_by, standard_normal};

use super::{Lane, RolloutError, Scored, Scorer, ScorerError};

/// A policy to be run.
#[derive(Debug, Clone, Copy)]
pub enum Actor<'a> {
    /// Every slate with the same probability.
    Random,
    /// One of the environment's reference policies, by name; it does not explore.
    Reference(&'a str),
    /// A model.
    Model(Model<'a>),
}

/// A model with what makes it a policy.
#[derive(Clone, Copy)]
pub struct Model<'a> {
    /// What it reads.
    pub features: &'a FeatureSchema,
    /// What the session accumulator keeps for it.
    pub session: &'a SessionSettings,
    /// How it explores.
    pub exploration: Exploration,
    /// How scores and appeal make a slate; `None` where the scores alone rank.
    pub objective: Option<SlateObjective>,
    /// Z, where it takes noise.
    pub noise: Option<usize>,
    /// Makes a scorer for one worker.
    pub scorer: &'a MakeScorer<'a>,
}

/// Makes the scorer of one worker.
pub type MakeScorer<'a> = dyn Fn() -> Result<Box<dyn Scorer>, ScorerError> + Sync + 'a;

/// A policy of a mixture: an episode belongs to it with the probability `share`.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// From 0 to 1; the shares of a mixture sum to 1.
    pub share: f64,
    /// The policy.
    pub actor: Actor<'a>,
}

impl std::fmt::Debug for Model<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter.debug_struct("Model").field("exploration", &self.exploration).finish_non_exhaustive()
    }
}

impl<'a> From<Actor<'a>> for Part<'a> {
    fn from(actor: Actor<'a>) -> Self {
        Self { share: 1.0, actor }
    }
}

impl Actor<'_> {
    /// How it explores. Uniform slates are epsilon-greedy ones with epsilon 1, so that their propensities come from the
    /// same place as any other.
    #[must_use]
    pub const fn exploration(&self) -> Exploration {
        match self {
            Self::Random => Exploration::EpsilonGreedy { epsilon: 1.0 },
            Self::Reference(_) => Exploration::Greedy,
            Self::Model(model) => model.exploration,
        }
    }

    /// Scores the candidates of one lane, for policies that are not a model.
    pub(super) fn score_alone(&self, lane: &Lane, scores: &mut Vec<f32>) -> Result<(), RolloutError> {
        let spec = lane.environment().spec();
        scores.clear();
        match self {
            Self::Random => scores.resize(spec.candidates, 0.0),
            Self::Reference(name) => {
                if !lane.environment().reference(name, scores) {
                    return Err(RolloutError::Reference {
                        name: (*name).to_owned(),
                        environment: spec.name,
                        known: spec.references.join(", "),
                    });
                }
            }
            Self::Model(_) => {}
        }
        Ok(())
    }
}

impl Model<'_> {
    /// Scores the candidates of several lanes at once; the numbers that the slate of each is drawn by.
    pub(super) fn score(
        &self,
        scorer: &mut dyn Scorer,
        lanes: &[&Lane],
        seeds: &[DecisionSeed],
    ) -> Result<Vec<Vec<f32>>, RolloutError> {
        let observations: Vec<_> = lanes.iter().map(|lane| lane.observation()).collect();
        let noise: Vec<f32> = self.noise.map_or_else(Vec::new, |draws| {
            let draws = self.exploration.score_rows() * draws;
            seeds.iter().flat_map(|seed| standard_normal(&mut seed.noise_generator(), draws)).collect()
        });
        let scored = scorer.score(&observations, &noise)?;
        if scored.len() != lanes.len() {
            let message = format!("it scored {} of {} observations", scored.len(), lanes.len());
            return Err(ScorerError(message).into());
        }
        let drawn = scored.into_iter().zip(lanes).map(|(Scored { scores, appeal }, lane)| {
            let spec = lane.environment().spec();
            drawn_by(self.objective.as_ref(), scores, &appeal, spec.candidates, spec.slate_size)
        });
        Ok(drawn.collect())
    }
}
