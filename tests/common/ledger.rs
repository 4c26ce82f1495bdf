//! Load that remembers: what was sent, what was acknowledged, and how that compares with what a journal holds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use slated_contract::event::{Decision, Event, Feedback};

use super::{events, request};

/// What was sent and what was answered, by id.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// The user that each decision was asked for.
    pub asked: BTreeMap<String, String>,
    /// The answers to them.
    pub decided: BTreeMap<String, Value>,
    /// The decision and value of each feedback event that was sent.
    pub told: BTreeMap<String, (String, f64)>,
    /// Those that were acknowledged.
    pub kept: BTreeSet<String>,
    /// Those that were acknowledged and known to be there already.
    pub again: u64,
}

/// Asks, and tells what came of it, until the service is gone.
pub async fn send(url: String, sender: u64, seed: u64, prefix: String, ledger: Arc<Mutex<Ledger>>) {
    let client = Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ sender);
    for index in 0.. {
        let id = format!("{prefix}-{sender}-{index:05}");
        let mut body = request(&id);
        body["user_id"] = json!(format!("of-{id}"));
        ledger.lock().unwrap().asked.insert(id.clone(), format!("of-{id}"));
        let Some((status, answer)) = post(&client, &url, "/recommend", &body).await else { return };
        assert_eq!(status, StatusCode::OK, "{answer}");
        ledger.lock().unwrap().decided.insert(id.clone(), answer);

        // Of this decision, or of one that nobody made; now and then what was told before once more.
        let about = if random.random_bool(0.1) { format!("nobody-{id}") } else { id.clone() };
        let mut events = vec![(format!("f-{id}"), about, random.random::<f64>())];
        if random.random_bool(0.2) {
            let ledger = ledger.lock().unwrap();
            if let Some(known) = ledger.kept.iter().nth(random.random_range(0..ledger.kept.len().max(1))) {
                let (about, value) = ledger.told[known].clone();
                events.push((known.clone(), about, value));
            }
        }
        let body = events.iter().map(|(id, about, value)| {
            json!({"feedback_id": id, "decision_id": about, "event": "click", "value": value, "position": 0})
        });
        let body: Value = body.collect();
        ledger.lock().unwrap().told.extend(events.iter().cloned().map(|(id, about, value)| (id, (about, value))));
        let Some((status, answer)) = post(&client, &url, "/feedback", &body).await else { return };
        assert_eq!(status, StatusCode::OK, "{answer}");
        let mut ledger = ledger.lock().unwrap();
        ledger.again += answer["duplicates"].as_u64().unwrap();
        ledger.kept.extend(events.into_iter().map(|(id, ..)| id));
    }
}

/// The status and answer; `None` where the service is gone before it has answered whole.
async fn post(client: &Client, url: &str, path: &str, body: &Value) -> Option<(StatusCode, Value)> {
    let answer = client.post(format!("{url}{path}")).json(body).send().await.ok()?;
    let status = answer.status();
    Some((status, answer.json().await.ok()?))
}

fn readable<E: Event>(journal: &Path, mine: impl Fn(&E) -> bool) -> BTreeMap<String, E> {
    let mut readable = BTreeMap::new();
    for event in events::<E>(journal).into_iter().filter(mine) {
        let id = event.id().to_owned();
        assert!(readable.insert(id.clone(), event).is_none(), "{id} is there twice");
    }
    readable
}

/// What a journal holds of it.
#[derive(Debug, Default)]
pub struct Compared {
    pub decisions: usize,
    pub feedback: usize,
    /// Acknowledged, and not there.
    pub lost: Vec<String>,
    /// There, and sent by nobody.
    pub invented: Vec<String>,
}

impl Ledger {
    /// Compares it with the closed segments of a journal; what is there must be as it was sent and answered, and once.
    pub fn compare(&self, journal: &Path) -> Compared {
        let Self { asked, decided, told, kept, .. } = self;
        let decisions = readable::<Decision>(journal, |decision| decision.source == "service");
        let feedback = readable::<Feedback>(journal, |feedback| feedback.source == "service");
        for (id, decision) in decisions.iter().filter(|(id, _)| asked.contains_key(*id)) {
            assert_eq!(decision.user_id.as_ref(), Some(&asked[id]), "{id}");
            let Some(answer) = decided.get(id) else { continue };
            let shown: Vec<Value> = decision
                .slate
                .iter()
                .map(|shown| json!([shown.item, shown.position, shown.cascade_propensity, shown.marginal_propensity]))
                .collect();
            let answered = answer["slate"].as_array().unwrap().iter();
            let answered: Vec<Value> = answered
                .map(|item| {
                    json!([item["item"], item["position"], item["cascade_propensity"], item["marginal_propensity"]])
                })
                .collect();
            assert_eq!(shown, answered, "{id}");
            assert_eq!(json!(decision.propensity), answer["propensity"], "{id}");
        }
        for (id, event) in feedback.iter().filter(|(id, _)| told.contains_key(*id)) {
            assert_eq!((&event.decision_id, event.value), (&told[id].0, told[id].1), "{id}");
        }
        let lost = decided.keys().filter(|id| !decisions.contains_key(*id));
        let lost = lost.chain(kept.iter().filter(|id| !feedback.contains_key(*id))).cloned().collect();
        let invented = decisions.keys().filter(|id| !asked.contains_key(*id));
        let invented = invented.chain(feedback.keys().filter(|id| !told.contains_key(*id))).cloned().collect();
        Compared { decisions: decisions.len(), feedback: feedback.len(), lost, invented }
    }
}
