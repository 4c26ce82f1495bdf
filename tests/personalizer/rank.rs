use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{PREVIEW, Place, V1, articles, rank};

fn ids(answer: &Value) -> Vec<&str> {
    answer["ranking"].as_array().unwrap().iter().map(|action| action["id"].as_str().unwrap()).collect()
}

fn sum(answer: &Value) -> f64 {
    answer["ranking"].as_array().unwrap().iter().map(|action| action["probability"].as_f64().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rank_is_a_decision_with_the_probability_of_each_action() {
    let place = Place::started();
    let service = place.serve();
    let answer = rank(&service, &format!("{V1}/rank"), &articles("event-1")).await;
    assert_eq!(answer["eventId"], "event-1");
    // What is excluded keeps its place; the others stand in the order of the ranking.
    assert_eq!(ids(&answer)[1], "sport");
    assert_eq!(answer["ranking"][1]["probability"], 0.0);
    assert_eq!(answer["rewardActionId"], answer["ranking"][0]["id"]);
    assert!((sum(&answer) - 1.0).abs() < 1e-12, "{answer}");

    let (status, decision) = service.get("/decisions/event-1").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(decision["slate"][0]["item"], answer["rewardActionId"]);
    assert_eq!(decision["propensity"], answer["ranking"][0]["probability"]);
    let context = json!({"user.segment": "new", "timeOfDay": "morning", "weather.sunny": 1.0});
    assert_eq!(decision["context"], context);
    assert_eq!(decision["candidates"][0]["features"], json!({"topic": "politics", "length": 1200.0}));
    assert_eq!(decision["candidates"].as_array().unwrap().len(), 2, "what is excluded is no candidate");

    // Nothing is learned yet, so the caller's first action is the best, and the rest is explored: a fifth, over three.
    let mut first = 0;
    for index in 0..200 {
        let mut body = articles(&format!("free-{index}"));
        body.as_object_mut().unwrap().remove("excludedActions");
        let answer = rank(&service, &format!("{PREVIEW}/rank"), &body).await;
        let news = answer["ranking"].as_array().unwrap().iter().find(|action| action["id"] == "news").unwrap();
        assert!((news["probability"].as_f64().unwrap() - (0.8 + 0.2 / 3.0)).abs() < 1e-12, "{answer}");
        assert!((sum(&answer) - 1.0).abs() < 1e-12, "{answer}");
        first += usize::from(answer["rewardActionId"] == "news");
    }
    // 173 are expected, with a deviation of 4.8.
    assert!((150..=193).contains(&first), "{first}");
    service.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_event_again_is_answered_with_what_was_recorded() {
    let place = Place::started();
    let service = place.serve();
    let path = format!("{PREVIEW}/rank");
    let first = rank(&service, &path, &articles("again")).await;
    assert_eq!(rank(&service, &path, &articles("again")).await, first);
    let mut other = articles("again");
    other["contextFeatures"] = json!([]);
    let (status, answer) = service.post(&path, &other).await;
    assert_eq!((status, &answer["error"]["code"]), (StatusCode::BAD_REQUEST, &json!("InvalidRankRequest")), "{answer}");

    // Also where another version answers by now.
    let (_, mut configuration) = service.get(&format!("{PREVIEW}/configurations/service")).await;
    configuration["explorationPercentage"] = json!(0.5);
    crate::put(&service, &format!("{PREVIEW}/configurations/service"), &configuration).await;
    assert_eq!(rank(&service, &path, &articles("again")).await, first);
    assert_ne!(
        rank(&service, &path, &articles("new")).await["ranking"][0]["probability"],
        first["ranking"][0]["probability"]
    );

    // An id of the service's own is as good as one of the caller's.
    for nothing in [json!(null), json!("")] {
        let mut body = articles("unused");
        body["eventId"] = nothing;
        let answer = rank(&service, &path, &body).await;
        let id = answer["eventId"].as_str().unwrap().to_owned();
        crate::tell(&service, &format!("{PREVIEW}/events/{id}/reward"), Some(&json!({"value": 1}))).await;
    }
    service.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_leaves_out_or_sends_besides_does_not_matter() {
    let place = Place::started();
    let service = place.serve();
    let least = json!({"actions": [{"id": "only", "features": []}], "contextFeatures": null, "futureField": {"a": 1}});
    for path in [
        "/personalizer/v1.0/rank",
        "/personalizer/v1.1-preview.1/rank",
        "/personalizer/rank?api-version=2022-09-01-preview",
    ] {
        let answer = rank(&service, path, &least).await;
        assert_eq!(answer["ranking"], json!([{"id": "only", "probability": 1.0}]));
    }
    service.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_map_the_context_onto_a_schema() {
    let place = Place::started();
    place.set(
        "[compat]\nuser_id = \"user.id\"\nsession_id = \"visit\"\nuser = [\"user\"]\nnames = { \"timeOfDay\" = \"part_of_day\" }\n",
    );
    let service = place.serve();
    let mut body = articles("mapped");
    body["contextFeatures"] = json!([{"user": {"id": 42, "age": 30}}, {"visit": "v-9", "timeOfDay": "night"}]);
    rank(&service, &format!("{V1}/rank"), &body).await;
    let (_, decision) = service.get("/decisions/mapped").await;
    assert_eq!((&decision["user_id"], &decision["session_id"]), (&json!("42"), &json!("v-9")));
    assert_eq!((&decision["user"], &decision["context"]), (&json!({"age": 30.0}), &json!({"part_of_day": "night"})));
    service.stop();
}

/// Ids that cannot be made up stay what the caller chose, and rewards still find their event.
#[tokio::test(flavor = "multi_thread")]
async fn signed_ids_do_not_show() {
    let place = Place::started();
    std::fs::write(place.path().join("secret"), "s".repeat(40)).unwrap();
    place.set("[security]\ndecision_secret = \"secret\"\ncaller_ids = false\n");
    let service = place.serve();
    let answer = rank(&service, &format!("{V1}/rank"), &articles("mine")).await;
    assert_eq!(answer["eventId"], "mine");
    crate::tell(&service, &format!("{V1}/events/mine/reward"), Some(&json!({"value": 0.5}))).await;
    service.stop();
}
