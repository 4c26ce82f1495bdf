//! Interest exploration: well-made documents please everyone a little, and hide what each user would like more.
//!
//! The environment of RecSim (Ie et al. 2019, arXiv:1909.04847). A document has a topic and a quality q, log-normal by
//! topic; a user has a latent type, and a latent affinity g to each topic, log-normal by type. The user chooses one
//! document of the slate, or none, by a choice model over `g(topic) + q`; a choice is worth 1. Nothing changes during a
//! session, which RecSim never ends; here it has a number of steps.

use rand::RngExt;
use rand::distr::Distribution;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};
use serde_json::json;
use slated_contract::feature::{FeatureKind, Features, Normalisation, Unknown};
use slated_contract::session::SessionSettings;

use super::generators::{Generators, uniform};
use super::settings::{check_sizes, require};
use super::spec::{EnvironmentSpec, Outcome, embedding, feature, numeric, schema};
use super::{ChoiceModel, Environment, EnvironmentError};

const MAX_STEPS: u32 = 1_000_000;
const MAX_KINDS: usize = 1000;
/// Means and deviations of a logarithm beyond it overflow an affinity.
const MAX_LOGARITHM: f64 = 10.0;
/// RecSim does not say how long a step takes; here it takes a minute.
const STEP_SECONDS: f64 = 60.0;

/// The settings, by default RecSim's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InterestExplorationSettings {
    /// How many candidates each step offers.
    pub candidates: usize,
    /// How many of them a slate shows.
    pub slate_size: usize,
    /// Whether each step draws new candidates. Otherwise they are the same in every step of every episode.
    pub resample_documents: bool,
    /// Seeds the candidates that are not drawn anew.
    pub document_seed: u64,
    /// Steps in a session.
    pub max_steps: u32,
    /// The probability of each user type.
    pub user_type_distribution: Vec<f64>,
    /// `[types, topics]`: mean of the logarithm of a user's affinity to a topic.
    pub user_document_mean_affinity: Vec<Vec<f64>>,
    /// `[types, topics]`: its standard deviation.
    pub user_document_stddev_affinity: Vec<Vec<f64>>,
    /// The probability of each topic.
    pub topic_distribution: Vec<f64>,
    /// Mean of the logarithm of a document's quality, by topic.
    pub topic_quality_mean: Vec<f64>,
    /// Its standard deviation.
    pub topic_quality_stddev: Vec<f64>,
    /// How the user chooses.
    pub choice: ChoiceModel,
}

impl Default for InterestExplorationSettings {
    fn default() -> Self {
        Self {
            candidates: 5,
            slate_size: 2,
            resample_documents: true,
            document_seed: 0,
            max_steps: 100,
            user_type_distribution: vec![0.3, 0.7],
            user_document_mean_affinity: vec![vec![0.1, 0.7], vec![0.7, 0.1]],
            user_document_stddev_affinity: vec![vec![0.1, 0.1], vec![0.1, 0.1]],
            topic_distribution: vec![0.2, 0.8],
            topic_quality_mean: vec![0.8, 0.2],
            topic_quality_stddev: vec![0.1, 0.1],
            choice: ChoiceModel::MultinomialLogit { no_click_mass: 5.0 },
        }
    }
}

impl InterestExplorationSettings {
    /// Checks every value.
    ///
    /// # Errors
    /// The first one outside its range, or of another length than the user types and topics ask for.
    pub fn check(&self) -> Result<(), EnvironmentError> {
        check_sizes(self.candidates, self.slate_size)?;
        let allowed = format!("allowed are 1 to {MAX_STEPS}");
        require((1..=MAX_STEPS).contains(&self.max_steps), "max_steps", self.max_steps, allowed)?;
        check_distribution("user_type_distribution", &self.user_type_distribution)?;
        check_distribution("topic_distribution", &self.topic_distribution)?;
        let (types, topics) = (self.user_type_distribution.len(), self.topic_distribution.len());
        for (key, rows, least) in [
            ("user_document_mean_affinity", &self.user_document_mean_affinity, -MAX_LOGARITHM),
            ("user_document_stddev_affinity", &self.user_document_stddev_affinity, 0.0),
        ] {
            let allowed = format!("it must have a row for each of the {types} entries of `user_type_distribution`");
            require(rows.len() == types, key, format!("{} rows long", rows.len()), allowed)?;
            rows.iter().try_for_each(|row| check_topics(key, row, topics, least))?;
        }
        check_topics("topic_quality_mean", &self.topic_quality_mean, topics, -MAX_LOGARITHM)?;
        check_topics("topic_quality_stddev", &self.topic_quality_stddev, topics, 0.0)?;
        self.choice.check(0.0)
    }

    fn spec(&self) -> EnvironmentSpec {
        let steps = Normalisation::MinMax { min: 0.0, max: f64::from(self.max_steps) };
        let topics = self.topic_distribution.len();
        let vocabulary = (0..topics).map(|topic| topic.to_string()).collect();
        EnvironmentSpec {
            name: InterestExploration::NAME,
            candidates: self.candidates,
            slate_size: self.slate_size,
            features: schema(
                Vec::new(),
                vec![
                    numeric("steps", steps),
                    numeric("responses", steps),
                    // How often each topic was consumed, and the sum of the qualities.
                    embedding("consumed_decay_1", topics as u32 + 1),
                ],
                vec![
                    feature("cluster", FeatureKind::Categorical { vocabulary, unknown: Unknown::Error }),
                    numeric("quality", Normalisation::Identity),
                ],
            ),
            session: SessionSettings { decay_rates: vec![1.0], history: 0 },
            references: &["best_value", "best_quality"],
            event: "click",
            optimum: None,
        }
    }
}

fn check_distribution(key: &'static str, shares: &[f64]) -> Result<(), EnvironmentError> {
    let total: f64 = shares.iter().sum();
    let holds = (1..=MAX_KINDS).contains(&shares.len())
        && shares.iter().all(|share| (0.0..=1.0).contains(share))
        && (total - 1.0).abs() < 1e-6;
    let allowed = format!("it must be 1 to {MAX_KINDS} numbers from 0 to 1 that sum to 1");
    require(holds, key, format!("{shares:?}"), allowed)
}

fn check_topics(key: &'static str, values: &[f64], topics: usize, least: f64) -> Result<(), EnvironmentError> {
    let holds = values.len() == topics && values.iter().all(|value| (least..=MAX_LOGARITHM).contains(value));
    let allowed = format!(
        "it must be {topics} numbers, one for each entry of `topic_distribution`, from {least} to {MAX_LOGARITHM}"
    );
    require(holds, key, format!("{values:?}"), allowed)
}

/// A user.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct IexUser {
    /// The user's type, from 0; latent.
    pub user_type: usize,
    /// g, the affinity to each topic; latent.
    pub affinities: Vec<f64>,
    /// Steps left.
    pub steps_left: u32,
}

/// A document.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IexDocument {
    /// Counts the documents of an episode.
    pub id: u64,
    /// Its topic, from 0.
    pub topic: usize,
    /// q, above 0.
    pub quality: f64,
}

/// What the user made of a slate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IexResponse {
    /// The position of the document that was clicked.
    pub clicked: Option<usize>,
}

impl IexUser {
    /// What a document is worth to the user.
    #[must_use]
    pub fn value(&self, document: &IexDocument) -> f64 {
        self.affinities[document.topic] + document.quality
    }
}

/// The environment.
#[derive(Debug, Clone)]
pub struct InterestExploration {
    settings: InterestExplorationSettings,
    spec: EnvironmentSpec,
    generators: Generators,
    user: IexUser,
    documents: Vec<IexDocument>,
    drawn: u64,
    values: Vec<f64>,
    weights: Vec<f64>,
}

impl InterestExploration {
    /// Its name.
    pub const NAME: &'static str = "interest_exploration";

    /// The environment, in an episode of seed 0.
    ///
    /// # Errors
    /// Settings that fail [`InterestExplorationSettings::check`].
    pub fn new(settings: &InterestExplorationSettings) -> Result<Self, EnvironmentError> {
        settings.check()?;
        let affinities = vec![0.0; settings.topic_distribution.len()];
        let mut environment = Self {
            spec: settings.spec(),
            generators: Generators::new(settings.document_seed),
            user: IexUser { user_type: 0, affinities, steps_left: settings.max_steps },
            documents: Vec::with_capacity(settings.candidates),
            drawn: 0,
            values: Vec::with_capacity(settings.slate_size),
            weights: Vec::with_capacity(settings.slate_size),
            settings: settings.clone(),
        };
        environment.draw_documents();
        environment.reset(0);
        Ok(environment)
    }

    /// The user, latent state included.
    #[must_use]
    pub const fn state(&self) -> &IexUser {
        &self.user
    }

    /// The candidates.
    #[must_use]
    pub fn documents(&self) -> &[IexDocument] {
        &self.documents
    }

    /// Whether the episode has ended.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.user.steps_left == 0
    }

    /// Shows a slate; [`Environment::step`] in the environment's own types.
    ///
    /// # Errors
    /// A slate of another size, or that names a candidate twice or one that does not exist; an episode that is over.
    pub fn advance(&mut self, slate: &[usize]) -> Result<IexResponse, EnvironmentError> {
        if self.is_over() {
            return Err(EnvironmentError::Over);
        }
        self.spec.check_slate(slate)?;
        self.values.clear();
        self.values.extend(slate.iter().map(|&candidate| self.user.value(&self.documents[candidate])));
        let clicked = self.settings.choice.choose(&self.values, &mut self.weights, &mut self.generators.user);
        self.user.steps_left -= 1;
        if self.settings.resample_documents {
            self.draw_documents();
        }
        Ok(IexResponse { clicked })
    }

    fn draw_documents(&mut self) {
        self.documents.clear();
        let generator = &mut self.generators.documents;
        for _ in 0..self.settings.candidates {
            let topic = draw(&self.settings.topic_distribution, generator);
            let (mean, deviation) =
                (self.settings.topic_quality_mean[topic], self.settings.topic_quality_stddev[topic]);
            self.documents.push(IexDocument { id: self.drawn, topic, quality: log_normal(mean, deviation, generator) });
            self.drawn += 1;
        }
    }
}

/// An index, each with its probability.
fn draw(distribution: &[f64], generator: &mut ChaCha8Rng) -> usize {
    let mut left = uniform(generator.random());
    let drawn = distribution.iter().position(|share| {
        left -= share;
        left < 0.0
    });
    // Shares may sum to a little less than 1.
    drawn.unwrap_or(distribution.len() - 1)
}

fn log_normal(mean: f64, deviation: f64, generator: &mut ChaCha8Rng) -> f64 {
    let normal: f64 = StandardNormal.sample(generator);
    (mean + deviation * normal).exp()
}

impl Environment for InterestExploration {
    fn spec(&self) -> &EnvironmentSpec {
        &self.spec
    }

    fn reset(&mut self, seed: u64) {
        self.generators = Generators::new(seed);
        let generator = &mut self.generators.user;
        let user_type = draw(&self.settings.user_type_distribution, generator);
        let means = &self.settings.user_document_mean_affinity[user_type];
        let deviations = &self.settings.user_document_stddev_affinity[user_type];
        for ((affinity, &mean), &deviation) in self.user.affinities.iter_mut().zip(means).zip(deviations) {
            *affinity = log_normal(mean, deviation, generator);
        }
        self.user.user_type = user_type;
        self.user.steps_left = self.settings.max_steps;
        if self.settings.resample_documents {
            self.drawn = 0;
            self.draw_documents();
        }
    }

    fn user(&self) -> Features {
        Features::new()
    }

    fn item(&self, candidate: usize) -> Features {
        let document = &self.documents[candidate];
        [("cluster", document.topic as f64), ("quality", document.quality)].into_iter().collect()
    }

    fn item_id(&self, candidate: usize) -> String {
        self.documents[candidate].id.to_string()
    }

    fn step(&mut self, slate: &[usize]) -> Result<Outcome, EnvironmentError> {
        let IexResponse { clicked } = self.advance(slate)?;
        let reward = f64::from(u8::from(clicked.is_some()));
        Ok(Outcome { reward, consumed: clicked, seconds: STEP_SECONDS, done: self.is_over() })
    }

    fn reference(&self, policy: &str, scores: &mut Vec<f32>) -> bool {
        match policy {
            "best_quality" => scores.extend(self.documents.iter().map(|document| document.quality as f32)),
            // Sees what no policy can; nothing changes during a session, so this is the best that can be done.
            "best_value" => scores.extend(self.documents.iter().map(|document| self.user.value(document) as f32)),
            _ => return false,
        }
        true
    }

    fn latent(&self) -> serde_json::Value {
        json!(self.user)
    }
}
