//! Long-term satisfaction: sweet items are enjoyed now and sour the appetite for what follows.
//!
//! The environment of RecSim (Ie, Hsu, Mladenov, Jain, Narvekar, Wang, Wu & Boutilier 2019, arXiv:1909.04847). The user
//! consumes the first item of each slate, whose clickbait score c is between 0 (kale) and 1 (chocolate):
//!
//! - engagement: `exp(N(mu, sigma))` with `mu = s (c choc_mean + (1 - c) kale_mean)` and
//!   `sigma = c choc_stddev + (1 - c) kale_stddev`, at the satisfaction s that the user had before it;
//! - exposure: `x' = memory_discount x - 2 (c - 1/2) + N(0, innovation_stddev)`;
//! - satisfaction: `s = 1 / (1 + exp(-sensitivity x))`.
//!
//! Exposure and satisfaction are latent. What the session accumulator keeps determines the exposure up to its first
//! value and the innovations: with the sum of the consumed scores decayed at the memory rate m,
//! `x_t = m^t x_0 - 2 sum_i m^(t-1-i) c_i + (1 - m^t) / (1 - m)`.

use rand::RngExt;
use rand::distr::Distribution;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};
use serde_json::json;
use slated_contract::feature::{Features, Normalisation};
use slated_contract::session::SessionSettings;

use super::generators::{Generators, uniform};
use super::settings::{check_sizes, require};
use super::spec::{EnvironmentSpec, Outcome, embedding, numeric, schema};
use super::{Environment, EnvironmentError};

/// The longest session, in steps.
const MAX_TIME_BUDGET: u32 = 1_000_000;
const MAX_RANGES: usize = 1000;
/// Means of the logarithm of engagement beyond it overflow a reward.
const MAX_MEAN: f64 = 100.0;
const MAX_DEVIATION: f64 = 10.0;
/// RecSim does not say how long a step takes; here it takes a minute.
const STEP_SECONDS: f64 = 60.0;
/// What the session accumulator keeps; 0.7 is RecSim's memory discount.
const DECAY_RATES: [f64; 3] = [0.5, 0.7, 0.9];

/// The settings, by default RecSim's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LongTermSatisfactionSettings {
    /// How many candidates each step offers.
    pub candidates: usize,
    /// How many of them a slate shows; the user consumes the first.
    pub slate_size: usize,
    /// Whether each step draws new candidates. Otherwise they are the same in every step of every episode.
    pub resample_documents: bool,
    /// Seeds the candidates that are not drawn anew.
    pub document_seed: u64,
    /// Where clickbait scores come from: candidate after candidate draws uniformly from the next of these ranges, the
    /// first again after the last. Each within 0 to 1.
    pub clickbait_ranges: Vec<[f64; 2]>,
    /// How much of the exposure remains after a step, at least 0 and below 1.
    pub memory_discount: f64,
    /// How strongly satisfaction depends on exposure, at least 0.
    pub sensitivity: f64,
    /// Standard deviation of the exposure's noise.
    pub innovation_stddev: f64,
    /// Mean of the logarithm of engagement with chocolate.
    pub choc_mean: f64,
    /// Its standard deviation.
    pub choc_stddev: f64,
    /// Mean of the logarithm of engagement with kale.
    pub kale_mean: f64,
    /// Its standard deviation.
    pub kale_stddev: f64,
    /// Steps in a session.
    pub time_budget: u32,
    /// The exposure with which every session begins. Where absent it is drawn, uniform over
    /// `+-1 / (2 (1 - memory_discount))`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_exposure: Option<f64>,
}

impl Default for LongTermSatisfactionSettings {
    fn default() -> Self {
        Self {
            candidates: 20,
            slate_size: 1,
            resample_documents: true,
            document_seed: 0,
            clickbait_ranges: vec![[0.0, 1.0]],
            memory_discount: 0.7,
            sensitivity: 0.01,
            innovation_stddev: 0.05,
            choc_mean: 5.0,
            choc_stddev: 1.0,
            kale_mean: 4.0,
            kale_stddev: 1.0,
            time_budget: 60,
            first_exposure: None,
        }
    }
}

impl LongTermSatisfactionSettings {
    /// The parameters of the RLlib tutorial: short sessions of sensitive users who do not enjoy kale at all, and
    /// documents of which one half is kale and the other chocolate.
    #[must_use]
    pub fn tutorial() -> Self {
        Self {
            clickbait_ranges: vec![[0.0, 0.2], [0.8, 1.0]],
            sensitivity: 0.9,
            innovation_stddev: 1e-5,
            choc_stddev: 0.0,
            kale_mean: 0.0,
            kale_stddev: 0.0,
            time_budget: 10,
            first_exposure: Some(1.0),
            ..Self::default()
        }
    }

    /// Checks every value.
    ///
    /// # Errors
    /// The first one outside its range.
    pub fn check(&self) -> Result<(), EnvironmentError> {
        check_sizes(self.candidates, self.slate_size)?;
        let ranges = &self.clickbait_ranges;
        let holds = (1..=MAX_RANGES).contains(&ranges.len())
            && ranges.iter().all(|[least, greatest]| 0.0 <= *least && least <= greatest && *greatest <= 1.0);
        let allowed = format!("it must be 1 to {MAX_RANGES} pairs from 0 to 1, each ascending");
        require(holds, "clickbait_ranges", format!("{ranges:?}"), allowed)?;
        require(
            self.memory_discount >= 0.0 && self.memory_discount < 1.0,
            "memory_discount",
            self.memory_discount,
            "it must be at least 0 and below 1",
        )?;
        require(
            (0.0..=MAX_MEAN).contains(&self.sensitivity),
            "sensitivity",
            self.sensitivity,
            format!("allowed are 0 to {MAX_MEAN}"),
        )?;
        for (key, mean) in [("choc_mean", self.choc_mean), ("kale_mean", self.kale_mean)] {
            require(mean.abs() <= MAX_MEAN, key, mean, format!("allowed are -{MAX_MEAN} to {MAX_MEAN}"))?;
        }
        for (key, deviation) in [
            ("innovation_stddev", self.innovation_stddev),
            ("choc_stddev", self.choc_stddev),
            ("kale_stddev", self.kale_stddev),
        ] {
            let allowed = format!("allowed are 0 to {MAX_DEVIATION}");
            require((0.0..=MAX_DEVIATION).contains(&deviation), key, deviation, allowed)?;
        }
        let allowed = format!("allowed are 1 to {MAX_TIME_BUDGET}");
        require((1..=MAX_TIME_BUDGET).contains(&self.time_budget), "time_budget", self.time_budget, allowed)?;
        match self.first_exposure {
            Some(first) => require(first.is_finite(), "first_exposure", first, "it must be finite"),
            None => Ok(()),
        }
    }

    fn spec(&self) -> EnvironmentSpec {
        let decays = DECAY_RATES.map(|rate| embedding(&format!("consumed_decay_{rate}"), 1));
        let steps = Normalisation::MinMax { min: 0.0, max: f64::from(self.time_budget) };
        let mut session = vec![numeric("steps", steps), numeric("last_reward", Normalisation::Log)];
        session.extend(decays);
        EnvironmentSpec {
            name: LongTermSatisfaction::NAME,
            candidates: self.candidates,
            slate_size: self.slate_size,
            features: schema(Vec::new(), session, vec![numeric("clickbait_score", Normalisation::Identity)]),
            session: SessionSettings { decay_rates: DECAY_RATES.to_vec(), history: 0 },
            references: &["sweetest", "kaliest"],
            event: "watch",
            // Dynamic programming over the exposure, with full knowledge of it.
            optimum: (*self == Self::tutorial()).then_some(225.98),
        }
    }
}

/// A user.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LtsUser {
    /// Net positive exposure, x; latent.
    pub net_positive_exposure: f64,
    /// Satisfaction, s, from 0 to 1; latent.
    pub satisfaction: f64,
    /// Steps left.
    pub time_budget: u32,
}

/// A document.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LtsDocument {
    /// Counts the documents of an episode.
    pub id: u64,
    /// c, from 0 (kale) to 1 (chocolate).
    pub clickbait_score: f64,
}

/// What the user made of the first item of a slate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LtsResponse {
    /// How long it was enjoyed: the reward.
    pub engagement: f64,
}

impl LtsUser {
    /// A user at the beginning of a session.
    #[must_use]
    pub fn new(settings: &LongTermSatisfactionSettings, first_exposure: f64) -> Self {
        Self {
            net_positive_exposure: first_exposure,
            satisfaction: satisfaction(settings, first_exposure),
            time_budget: settings.time_budget,
        }
    }

    /// Mean and standard deviation of the logarithm of engagement with a document.
    #[must_use]
    pub fn log_engagement(&self, settings: &LongTermSatisfactionSettings, document: &LtsDocument) -> (f64, f64) {
        let c = document.clickbait_score;
        let mean = (c * settings.choc_mean + (1.0 - c) * settings.kale_mean) * self.satisfaction;
        (mean, c * settings.choc_stddev + (1.0 - c) * settings.kale_stddev)
    }

    /// Consumes a document; `innovation` is the exposure's noise.
    pub fn consume(&mut self, settings: &LongTermSatisfactionSettings, document: &LtsDocument, innovation: f64) {
        self.net_positive_exposure =
            settings.memory_discount * self.net_positive_exposure - 2.0 * (document.clickbait_score - 0.5) + innovation;
        self.satisfaction = satisfaction(settings, self.net_positive_exposure);
        self.time_budget = self.time_budget.saturating_sub(1);
    }
}

fn satisfaction(settings: &LongTermSatisfactionSettings, exposure: f64) -> f64 {
    1.0 / (1.0 + (-settings.sensitivity * exposure).exp())
}

/// The environment.
#[derive(Debug, Clone)]
pub struct LongTermSatisfaction {
    settings: LongTermSatisfactionSettings,
    spec: EnvironmentSpec,
    generators: Generators,
    user: LtsUser,
    documents: Vec<LtsDocument>,
    drawn: u64,
    /// The range of each candidate's clickbait score.
    ranges: Vec<[f64; 2]>,
    /// Scratch: a random number a candidate.
    bits: Vec<u32>,
}

impl LongTermSatisfaction {
    /// Its name.
    pub const NAME: &'static str = "long_term_satisfaction";

    /// The environment, in an episode of seed 0.
    ///
    /// # Errors
    /// Settings that fail [`LongTermSatisfactionSettings::check`].
    pub fn new(settings: &LongTermSatisfactionSettings) -> Result<Self, EnvironmentError> {
        settings.check()?;
        let mut environment = Self {
            spec: settings.spec(),
            generators: Generators::new(settings.document_seed),
            user: LtsUser::new(settings, 0.0),
            documents: vec![LtsDocument { id: 0, clickbait_score: 0.0 }; settings.candidates],
            drawn: 0,
            ranges: settings.clickbait_ranges.iter().copied().cycle().take(settings.candidates).collect(),
            bits: vec![0; settings.candidates],
            settings: settings.clone(),
        };
        environment.draw_documents();
        environment.reset(0);
        Ok(environment)
    }

    /// The user, latent state included.
    #[must_use]
    pub const fn state(&self) -> &LtsUser {
        &self.user
    }

    /// The candidates.
    #[must_use]
    pub fn documents(&self) -> &[LtsDocument] {
        &self.documents
    }

    /// Whether the episode has ended.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.user.time_budget == 0
    }

    /// Shows a slate; [`Environment::step`] in the environment's own types.
    ///
    /// # Errors
    /// A slate of another size, or that names a candidate twice or one that does not exist; an episode that is over.
    pub fn advance(&mut self, slate: &[usize]) -> Result<LtsResponse, EnvironmentError> {
        if self.is_over() {
            return Err(EnvironmentError::Over);
        }
        self.spec.check_slate(slate)?;
        let document = self.documents[slate[0]];
        let (mean, deviation) = self.user.log_engagement(&self.settings, &document);
        let engagement = (mean + deviation * normal(&mut self.generators.user)).exp();
        let innovation = self.settings.innovation_stddev * normal(&mut self.generators.user);
        self.user.consume(&self.settings, &document, innovation);
        if self.settings.resample_documents {
            self.draw_documents();
        }
        Ok(LtsResponse { engagement })
    }

    fn draw_documents(&mut self) {
        // All at once is twice as fast as one after the other.
        self.generators.documents.fill(&mut self.bits[..]);
        let drawn = self.documents.iter_mut().zip(&self.bits).zip(&self.ranges).zip(self.drawn..);
        for (((document, &bits), [least, greatest]), id) in drawn {
            *document = LtsDocument { id, clickbait_score: least + (greatest - least) * uniform(bits) };
        }
        self.drawn += self.documents.len() as u64;
    }
}

fn normal(generator: &mut ChaCha8Rng) -> f64 {
    StandardNormal.sample(generator)
}

impl Environment for LongTermSatisfaction {
    fn spec(&self) -> &EnvironmentSpec {
        &self.spec
    }

    fn reset(&mut self, seed: u64) {
        self.generators = Generators::new(seed);
        let drawn = (self.generators.user.random::<f64>() - 0.5) / (1.0 - self.settings.memory_discount);
        self.user = LtsUser::new(&self.settings, self.settings.first_exposure.unwrap_or(drawn));
        if self.settings.resample_documents {
            self.drawn = 0;
            self.draw_documents();
        }
    }

    fn user(&self) -> Features {
        Features::new()
    }

    fn item(&self, candidate: usize) -> Features {
        [("clickbait_score", self.documents[candidate].clickbait_score)].into_iter().collect()
    }

    fn item_id(&self, candidate: usize) -> String {
        self.documents[candidate].id.to_string()
    }

    fn step(&mut self, slate: &[usize]) -> Result<Outcome, EnvironmentError> {
        let LtsResponse { engagement } = self.advance(slate)?;
        Ok(Outcome { reward: engagement, consumed: Some(0), seconds: STEP_SECONDS, done: self.is_over() })
    }

    fn reference(&self, policy: &str, scores: &mut Vec<f32>) -> bool {
        let sign = match policy {
            "sweetest" => 1.0,
            "kaliest" => -1.0,
            _ => return false,
        };
        scores.extend(self.documents.iter().map(|document| (sign * document.clickbait_score) as f32));
        true
    }

    fn latent(&self) -> serde_json::Value {
        json!(self.user)
    }
}
