use std::collections::HashSet;

use reqwest::StatusCode;
use serde_json::{Value, json};
use slated_contract::event::Feedback;

use crate::{PREVIEW, Place, articles, common, put, rank, tell};

fn page(event_id: &str) -> Value {
    let mut body = articles(event_id);
    body.as_object_mut().unwrap().remove("excludedActions");
    body["slots"] = json!([
        {"id": "hero", "features": [{"size": "large"}], "baselineAction": "news"},
        {"id": "side", "excludedActions": ["news", "sport"], "baselineAction": "films"},
        {"id": "foot", "features": null, "baselineAction": "sport"},
    ]);
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn each_slot_shows_an_action_of_its_own_with_its_probability() {
    let place = Place::started();
    let service = place.serve();
    let path = format!("{PREVIEW}/multislot/rank");
    for index in 0..50 {
        let id = format!("page-{index}");
        let answer = rank(&service, &path, &page(&id)).await;
        assert_eq!(answer["eventId"], json!(id));
        let slots = answer["slots"].as_array().unwrap();
        let shown: HashSet<&str> = slots.iter().map(|slot| slot["rewardActionId"].as_str().unwrap()).collect();
        assert_eq!(shown.len(), 3, "{answer}");
        // Only films may stand in `side`, so no slot before it takes them: what is left for `hero` is news or sport.
        assert_eq!((&slots[1]["id"], &slots[1]["rewardActionId"]), (&json!("side"), &json!("films")));
        assert_eq!((&slots[1]["probability"], &slots[2]["probability"]), (&json!(1.0), &json!(1.0)));
        let expected = if slots[0]["rewardActionId"] == "news" { 0.9 } else { 0.1 };
        assert!((slots[0]["probability"].as_f64().unwrap() - expected).abs() < 1e-12, "{answer}");
        for slot in slots {
            let (_, decision) = service.get(&format!("/decisions/{id}%2F{}", slot["id"].as_str().unwrap())).await;
            assert_eq!(decision["propensity"], slot["probability"]);
            assert_eq!((&decision["page_id"], &decision["slot"]), (&json!(id), &slot["id"]));
        }
    }
    let (_, decision) = service.get("/decisions/page-0%2Fhero").await;
    assert_eq!((&decision["context"]["slot.size"], &decision["context"]["slot.id"]), (&json!("large"), &json!("hero")));
    assert_eq!(rank(&service, &path, &page("page-7")).await, rank(&service, &path, &page("page-7")).await);
    service.stop();
    place.must(&["journal", "verify"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apprentice_shows_each_slots_baseline() {
    let place = Place::started();
    let service = place.serve();
    let configuration = format!("{PREVIEW}/configurations/service");
    let (_, mut asked) = service.get(&configuration).await;
    asked["learningMode"] = json!("Apprentice");
    put(&service, &configuration, &asked).await;
    let answer = rank(&service, &format!("{PREVIEW}/multislot/rank"), &page("apprentice")).await;
    let shown = |slot: &str, action: &str| json!({"id": slot, "rewardActionId": action, "probability": 1.0});
    assert_eq!(answer["slots"], json!([shown("hero", "news"), shown("side", "films"), shown("foot", "sport")]));
    service.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_have_rewards_and_are_activated_together() {
    let place = Place::started();
    let service = place.serve();
    let mut body = page("deferred");
    body["deferActivation"] = json!(true);
    rank(&service, &format!("{PREVIEW}/multislot/rank"), &body).await;
    rank(&service, &format!("{PREVIEW}/multislot/rank"), &page("deferred/hero")).await;
    let rewards = json!({"reward": [{"slotId": "hero", "value": 1.0}, {"slotId": "foot", "value": -0.5}]});
    tell(&service, &format!("{PREVIEW}/multislot/events/deferred/reward"), Some(&rewards)).await;
    service.kill();
    let service = place.serve();
    tell(&service, &format!("{PREVIEW}/multislot/events/deferred/activate"), None).await;
    for (event, body, status, code) in [
        ("deferred", json!({"reward": [{"slotId": "nowhere", "value": 1}]}), 400, "InvalidRewardRequest"),
        ("deferred", json!({"reward": [{"slotId": "hero", "value": 3}]}), 400, "InvalidRewardRequest"),
        ("deferred", json!({"reward": []}), 400, "InvalidRewardRequest"),
        ("deferred", json!({}), 400, "InvalidRewardRequest"),
        ("unknown", rewards, 404, "ResourceNotFound"),
    ] {
        let (found, answer) = service.post(&format!("{PREVIEW}/multislot/events/{event}/reward"), &body).await;
        assert_eq!((found.as_u16(), &answer["error"]["code"]), (status, &json!(code)), "{answer}");
    }
    service.stop();
    let feedback = common::events::<Feedback>(&place.path().join("journal"));
    let of = |event: &str| {
        let mut ids: Vec<_> = feedback.iter().filter(|it| it.event == event).map(|it| it.decision_id.clone()).collect();
        ids.sort();
        ids
    };
    let slots = ["deferred/foot", "deferred/hero", "deferred/side"];
    assert_eq!(of("deferred"), slots);
    assert_eq!(of("activated"), slots, "and not those of the page whose id begins alike");
    assert_eq!(of("reward"), ["deferred/foot", "deferred/hero"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_that_cannot_be_filled_are_refused_by_name() {
    let place = Place::started();
    let service = place.serve();
    let slot = |id: &str, baseline: &str, excluded: &[&str]| json!({"id": id, "baselineAction": baseline, "excludedActions": excluded});
    let many: Vec<Value> = (0..51).map(|index| slot(&format!("slot-{index}"), "news", &[])).collect();
    for (slots, target) in [
        (json!([]), "slots"),
        (json!(many), "slots"),
        (json!([slot("a", "news", &[]), slot("a", "sport", &[])]), "slots[1].id"),
        (json!([slot("", "news", &[])]), "slots[0].id"),
        (json!([slot("a", "nothing", &[])]), "slots[0].baselineAction"),
        (json!([slot("a", "news", &["news"])]), "slots[0].baselineAction"),
        (json!([slot("a", "news", &[]), slot("b", "news", &[])]), "slots[1].baselineAction"),
        (json!([{"id": "a"}]), "slots[0].baselineAction"),
        (json!([{"id": "a", "baselineAction": "news", "features": ["x"]}]), "slots[0].features"),
    ] {
        let mut body = page("bad");
        body["slots"] = slots;
        let (status, answer) = service.post(&format!("{PREVIEW}/multislot/rank"), &body).await;
        let error = &answer["error"];
        assert_eq!((status, &error["code"]), (StatusCode::BAD_REQUEST, &json!("InvalidRankRequest")), "{answer}");
        assert_eq!(error["target"], target, "{answer}");
    }
    service.stop();
}
