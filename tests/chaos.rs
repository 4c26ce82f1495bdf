//! Load, `kill -9` at a random moment, restart, over and over: whatever was acknowledged is there, once, as it was
//! answered, and nothing else is. `make chaos` runs many rounds of it, an ordinary test run a few.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Service, Workplace, request, starting};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use slated_contract::event::{Decision, Event, Feedback, SegmentReader, segments};

/// Senders at a time.
const SENDERS: u64 = 4;
/// Closes segments so often that they are killed in the middle of it.
const SETTINGS: &str = "[journal]\nseal_after_events = 40\nseal_after_seconds = 1\n";

/// What was sent and what was answered, by id.
#[derive(Debug, Default)]
struct Ledger {
    /// The user that each decision was asked for.
    asked: BTreeMap<String, String>,
    /// The answers to them.
    decided: BTreeMap<String, Value>,
    /// The decision and value of each feedback event that was sent.
    told: BTreeMap<String, (String, f64)>,
    /// Those that were acknowledged.
    kept: BTreeSet<String>,
    /// Those that were acknowledged and known to be there already.
    again: u64,
}

fn from_environment<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is {value:?}")))
}

/// Asks, and tells what came of it, until the service is gone.
async fn send(url: String, sender: u64, seed: u64, prefix: String, ledger: Arc<Mutex<Ledger>>) {
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
    let mut events = BTreeMap::new();
    for path in segments::<E>(journal).unwrap().into_iter().flat_map(|date| date.files) {
        for event in SegmentReader::<E>::open(&path, 100).unwrap().flat_map(Result::unwrap).filter(&mine) {
            let id = event.id().to_owned();
            assert!(events.insert(id.clone(), event).is_none(), "{id} is there twice");
        }
    }
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_and_nothing_is_invented() {
    let rounds: u64 = from_environment("SLATED_CHAOS_ROUNDS", 5);
    let seed: u64 = from_environment("SLATED_CHAOS_SEED", 1);
    let place = Workplace::new();
    std::fs::write(place.path().join("slated.toml"), SETTINGS).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let mut killed_starting = 0;
    for round in 0..rounds {
        // A start is killed as well, so that what repairs a crash is itself interrupted.
        if random.random_bool(0.3) {
            let mut child = starting(place.path());
            tokio::time::sleep(Duration::from_millis(random.random_range(0..400))).await;
            child.kill().unwrap();
            child.wait().unwrap();
            killed_starting += 1;
        }
        let service = Service::start(place.path(), &[]);
        let last = ledger.lock().unwrap().decided.last_key_value().map(|(id, answer)| (id.clone(), answer.clone()));
        if let Some((id, answer)) = last {
            let (status, read) = service.get(&format!("/decisions/{id}")).await;
            assert_eq!((status, &read["slate"]), (StatusCode::OK, &answer["slate"]), "round {round}: {id}");
        }
        let senders = (0..SENDERS).map(|sender| {
            let (url, prefix) = (service.url.clone(), format!("chaos-{round:04}"));
            tokio::spawn(send(url, sender, random.random(), prefix, Arc::clone(&ledger)))
        });
        let senders: Vec<_> = senders.collect();
        let alive = Duration::from_millis(random.random_range(20..900));
        let seal_after = random.random_bool(0.5).then(|| alive.mul_f64(random.random()));
        if let Some(after) = seal_after {
            let url = format!("{}/journal/seal", service.url);
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                // Killed before it answers, more often than not.
                let _ = Client::builder().no_proxy().build().unwrap().post(url).send().await;
            });
        }
        tokio::time::sleep(alive).await;
        service.kill();
        for sender in senders {
            sender.await.unwrap();
        }
    }
    Service::start(place.path(), &[]).stop();

    let Ledger { asked, decided, told, kept, again } = std::mem::take(&mut *ledger.lock().unwrap());
    let journal = place.path().join("journal");
    let decisions = readable::<Decision>(&journal, |decision| decision.source == "service");
    let feedback = readable::<Feedback>(&journal, |feedback| feedback.source == "service");
    let lost: Vec<&String> = decided
        .keys()
        .filter(|id| !decisions.contains_key(*id))
        .chain(kept.iter().filter(|id| !feedback.contains_key(*id)))
        .collect();
    let invented: Vec<&String> = decisions
        .keys()
        .filter(|id| !asked.contains_key(*id))
        .chain(feedback.keys().filter(|id| !told.contains_key(*id)))
        .collect();
    println!(
        "{rounds} rounds, seed {seed}: killed {rounds} times under load and {killed_starting} times while starting; \
         acknowledged {} decisions and {} feedback events ({again} sent again); readable {} and {}; lost {}, invented {}",
        decided.len(),
        kept.len(),
        decisions.len(),
        feedback.len(),
        lost.len(),
        invented.len(),
    );
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    assert!(invented.is_empty(), "nobody sent {invented:?}");
    assert!(decided.len() as u64 > 5 * rounds && kept.len() as u64 > 5 * rounds, "there was hardly any load");
    assert!(again > 0, "nothing was sent twice");
    for (id, decision) in &decisions {
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
    for (id, event) in &feedback {
        assert_eq!((&event.decision_id, event.value), (&told[id].0, told[id].1), "{id}");
    }
}
