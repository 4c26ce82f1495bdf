//! What applications see: slates, feedback, errors.

mod common;

use common::{Service, Workplace, read, request};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

#[tokio::test]
async fn a_slate_comes_with_its_propensities_and_can_be_read_back() {
    let place = Workplace::new();
    let service = place.serve(&["--policy", "ucb"]);
    let answer = service.ok("/recommend", &request("first")).await;
    assert_eq!(
        (&answer["decision_id"], &answer["policy"], &answer["policy_version"]),
        (&json!("first"), &json!("ucb"), &json!(1))
    );
    let slate = answer["slate"].as_array().unwrap();
    assert_eq!(slate.len(), 2);
    // Epsilon-greedy is exact: 0.05 / 4 for any first item, 0.95 more for the best.
    let first = slate[0]["cascade_propensity"].as_f64().unwrap();
    assert!([0.05 / 4.0, 0.95 + 0.05 / 4.0].iter().any(|expected| (first - expected).abs() < 1e-12), "{first}");
    assert_eq!(slate[1]["cascade_propensity"], answer["propensity"]);
    assert!(answer.get("propensity_draws").is_none());

    let (status, recorded) = service.get("/decisions/first").await;
    assert_eq!(status, StatusCode::OK);
    for field in ["decision_id", "policy", "policy_version", "slate", "propensity"] {
        assert_eq!(recorded[field], answer[field], "{field}");
    }
    assert_eq!(recorded["user"], json!({"user_feature_0": "x"}));
    assert_eq!(recorded["candidates"].as_array().unwrap().len(), 4);
    assert_eq!(recorded["exploration"], json!({"method": "epsilon_greedy", "epsilon": 0.05}));
    assert_eq!(service.get("/decisions/none").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn posterior_sampling_says_from_how_many_draws() {
    let place = Workplace::new();
    let service = place.serve(&[]);
    let answer = service.ok("/recommend", &request("thompson")).await;
    assert_eq!(answer["propensity_draws"], 100);
    let estimate = answer["propensity"].as_f64().unwrap() * 101.0;
    assert!((estimate - estimate.round()).abs() < 1e-9 && estimate >= 1.0, "{estimate} is a count of 101 draws");
}

#[tokio::test]
async fn softmax_propensities_follow_from_the_scores() {
    let place = Workplace::new();
    place.edit_manifest("ucb", |manifest| manifest["exploration"] = json!({"method": "softmax", "temperature": 0.5}));
    let service = place.serve(&["--policy", "ucb"]);
    let answer = service.ok("/recommend", &request("softmax")).await;
    let (_, recorded) = service.get("/decisions/softmax").await;
    let weight = |item: &Value| {
        let candidates = recorded["candidates"].as_array().unwrap();
        let candidate = candidates.iter().find(|candidate| candidate["id"] == *item).unwrap();
        (candidate["score"].as_f64().unwrap() as f32 as f64 / 0.5).exp()
    };
    let total: f64 = ["a", "b", "c", "d"].iter().map(|id| weight(&json!(id))).sum();
    let (first, second) = (weight(&answer["slate"][0]["item"]), weight(&answer["slate"][1]["item"]));
    let expected = first / total * second / (total - first);
    assert!((answer["propensity"].as_f64().unwrap() - expected).abs() < 1e-9);
}

#[tokio::test]
async fn the_same_seed_gives_the_same_bytes_whatever_the_order() {
    async fn answers(service: &Service, order: impl Iterator<Item = usize>) -> Vec<(usize, String)> {
        let mut answers = Vec::new();
        for index in order {
            let answer = service.send(Method::POST, "/recommend", Some(&request(&format!("event-{index}")))).await;
            assert_eq!(answer.status(), StatusCode::OK);
            answers.push((index, answer.text().await.unwrap()));
        }
        answers.sort();
        answers
    }
    for policy in ["thompson", "ucb"] {
        let (one, two) = (Workplace::new(), Workplace::new());
        let first = answers(&one.serve(&["--policy", policy]), 0..30).await;
        let second = answers(&two.serve(&["--policy", policy]), (0..30).rev()).await;
        assert_eq!(first, second);
        let slates: std::collections::HashSet<String> =
            first.iter().map(|(_, text)| serde_json::from_str::<Value>(text).unwrap()["slate"].to_string()).collect();
        assert!(policy == "ucb" || slates.len() > 3, "posterior sampling explores: {} slates", slates.len());
    }
}

#[tokio::test]
async fn a_repeated_event_id_is_the_same_decision() {
    let place = Workplace::new();
    let service = place.serve(&[]);
    let first = service.ok("/recommend", &request("again")).await;
    assert_eq!(service.ok("/recommend", &request("again")).await, first);
    // Closed into Parquet, it is still found.
    service.ok("/journal/seal", &Value::Null).await;
    assert_eq!(service.ok("/recommend", &request("again")).await, first);
    let mut other = request("again");
    other["user"]["user_feature_0"] = json!("y");
    let (status, problem) = service.post("/recommend", &other).await;
    assert_eq!(status, StatusCode::CONFLICT, "{problem}");
}

#[tokio::test]
async fn feedback_counts_once_and_is_kept_whenever_it_comes() {
    let place = Workplace::new();
    let service = place.serve(&[]);
    let click = json!({"feedback_id": "f1", "decision_id": "later", "event": "click", "position": 0});
    assert_eq!(service.ok("/feedback", &click).await, json!({"accepted": 1, "duplicates": 0, "feedback_ids": ["f1"]}));
    assert_eq!(service.ok("/feedback", &click).await["duplicates"], 1);
    service.ok("/recommend", &request("later")).await;
    let batch = json!([click, {"decision_id": "later", "event": "dwell", "value": 12.5, "item": "a", "time": "2026-01-31T12:00:00Z"}]);
    let answer = service.ok("/feedback", &batch).await;
    assert_eq!((&answer["accepted"], &answer["duplicates"]), (&json!(1), &json!(1)));
    assert_eq!(answer["feedback_ids"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn an_error_names_the_field() {
    let place = Workplace::new();
    place.edit_manifest("thompson", |manifest| {
        // A strict feature besides the inferred, lenient ones.
        for feature in manifest["features"]["item"].as_array_mut().unwrap() {
            feature["missing"] = json!("error");
        }
    });
    let service = place.serve(&[]);
    let edited = |edit: &dyn Fn(&mut Value)| {
        let mut body = request("bad");
        edit(&mut body);
        body
    };
    let cases: [(Value, &str); 11] = [
        (edited(&|body| body["candidates"] = json!([])), "candidates"),
        (edited(&|body| body["slate_size"] = json!(0)), "slate_size"),
        (edited(&|body| body["slate_size"] = json!(5)), "slate_size"),
        (edited(&|body| body["slate_size"] = json!("2")), "slate_size"),
        (edited(&|body| body["user_id"] = json!("")), "user_id"),
        (edited(&|body| body["candidates"][2]["id"] = json!("a")), "candidates[2]"),
        (
            edited(&|body| body["candidates"][1]["features"]["item_feature_0"] = json!("text")),
            "candidates[1].features.item_feature_0",
        ),
        (
            edited(&|body| drop(body["candidates"][3]["features"].as_object_mut().unwrap().remove("affinity"))),
            "candidates[3].features.affinity",
        ),
        (edited(&|body| body["candidates"][0] = json!("unknown-item")), "candidates[0]"),
        (edited(&|body| body["candidates"][0] = json!({"id": "x", "fetures": {}})), "candidates[0].fetures"),
        (edited(&|body| body["exclude"] = json!(["a", "b", "c"])), "slate_size"),
    ];
    for (body, field) in cases {
        let answer = service.send(Method::POST, "/recommend", Some(&body)).await;
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let (status, problem) = read(answer).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{field}: {problem}");
        assert_eq!(problem["status"], 422);
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    let (status, problem) = service
        .post("/feedback", &json!([{"decision_id": "d", "event": "click"}, {"decision_id": "d", "event": "Click!"}]))
        .await;
    assert_eq!(
        (status, &problem["errors"][0]["field"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("[1].event")),
        "{problem}"
    );
    // A batch with a bad event is refused whole: the same events, mended, are new.
    let mended = json!([{"feedback_id": "f", "decision_id": "d", "event": "click"}]);
    assert_eq!(service.ok("/feedback", &mended).await["accepted"], 1);
}

#[tokio::test]
async fn every_refusal_has_its_status() {
    let place = Workplace::new();
    let service = place.serve(&[]);
    let mut unknown = request("x");
    unknown["policy"] = json!("nobody");
    assert_eq!(service.post("/recommend", &unknown).await.0, StatusCode::NOT_FOUND);
    let raw = async |kind: &str, body: &str| read(service.post_raw("/recommend", kind, body.to_owned()).await).await;
    assert_eq!(raw("application/json", "{").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(raw("text/plain", "{}").await.0, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(raw("application/json", &deep).await.0.is_client_error());
    // One of several forms is told by its name; the place among them is none.
    let mut numbered = request("x");
    numbered["rules"] =
        json!([{"rule": "diversity", "lambda": 0.5}, {"rule": 0, "feature": "item_feature_1", "most": 1}]);
    let change = json!({"action": 0, "version": 1, "by": "anna", "why": "to see"});
    for (path, body, field) in [("/recommend", numbered, "rules[1]"), ("/policies/thompson/route", change, "(body)")] {
        let (status, problem) = service.post(path, &body).await;
        let found = &problem["errors"][0]["field"];
        assert_eq!((status, found), (StatusCode::UNPROCESSABLE_ENTITY, &json!(field)), "{problem}");
    }
    assert_eq!(service.get("/nowhere").await.0, StatusCode::NOT_FOUND);
    assert_eq!(service.get("/recommend").await.0, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(
        service.post("/policies/thompson/versions/9/load", &Value::Null).await.0,
        StatusCode::UNPROCESSABLE_ENTITY
    );
}

#[tokio::test]
async fn limits_are_kept() {
    let place = Workplace::new();
    std::fs::write(
        place.path().join("slated.toml"),
        "[server]\nmax_body_bytes = 3000\nmax_candidates = 4\nmax_slate_size = 2\nmax_feedback_batch = 2\n",
    )
    .unwrap();
    let service = place.serve(&[]);
    service.ok("/recommend", &request("fits")).await;
    let mut five = request("five");
    five["candidates"].as_array_mut().unwrap().push(json!("e"));
    assert_eq!(service.post("/recommend", &five).await.1["errors"][0]["field"], "candidates");
    let mut three = request("three");
    three["slate_size"] = json!(3);
    assert_eq!(service.post("/recommend", &three).await.1["errors"][0]["field"], "slate_size");
    let event = json!({"decision_id": "d", "event": "click"});
    assert_eq!(service.post("/feedback", &json!([event, event, event])).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    let mut large = request("large");
    large["user"]["essay"] = json!("x".repeat(3000));
    assert_eq!(service.post("/recommend", &large).await.0, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_at_once_than_allowed_is_refused_at_once() {
    let place = Workplace::new();
    std::fs::write(place.path().join("slated.toml"), "[server]\nmax_concurrency = 1\n").unwrap();
    let service = place.serve(&[]);
    let requests = (0..40).map(|index| {
        let service = &service;
        async move { service.send(Method::POST, "/recommend", Some(&request(&format!("burst-{index}")))).await }
    });
    let answers = futures::future::join_all(requests).await;
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status() == StatusCode::TOO_MANY_REQUESTS).collect();
    assert!(answers.iter().all(|answer| [200, 429].contains(&answer.status().as_u16())));
    assert!(answers.len() > refused.len(), "some are served");
    assert!(!refused.is_empty(), "with one at a time, a burst of 40 is refused in part");
    assert!(refused.iter().all(|answer| answer.headers()["retry-after"] == "1"));
    // Health and metrics answer all the same, and so does the next request.
    assert_eq!(service.get("/healthz").await.0, StatusCode::OK);
    service.ok("/recommend", &request("after")).await;
}

#[tokio::test]
async fn a_catalogue_lends_its_features() {
    let place = Workplace::new();
    let item = |id: &str, quality: f64| json!({"id": id, "features": {"affinity": 0.0, "item_feature_0": quality, "item_feature_1": "a"}});
    let lines = [item("a", 1.0), item("b", 2.0)].map(|item| item.to_string()).join("\n");
    std::fs::write(place.path().join("items.jsonl"), lines).unwrap();
    let service = place.serve(&["--catalogue", "items.jsonl"]);
    let mut body = request("catalogue");
    body["candidates"] = json!(["a", {"id": "b", "features": {"affinity": 3.0}}]);
    service.ok("/recommend", &body).await;
    let (_, recorded) = service.get("/decisions/catalogue").await;
    assert_eq!(recorded["candidates"][0]["features"], item("a", 1.0)["features"]);
    assert_eq!(recorded["candidates"][1]["features"]["affinity"], 3.0);
    assert_eq!(recorded["candidates"][1]["features"]["item_feature_0"], 2.0);
}

#[tokio::test]
async fn health_policies_metrics_and_description_are_there() {
    let place = Workplace::new();
    let service = place.serve(&[]);
    assert_eq!(service.get("/readyz").await.0, StatusCode::OK);
    service.ok("/recommend", &request("m")).await;
    service.ok("/feedback", &json!({"decision_id": "m", "event": "click"})).await;
    let (_, policies) = service.get("/policies").await;
    assert_eq!(
        (&policies["policies"][0]["name"], &policies["policies"][0]["state"]),
        (&json!("thompson"), &json!("live"))
    );
    let metrics = service.text("/metrics").await;
    for line in [
        "slated_decisions_total{policy=\"thompson\",version=\"1\"} 1",
        "slated_feedback_total{outcome=\"new\"} 1",
        "slated_journal_events_total{kind=\"decisions\"} 1",
        "slated_policy_version{policy=\"thompson\"} 1",
        "slated_http_request_seconds_bucket{route=\"/recommend\",method=\"POST\",status=\"200\"",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    let description = service.text("/openapi.yaml").await;
    assert_eq!(
        description,
        include_str!("../openapi.yaml"),
        "openapi.yaml is not what the service says; run `slated openapi > openapi.yaml`"
    );
}
