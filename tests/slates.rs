//! What a request may declare about its slate: pins, constraints, several slots; and why a slate is what it is.

mod common;

use std::collections::HashSet;

use common::{Workplace, request};
use reqwest::StatusCode;
use serde_json::{Value, json};

fn items(answer: &Value) -> Vec<String> {
    answer["slate"].as_array().unwrap().iter().map(|shown| shown["item"].as_str().unwrap().to_owned()).collect()
}

/// Eight items in two categories.
fn wide(event_id: &str) -> Value {
    let mut body = request(event_id);
    let features = body["candidates"][0]["features"].clone();
    let item = |index: usize| {
        let mut features = features.clone();
        features["item_feature_0"] = json!(index as f64 * 0.3);
        features["category"] = json!(if index < 5 { "shoes" } else { "hats" });
        json!({"id": format!("item-{index}"), "features": features})
    };
    body["candidates"] = (0..8).map(item).collect();
    body["slate_size"] = json!(4);
    body
}

#[tokio::test]
async fn pins_and_rules_are_kept_and_journalled() {
    let place = Workplace::new();
    let service = place.serve(&["--policy", "ucb"]);
    for index in 0..30 {
        let mut body = wide(&format!("ruled-{index}"));
        body["exclude"] = json!(["item-7"]);
        body["pinned"] = json!([{"item": "item-2", "position": 1}]);
        body["rules"] = json!([
            {"rule": "at_most", "feature": "category", "most": 2},
            {"rule": "required", "position": 3, "feature": "category", "value": "hats"},
            {"rule": "diversity", "lambda": 0.8},
        ]);
        let answer = service.ok("/recommend", &body).await;
        let shown = items(&answer);
        assert_eq!(shown.len(), 4);
        assert_eq!(shown[1], "item-2");
        assert!(
            ["item-5", "item-6"].contains(&shown[3].as_str()) && !shown.contains(&"item-7".to_owned()),
            "{shown:?}"
        );
        let shoes = shown.iter().filter(|item| item.as_str() < "item-5").count();
        assert_eq!(shoes, 2, "{shown:?}");
        // The joint propensity is a product of conditional ones, one of them 1 where the item is pinned.
        let cascade = |at: usize| answer["slate"][at]["cascade_propensity"].as_f64().unwrap();
        assert_eq!(cascade(0), cascade(1));
        assert!((answer["slate"][1]["marginal_propensity"].as_f64().unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(cascade(3), answer["propensity"].as_f64().unwrap());
        assert!(cascade(3) > 0.0 && answer.get("not_evaluable").is_none());
    }
    let (_, recorded) = service.get("/decisions/ruled-0").await;
    assert_eq!(recorded["rules"]["pinned"], json!([{"item": "item-2", "position": 1}]));
    assert_eq!(recorded["rules"]["rules"][0], json!({"rule": "at_most", "feature": "category", "most": 2}));

    let refused = async |field: &str, edit: Value| {
        let mut body = wide("refused");
        body.as_object_mut().unwrap().extend(edit.as_object().unwrap().clone());
        let (status, problem) = service.post("/recommend", &body).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    };
    refused("pinned[0].item", json!({"pinned": [{"item": "nobody", "position": 0}]})).await;
    refused("pinned", json!({"pinned": [{"item": "item-1", "position": 9}]})).await;
    refused("rules[0].most", json!({"rules": [{"rule": "at_most", "feature": "category", "most": 0}]})).await;
    refused("rules[0].lambda", json!({"rules": [{"rule": "diversity", "lambda": 0}]})).await;
    let none = json!({"rule": "required", "position": 0, "feature": "category", "value": "gloves"});
    refused("rules", json!({"rules": [none]})).await;
}

#[tokio::test]
async fn slots_have_their_own_candidates_and_share_no_item() {
    let place = Workplace::new();
    let service = place.serve(&["--policy", "ucb"]);
    let candidates = wide("page")["candidates"].clone();
    let slot = |name: &str, size: usize| json!({"slot": name, "candidates": candidates, "slate_size": size, "context": {"position": name}});
    let page = json!({
        "event_id": "page",
        "user_id": "user-1",
        "user": {"user_feature_0": "x"},
        "context": {"campaign": "men"},
        "slots": [slot("1", 3), slot("2", 4)],
    });
    let answer = service.ok("/recommend/slots", &page).await;
    let slates: Vec<Vec<String>> = answer["slots"].as_array().unwrap().iter().map(items).collect();
    assert_eq!(slates.iter().map(Vec::len).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(slates.concat().into_iter().collect::<HashSet<_>>().len(), 7, "{slates:?}");
    let (_, second) = service.get("/decisions/page%2F2").await;
    assert_eq!((&second["page_id"], &second["slot"]), (&json!("page"), &json!("2")));
    assert_eq!(second["context"], json!({"campaign": "men", "position": "2"}));
    assert_eq!(second["candidates"].as_array().unwrap().len(), 5);
    assert_eq!(service.ok("/recommend/slots", &page).await, answer, "asked again, it is the same page");
    let mut shared = page.clone();
    shared["event_id"] = json!("shared");
    shared["distinct"] = json!(false);
    service.ok("/recommend/slots", &shared).await;
    assert_eq!(service.get("/decisions/shared%2F2").await.1["candidates"].as_array().unwrap().len(), 8);
    let mut bad = page;
    bad["slots"][1]["slate_size"] = json!(6);
    let (status, problem) = service.post("/recommend/slots", &bad).await;
    assert_eq!(
        (status, &problem["errors"][0]["field"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("slots[1].slate_size"))
    );
}

#[tokio::test]
async fn an_explanation_adds_up_for_a_linear_policy() {
    let place = Workplace::new();
    for policy in ["ucb", "thompson"] {
        let service = place.serve(&["--policy", policy]);
        let id = format!("why-{policy}");
        let answer = service.ok("/recommend?explain=true", &request(&id)).await;
        let explanation = &answer["explanation"];
        assert_eq!(explanation["reproduced"], true, "{explanation}");
        let first = &explanation["items"][0];
        assert_eq!((&first["item"], &first["score"]), (&answer["slate"][0]["item"], &answer["slate"][0]["score"]));
        assert!(first["moved_by"].as_array().unwrap().iter().any(|influence| influence["change"] != 0.0));
        let names: Vec<&str> =
            explanation["state"].as_array().unwrap().iter().map(|number| number["name"].as_str().unwrap()).collect();
        assert!(names.iter().any(|name| name.starts_with("context.")), "{names:?}");
        for (position, shown) in items(&answer).iter().enumerate() {
            let explored = explanation["explored"].as_array().unwrap().contains(&json!(position));
            assert_eq!(explored, explanation["greedy"][position] != **shown);
        }
        // Later, from the journal, it is the same explanation.
        let (status, later) = service.get(&format!("/decisions/{id}?explain=true")).await;
        assert_eq!((status, &later["explanation"]), (StatusCode::OK, explanation));
        service.stop();
    }
}
