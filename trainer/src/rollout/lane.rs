//! One environment as a policy sees it: encoded, with its session.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use slated_contract::feature::{EncodeError, Encoder, FeatureSchema, Features, Group, SchemaError};
use slated_contract::session::{SessionAccumulator, SessionError, SessionSettings};
use thiserror::Error;

use crate::env::{Environment, EnvironmentError, Outcome};

/// When simulated sessions begin.
const BEGINNING: DateTime<Utc> = DateTime::from_timestamp(1_735_689_600, 0).expect("a valid time");

/// What a policy sees at one step.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observation {
    /// `[S]`: the encoded user, context and session.
    pub state: Vec<f32>,
    /// `[candidates, D]`: the encoded candidates.
    pub items: Vec<f32>,
    /// How many candidates.
    pub candidates: usize,
    /// `[length, F]`, at most H rows, oldest first; empty where the session keeps no window.
    pub history: Vec<f32>,
}

/// An environment with the encoder and the session accumulator through which a policy sees it, run live by the same
/// code that the service and the dataset builder use.
pub struct Lane {
    environment: Box<dyn Environment>,
    encoder: Arc<Encoder>,
    fresh: SessionAccumulator,
    session: SessionAccumulator,
    now: DateTime<Utc>,
    observation: Observation,
}

/// An environment that a policy cannot be run in.
#[derive(Debug, Error)]
pub enum LaneError {
    /// The environment.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// The feature schema.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The session settings.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A feature that the policy reads and the environment never gives, even if it has a default: the policy was not
    /// made for this environment.
    #[error(
        "the policy cannot read environment `{environment}`: it reads {group} feature `{feature}`, which is not there"
    )]
    Absent {
        /// The environment.
        environment: &'static str,
        /// The group of the feature.
        group: Group,
        /// Its name.
        feature: String,
    },
    /// A feature that the environment gives and the schema refuses: the policy was not made for this environment.
    #[error("the policy cannot read environment `{environment}`: {source}")]
    Encode {
        /// The environment.
        environment: &'static str,
        /// What is wrong.
        source: EncodeError,
    },
}

impl Lane {
    /// Wraps an environment for a policy that reads `features` and a session kept by `session`.
    ///
    /// # Errors
    /// A schema or session settings that cannot be used, a feature that the environment never gives.
    pub fn new(
        environment: Box<dyn Environment>,
        features: &FeatureSchema,
        session: &SessionSettings,
    ) -> Result<Self, LaneError> {
        let encoder = Encoder::new(features)?;
        for (group, given) in
            [(Group::User, environment.user()), (Group::Context, Features::new()), (Group::Item, environment.item(0))]
        {
            if let Some(absent) = features.group(group).iter().find(|declared| given.get(&declared.name).is_none()) {
                let environment = environment.spec().name;
                return Err(LaneError::Absent { environment, group, feature: absent.name.clone() });
            }
        }
        let fresh = SessionAccumulator::new(session, encoder.item_width())?;
        Ok(Self {
            environment,
            encoder: Arc::new(encoder),
            session: fresh.clone(),
            fresh,
            now: BEGINNING,
            observation: Observation::default(),
        })
    }

    /// The environment.
    #[must_use]
    pub fn environment(&self) -> &dyn Environment {
        &*self.environment
    }

    /// The encoder.
    #[must_use]
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// The session features now, raw.
    #[must_use]
    pub fn session_features(&self) -> Features {
        self.session.features(self.now)
    }

    /// The simulated time.
    #[must_use]
    pub const fn now(&self) -> DateTime<Utc> {
        self.now
    }

    /// What the policy sees now.
    #[must_use]
    pub const fn observation(&self) -> &Observation {
        &self.observation
    }

    /// Begins an episode.
    ///
    /// # Errors
    /// A feature that the schema refuses.
    pub fn reset(&mut self, seed: u64) -> Result<(), LaneError> {
        self.environment.reset(seed);
        self.session = self.fresh.clone();
        self.now = BEGINNING;
        self.observe()
    }

    /// Shows a slate and observes what follows. After the end of an episode the observation is that of its last state.
    ///
    /// # Errors
    /// A slate that the environment refuses, a feature that the schema refuses.
    pub fn step(&mut self, slate: &[usize]) -> Result<Outcome, LaneError> {
        let outcome = self.environment.step(slate)?;
        self.session.show(self.now);
        if let Some(position) = outcome.consumed {
            let width = self.encoder.item_width();
            let item = slate[position] * width;
            self.session.respond(&self.observation.items[item..item + width], outcome.reward);
        }
        // Whole microseconds are what the journal keeps, and it orders by time.
        self.now += TimeDelta::microseconds(((outcome.seconds * 1e6) as i64).max(1));
        self.observe()?;
        Ok(outcome)
    }

    fn observe(&mut self) -> Result<(), LaneError> {
        let environment = &*self.environment;
        let refused = |source| LaneError::Encode { environment: environment.spec().name, source };
        let Observation { state, items, candidates, history } = &mut self.observation;
        state.clear();
        items.clear();
        history.clear();
        *candidates = environment.spec().candidates;
        let session = self.session.features(self.now);
        self.encoder.encode_state(&environment.user(), &Features::new(), &session, state).map_err(refused)?;
        for candidate in 0..*candidates {
            let id = if self.encoder.reads_item_id() { environment.item_id(candidate) } else { String::new() };
            self.encoder.encode_item(&id, &environment.item(candidate), items).map_err(refused)?;
        }
        history.extend(self.session.history().flatten());
        Ok(())
    }
}
