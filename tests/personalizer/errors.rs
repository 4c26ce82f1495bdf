use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::{PREVIEW, Place, V1, articles, rank};

fn without(field: &str) -> Value {
    let mut body = articles("bad");
    body.as_object_mut().unwrap().remove(field);
    body
}

fn with(field: &str, value: Value) -> Value {
    let mut body = articles("bad");
    body[field] = value;
    body
}

/// The answer of a refused request: its status, its code by header and by body, its target.
async fn refused(request: RequestBuilder, version: &str) -> (StatusCode, String, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status();
    let headers = answer.headers().clone();
    let code =
        headers.get("x-ms-error-code").unwrap_or_else(|| panic!("no code: {status}")).to_str().unwrap().to_owned();
    assert_eq!(headers["content-type"], "application/json");
    assert!(headers.contains_key("x-request-id"));
    let body: Value = answer.json().await.unwrap();
    let error = &body["error"];
    assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{body}");
    if version == V1 && error["innerError"].is_object() {
        assert!(["BadRequest", "ResourceNotFound", "InternalServerError"].contains(&error["code"].as_str().unwrap()));
        assert_eq!(error["innerError"]["code"], json!(code));
    } else {
        assert_eq!(error["code"], json!(code), "{body}");
    }
    (status, code, error["target"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_ranked_is_refused_by_name() {
    let place = Place::started();
    let service = place.serve();
    let client = Client::builder().no_proxy().build().unwrap();
    let action = |id: &str| json!({"id": id, "features": []});
    let many: Vec<Value> = (0..51).map(|index| action(&format!("action-{index}"))).collect();
    let cases = [
        (without("actions"), "."),
        (with("actions", json!([])), "actions"),
        (with("actions", json!(many)), "actions"),
        (with("actions", json!([action("a"), action("b"), action("a")])), "actions[2].id"),
        (with("actions", json!([{"features": []}])), "actions[0].id"),
        (with("actions", json!([{"id": "a"}])), "actions[0].features"),
        (with("actions", json!([action("")])), "actions[0].id"),
        (with("actions", json!([action(&"x".repeat(257))])), "actions[0].id"),
        (with("actions", json!([{"id": "a", "features": [7]}])), "actions[0].features"),
        (with("actions", json!([{"id": "a", "features": {"b": 1}}])), "actions[0].features"),
        (with("contextFeatures", json!([{"a": [[1]]}])), "contextFeatures"),
        (with("excludedActions", json!(["news", "sport", "films"])), "excludedActions"),
        (with("eventId", json!("x".repeat(257))), "eventId"),
        (with("eventId", json!(7)), "eventId"),
        (with("deferActivation", json!("yes")), "deferActivation"),
    ];
    for version in [V1, PREVIEW] {
        for (body, target) in &cases {
            let request = client.post(format!("{}{version}/rank", service.url)).json(body);
            let (status, code, found) = refused(request, version).await;
            assert_eq!((status, code.as_str()), (StatusCode::BAD_REQUEST, "InvalidRankRequest"), "{body}");
            if *target != "." {
                assert_eq!(found, *target, "{body}");
            }
        }
    }
    service.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_refuses_a_request_does_it_in_the_published_form() {
    let place = Place::started();
    place.set("[server]\nmax_body_bytes = 5000\n");
    let service = place.serve();
    let client = Client::builder().no_proxy().build().unwrap();
    let ask = |method: Method, path: &str| client.request(method, format!("{}{path}", service.url));
    rank(&service, &format!("{V1}/rank"), &articles("known")).await;
    let reward = |event: &str| ask(Method::POST, &format!("{PREVIEW}/events/{event}/reward"));
    let long = "x".repeat(257);
    let cases = [
        (reward("known").json(&json!({"value": 1.5})), 400, "InvalidRewardRequest"),
        (reward("known").json(&json!({"value": "much"})), 400, "InvalidRewardRequest"),
        (reward("known").json(&json!({})), 400, "InvalidRewardRequest"),
        (reward("unknown").json(&json!({"value": 1})), 404, "ResourceNotFound"),
        (reward(&long).json(&json!({"value": 1})), 400, "InvalidRewardRequest"),
        (reward("%ff").json(&json!({"value": 1})), 400, "InvalidRewardRequest"),
        (ask(Method::POST, &format!("{PREVIEW}/events/unknown/activate")), 404, "ResourceNotFound"),
        (ask(Method::POST, &format!("{PREVIEW}/events/{long}/activate")), 400, "InvalidEventIdToActivate"),
        (ask(Method::POST, &format!("{PREVIEW}/multislot/events/known/activate")), 404, "ResourceNotFound"),
        (ask(Method::POST, "/personalizer/v9.9/rank").json(&articles("a")), 404, "ResourceNotFound"),
        (ask(Method::POST, "/personalizer/rank").json(&articles("a")), 400, "BadRequest"),
        (ask(Method::POST, "/personalizer/rank?api-version=2019-01-01").json(&articles("a")), 400, "BadRequest"),
        (ask(Method::GET, &format!("{PREVIEW}/rank")), 405, "BadRequest"),
        (ask(Method::GET, &format!("{PREVIEW}/nothing")), 404, "ResourceNotFound"),
        (ask(Method::GET, &format!("{PREVIEW}/evaluations")), 404, "ResourceNotFound"),
        (ask(Method::DELETE, &format!("{PREVIEW}/logs")), 404, "ResourceNotFound"),
        (ask(Method::POST, &format!("{PREVIEW}/rank")).body("{}"), 415, "BadRequest"),
        (
            ask(Method::POST, &format!("{PREVIEW}/rank")).json(&json!({"actions": "x".repeat(6000)})),
            413,
            "PayloadSizeExceeded",
        ),
        (
            ask(Method::POST, &format!("{PREVIEW}/rank")).header("content-type", "application/json").body("{"),
            400,
            "InvalidRankRequest",
        ),
        (ask(Method::PUT, &format!("{PREVIEW}/model")).body("zip"), 400, "OperationNotAllowed"),
        (ask(Method::GET, &format!("{PREVIEW}/model?signed=true")), 400, "OperationNotAllowed"),
        (ask(Method::GET, &format!("{PREVIEW}/model?signed=maybe")), 400, "BadRequest"),
    ];
    for (request, status, code) in cases {
        let what = format!("{request:?}");
        let (found, by_header, _) = refused(request, PREVIEW).await;
        assert_eq!((found.as_u16(), by_header.as_str()), (status, code), "{what}");
    }
    // Other routes keep their own form.
    let (_, problem) = service.post("/recommend", &json!({})).await;
    assert!(problem["type"].is_string(), "{problem}");
    service.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clients_header_is_a_key_with_roles() {
    let place = Place::started();
    place.set("[security]\nkeys = \"keys.toml\"\n");
    let key = |name: &str, roles: &[&str]| {
        let roles: Vec<&str> = roles.iter().flat_map(|role| ["--role", role]).collect();
        place.must(&[&["key", "new", name, "--keys", "keys.toml"], &roles[..]].concat()).trim().to_owned()
    };
    let app = key("app", &["recommend", "feedback"]);
    let operator = key("operator", &["admin"]);
    let service = place.serve();
    let client = Client::builder().no_proxy().build().unwrap();
    let with = |method: Method, path: &str, key: &str| {
        client.request(method, format!("{}{V1}{path}", service.url)).header("Ocp-Apim-Subscription-Key", key)
    };
    let (status, code, _) = refused(with(Method::POST, "/rank", "wrong").json(&articles("a")), V1).await;
    assert_eq!((status, code.as_str()), (StatusCode::UNAUTHORIZED, "401"));
    let (status, code, _) = refused(with(Method::POST, "/rank", &operator).json(&articles("a")), V1).await;
    assert_eq!((status, code.as_str()), (StatusCode::FORBIDDEN, "403"));
    let (status, ..) = refused(with(Method::GET, "/configurations/service", &app), V1).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let answer = with(Method::POST, "/rank", &app).json(&articles("a")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    let answer = with(Method::POST, "/events/a/reward", &app).json(&json!({"value": 1})).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    let mut configuration: Value =
        with(Method::GET, "/configurations/service", &operator).send().await.unwrap().json().await.unwrap();
    configuration["defaultReward"] = json!(0.25);
    let changed = with(Method::PUT, "/configurations/service", &operator).json(&configuration).send().await.unwrap();
    assert_eq!(changed.status(), StatusCode::OK);
    service.stop();
    let changes = crate::common::events::<slated_contract::event::RouteChange>(&place.path().join("journal"));
    let change = changes.last().unwrap();
    assert_eq!((change.action.as_str(), change.by.as_str()), ("configure", "personalizer (key operator)"));
    assert!(change.after.contains("0.25"), "{change:?}");
}
