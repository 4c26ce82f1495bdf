use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{PREVIEW, Place, articles, common, put, rank};

const SERVICE: &str = "/personalizer/v1.1-preview.3/configurations/service";
const POLICY: &str = "/personalizer/v1.1-preview.3/configurations/policy";

async fn changed(service: &common::Service, changes: &[(&str, Value)]) -> (StatusCode, Value) {
    let (_, mut configuration) = service.get(SERVICE).await;
    for (field, value) in changes {
        configuration[*field] = value.clone();
    }
    put(service, SERVICE, &configuration).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_holds_over_a_restart_and_is_refused_by_name() {
    let place = Place::started();
    let service = place.serve();
    let (status, configuration) = service.get(SERVICE).await;
    assert_eq!(status, StatusCode::OK);
    for (field, value) in [
        ("rewardWaitTime", json!("PT10M")),
        ("defaultReward", json!(0.0)),
        ("rewardAggregation", json!("earliest")),
        ("explorationPercentage", json!(0.2)),
        ("modelExportFrequency", json!("PT2S")),
        ("logRetentionDays", json!(-1)),
        ("learningMode", json!("Online")),
        ("logMirrorEnabled", json!(false)),
        ("isAutoOptimizationEnabled", json!(false)),
    ] {
        assert_eq!(configuration[field], value, "{configuration}");
    }
    for (changes, code) in [
        (vec![("rewardWaitTime", json!("PT4S"))], "InvalidRewardWaitTime"),
        (vec![("rewardWaitTime", json!("P3D"))], "InvalidRewardWaitTime"),
        (vec![("rewardWaitTime", json!("ten minutes"))], "InvalidRewardWaitTime"),
        (vec![("defaultReward", json!(2))], "InvalidServiceConfiguration"),
        (vec![("rewardAggregation", json!("average"))], "InvalidServiceConfiguration"),
        (vec![("explorationPercentage", json!(20))], "InvalidServiceConfiguration"),
        (vec![("modelExportFrequency", json!("often"))], "InvalidServiceConfiguration"),
        (vec![("logRetentionDays", json!(90))], "InvalidLogRetentionDays"),
        (vec![("logMirrorEnabled", json!(true))], "InvalidServiceConfiguration"),
        (vec![("learningMode", json!("LoggingOnly"))], "InvalidLearningModeServiceConfiguration"),
        (
            vec![("learningMode", json!("Apprentice")), ("defaultReward", json!(0.5))],
            "InvalidLearningModeServiceConfiguration",
        ),
    ] {
        let (status, answer) = changed(&service, &changes).await;
        assert_eq!(
            (status, &answer["error"]["code"]),
            (StatusCode::BAD_REQUEST, &json!(code)),
            "{changes:?}: {answer}"
        );
    }
    assert_eq!(service.get(SERVICE).await.1, configuration, "what is refused changes nothing");

    let changes = [
        ("rewardWaitTime", json!("PT1H30M")),
        ("defaultReward", json!(-0.5)),
        ("rewardAggregation", json!("sum")),
        ("modelExportFrequency", json!("PT5M")),
        ("isAutoOptimizationEnabled", json!(true)),
        ("autoOptimizationFrequency", json!("P7D")),
    ];
    let (status, answer) = changed(&service, &changes).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    for (field, value) in &changes {
        assert_eq!(answer[*field], *value, "{answer}");
    }
    assert!(answer["lastConfigurationEditDate"].is_string(), "{answer}");
    service.kill();
    let service = place.serve();
    assert_eq!(service.get(SERVICE).await.1, answer);
    service.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_exploration_is_another_version() {
    let place = Place::started();
    let service = place.serve();
    let (status, answer) = changed(&service, &[("explorationPercentage", json!(0.5))]).await;
    assert_eq!((status, &answer["explorationPercentage"]), (StatusCode::OK, &json!(0.5)), "{answer}");
    let ranked = rank(&service, &format!("{PREVIEW}/rank"), &articles("half")).await;
    let news = ranked["ranking"].as_array().unwrap().iter().find(|action| action["id"] == "news").unwrap();
    assert!((news["probability"].as_f64().unwrap() - 0.75).abs() < 1e-12, "{ranked}");
    let (_, decision) = service.get("/decisions/half").await;
    assert_eq!(decision["policy_version"], 2);
    service.stop();
    // What it decided can be decided again.
    place.must(&["journal", "verify"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apprentice_shows_what_the_caller_would_have() {
    let place = Place::started();
    let service = place.serve();
    let (status, answer) = changed(&service, &[("learningMode", json!("Apprentice"))]).await;
    assert_eq!((status, &answer["learningMode"]), (StatusCode::OK, &json!("Apprentice")), "{answer}");
    for index in 0..20 {
        let mut body = articles(&format!("apprentice-{index}"));
        body["excludedActions"] = json!(["news"]);
        let answer = rank(&service, &format!("{PREVIEW}/rank"), &body).await;
        let expected = json!([
            {"id": "news", "probability": 0.0}, {"id": "sport", "probability": 1.0}, {"id": "films", "probability": 0.0},
        ]);
        assert_eq!((&answer["ranking"], &answer["rewardActionId"]), (&expected, &json!("sport")));
    }
    let (_, decision) = service.get("/decisions/apprentice-0").await;
    assert_eq!((&decision["mode"], decision["alternatives"].as_array().unwrap().len()), (&json!("apprentice"), 1));
    // It stays one while another exploration goes live.
    let (_, answer) = changed(&service, &[("explorationPercentage", json!(0.1))]).await;
    assert_eq!((&answer["learningMode"], &answer["explorationPercentage"]), (&json!("Apprentice"), &json!(0.1)));
    let (_, answer) = changed(&service, &[("learningMode", json!("Online"))]).await;
    assert_eq!(answer["learningMode"], "Online");
    let (_, decision) = {
        rank(&service, &format!("{PREVIEW}/rank"), &articles("online")).await;
        service.get("/decisions/online").await
    };
    assert_eq!(decision["mode"], "policy");
    service.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn learning_settings_are_those_of_the_next_training() {
    let place = Place::started();
    let service = place.serve();
    let (_, default) = service.get(POLICY).await;
    assert_eq!(default["name"], "default");
    let settings = json!({"name": "mine", "arguments": "--cb_explore_adf --squarecb --gamma_scale 7 -q ::"});
    assert_eq!(put(&service, POLICY, &settings).await, (StatusCode::OK, settings.clone()));
    assert_eq!(service.get(POLICY).await.1, settings);
    for (settings, code) in [
        (json!({"name": "mine", "arguments": "--nn 5"}), "InvalidPolicyConfiguration"),
        (json!({"name": "", "arguments": "--bag 5"}), "InvalidPolicyContract"),
        (json!({"name": "mine"}), "InvalidPolicyContract"),
    ] {
        let (status, answer) = put(&service, POLICY, &settings).await;
        assert_eq!((status, &answer["error"]["code"]), (StatusCode::BAD_REQUEST, &json!(code)), "{answer}");
    }
    rank(&service, &format!("{PREVIEW}/rank"), &articles("one")).await;
    service.stop();
    place.must(&["train", "--personalizer"]);
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(place.path().join("models/personalizer/2/policy.json")).unwrap())
            .unwrap();
    assert_eq!(manifest["algorithm"]["settings"]["gamma"], 7.0);
    assert_eq!(manifest["exploration"], json!({"method": "epsilon_greedy", "epsilon": 0.2}));
    assert_eq!(manifest["training"]["reward"]["weights"], json!({"reward": 1.0}));
    let service = place.serve();
    let answer = service.send(Method::DELETE, POLICY, None).await;
    assert_eq!(common::read(answer).await, (StatusCode::OK, default));
    service.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_can_be_had_and_forgotten() {
    let place = Place::started();
    let service = place.serve();
    let path = format!("{PREVIEW}/model");
    let answer = service.send(Method::GET, &path, None).await;
    assert_eq!(answer.headers()["content-type"], "application/octet-stream");
    let model = answer.bytes().await.unwrap();
    assert_eq!(model, std::fs::read(place.path().join("models/personalizer/1/model.onnx")).unwrap());
    let (status, properties) = service.get(&format!("{path}/properties")).await;
    assert_eq!(status, StatusCode::OK);
    assert!(properties["creationTime"].is_string() && properties["lastModifiedTime"].is_string(), "{properties}");
    let answer = service.send(Method::DELETE, &path, None).await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    rank(&service, &format!("{PREVIEW}/rank"), &articles("fresh")).await;
    let (_, decision) = service.get("/decisions/fresh").await;
    assert_eq!(decision["policy_version"], 2);
    // Where versions share the requests, which is meant is not said.
    let split = json!({"action": "split", "shares": {"1": 0.5, "2": 0.5}, "by": "test", "why": "test"});
    service.ok("/policies/personalizer/route", &split).await;
    let (status, answer) = common::read(service.send(Method::DELETE, &path, None).await).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (StatusCode::BAD_REQUEST, &json!("OperationNotAllowed")),
        "{answer}"
    );
    service.stop();
}
