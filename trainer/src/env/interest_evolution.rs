//! Interest evolution: what a user watches changes what the user likes, and how long the user stays.
//!
//! The environment of RecSim (Ie et al. 2019, arXiv:1909.04847) on which SlateQ was published (Ie et al. 2019,
//! arXiv:1905.12767). A document has one of T topics and a latent quality q that the topic nearly determines; a user has
//! an interest i in each topic, from -1 to 1, and a latent time budget b in minutes. The user chooses one document of
//! the slate, or none, by a choice model over the interests, and then
//!
//! - watches `w = min(b, video_length)` minutes, the reward;
//! - changes the interest in its topic by `+-(y - |i| y / x) (1 - i)` with intercepts x and y, upwards with
//!   probability `(i + 1) / 2`, clipped to -1..1;
//! - keeps `b' = b - w + user_update_alpha w (user_quality_factor u + document_quality_factor q)`, u the choice
//!   model's weight of the document; without a choice, `b' = b - step_penalty`.

use rand::RngExt;
use rand::distr::Distribution;
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};
use serde_json::json;
use slated_contract::feature::{FeatureKind, Features, Normalisation, Unknown};
use slated_contract::session::SessionSettings;

use super::generators::Generators;
use super::settings::{check_sizes, require};
use super::spec::{EnvironmentSpec, Outcome, embedding, feature, numeric, schema};
use super::{ChoiceModel, Environment, EnvironmentError};

const MAX_TOPICS: usize = 1000;
const MAX_MINUTES: f64 = 10_000.0;
/// Slates after which the `steps` and `responses` that a policy reads are 1.
const USUAL_STEPS: f64 = 100.0;

/// The settings, by default RecSim's utility model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InterestEvolutionSettings {
    /// How many candidates each step offers.
    pub candidates: usize,
    /// How many of them a slate shows.
    pub slate_size: usize,
    /// Whether each step draws new candidates. Otherwise they are the same in every step of every episode.
    pub resample_documents: bool,
    /// Seeds the candidates that are not drawn anew.
    pub document_seed: u64,
    /// T, how many topics there are.
    pub topics: usize,
    /// Mean quality of the first topic; it rises evenly to 0 over seven tenths of the topics.
    pub min_utility: f64,
    /// Mean quality of the last topic; it rises evenly from 0 over the other topics.
    pub max_utility: f64,
    /// Standard deviation of a document's quality about its topic's mean.
    pub quality_stddev: f64,
    /// Minutes that a document takes to watch.
    pub video_length: f64,
    /// Minutes with which a session begins.
    pub time_budget: f64,
    /// Minutes lost where nothing is chosen.
    pub step_penalty: f64,
    /// How much the choice model's weight of what was watched adds to the budget.
    pub user_quality_factor: f64,
    /// How much the quality of what was watched adds to the budget.
    pub document_quality_factor: f64,
    /// What utility is worth, in parts of the minutes watched.
    pub user_update_alpha: f64,
    /// x, the strength of interest at which interests no longer change.
    pub alpha_x_intercept: f64,
    /// y, how much an interest of 0 changes.
    pub alpha_y_intercept: f64,
    /// How the user chooses; the value of an item is the interest in its topic.
    pub choice: ChoiceModel,
}

impl Default for InterestEvolutionSettings {
    fn default() -> Self {
        Self {
            candidates: 10,
            slate_size: 3,
            resample_documents: true,
            document_seed: 0,
            topics: 20,
            min_utility: -3.0,
            max_utility: 3.0,
            quality_stddev: 0.1,
            video_length: 4.0,
            time_budget: 200.0,
            step_penalty: 0.5,
            user_quality_factor: 0.0,
            document_quality_factor: 1.0,
            user_update_alpha: 0.9 * (1.0 / 3.4),
            alpha_x_intercept: 1.0,
            alpha_y_intercept: 0.3,
            choice: ChoiceModel::MultinomialProportional { min_normalizer: -1.0, no_click_mass: 1.0 },
        }
    }
}

impl InterestEvolutionSettings {
    /// Checks every value.
    ///
    /// # Errors
    /// The first one outside its range; factors under which the best documents give more time than they take, so that
    /// sessions need not end.
    pub fn check(&self) -> Result<(), EnvironmentError> {
        check_sizes(self.candidates, self.slate_size)?;
        let allowed = format!("allowed are 1 to {MAX_TOPICS}");
        require((1..=MAX_TOPICS).contains(&self.topics), "topics", self.topics, allowed)?;
        let utilities = [("min_utility", self.min_utility, -100.0, 0.0), ("max_utility", self.max_utility, 0.0, 100.0)];
        let others = [
            ("quality_stddev", self.quality_stddev, 0.0, 100.0),
            ("user_quality_factor", self.user_quality_factor, 0.0, 100.0),
            ("document_quality_factor", self.document_quality_factor, 0.0, 100.0),
            ("user_update_alpha", self.user_update_alpha, 0.0, 100.0),
            ("alpha_y_intercept", self.alpha_y_intercept, 0.0, 1.0),
        ];
        for (key, value, least, greatest) in utilities.into_iter().chain(others) {
            let allowed = format!("allowed are {least} to {greatest}");
            require((least..=greatest).contains(&value), key, value, allowed)?;
        }
        for (key, value) in [
            ("video_length", self.video_length),
            ("time_budget", self.time_budget),
            ("step_penalty", self.step_penalty),
            ("alpha_x_intercept", self.alpha_x_intercept),
        ] {
            let allowed = format!("it must be above 0 and at most {MAX_MINUTES}");
            require(value > 0.0 && value <= MAX_MINUTES, key, value, allowed)?;
        }
        self.choice.check(-1.0)?;
        let weight = self.choice.greatest_weight(1.0);
        let utility = self.user_quality_factor * weight + self.document_quality_factor * self.max_utility;
        let allowed = format!(
            "it must be below {} for sessions to end: times the greatest utility, it is what a minute gives back",
            1.0 / utility
        );
        require(self.user_update_alpha * utility < 1.0, "user_update_alpha", self.user_update_alpha, allowed)
    }

    /// The mean quality of each topic.
    #[must_use]
    pub fn topic_qualities(&self) -> Vec<f64> {
        let rising = |from: f64, to: f64, count: usize| {
            let step = (to - from) / count.saturating_sub(1).max(1) as f64;
            (0..count).map(move |index| from + index as f64 * step)
        };
        let trashy = self.topics * 7 / 10;
        rising(self.min_utility, 0.0, trashy).chain(rising(0.0, self.max_utility, self.topics - trashy)).collect()
    }

    fn spec(&self) -> EnvironmentSpec {
        let scaled = |name, max| numeric(name, Normalisation::MinMax { min: 0.0, max });
        let topics = (0..self.topics).map(|topic| topic.to_string()).collect();
        EnvironmentSpec {
            name: InterestEvolution::NAME,
            candidates: self.candidates,
            slate_size: self.slate_size,
            features: schema(
                vec![embedding("interests", self.topics as u32)],
                vec![
                    scaled("steps", USUAL_STEPS),
                    scaled("total_reward", self.time_budget),
                    scaled("responses", USUAL_STEPS),
                    // What was watched, by topic: with the steps, it tells how much of the time is left.
                    embedding("consumed_decay_1", self.topics as u32),
                ],
                vec![feature("topic", FeatureKind::Categorical { vocabulary: topics, unknown: Unknown::Error })],
            ),
            session: SessionSettings { decay_rates: vec![1.0], history: 0 },
            references: &["best_quality", "greedy_interest"],
            event: "watch",
            optimum: None,
        }
    }
}

/// A user.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct IevUser {
    /// i, the interest in each topic, from -1 to 1.
    pub interests: Vec<f64>,
    /// b, minutes left; latent.
    pub time_budget: f64,
}

/// A document.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IevDocument {
    /// Counts the documents of an episode.
    pub id: u64,
    /// Its topic, from 0.
    pub topic: usize,
    /// q; latent.
    pub quality: f64,
}

/// What the user made of a slate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IevResponse {
    /// The position of the document that was watched.
    pub clicked: Option<usize>,
    /// Minutes watched: the reward.
    pub watch_time: f64,
}

impl IevUser {
    /// The interest in a document.
    #[must_use]
    pub fn interest(&self, document: &IevDocument) -> f64 {
        self.interests[document.topic]
    }

    /// Watches a document and returns for how many minutes. The interest in its topic rises where `rises`, else falls.
    pub fn watch(&mut self, settings: &InterestEvolutionSettings, document: &IevDocument, rises: bool) -> f64 {
        let interest = self.interests[document.topic];
        let factor = if settings.user_quality_factor == 0.0 {
            0.0
        } else {
            let mut weights = Vec::with_capacity(1);
            settings.choice.weights(&[interest], &mut weights);
            settings.user_quality_factor * weights[0]
        };
        let (x, y) = (settings.alpha_x_intercept, settings.alpha_y_intercept);
        let change = (y - interest.abs() * y / x) * (1.0 - interest);
        let changed = if rises { interest + change } else { interest - change };
        self.interests[document.topic] = changed.clamp(-1.0, 1.0);
        let watched = self.time_budget.min(settings.video_length);
        let utility = factor + settings.document_quality_factor * document.quality;
        self.time_budget -= watched;
        self.time_budget += settings.user_update_alpha * watched * utility;
        watched
    }

    /// Chooses nothing.
    pub fn pass(&mut self, settings: &InterestEvolutionSettings) {
        self.time_budget -= settings.step_penalty;
    }
}

/// The environment.
#[derive(Debug, Clone)]
pub struct InterestEvolution {
    settings: InterestEvolutionSettings,
    spec: EnvironmentSpec,
    qualities: Vec<f64>,
    generators: Generators,
    user: IevUser,
    documents: Vec<IevDocument>,
    drawn: u64,
    values: Vec<f64>,
    weights: Vec<f64>,
}

impl InterestEvolution {
    /// Its name.
    pub const NAME: &'static str = "interest_evolution";

    /// The environment, in an episode of seed 0.
    ///
    /// # Errors
    /// Settings that fail [`InterestEvolutionSettings::check`].
    pub fn new(settings: &InterestEvolutionSettings) -> Result<Self, EnvironmentError> {
        settings.check()?;
        let mut environment = Self {
            spec: settings.spec(),
            qualities: settings.topic_qualities(),
            generators: Generators::new(settings.document_seed),
            user: IevUser { interests: vec![0.0; settings.topics], time_budget: settings.time_budget },
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
    pub const fn state(&self) -> &IevUser {
        &self.user
    }

    /// The candidates.
    #[must_use]
    pub fn documents(&self) -> &[IevDocument] {
        &self.documents
    }

    /// Whether the episode has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.user.time_budget <= 0.0
    }

    /// Shows a slate; [`Environment::step`] in the environment's own types.
    ///
    /// # Errors
    /// A slate of another size, or that names a candidate twice or one that does not exist; an episode that is over.
    pub fn advance(&mut self, slate: &[usize]) -> Result<IevResponse, EnvironmentError> {
        if self.is_over() {
            return Err(EnvironmentError::Over);
        }
        self.spec.check_slate(slate)?;
        self.values.clear();
        self.values.extend(slate.iter().map(|&candidate| self.user.interest(&self.documents[candidate])));
        let clicked = self.settings.choice.choose(&self.values, &mut self.weights, &mut self.generators.user);
        let watch_time = match clicked {
            Some(position) => {
                let document = self.documents[slate[position]];
                let rises = self.generators.user.random::<f64>() < (self.values[position] + 1.0) / 2.0;
                self.user.watch(&self.settings, &document, rises)
            }
            None => {
                self.user.pass(&self.settings);
                0.0
            }
        };
        if self.settings.resample_documents {
            self.draw_documents();
        }
        Ok(IevResponse { clicked, watch_time })
    }

    fn draw_documents(&mut self) {
        self.documents.clear();
        let generator = &mut self.generators.documents;
        // 32 bits are half the work of 64.
        let topics = self.settings.topics as u32;
        for _ in 0..self.settings.candidates {
            let topic = generator.random_range(0..topics) as usize;
            let noise: f64 = StandardNormal.sample(generator);
            let quality = self.qualities[topic] + self.settings.quality_stddev * noise;
            self.documents.push(IevDocument { id: self.drawn, topic, quality });
            self.drawn += 1;
        }
    }
}

impl Environment for InterestEvolution {
    fn spec(&self) -> &EnvironmentSpec {
        &self.spec
    }

    fn reset(&mut self, seed: u64) {
        self.generators = Generators::new(seed);
        let generator = &mut self.generators.user;
        self.user.interests.iter_mut().for_each(|interest| *interest = generator.random_range(-1.0..1.0));
        self.user.time_budget = self.settings.time_budget;
        if self.settings.resample_documents {
            self.drawn = 0;
            self.draw_documents();
        }
    }

    fn user(&self) -> Features {
        let interests: Vec<f32> = self.user.interests.iter().map(|&interest| interest as f32).collect();
        [("interests", interests)].into_iter().collect()
    }

    fn item(&self, candidate: usize) -> Features {
        [("topic", self.documents[candidate].topic as f64)].into_iter().collect()
    }

    fn item_id(&self, candidate: usize) -> String {
        self.documents[candidate].id.to_string()
    }

    fn step(&mut self, slate: &[usize]) -> Result<Outcome, EnvironmentError> {
        let IevResponse { clicked, watch_time } = self.advance(slate)?;
        let minutes = if clicked.is_some() { watch_time } else { self.settings.step_penalty };
        Ok(Outcome { reward: watch_time, consumed: clicked, seconds: 60.0 * minutes, done: self.is_over() })
    }

    fn reference(&self, policy: &str, scores: &mut Vec<f32>) -> bool {
        let score = match policy {
            "greedy_interest" => |user: &IevUser, document: &IevDocument| user.interest(document) as f32,
            "best_quality" => |_: &IevUser, document: &IevDocument| document.quality as f32,
            _ => return false,
        };
        scores.extend(self.documents.iter().map(|document| score(&self.user, document)));
        true
    }

    fn latent(&self) -> serde_json::Value {
        let qualities: Vec<f64> = self.documents.iter().map(|document| document.quality).collect();
        json!({ "time_budget": self.user.time_budget, "qualities": qualities })
    }
}
