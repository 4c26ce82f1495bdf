//! Load, `kill -9` at a random moment, restart, over and over: whatever was acknowledged is there, once, as it was
//! answered, and nothing else is. `make chaos` runs many rounds of it, an ordinary test run a few.

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::ledger::{Compared, Ledger, send};
use common::{Service, Workplace, starting};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reqwest::{Client, StatusCode};

/// Senders at a time.
const SENDERS: u64 = 4;
/// Closes segments so often that they are killed in the middle of it.
const SETTINGS: &str = "[journal]\nseal_after_events = 40\nseal_after_seconds = 1\n";

fn from_environment<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is {value:?}")))
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

    let ledger = std::mem::take(&mut *ledger.lock().unwrap());
    let Compared { decisions, feedback, lost, invented } = ledger.compare(&place.path().join("journal"));
    let (decided, kept) = (ledger.decided.len() as u64, ledger.kept.len() as u64);
    println!(
        "{rounds} rounds, seed {seed}: killed {rounds} times under load and {killed_starting} times while starting; \
         acknowledged {decided} decisions and {kept} feedback events ({} sent again); readable {decisions} and {feedback}; \
         lost {}, invented {}",
        ledger.again,
        lost.len(),
        invented.len(),
    );
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    assert!(invented.is_empty(), "nobody sent {invented:?}");
    assert!(decided > 5 * rounds && kept > 5 * rounds, "there was hardly any load");
    assert!(ledger.again > 0, "nothing was sent twice");
}
