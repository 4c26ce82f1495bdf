use std::time::Duration;

use serde_json::{Value, json};
use slated_contract::event::{Decision, Feedback};
use slated_contract::reward::{Aggregation, RewardDefinition};
use slated_trainer::dataset::{Dataset, DatasetSettings, DatasetSummary};

use crate::{PREVIEW, Place, V1, articles, common, put, rank, tell};

fn event(id: &str, deferred: bool) -> Value {
    let mut body = articles(id);
    body["deferActivation"] = json!(deferred);
    body
}

/// What training would read: the reward of each event, by its id.
async fn rewards(place: &Place, reward: RewardDefinition) -> (Vec<(String, f64)>, DatasetSummary) {
    let mut settings: DatasetSettings =
        serde_json::from_value(json!({"journal": place.path().join("journal")})).unwrap();
    settings.reward = reward;
    let mut dataset = Dataset::open(&settings).await.unwrap();
    let mut found = Vec::new();
    while let Some(rounds) = dataset.next().await.unwrap() {
        found.extend(rounds.into_iter().map(|round| (round.decision.decision_id, round.rewards[0])));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    (found, dataset.summary().clone())
}

/// What the routes keep says how rewards are read.
fn kept(place: &Place) -> Value {
    serde_json::from_slice(&std::fs::read(place.path().join("journal/personalizer.json")).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn deferred_events_count_once_they_are_activated_over_a_crash_too() {
    let place = Place::started();
    let service = place.serve();
    for (id, deferred) in [("plain", false), ("unseen", true), ("seen", true), ("late", true)] {
        rank(&service, &format!("{V1}/rank"), &event(id, deferred)).await;
    }
    tell(&service, &format!("{V1}/events/seen/activate"), None).await;
    // Twice is once; and what is not deferred may be activated all the same.
    tell(&service, &format!("{V1}/events/seen/activate"), None).await;
    tell(&service, &format!("{V1}/events/plain/activate"), None).await;
    for id in ["plain", "unseen", "seen"] {
        tell(&service, &format!("{V1}/events/{id}/reward"), Some(&json!({"value": 0.5}))).await;
    }
    service.kill();
    let service = place.serve();
    tell(&service, &format!("{V1}/events/late/activate"), None).await;
    service.stop();

    let feedback = common::events::<Feedback>(&place.path().join("journal"));
    assert_eq!(feedback.iter().filter(|event| event.event == Feedback::ACTIVATED).count(), 3, "{feedback:?}");
    let definition = RewardDefinition {
        weights: [("reward".to_owned(), 1.0)].into(),
        default: -0.25,
        ..RewardDefinition::default()
    };
    let (rewards, summary) = rewards(&place, definition).await;
    let expected = [("late", -0.25), ("plain", 0.5), ("seen", 0.5)].map(|(id, reward)| (id.to_owned(), reward));
    assert_eq!(rewards, expected);
    assert_eq!((summary.decisions, summary.not_activated), (3, 1));
    assert!(summary.to_string().contains("not activated"), "{summary}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rewards_combine_as_the_configuration_says_and_late_ones_leave_the_default() {
    let place = Place::started();
    let service = place.serve();
    let path = format!("{PREVIEW}/configurations/service");
    let (_, mut configuration) = service.get(&path).await;
    configuration["rewardAggregation"] = json!("sum");
    configuration["defaultReward"] = json!(0.125);
    configuration["rewardWaitTime"] = json!("PT1H");
    put(&service, &path, &configuration).await;
    for id in ["none", "one", "two", "late", "again"] {
        rank(&service, &format!("{PREVIEW}/rank"), &event(id, false)).await;
    }
    let reward = |event: &str| format!("{PREVIEW}/events/{event}/reward");
    for (id, value) in [("one", -1.0), ("two", 0.25), ("two", 0.5)] {
        tell(&service, &reward(id), Some(&json!({ "value": value }))).await;
    }
    // A client that sends a request again names it alike.
    for request in ["r-1", "r-1", "r-2"] {
        let header = ("x-ms-client-request-id", request);
        let url = format!("{}{}", service.url, reward("again"));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = client.post(url).header(header.0, header.1).json(&json!({"value": 0.5})).send().await.unwrap();
        assert_eq!(answer.status(), 204);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    tell(&service, &reward("late"), Some(&json!({"value": 1.0}))).await;
    service.stop();

    let kept = kept(&place);
    assert_eq!((&kept["reward_wait_ms"], &kept["default_reward"]), (&json!(3_600_000), &json!(0.125)));
    // As long as all but the last took, which is after them.
    let decisions = common::events::<Decision>(&place.path().join("journal"));
    let delay = |event: &Feedback| {
        let decision = decisions.iter().find(|decision| decision.decision_id == event.decision_id).unwrap();
        (event.occurred - decision.time).as_seconds_f64()
    };
    let feedback = common::events::<Feedback>(&place.path().join("journal"));
    let longest = feedback.iter().filter(|event| event.decision_id != "late").map(delay).fold(0.0, f64::max);
    let late = feedback.iter().filter(|event| event.decision_id == "late").map(delay).fold(f64::MAX, f64::min);
    assert!(longest < late, "{longest} {late}");
    let mut definition = RewardDefinition {
        weights: [("reward".to_owned(), 1.0)].into(),
        aggregation: Aggregation::Sum,
        wait_seconds: Some(f64::midpoint(longest, late)),
        default: 0.125,
    };
    let expect = |pairs: [(&str, f64); 5]| pairs.map(|(id, reward)| (id.to_owned(), reward)).to_vec();
    let (sum, summary) = rewards(&place, definition.clone()).await;
    assert_eq!(sum, expect([("again", 1.0), ("late", 0.125), ("none", 0.125), ("one", -1.0), ("two", 0.75)]));
    assert_eq!(summary.late_feedback, 1);
    definition.aggregation = Aggregation::First;
    let (first, _) = rewards(&place, definition).await;
    assert_eq!(first, expect([("again", 0.5), ("late", 0.125), ("none", 0.125), ("one", -1.0), ("two", 0.25)]));
}

/// Of two replicas one ranks and the other is told; what both journalled is read together.
#[tokio::test(flavor = "multi_thread")]
async fn another_replica_may_be_told() {
    let (ranks, told) = (Place::started(), Place::started());
    told.set("[compat]\nunknown_events = \"accept\"\n");
    let service = ranks.serve();
    for (id, deferred) in [("a", false), ("b", true), ("c", true)] {
        rank(&service, &format!("{V1}/rank"), &event(id, deferred)).await;
    }
    service.stop();
    let service = told.serve();
    tell(&service, &format!("{V1}/events/a/reward"), Some(&json!({"value": 1.0}))).await;
    tell(&service, &format!("{V1}/events/b/activate"), None).await;
    service.stop();
    let journal = ranks.path().join("journal");
    for file in common::files(&told.path().join("journal"), std::path::Path::new("feedback")) {
        let target = journal.join(&file);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(told.path().join("journal").join(&file), target).unwrap();
    }
    let definition = RewardDefinition { weights: [("reward".to_owned(), 1.0)].into(), ..RewardDefinition::default() };
    let (rewards, summary) = rewards(&ranks, definition).await;
    assert_eq!(rewards, [("a".to_owned(), 1.0), ("b".to_owned(), 0.0)]);
    assert_eq!(summary.not_activated, 1);
}
