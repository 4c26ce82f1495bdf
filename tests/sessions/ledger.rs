//! What a journal says that every decision should have seen, by a fold of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use slated::serving::{EngineSettings, LoadedPolicy, Query};
use slated_contract::event::{Decision, Event, Feedback, SegmentReader, segments};
use slated_contract::feature::Features;
use slated_contract::session::{SessionAccumulator, SessionSettings};

use crate::policy;

/// A user of one or several replicas, who asks again only once everything was answered.
pub struct User {
    client: Client,
    name: String,
    random: ChaCha8Rng,
    asked: u64,
    /// At most one response to a slate.
    brief: bool,
}

impl User {
    pub fn new(name: &str, seed: u64) -> Self {
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap();
        Self { client, name: name.to_owned(), random: ChaCha8Rng::seed_from_u64(seed), asked: 0, brief: false }
    }

    /// One who responds to a slate once or not at all.
    pub fn brief(name: &str, seed: u64) -> Self {
        Self { brief: true, ..Self::new(name, seed) }
    }

    /// Asks for a slate and says what came of it, in ways that differ from time to time; `None` where a replica is gone.
    pub async fn step(&mut self, urls: &[String]) -> Option<()> {
        let id = format!("{}-{:04}", self.name, self.asked);
        self.asked += 1;
        let url = urls[self.random.random_range(0..urls.len())].clone();
        let mut candidate = |index: usize| {
            let mut number = || f64::from(self.random.random_range(-100_i32..100)) / 7.0;
            json!({"id": format!("i{index}"), "features": {"x": number(), "y": number()}})
        };
        let candidates: Vec<Value> = (0..5).map(&mut candidate).collect();
        let mut body = json!({"event_id": id, "user_id": self.name, "candidates": candidates, "slate_size": 3});
        if self.name.ends_with("of-session") {
            body["session_id"] = json!(format!("session-of-{}", self.name));
        }
        self.post(&url, "/recommend", &body).await?;
        let kinds = match self.random.random_range(0..5) {
            1 | 2 if self.brief => 3,
            kind => kind,
        };
        let mut event = |index: usize| {
            let name = ["click", "purchase", "view"][self.random.random_range(0..3)];
            let value = f64::from(self.random.random_range(1..1000)) / 9.0;
            let position = self.random.random_range(0..3);
            json!({"feedback_id": format!("{id}-{index}"), "decision_id": id, "event": name, "value": value,
                   "position": position})
        };
        match kinds {
            0 => {}
            // All of the same moment.
            1 => {
                let events: Vec<Value> = (0..4).rev().map(&mut event).collect();
                self.post(&url, "/feedback", &json!(events)).await?;
            }
            // Side by side.
            2 => {
                let events: Vec<Value> = (0..6).map(&mut event).collect();
                let urls = urls.iter().cycle();
                let told = events.iter().zip(urls).map(|(event, url)| self.post(url, "/feedback", event));
                futures::future::join_all(told).await.into_iter().collect::<Option<Vec<()>>>()?;
            }
            _ => {
                let event = event(0);
                let other = &urls[self.asked as usize % urls.len()];
                self.post(other, "/feedback", &event).await?;
            }
        }
        Some(())
    }

    async fn post(&self, url: &str, path: &str, body: &Value) -> Option<()> {
        let answer = self.client.post(format!("{url}{path}")).json(body).send().await.ok()?;
        let status = answer.status();
        let answer = answer.text().await.ok()?;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        Some(())
    }
}

/// All events of a kind in the closed segments of some journals.
pub fn read<E: Event>(journals: &[&Path]) -> Vec<E> {
    let files = journals.iter().flat_map(|journal| segments::<E>(journal).unwrap()).flat_map(|date| date.files);
    files.flat_map(|path| SegmentReader::<E>::open(&path, 500).unwrap().flat_map(Result::unwrap)).collect()
}

/// Something that happened: when, whether it is feedback, its id; and the encoded item with its worth.
type Happened = (DateTime<Utc>, bool, String, Option<(Vec<f32>, f64)>);

/// What a decision should have seen.
#[derive(Debug, Clone)]
pub struct Saw {
    pub decision: Decision,
    pub session: Features,
    pub query: Query,
    /// Slates before it in its session.
    pub steps: u64,
}

/// Folds each session; what each of its decisions should have seen, in order.
pub fn fold(journals: &[&Path], policy: &LoadedPolicy, history: usize, idle: TimeDelta) -> BTreeMap<String, Vec<Saw>> {
    let encoder = &policy.encoder;
    let decisions = read::<Decision>(journals);
    let by_id: BTreeMap<&str, &Decision> = decisions.iter().map(|d| (d.decision_id.as_str(), d)).collect();
    assert_eq!(by_id.len(), decisions.len(), "each decision is there once");
    let session_of = |decision: &Decision| decision.session_id.clone().or(decision.user_id.clone()).unwrap();
    let mut sessions: BTreeMap<String, Vec<Happened>> = BTreeMap::new();
    for decision in &decisions {
        let happened = (decision.time, false, decision.decision_id.clone(), None);
        sessions.entry(session_of(decision)).or_default().push(happened);
    }
    for feedback in read::<Feedback>(journals) {
        let decision = by_id[feedback.decision_id.as_str()];
        let Some(weight) = policy::reward().weights.get(&feedback.event).copied() else { continue };
        let item = &decision.slate[usize::try_from(feedback.position.unwrap()).unwrap()].item;
        let candidate = decision.candidates.iter().find(|candidate| candidate.item == *item).unwrap();
        let mut encoded = Vec::new();
        encoder.encode_item(item, &candidate.features, &mut encoded).unwrap();
        let worth = Some((encoded, weight * feedback.value));
        let happened = (feedback.time, true, feedback.feedback_id, worth);
        sessions.get_mut(&session_of(decision)).unwrap().push(happened);
    }
    let fresh = SessionAccumulator::new(&policy::session(history), policy::ITEM_WIDTH).unwrap();
    let fold = |mut happened: Vec<Happened>| {
        happened.sort_by(|a, b| (a.0, a.1, &a.2).cmp(&(b.0, b.1, &b.2)));
        let mut session = fresh.clone();
        let mut last: Option<DateTime<Utc>> = None;
        let mut saw = Vec::new();
        for (time, _, id, consumed) in happened {
            if last.is_some_and(|last| time - last > idle) {
                session = fresh.clone();
            }
            last = Some(time);
            if let Some((item, reward)) = consumed {
                session.respond(&item, reward);
                continue;
            }
            let decision = by_id[id.as_str()];
            let (mut state, mut items) = (Vec::new(), Vec::new());
            encoder.encode_state(&decision.user, &decision.context, &session.features(time), &mut state).unwrap();
            for candidate in &decision.candidates {
                encoder.encode_item(&candidate.item, &candidate.features, &mut items).unwrap();
            }
            let history = session.history().flatten().copied().collect();
            let query =
                Query { state, items, candidates: decision.candidates.len(), history, noise: Vec::new(), rows: 1 };
            let (decision, steps) = (decision.clone(), session.steps());
            saw.push(Saw { decision, session: session.features(time), query, steps });
            session.show(time);
        }
        saw
    };
    sessions.into_iter().map(|(name, happened)| (name, fold(happened))).collect()
}

/// What was compared.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Decisions.
    pub decisions: usize,
    /// Those that saw a full history.
    pub full: usize,
    /// Those that began a session.
    pub begun: usize,
}

/// Compares what every decision saw, and the scores that it gave, with a fold over the journal, bit for bit; a decision
/// that says that it was made without its session is a part of it all the same.
pub async fn compare(journals: &[&Path], models: &Path, history: usize, idle: TimeDelta) -> Compared {
    let policy = loaded(models);
    let mut compared = Compared::default();
    let full = history * SessionSettings::history_width(policy::ITEM_WIDTH);
    for Saw { decision, session, query, steps } in fold(journals, &policy, history, idle).into_values().flatten() {
        let id = &decision.decision_id;
        if decision.session.get("unavailable").is_some() {
            continue;
        }
        assert_eq!(decision.session, session, "{id} saw another session");
        compared.decisions += 1;
        compared.full += usize::from(query.history.len() == full);
        compared.begun += usize::from(steps == 0);
        let scores: Vec<Option<f32>> = policy.engine.run(query).await.unwrap().scores.into_iter().map(Some).collect();
        let logged: Vec<Option<f32>> = decision.candidates.iter().map(|candidate| candidate.score).collect();
        assert_eq!(logged, scores, "{id} saw another history");
    }
    compared
}

/// The policy in a folder of models.
pub fn loaded(models: &Path) -> LoadedPolicy {
    LoadedPolicy::load(models, policy::NAME, None, &EngineSettings::default()).unwrap()
}
