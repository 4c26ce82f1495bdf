//! A service that is killed knows its sessions again, and replicas know each other's.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use chrono::TimeDelta;
use futures::future::join_all;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reqwest::StatusCode;
use serde_json::json;
use slated_contract::event::Decision;
use slated_trainer::offline::{OfflineSettings, read_journal};
use slated_trainer::progress::Silent;
use tempfile::TempDir;

use crate::common::Service;
use crate::ledger::{Compared, Saw, User, compare, fold, loaded, read};
use crate::policy;
use crate::redis::Redis;

pub const HISTORY: usize = 4;
const USERS: usize = 4;
/// Closes segments so often that sessions lie in several of them and in the tail.
const SETTINGS: &str = "[journal]\nseal_after_events = 50\nseal_after_seconds = 1\n";

pub fn place(redis: Option<&Redis>, settings: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    policy::write(&folder.path().join("models"), 1, HISTORY);
    let mut text = format!("{SETTINGS}[sessions]\n{settings}\n");
    if let Some(redis) = redis {
        write!(text, "backend = \"redis\"\n[sessions.redis]\nurl = \"{}\"\nmax_backoff_ms = 200\n", redis.url())
            .unwrap();
    }
    std::fs::write(folder.path().join("slated.toml"), text).unwrap();
    folder
}

pub fn serve(place: &Path) -> Service {
    Service::start(place, &["--policy", policy::NAME])
}

fn users() -> Vec<User> {
    let name = |index: u64| format!("user-{index}{}", if index.is_multiple_of(2) { "-of-session" } else { "" });
    (0..USERS as u64).map(|index| User::new(&name(index), index)).collect()
}

/// Users on a service that is killed over and over, in the middle of what they ask.
async fn killed(redis: Option<&Redis>, idle_seconds: u64, kills: usize, pause: Duration) -> Compared {
    let place = place(redis, &format!("idle_seconds = {idle_seconds}"));
    let mut users = users();
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for _ in 0..kills {
        let service = serve(place.path());
        let urls = [service.url.clone()];
        let steps = join_all(users.iter_mut().map(async |user| while user.step(&urls).await.is_some() {}));
        let killed = async {
            tokio::time::sleep(Duration::from_millis(random.random_range(300..1500))).await;
            service.kill();
        };
        futures::join!(steps, killed);
        tokio::time::sleep(pause).await;
    }
    let service = serve(place.path());
    let urls = [service.url.clone()];
    for user in &mut users {
        user.step(&urls).await.unwrap();
    }
    let rebuilt = service.text("/metrics").await;
    assert!(rebuilt.contains("slated_sessions_rebuilt_total"), "{rebuilt}");
    service.stop();
    let journal = place.path().join("journal");
    let idle = TimeDelta::seconds(idle_seconds.cast_signed());
    compare(&[&journal], &place.path().join("models"), HISTORY, idle).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_service_knows_its_sessions_again() {
    let compared = killed(None, 1800, 4, Duration::ZERO).await;
    assert!(compared.decisions > 100 && compared.full > 50 && compared.begun == USERS, "{compared:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_end_while_the_service_is_gone_end() {
    let compared = killed(None, 1, 3, Duration::from_secs(1)).await;
    assert!(compared.decisions > 100 && compared.begun > USERS, "{compared:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_redis_was_not_told_before_the_end_it_is_told_after() {
    let redis = Redis::start();
    let compared = killed(Some(&redis), 1800, 4, Duration::ZERO).await;
    assert!(compared.decisions > 100 && compared.full > 50 && compared.begun == USERS, "{compared:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_see_the_same_sessions() {
    let redis = Redis::start();
    let places: Vec<TempDir> = (0..2).map(|_| place(Some(&redis), "")).collect();
    let mut services: Vec<Service> = places.iter().map(|place| serve(place.path())).collect();
    let mut users = users();
    for round in 0..3 {
        let urls: Vec<String> = services.iter().map(|service| service.url.clone()).collect();
        join_all(users.iter_mut().map(async |user| {
            for _ in 0..25 {
                user.step(&urls).await.unwrap();
            }
        }))
        .await;
        // One after the other is replaced, as in a rolling update.
        services.remove(0).stop();
        let left = round % 2;
        services.push(serve(places[left].path()));
    }
    for service in services {
        service.stop();
    }
    let journals: Vec<_> = places.iter().map(|place| place.path().join("journal")).collect();
    let journals: Vec<&Path> = journals.iter().map(std::path::PathBuf::as_path).collect();
    let compared = compare(&journals, &places[0].path().join("models"), HISTORY, TimeDelta::seconds(1800)).await;
    assert!(compared.decisions == 300 && compared.full > 200, "{compared:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_caller_gave_up_is_in_the_session_all_the_same() {
    let place = place(None, "");
    let service = serve(place.path());
    let mut given_up = 0;
    for burst in 0..200 {
        // Many at once, so that some are journalled before their time is up and would be answered after it.
        let ask = async |index: i32| {
            let item = |item: i32| json!({"id": format!("i{item}"), "features": {"x": 0.1, "y": f64::from(item)}});
            let id = format!("d{burst}-{index}");
            let body = json!({"event_id": id, "user_id": "u", "slate_size": 1, "candidates": [item(1), item(2)]});
            let limit = (1 + index % 12).to_string();
            (service.post_with("/recommend", ("x-request-timeout-ms", &limit), &body).await.0, id)
        };
        for (status, id) in join_all((0..48).map(ask)).await {
            if status == StatusCode::SERVICE_UNAVAILABLE {
                given_up += usize::from(service.get(&format!("/decisions/{id}")).await.0 == StatusCode::OK);
            }
        }
        if given_up > 5 {
            break;
        }
    }
    assert!(given_up > 5, "{given_up} were journalled and not answered");
    tokio::time::sleep(Duration::from_millis(500)).await;
    let item = json!({"id": "i", "features": {"x": 1.0, "y": 1.0}});
    let last = json!({"event_id": "last", "user_id": "u", "slate_size": 1, "candidates": [item]});
    service.ok("/recommend", &last).await;
    let steps = service.get("/decisions/last").await.1["session"]["steps"].as_f64().unwrap();
    service.stop();
    let journalled = read::<Decision>(&[&place.path().join("journal")]).len();
    assert_eq!(steps, journalled as f64 - 1.0, "every journalled slate but its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trainer_sees_what_the_service_saw() {
    let place = place(None, "");
    let mut service = serve(place.path());
    let mut users: Vec<User> = (0..3).map(|index| User::brief(&format!("user-{index}"), index)).collect();
    for _ in 0..2 {
        let urls = [service.url.clone()];
        for user in &mut users {
            for _ in 0..12 {
                user.step(&urls).await.unwrap();
            }
        }
        service.kill();
        service = serve(place.path());
    }
    service.stop();
    let (journal, models) = (place.path().join("journal"), place.path().join("models"));
    let policy = loaded(&models);
    let expected = fold(&[&journal], &policy, HISTORY, TimeDelta::seconds(1800));

    let text = format!("policy = \"p\"\n[data]\njournal = {:?}\n[algorithm]\nname = \"dqn\"\n", journal);
    let mut settings: OfflineSettings = toml::from_str(&text).unwrap();
    settings.data.as_mut().unwrap().reward = policy::reward();
    settings.features = Some(policy.manifest.features.clone());
    settings.session = Some(policy.manifest.session.clone());
    let read = || read_journal(&settings, &mut Silent).unwrap();
    let (experience, _) = tokio::task::block_in_place(read);
    assert_eq!((experience.episodes.len(), experience.steps()), (3, 72));
    // Each began with its first decision, one after the other.
    let mut histories = 0;
    for (episode, saw) in experience.episodes.iter().zip(expected.values()) {
        assert_eq!(episode.steps.len(), saw.len());
        for (step, Saw { decision, query, .. }) in episode.steps.iter().zip(saw) {
            let seen = &step.observation;
            let id = &decision.decision_id;
            assert_eq!((&seen.state, &seen.items, &seen.history), (&query.state, &query.items, &query.history), "{id}");
            histories += usize::from(!query.history.is_empty());
        }
    }
    assert!(histories > 50, "{histories}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_whom_the_journal_knows_by_a_hash_is_known_again() {
    let place = place(None, "");
    std::fs::write(place.path().join("key"), "k".repeat(40)).unwrap();
    let settings = place.path().join("slated.toml");
    let text = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, text.replace("[journal]", "[journal]\nhash_users = \"file:key\"")).unwrap();
    let ask = |id: &str| {
        let item = |id: &str| json!({"id": id, "features": {"x": 0.5, "y": 0.25}});
        json!({"event_id": id, "user_id": "anna", "candidates": [item("a"), item("b"), item("c")], "slate_size": 3})
    };
    let service = serve(place.path());
    service.ok("/recommend", &ask("first")).await;
    service.ok("/feedback", &json!({"decision_id": "first", "event": "click", "position": 0})).await;
    service.kill();
    let service = serve(place.path());
    service.ok("/recommend", &ask("second")).await;
    let (_, decision) = service.get("/decisions/second").await;
    assert_eq!(
        (&decision["session"]["steps"], &decision["session"]["last_reward"]),
        (&json!(1.0), &json!(1.0)),
        "{decision}"
    );
    assert!(decision["user_id"].as_str().unwrap().starts_with("hmac:"));
    service.stop();
}
