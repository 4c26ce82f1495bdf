//! What holds for every backend alike.

use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use slated::journal::{Journal, JournalSettings};
use slated::session::{
    Encoded, RedisSettings, SessionBackend, SessionKey, SessionKind, SessionStoreSettings, SessionView, Sessions,
    ShownSlate,
};
use slated_contract::event::{Decision, Feedback, Shown};
use slated_contract::feature::FeatureValue;
use slated_contract::session::SessionAccumulator;
use tempfile::TempDir;

use crate::policy;
use crate::redis::Redis;

/// The encoded items of every slate here, by position.
const ITEMS: [(&str, [f32; 2]); 3] = [("a", [0.25, -1.0]), ("b", [0.1, 7.0]), ("c", [-3.5, 0.3])];
const HISTORY: usize = 3;

/// A backend, and a second replica of it where replicas share what they know.
struct Place {
    sessions: Vec<Sessions>,
    kind: SessionKind,
    /// Held until the end.
    _folders: Vec<TempDir>,
    _redis: Option<Redis>,
}

impl Place {
    async fn new(backend: SessionBackend, edit: impl FnOnce(&mut SessionStoreSettings)) -> Self {
        let redis = (backend == SessionBackend::Redis).then(Redis::start);
        let url = redis.as_ref().map_or_else(String::new, Redis::url);
        let redis_settings = RedisSettings { url, ..RedisSettings::default() };
        let mut settings = SessionStoreSettings { backend, redis: redis_settings, ..SessionStoreSettings::default() };
        edit(&mut settings);
        let (mut sessions, mut folders) = (Vec::new(), Vec::new());
        for _ in 0..if redis.is_some() { 2 } else { 1 } {
            let folder = TempDir::new().unwrap();
            let journal = JournalSettings { folder: folder.path().to_owned(), ..JournalSettings::default() };
            let journal = Journal::open(&journal).unwrap();
            sessions.push(Sessions::open(&settings, &journal, Path::new("models")).await.unwrap());
            folders.push(folder);
        }
        let kind = SessionKind::of(&policy::manifest(1, HISTORY)).unwrap();
        Self { sessions, kind, _folders: folders, _redis: redis }
    }

    fn key(&self, session: &str) -> SessionKey {
        self.kind.key(Some(session), Some("somebody")).unwrap()
    }

    /// Requests go to the replicas in turn.
    fn replica(&self, turn: usize) -> &Sessions {
        &self.sessions[turn % self.sessions.len()]
    }

    async fn view(&self, session: &str, now: DateTime<Utc>) -> SessionView {
        let mut views = Vec::new();
        for sessions in &self.sessions {
            let seen = sessions.view(&self.kind, Some(&self.key(session)), now).await.unwrap();
            assert!(!seen.away);
            views.push(seen.view);
        }
        assert!(views.iter().all(|view| *view == views[0]), "replicas see the same: {views:?}");
        views.swap_remove(0)
    }

    async fn show(&self, turn: usize, session: &str, decision_id: &str, time: DateTime<Utc>) {
        let shown = |&(item, _): &(&str, _)| Shown {
            item: item.to_owned(),
            position: 0,
            cascade_propensity: 1.0,
            marginal_propensity: 1.0,
        };
        let slate = ITEMS.iter().map(shown).collect();
        let decision = Decision { decision_id: decision_id.to_owned(), time, slate, ..Decision::default() };
        let encoded: Vec<Encoded> = ITEMS.iter().map(|(_, encoded)| Encoded::from(&encoded[..])).collect();
        let slate = ShownSlate::new(&self.kind, self.key(session), &decision, &encoded);
        self.replica(turn).show(&self.kind, slate).await;
    }

    async fn happen(&self, turn: usize, session: &str, event: &Event) {
        match event {
            Event::Shown(id, time) => self.show(turn, session, id, *time).await,
            Event::Told(feedback) => self.replica(turn).respond(feedback).await,
        }
    }

    fn empty(&self) -> SessionAccumulator {
        SessionAccumulator::new(&policy::session(HISTORY), policy::ITEM_WIDTH).unwrap()
    }
}

#[derive(Debug, Clone)]
enum Event {
    Shown(String, DateTime<Utc>),
    Told(Feedback),
}

fn start() -> DateTime<Utc> {
    // Close to now, so that nothing has ended; whole microseconds, as the journal keeps them.
    DateTime::from_timestamp_micros((Utc::now() - TimeDelta::minutes(10)).timestamp_micros()).unwrap()
}

fn after(start: DateTime<Utc>, milliseconds: i64) -> DateTime<Utc> {
    start + TimeDelta::milliseconds(milliseconds)
}

fn click(id: &str, decision_id: &str, time: DateTime<Utc>, item: Option<&str>, position: Option<i32>) -> Feedback {
    Feedback {
        feedback_id: id.to_owned(),
        decision_id: decision_id.to_owned(),
        time,
        occurred: time,
        source: "service".to_owned(),
        event: "click".to_owned(),
        value: 0.1,
        item: item.map(str::to_owned),
        position,
    }
}

/// The view of an accumulator.
fn of(session: &SessionAccumulator, now: DateTime<Utc>) -> SessionView {
    SessionView { features: session.features(now), history: session.history().flatten().copied().collect() }
}

async fn on_each(case: impl AsyncFn(SessionBackend)) {
    for backend in [SessionBackend::Embedded, SessionBackend::Redis] {
        case(backend).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn items_are_found_by_name_and_by_position_and_what_does_not_count_changes_nothing() {
    on_each(async |backend| {
        let place = Place::new(backend, |_| {}).await;
        let (begin, mut session) = (start(), place.empty());
        assert_eq!(place.view("s", begin).await, of(&session, begin), "{backend:?}: nothing has happened");

        place.show(0, "s", "d1", begin).await;
        session.show(begin);
        assert_eq!(place.view("s", after(begin, 500)).await, of(&session, after(begin, 500)));

        // By item, by position; an item goes before a position.
        let counting = [
            (click("f1", "d1", after(begin, 1000), Some("b"), None), 1),
            (click("f2", "d1", after(begin, 2000), None, Some(2)), 2),
            (click("f3", "d1", after(begin, 3000), Some("a"), Some(2)), 0),
            (Feedback { event: "purchase".to_owned(), ..click("f4", "d1", after(begin, 3500), Some("c"), None) }, 2),
        ];
        for (turn, (feedback, index)) in counting.iter().enumerate() {
            place.replica(turn).respond(feedback).await;
            let weight = if feedback.event == "purchase" { 3.0 } else { 1.0 };
            session.respond(&ITEMS[*index].1, weight * 0.1);
        }
        let now = after(begin, 4000);
        assert_eq!(place.view("s", now).await, of(&session, now), "{backend:?}");

        let late = Feedback { occurred: after(begin, 3_600_001), ..click("g5", "d1", now, Some("a"), None) };
        let nothing = [
            click("g1", "d1", now, None, None),
            click("g2", "d1", now, Some("z"), None),
            click("g3", "d1", now, None, Some(3)),
            click("g4", "nobody", now, Some("a"), None),
            Feedback { event: "view".to_owned(), ..click("g6", "d1", now, Some("a"), None) },
            late,
            counting[0].0.clone(),
        ];
        for (turn, feedback) in nothing.iter().enumerate() {
            place.replica(turn).respond(feedback).await;
        }
        assert_eq!(place.view("s", now).await, of(&session, now), "{backend:?}: none of these counts");

        place.show(1, "s", "d2", after(begin, 5000)).await;
        session.show(after(begin, 5000));
        place.replica(0).respond(&click("f5", "d1", after(begin, 6000), Some("b"), None)).await;
        session.respond(&ITEMS[1].1, 0.1);
        let now = after(begin, 7000);
        assert_eq!(place.view("s", now).await, of(&session, now), "{backend:?}: of an earlier slate, from now on");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_of_arrival_is_not_the_order_of_events() {
    on_each(async |backend| {
        let place = Place::new(backend, |_| {}).await;
        let begin = start();
        // Eight minutes of slates, each with none to three responses, some of them in the same microsecond.
        let mut events = Vec::new();
        let mut session = place.empty();
        for slate in 0..40_i64 {
            let time = after(begin, slate * 12_000);
            events.push(Event::Shown(format!("d{slate}"), time));
            session.show(time);
            for response in 0..slate % 4 {
                let time = after(time, 1 + 3000 * (response / 2));
                let item = ((slate + response) % 3) as usize;
                let id = format!("f{slate}-{response}");
                events.push(Event::Told(click(&id, &format!("d{slate}"), time, Some(ITEMS[item].0), None)));
                session.respond(&ITEMS[item].1, 0.1);
            }
        }
        let now = after(begin, 480_000);
        let mut random = ChaCha8Rng::seed_from_u64(3);
        for round in 0..6 {
            // Any order within what a minute holds.
            let mut arriving = events.clone();
            if round > 0 {
                arriving.chunks_mut(9).for_each(|chunk| chunk.shuffle(&mut random));
            }
            let name = format!("s{round}");
            for (turn, event) in arriving.iter().enumerate() {
                let mut event = event.clone();
                // Ids of this session alone.
                match &mut event {
                    Event::Shown(id, _) => *id = format!("{name}-{id}"),
                    Event::Told(feedback) => feedback.decision_id = format!("{name}-{}", feedback.decision_id),
                }
                place.happen(turn, &name, &event).await;
                if turn % 5 == 0 {
                    place.happen(turn + 1, &name, &event).await;
                }
            }
            assert_eq!(place.view(&name, now).await, of(&session, now), "{backend:?}, round {round}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_updates_lose_nothing() {
    on_each(async |backend| {
        let place = Place::new(backend, |_| {}).await;
        let begin = start();
        let mut session = place.empty();
        let slates = 8;
        for slate in 0..slates {
            session.show(after(begin, slate));
        }
        for response in 0..100 {
            session.respond(&ITEMS[response % 3].1, 0.1);
        }
        let place = Arc::new(place);
        let tasks = (0..100 + slates as usize).rev().map(|index| {
            let place = Arc::clone(&place);
            tokio::spawn(async move {
                if let Some(response) = index.checked_sub(slates as usize) {
                    let (item, _) = ITEMS[response % 3];
                    let decision_id = format!("d{}", response % slates as usize);
                    let time = after(begin, 1000);
                    let feedback = click(&format!("f{response:03}"), &decision_id, time, Some(item), None);
                    place.replica(index).respond(&feedback).await;
                } else {
                    place.show(index, "s", &format!("d{index}"), after(begin, index as i64)).await;
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        let now = after(begin, 2000);
        assert_eq!(place.view("s", now).await, of(&session, now), "{backend:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_session_ends_and_another_begins() {
    on_each(async |backend| {
        let place = Place::new(backend, |settings| settings.idle_seconds = 600).await;
        let begin = Utc::now() - TimeDelta::minutes(5);
        let begin = DateTime::from_timestamp_micros(begin.timestamp_micros()).unwrap();
        let minutes = |minutes: i64| begin + TimeDelta::minutes(minutes);
        let mut session = place.empty();
        place.show(0, "s", "d1", begin).await;
        place.replica(1).respond(&click("f1", "d1", minutes(5), Some("a"), None)).await;
        session.show(begin);
        session.respond(&ITEMS[0].1, 0.1);
        // Feedback keeps it alive as a slate does.
        assert_eq!(place.view("s", minutes(15)).await, of(&session, minutes(15)), "{backend:?}");
        let later = minutes(15) + TimeDelta::microseconds(1);
        assert_eq!(place.view("s", later).await, of(&place.empty(), later), "{backend:?}");

        place.show(0, "s", "d2", later).await;
        let mut next = place.empty();
        next.show(later);
        assert_eq!(place.view("s", later).await, of(&next, later), "{backend:?}: it begins anew");
        // What a slate showed is forgotten when its session would be.
        place.replica(1).respond(&click("f2", "d1", later, Some("b"), None)).await;
        assert_eq!(place.view("s", later).await, of(&next, later), "{backend:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_idle_is_freed() {
    on_each(async |backend| {
        let place = Place::new(backend, |settings| settings.idle_seconds = 1).await;
        let now = DateTime::from_timestamp_micros(Utc::now().timestamp_micros()).unwrap();
        place.show(0, "s", "d1", now).await;
        assert_ne!(place.view("s", now).await, of(&place.empty(), now));
        tokio::time::sleep(std::time::Duration::from_millis(2600)).await;
        // Even of a clock that stands still, since nothing is there any more.
        assert_eq!(place.view("s", now).await, of(&place.empty(), now), "{backend:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_and_versions_that_keep_other_things_are_kept_apart() {
    on_each(async |backend| {
        let place = Place::new(backend, |_| {}).await;
        let now = start();
        place.show(0, "s", "d1", now).await;
        assert_eq!(place.view("t", now).await, of(&place.empty(), now), "{backend:?}");
        let sessions = place.replica(1);
        let view = async |version, history| {
            let kind = SessionKind::of(&policy::manifest(version, history)).unwrap();
            let key = kind.key(Some("s"), None);
            sessions.view(&kind, key.as_ref(), now).await.unwrap().view.features.get("steps").map(FeatureValue::from)
        };
        assert_eq!(view(2, HISTORY).await, Some(1.0.into()), "{backend:?}: another version of the same shape");
        assert_eq!(view(3, HISTORY + 1).await, Some(0.0.into()), "{backend:?}: a longer history");
        let nobody = place.kind.key(None, None);
        assert!(nobody.is_none(), "whoever is not named has no session");
        assert_eq!(place.kind.key(None, Some("s")), Some(place.key("s")), "a user is a session where none is named");
    })
    .await;
}

#[tokio::test]
async fn memory_is_bounded_and_the_least_recently_used_go_first() {
    let place = Place::new(SessionBackend::Embedded, |settings| settings.capacity = 1000).await;
    let now = start();
    for index in 0..5000 {
        place.show(0, &format!("s{index}"), &format!("d{index}"), now).await;
        place.show(0, "regular", &format!("r{index}"), after(now, index)).await;
    }
    // Counting them lets the store do what it has put off.
    place.replica(0).report_metrics();
    let mut held = Vec::new();
    for index in 0..5000 {
        if place.view(&format!("s{index}"), now).await != of(&place.empty(), now) {
            held.push(index);
        }
    }
    assert!(held.len() < 1000, "{} sessions are held beside the regular one", held.len());
    assert!(held.iter().all(|index| *index >= 3000), "the oldest go first: {held:?}");
    let steps = place.view("regular", now).await.features.get("steps").map(FeatureValue::from);
    assert_eq!(steps, Some(5000.0.into()), "who comes often stays");
}
