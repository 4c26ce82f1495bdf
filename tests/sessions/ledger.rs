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
use slated_contract::session::SessionAccumulator;

use crate::policy;

/// A user of one or several replicas, who asks again only once everything was answered.
pub struct User {
    client: Client,
    name: String,
    random: ChaCha8Rng,
    asked: u64,
}

impl User {
    pub fn new(name: &str, seed: u64) -> Self {
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap();
        Self { client, name: name.to_owned(), random: ChaCha8Rng::seed_from_u64(seed), asked: 0 }
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
        let kinds = self.random.random_range(0..5);
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

/// All events of a kind in the closed segments of some journals.
pub fn read<E: Event>(journals: &[&Path]) -> Vec<E> {
    let files = journals.iter().flat_map(|journal| segments::<E>(journal).unwrap()).flat_map(|date| date.files);
    files.flat_map(|path| SegmentReader::<E>::open(&path, 500).unwrap().flat_map(Result::unwrap)).collect()
}

/// Something that happened: when, whether it is feedback, its id; and the encoded item with its worth.
type Happened = (DateTime<Utc>, bool, String, Option<(Vec<f32>, f64)>);

/// Folds each session again for every decision, and compares what the policy saw, and the scores that it gave, bit for
/// bit; a decision that says that it was made without its session is a part of it all the same.
pub async fn compare(journals: &[&Path], models: &Path, history: usize, idle: TimeDelta) -> Compared {
    let loaded = LoadedPolicy::load(models, policy::NAME, None, &EngineSettings::default()).unwrap();
    let decisions = read::<Decision>(journals);
    let by_id: BTreeMap<&str, &Decision> = decisions.iter().map(|d| (d.decision_id.as_str(), d)).collect();
    assert_eq!(by_id.len(), decisions.len(), "each decision is there once");
    let mut sessions: BTreeMap<&str, Vec<Happened>> = BTreeMap::new();
    let session_of = |decision: &'_ Decision| decision.session_id.clone().or(decision.user_id.clone()).unwrap();
    let names: BTreeMap<&str, String> =
        decisions.iter().map(|decision| (decision.decision_id.as_str(), session_of(decision))).collect();
    for decision in &decisions {
        let happened = (decision.time, false, decision.decision_id.clone(), None);
        sessions.entry(&names[decision.decision_id.as_str()]).or_default().push(happened);
    }
    for feedback in read::<Feedback>(journals) {
        let decision = by_id[feedback.decision_id.as_str()];
        let Some(weight) = policy::reward().weights.get(&feedback.event).copied() else { continue };
        let item = &decision.slate[usize::try_from(feedback.position.unwrap()).unwrap()].item;
        let candidate = decision.candidates.iter().find(|candidate| candidate.item == *item).unwrap();
        let mut encoded = Vec::new();
        loaded.encoder.encode_item(item, &candidate.features, &mut encoded).unwrap();
        let worth = Some((encoded, weight * feedback.value));
        let happened = (feedback.time, true, feedback.feedback_id, worth);
        sessions.get_mut(names[feedback.decision_id.as_str()].as_str()).unwrap().push(happened);
    }
    let mut compared = Compared::default();
    for happened in sessions.values_mut() {
        happened.sort_by(|a, b| (a.0, a.1, &a.2).cmp(&(b.0, b.1, &b.2)));
        let fresh = SessionAccumulator::new(&policy::session(history), policy::ITEM_WIDTH).unwrap();
        let mut session = fresh.clone();
        let mut last: Option<DateTime<Utc>> = None;
        for (time, _, id, consumed) in happened {
            if last.is_some_and(|last| *time - last > idle) {
                session = fresh.clone();
            }
            last = Some(*time);
            if let Some((item, reward)) = consumed {
                session.respond(item, *reward);
                continue;
            }
            let decision = by_id[id.as_str()];
            if decision.session.get("unavailable").is_some() {
                session.show(*time);
                continue;
            }
            assert_eq!(decision.session, session.features(*time), "{id}");
            let query = Query {
                state: {
                    let mut state = Vec::new();
                    let (user, context) = (&decision.user, &decision.context);
                    loaded.encoder.encode_state(user, context, &decision.session, &mut state).unwrap();
                    state
                },
                items: {
                    let mut items = Vec::new();
                    for candidate in &decision.candidates {
                        loaded.encoder.encode_item(&candidate.item, &candidate.features, &mut items).unwrap();
                    }
                    items
                },
                candidates: decision.candidates.len(),
                history: session.history().flatten().copied().collect(),
                noise: Vec::new(),
                rows: 1,
            };
            let scores: Vec<Option<f32>> =
                loaded.engine.run(query).await.unwrap().scores.into_iter().map(Some).collect();
            let logged: Vec<Option<f32>> = decision.candidates.iter().map(|candidate| candidate.score).collect();
            assert_eq!(logged, scores, "{id} saw another history");
            compared.decisions += 1;
            compared.full += usize::from(session.history().len() == history);
            compared.begun += usize::from(session.steps() == 0);
            session.show(*time);
        }
    }
    compared
}
