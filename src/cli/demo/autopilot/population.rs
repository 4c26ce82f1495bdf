//! Simulated users of the running service, as many at a time as come: sessions, and feedback that is late, twice or lost.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow};
use chrono::{DateTime, Utc};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reqwest::Client;
use serde_json::{Value, json};
use slated_trainer::env::{Environment, EnvironmentSettings};
use slated_trainer::rollout::episode_seed;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use crate::api::RecommendResponse;

/// Users at once at most.
const CONCURRENT: usize = 256;
/// How long a user looks at what was shown, on average.
const THINKING: Duration = Duration::from_millis(20);
/// How long feedback that is late takes, on average.
const LATE: Duration = Duration::from_millis(60);
/// The chances of what may befall a feedback event.
const CHANCE_LATE: f64 = 0.01;
const CHANCE_TWICE: f64 = 0.05;
const CHANCE_LOST: f64 = 0.005;

/// A session that was played to its end.
#[derive(Debug, Clone, Copy)]
pub struct Played {
    /// When it began.
    pub begun: DateTime<Utc>,
    /// When it ended.
    pub ended: DateTime<Utc>,
    /// Which of the environments it was in.
    pub environment: usize,
    /// The version that decided all of it, if one did.
    pub version: Option<i64>,
    /// What the user truly had of it, whether or not feedback said so.
    pub total: f64,
}

/// What became of all requests.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Requests for a slate.
    pub requests: u64,
    /// Feedback events that were sent, those sent again included.
    pub feedback: u64,
    /// Requests of either kind that were not answered with 200.
    pub failed: u64,
    /// What the first of these met.
    pub first_failure: Option<String>,
}

/// The population; it stops when dropped.
pub struct Population {
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

struct Shared {
    url: String,
    client: Client,
    environments: Vec<EnvironmentSettings>,
    now: AtomicUsize,
    seed: u64,
    stop: AtomicBool,
    played: Mutex<Vec<Played>>,
    requests: AtomicU64,
    feedback: AtomicU64,
    failed: AtomicU64,
    first_failure: Mutex<Option<String>>,
}

impl Population {
    /// Sends users to the service at `url`, so many a second on average, who live in the first of the environments.
    ///
    /// # Errors
    /// An async runtime or a client that cannot be made.
    pub fn start(url: &str, environments: Vec<EnvironmentSettings>, rate: f64, seed: u64) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.context("cannot start the population's runtime")?;
        // The proxy of the environment is for the outside, and this is the loopback.
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?;
        let shared = Arc::new(Shared {
            url: url.to_owned(),
            client,
            environments,
            now: AtomicUsize::new(0),
            seed,
            stop: AtomicBool::new(false),
            played: Mutex::new(Vec::new()),
            requests: AtomicU64::new(0),
            feedback: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            first_failure: Mutex::new(None),
        });
        runtime.spawn(arrive(Arc::clone(&shared), rate));
        Ok(Self { shared, runtime: Some(runtime) })
    }

    /// From now on new users live in another of the environments.
    pub fn shift(&self, environment: usize) {
        self.shared.now.store(environment, Ordering::Relaxed);
    }

    /// The sessions so far.
    pub fn played(&self) -> Vec<Played> {
        lock(&self.shared.played).clone()
    }

    /// What became of all requests so far.
    pub fn tally(&self) -> Tally {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Tally {
            requests: count(&self.shared.requests),
            feedback: count(&self.shared.feedback),
            failed: count(&self.shared.failed),
            first_failure: lock(&self.shared.first_failure).clone(),
        }
    }

    /// Lets nobody in any more, and waits for those who are there.
    pub fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(runtime) = self.runtime.take() {
            std::thread::sleep(Duration::from_secs(2));
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

impl Drop for Population {
    fn drop(&mut self) {
        self.stop();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Users come at random, with gaps of an exponential distribution.
async fn arrive(shared: Arc<Shared>, rate: f64) {
    let mut generator = ChaCha8Rng::seed_from_u64(shared.seed);
    let room = Arc::new(Semaphore::new(CONCURRENT));
    let started = tokio::time::Instant::now();
    let mut next = 0.0;
    for index in 0_u64.. {
        next += exponential(&mut generator, 1.0 / rate);
        tokio::time::sleep_until(started + Duration::from_secs_f64(next)).await;
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            if let Err(error) = shared.session(index).await {
                shared.failed.fetch_add(1, Ordering::Relaxed);
                lock(&shared.first_failure).get_or_insert(format!("{error:#}"));
            }
            drop(permit);
        });
    }
}

fn exponential(generator: &mut ChaCha8Rng, mean: f64) -> f64 {
    -mean * (1.0 - generator.random::<f64>()).ln()
}

impl Shared {
    /// One session, from its first slate to its last.
    async fn session(self: &Arc<Self>, index: u64) -> anyhow::Result<()> {
        let which = self.now.load(Ordering::Relaxed);
        let mut environment = self.environments[which].build()?;
        environment.reset(episode_seed(self.seed, index));
        let mut generator = ChaCha8Rng::seed_from_u64(episode_seed(self.seed ^ 0xfeed, index));
        let (begun, session) = (Utc::now(), format!("user-{}-{index}", self.seed));
        let (mut total, mut versions) = (0.0, BTreeSet::new());
        for step in 0_u64.. {
            let decision = format!("{session}-{step}");
            self.requests.fetch_add(1, Ordering::Relaxed);
            let answer = self.post("/recommend", &request(&*environment, &session, &decision)).await?;
            let answer: RecommendResponse = serde_json::from_str(&answer).context("/recommend")?;
            let shown = answer.slate.first().context("the slate is empty")?.item.clone();
            let candidates = environment.spec().candidates;
            let place = (0..candidates).find(|&candidate| environment.item_id(candidate) == shown);
            let outcome = environment.step(&[place.with_context(|| format!("`{shown}` was no candidate"))?])?;
            versions.insert(answer.policy_version);
            total += outcome.reward;
            let feedback = json!({
                "feedback_id": format!("{decision}-watch"),
                "decision_id": decision,
                "event": environment.spec().event,
                "value": outcome.reward,
                "item": shown,
            });
            self.respond(feedback, &mut generator).await?;
            if outcome.done {
                break;
            }
            let thinking = exponential(&mut generator, THINKING.as_secs_f64());
            tokio::time::sleep(Duration::from_secs_f64(thinking)).await;
        }
        let version = versions.first().copied().filter(|_| versions.len() == 1);
        lock(&self.played).push(Played { begun, ended: Utc::now(), environment: which, version, total });
        Ok(())
    }

    /// Feedback: at once, or late, or twice, or never.
    async fn respond(self: &Arc<Self>, feedback: Value, generator: &mut ChaCha8Rng) -> anyhow::Result<()> {
        if generator.random::<f64>() < CHANCE_LOST {
            return Ok(());
        }
        let twice = generator.random::<f64>() < CHANCE_TWICE;
        let late = generator.random::<f64>() < CHANCE_LATE;
        if twice || late {
            let (shared, feedback) = (Arc::clone(self), feedback.clone());
            let delay = Duration::from_secs_f64(exponential(generator, LATE.as_secs_f64()));
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                shared.feedback.fetch_add(1, Ordering::Relaxed);
                if let Err(error) = shared.post("/feedback", &feedback).await {
                    shared.failed.fetch_add(1, Ordering::Relaxed);
                    lock(&shared.first_failure).get_or_insert(format!("{error:#}"));
                }
            });
        }
        if !late {
            self.feedback.fetch_add(1, Ordering::Relaxed);
            self.post("/feedback", &feedback).await?;
        }
        Ok(())
    }

    async fn post(&self, path: &str, body: &Value) -> anyhow::Result<String> {
        let answer = self.client.post(format!("{}{path}", self.url)).json(body).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        if status.is_success() { Ok(text) } else { Err(anyhow!("{path} answered {status}: {text}")) }
    }
}

fn request(environment: &dyn Environment, session: &str, decision: &str) -> Value {
    let spec = environment.spec();
    let candidate = |index| json!({"id": environment.item_id(index), "features": environment.item(index)});
    json!({
        "event_id": decision,
        "user_id": session,
        "session_id": session,
        "user": environment.user(),
        "candidates": (0..spec.candidates).map(candidate).collect::<Vec<_>>(),
        "slate_size": spec.slate_size,
    })
}
