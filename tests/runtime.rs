//! How models run: deadlines, full queues, the paths a query may take, devices.

mod common;

use common::{Workplace, heavy, request, slated};
use futures::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// A policy whose runs take long: 1,025 rows each, of up to 1,000 candidates.
fn slow(settings: &str) -> Workplace {
    let place = Workplace::new();
    place.edit_manifest("thompson", |manifest| {
        manifest["exploration"] = json!({"method": "posterior_sampling", "draws": 1024});
        manifest["slate"]["max_candidates"] = json!(1000);
    });
    std::fs::write(place.path().join("slated.toml"), settings).expect("written");
    place
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_model_gives_way_to_the_callers_own_order() {
    let place = slow("[server]\nfallback = \"caller_order\"\n[runtime]\nsessions = 1\n");
    let service = place.serve(&[]);
    // So many that some are late on any machine, with time left to journal what is shown instead.
    let asked = (0..64).map(|index| {
        let service = &service;
        async move {
            let mut body = heavy(&format!("late-{index}"), 600);
            body["baseline"] = json!(["item-7", "item-excluded", "item-3"]);
            body["exclude"] = json!(["item-excluded"]);
            service.post_with("/recommend", ("x-request-timeout-ms", "1000"), &body).await
        }
    });
    let answers = join_all(asked).await;
    let late: Vec<&Value> = answers.iter().map(|(_, answer)| answer).filter(|a| a["mode"] == "fallback").collect();
    assert!(!late.is_empty(), "64 slow runs after each other are not done in time");
    for answer in &late {
        let shown: Vec<&Value> = answer["slate"].as_array().unwrap().iter().map(|shown| &shown["item"]).collect();
        assert_eq!(shown, ["item-7", "item-3"]);
        assert!(answer["not_evaluable"].as_str().unwrap().contains("did not answer in time"), "{answer}");
        assert!(answer["slate"][0]["score"].is_null());
    }
    let metrics = service.text("/metrics").await;
    assert!(
        metrics.contains(&format!("slated_deadlines_missed_total{{outcome=\"fallback\"}} {}", late.len())),
        "{metrics}"
    );
    // What was shown instead is in the journal as such.
    let (_, recorded) = service.get(&format!("/decisions/{}", late[0]["decision_id"].as_str().unwrap())).await;
    assert_eq!((&recorded["mode"], &recorded["not_evaluable"]), (&late[0]["mode"], &late[0]["not_evaluable"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_fallback_a_late_request_is_refused_and_counted() {
    let place = slow("[server]\nrequest_timeout_ms = 60000\n");
    let service = place.serve(&[]);
    let ask = async |limit: &str| {
        service.post_with("/recommend", ("X-Request-Timeout-Ms", limit), &heavy(&format!("late-{limit}"), 600)).await
    };
    let (status, problem) = ask("5").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{problem}");
    assert!(service.text("/metrics").await.contains("slated_deadlines_missed_total{outcome=\"refused\"} 1"));
    for limit in ["0", "-1", "soon"] {
        let (status, problem) = ask(limit).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(problem["errors"][0]["field"], "X-Request-Timeout-Ms");
    }
    // More than the setting allows is cut to it, not refused.
    assert_eq!(ask("99999999").await.0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_refused_at_once() {
    let place = slow("[runtime]\nsessions = 1\nqueue = 1\nmax_batch = 1\n");
    let service = place.serve(&[]);
    let asked = (0..12).map(|index| {
        let service = &service;
        async move { service.send(Method::POST, "/recommend", Some(&heavy(&format!("full-{index}"), 300))).await }
    });
    let answers = join_all(asked).await;
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status() == StatusCode::TOO_MANY_REQUESTS).collect();
    assert!(!refused.is_empty() && refused.len() < answers.len(), "{} of {}", refused.len(), answers.len());
    assert!(refused.iter().all(|answer| answer.headers()["retry-after"] == "1"));
    let metrics = service.text("/metrics").await;
    let counted = format!("slated_requests_refused_total{{reason=\"model_queue\"}} {}", refused.len());
    assert!(metrics.contains(&counted), "{counted} is not in\n{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_same_bytes_whichever_thread_runs_the_model() {
    let mut seen = Vec::new();
    for settings in ["[runtime]\ninline_below_us = 0\n", "[runtime]\ninline_below_us = 1000000\n"] {
        let place = Workplace::new();
        std::fs::write(place.path().join("slated.toml"), settings).unwrap();
        let service = place.serve(&["--policy", "ucb"]);
        let asked = (0..40).map(|index| {
            let service = &service;
            async move {
                let answer = service.send(Method::POST, "/recommend", Some(&request(&format!("same-{index}")))).await;
                answer.text().await.unwrap()
            }
        });
        seen.push(join_all(asked).await);
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test]
async fn a_device_that_cannot_be_had_is_an_error_and_auto_says_what_it_took() {
    let place = Workplace::new();
    let serve =
        |device| slated(place.path(), &["serve", "--policy", "ucb", "--listen", "127.0.0.1:0", "--device", device]);
    // Wherever these tests run, there is no device of this number.
    let refused = serve("cuda:4000");
    let message = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(3), "{message}");
    assert!(message.contains("`runtime.device` is cuda:4000, which cannot be had: "), "{message}");
    assert_eq!(serve("tpu").status.code(), Some(2));

    let service = place.serve(&["--policy", "ucb", "--device", "auto"]);
    let (_, policies) = service.get("/policies").await;
    let policy = &policies["policies"][0];
    let device = policy["device"].as_str().unwrap();
    let fallback = if policy["device_fallback"].is_null() { "no" } else { "yes" };
    assert_eq!(device == "cpu", fallback == "yes", "{policy}");
    let gauge = format!("slated_policy_device{{policy=\"ucb\",device=\"{device}\",fallback=\"{fallback}\"}} 1");
    let metrics = service.text("/metrics").await;
    assert!(metrics.contains(&gauge), "{gauge} is not in\n{metrics}");
}
