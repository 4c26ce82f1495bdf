//! Models on raw tensors, by the Open Inference Protocol: from the wire, and with Triton's own client.

mod common;

use std::process::Command;

use common::{Service, Workplace, events, models_python, read, request};
use futures::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use slated_contract::event::Decision;
use slated_contract::feature::Features;
use slated_contract::policy::Bundle;

/// What a request of `/recommend` becomes for the model: a state row and an item row for each candidate.
fn encoded(place: &Workplace, policy: &str, request: &Value) -> (Vec<f32>, Vec<f32>) {
    let bundle = Bundle::open(&place.path().join("models"), policy, None).unwrap();
    let features = |value: &Value| serde_json::from_value::<Features>(value.clone()).unwrap();
    let (mut state, mut items) = (Vec::new(), Vec::new());
    let (user, context) = (features(&request["user"]), features(&request["context"]));
    bundle.encoder.encode_state(&user, &context, &Features::default(), &mut state).unwrap();
    for candidate in request["candidates"].as_array().unwrap() {
        let id = candidate["id"].as_str().unwrap();
        bundle.encoder.encode_item(id, &features(&candidate["features"]), &mut items).unwrap();
    }
    (state, items)
}

fn tensor(name: &str, shape: &[usize], data: &[f32]) -> Value {
    json!({"name": name, "datatype": "FP32", "shape": shape, "data": data})
}

/// A request of one row for the model of `ucb`.
fn inference(place: &Workplace) -> Value {
    let request = request("unused");
    let (state, items) = encoded(place, "ucb", &request);
    let candidates = request["candidates"].as_array().unwrap().len();
    let width = items.len() / candidates;
    json!({
        "id": "one",
        "inputs": [tensor("items", &[1, candidates, width], &items), tensor("state", &[1, state.len()], &state)],
    })
}

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

/// The scores that `/recommend` answers with, by candidate.
async fn scores(service: &Service) -> Vec<f32> {
    let mut body = request("scored");
    body["policy"] = json!("ucb");
    body["slate_size"] = json!(4);
    let answer = service.ok("/recommend", &body).await;
    let slate = answer["slate"].as_array().unwrap();
    let score = |id: &str| slate.iter().find(|shown| shown["item"] == id).unwrap()["score"].as_f64().unwrap() as f32;
    ["a", "b", "c", "d"].map(score).to_vec()
}

const BOTH: &str = "[models]\nothers = [\"ucb\"]\n";

fn set(place: &Workplace, settings: &str) {
    std::fs::write(place.path().join("slated.toml"), settings).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_says_of_raw_tensors_what_it_says_of_the_request_they_encode() {
    let place = Workplace::new();
    set(&place, BOTH);
    let service = place.serve(&[]);
    let metadata = service.get("/v2/models/ucb").await;
    assert_eq!(metadata.0, StatusCode::OK);
    let (state, items) = encoded(&place, "ucb", &request("unused"));
    let expected = json!({
        "name": "ucb",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": "state", "datatype": "FP32", "shape": [-1, state.len()]},
            {"name": "items", "datatype": "FP32", "shape": [-1, -1, items.len() / 4]},
        ],
        "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, -1]}],
    });
    assert_eq!(metadata.1, expected);
    assert_eq!(service.get("/v2/models/ucb/versions/1").await.1, expected);
    assert_eq!(service.get("/v2").await.1["extensions"], json!(["binary_tensor_data"]));
    for path in ["/v2/health/live", "/v2/health/ready", "/v2/models/ucb/ready", "/v2/models/ucb/versions/1/ready"] {
        assert_eq!(service.get(path).await.0, StatusCode::OK, "{path}");
    }

    let scores = scores(&service).await;
    let body = inference(&place);
    for path in ["/v2/models/ucb/infer", "/v2/models/ucb/versions/1/infer"] {
        let answer = service.ok(path, &body).await;
        assert_eq!(
            (&answer["model_name"], &answer["model_version"], &answer["id"]),
            (&json!("ucb"), &json!("1"), &json!("one"))
        );
        let output = &answer["outputs"][0];
        assert_eq!(
            (&output["name"], &output["datatype"], &output["shape"]),
            (&json!("scores"), &json!("FP32"), &json!([1, 4]))
        );
        assert_eq!(numbers(&output["data"]), scores);
    }
    // Nested arrays say the same.
    let mut nested = body.clone();
    let rows: Vec<Value> = numbers(&body["inputs"][0]["data"]).chunks(items.len() / 4).map(|row| json!(row)).collect();
    nested["inputs"][0]["data"] = json!([rows]);
    assert_eq!(numbers(&service.ok("/v2/models/ucb/infer", &nested).await["outputs"][0]["data"]), scores);

    let metrics = service.text("/metrics").await;
    assert!(metrics.contains("slated_inferences_total{policy=\"ucb\",version=\"1\"} 3"), "{metrics}");
    service.ok("/journal/seal", &json!({})).await;
    service.stop();
    let decisions: Vec<Decision> = events(&place.path().join("journal"));
    // What was imported is there as well; of the service's own there is the one that `/recommend` made.
    let own = decisions.iter().filter(|decision| decision.source == "service");
    assert_eq!(own.map(|decision| &*decision.decision_id).collect::<Vec<_>>(), ["scored"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_any_size_gives_each_row_what_it_gets_alone() {
    let place = Workplace::new();
    // No run on a request's own thread, batches of three, and one model thread: everything waits in the queue.
    set(
        &place,
        &format!(
            "{BOTH}[runtime]\ninline_below_us = 0\nmax_batch = 3\nsessions = 1\n[server]\nrequest_timeout_ms = 20000\n"
        ),
    );
    let service = place.serve(&[]);
    let scores = scores(&service).await;
    let (state, items) = encoded(&place, "ucb", &request("unused"));
    let (rows, width) = (20, items.len() / 4);
    let body = json!({"inputs": [
        tensor("state", &[rows, state.len()], &state.repeat(rows)),
        tensor("items", &[rows, 4, width], &items.repeat(rows)),
    ]});
    let single = inference(&place);
    let mut asked = request("unused");
    asked.as_object_mut().unwrap().remove("event_id");
    asked["policy"] = json!("ucb");
    let (service, body, single, asked) = (&service, &body, &single, &asked);
    let round = |index: usize| async move {
        match index % 3 {
            0 => {
                let answer = service.ok("/v2/models/ucb/infer", body).await;
                assert_eq!(answer["outputs"][0]["shape"], json!([rows, 4]));
                numbers(&answer["outputs"][0]["data"])
            }
            1 => numbers(&service.ok("/v2/models/ucb/infer", single).await["outputs"][0]["data"]),
            _ => {
                let slate = service.ok("/recommend", asked).await["slate"].clone();
                assert_eq!(slate.as_array().unwrap().len(), 2);
                Vec::new()
            }
        }
    };
    for found in join_all((0..60).map(round)).await {
        assert!(found.chunks(4).all(|row| row == scores), "{found:?} is not {scores:?} over and over");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_request_is_said_with_the_tensor() {
    let place = Workplace::new();
    set(&place, &format!("{BOTH}[server]\nmax_candidates = 50\nmax_body_bytes = 100000\n"));
    let service = place.serve(&[]);
    let good = inference(&place);
    let (state_width, width) = (good["inputs"][1]["shape"][1].clone(), good["inputs"][0]["shape"][2].clone());
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut body = good.clone();
        change(&mut body);
        body
    };
    let cases: Vec<(Value, &str)> = vec![
        (changed(&|body| body["inputs"][0]["datatype"] = json!("FP64")), "input `items` is FP64, expected FP32"),
        (changed(&|body| body["inputs"][0]["datatype"] = json!("NONSENSE")), "input `items` is NONSENSE"),
        (changed(&|body| body["inputs"][0]["name"] = json!("item")), "no input `item`"),
        (changed(&|body| body["inputs"][0]["name"] = json!("state")), "input `state` is given twice"),
        (changed(&|body| drop(body["inputs"].as_array_mut().unwrap().pop())), "input `state` is missing"),
        (changed(&|body| body["inputs"] = json!([])), "input `state` is missing"),
        (changed(&|body| body["inputs"][0]["shape"] = json!([1, 4])), "input `items` has shape [1, 4]"),
        (changed(&|body| body["inputs"][0]["shape"] = json!([1, 4, 1000])), "input `items` has shape [1, 4, 1000]"),
        (changed(&|body| body["inputs"][0]["shape"][1] = json!(3)), "its shape"),
        (changed(&|body| body["inputs"][0]["shape"][1] = json!(51)), "`candidates`, allowed are 1 to 50"),
        (changed(&|body| body["inputs"][0]["shape"][1] = json!(0)), "`candidates`, allowed are 1 to 50"),
        (changed(&|body| body["inputs"][0]["shape"][0] = json!(u64::MAX)), "`items`"),
        (changed(&|body| body["inputs"][1]["shape"][0] = json!(1_u64 << 40)), "input `state` has"),
        (changed(&|body| body["inputs"][1]["shape"][0] = json!(0)), "input `state` has 0 for its axis `batch`"),
        (changed(&|body| body["inputs"][1]["shape"][0] = json!(-1)), "shape"),
        (
            changed(&|body| body["inputs"][0]["shape"][0] = json!(2)),
            "input `items` has 2 for its axis `batch`, but `state` has 1",
        ),
        (changed(&|body| body["inputs"][1]["data"][0] = json!("x")), "input `state` cannot be read"),
        (changed(&|body| body["inputs"][1]["data"][0] = json!(null)), "input `state` cannot be read"),
        (changed(&|body| body["inputs"][1]["data"][0] = json!(1e300)), "input `state` is not finite"),
        (
            changed(&|body| body["inputs"][1]["data"] = json!([[[[1.0]]]])),
            "input `state` cannot be read: its arrays are nested deeper",
        ),
        (
            changed(&|body| body["inputs"][1]["data"].as_array_mut().unwrap().push(json!(1.0))),
            "input `state` cannot be read: there are more values",
        ),
        (changed(&|body| drop(body["inputs"][1]["data"].as_array_mut().unwrap().pop())), "input `state` has"),
        (changed(&|body| body["inputs"][1]["data"] = json!(1.0)), "input `state` cannot be read"),
        (changed(&|body| drop(body["inputs"][1].as_object_mut().unwrap().remove("data"))), "input `state` has neither"),
        (changed(&|body| body["inputs"][1]["parameters"] = json!({"binary_data_size": 4})), "input `state` has both"),
        (
            changed(&|body| body["inputs"][1]["parameters"] = json!({"shared_memory_region": "x"})),
            "input `state` is in shared memory",
        ),
        (changed(&|body| body["outputs"] = json!([{"name": "appeal"}])), "no output `appeal`"),
        (
            changed(&|body| body["outputs"] = json!([{"name": "scores"}, {"name": "scores"}])),
            "no output `scores`, or it is asked for twice",
        ),
        (
            changed(&|body| body["outputs"] = json!([{"name": "scores", "parameters": {"classification": 2}}])),
            "output `scores`",
        ),
        (changed(&|body| body["parameters"] = json!({"sequence_id": 3})), "`parameters.sequence_id`"),
        (changed(&|body| body["input"] = json!([])), "unknown field `input`"),
        (changed(&|body| drop(body.as_object_mut().unwrap().remove("inputs"))), "missing field `inputs`"),
        (json!([]), "invalid"),
    ];
    for (body, expected) in cases {
        let (status, answer) = service.post("/v2/models/ucb/infer", &body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{expected}: {answer}");
        let error = answer["error"].as_str().unwrap_or_else(|| panic!("{answer}"));
        assert!(error.contains(expected), "{error:?} does not say {expected:?}");
        assert_eq!(answer.as_object().unwrap().len(), 1, "{answer}");
    }
    // A million brackets neither exhaust the stack nor take long.
    let brackets = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    let body = format!(
        r#"{{"inputs": [{{"name": "state", "datatype": "FP32", "shape": [1, {state_width}], "data": {brackets}}},
            {{"name": "items", "datatype": "FP32", "shape": [1, 4, {width}], "data": []}}]}}"#
    );
    let (status, answer) = read(service.post_raw("/v2/models/ucb/infer", "application/json", body).await).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    // Not JSON; too long; compressed; a length that is none.
    let (status, answer) = read(service.post_raw("/v2/models/ucb/infer", "application/json", "{").await).await;
    assert!(status == StatusCode::BAD_REQUEST && answer["error"].is_string(), "{answer}");
    let long = " ".repeat(100_001);
    let (status, answer) = read(service.post_raw("/v2/models/ucb/infer", "application/json", long).await).await;
    assert!(status == StatusCode::PAYLOAD_TOO_LARGE && answer["error"].is_string(), "{answer}");
    for (header, expected) in [
        (("content-encoding", "gzip"), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (("inference-header-content-length", "x"), StatusCode::BAD_REQUEST),
        (("inference-header-content-length", "9999999"), StatusCode::BAD_REQUEST),
        (("inference-header-content-length", "0"), StatusCode::BAD_REQUEST),
        (("x-request-timeout-ms", "soon"), StatusCode::UNPROCESSABLE_ENTITY),
    ] {
        let (status, answer) = service.post_with("/v2/models/ucb/infer", header, &good).await;
        assert_eq!(status, expected, "{header:?}: {answer}");
        assert!(answer["error"].is_string(), "{answer}");
    }
    // What is not there, in the protocol's words; and below other paths in the service's own.
    for path in ["/v2/models/none", "/v2/models/ucb/versions/2", "/v2/models/ucb/versions/x/ready", "/v2/nothing"] {
        let (status, answer) = service.get(path).await;
        assert_eq!((status, answer["error"].is_string()), (StatusCode::NOT_FOUND, true), "{path}: {answer}");
    }
    let (status, answer) = read(service.send(Method::DELETE, "/v2/models/ucb", None).await).await;
    assert_eq!((status, answer["error"].is_string()), (StatusCode::METHOD_NOT_ALLOWED, true), "{answer}");
    let (_, answer) = service.get("/nothing").await;
    assert!(answer["error"].is_null() && answer["detail"].is_string(), "{answer}");
    // And after all that it answers.
    service.ok("/v2/models/ucb/infer", &good).await;
}

/// A body of JSON with these bytes behind it.
async fn send_binary(service: &Service, json: &Value, binary: &[u8]) -> reqwest::Response {
    let text = json.to_string();
    let body = [text.as_bytes(), binary].concat();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.post(format!("{}/v2/models/ucb/infer", service.url)).body(body);
    request.header("Inference-Header-Content-Length", text.len()).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tensors_come_and_go_as_bytes() {
    let place = Workplace::new();
    set(&place, BOTH);
    let service = place.serve(&[]);
    let scores = scores(&service).await;
    let body = inference(&place);
    let bytes =
        |input: &Value| numbers(&input["data"]).iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let binary: Vec<Vec<u8>> = body["inputs"].as_array().unwrap().iter().map(bytes).collect();
    let mut head = body.clone();
    for (index, bytes) in binary.iter().enumerate() {
        let input = head["inputs"][index].as_object_mut().unwrap();
        input.remove("data");
        input.insert("parameters".to_owned(), json!({"binary_data_size": bytes.len()}));
    }
    let all = binary.concat();
    // Bytes in, numbers out.
    let (status, answer) = read(send_binary(&service, &head, &all).await).await;
    assert_eq!((status, numbers(&answer["outputs"][0]["data"])), (StatusCode::OK, scores.clone()), "{answer}");
    // Bytes in, bytes out.
    head["outputs"] = json!([{"name": "scores", "parameters": {"binary_data": true}}]);
    let answer = send_binary(&service, &head, &all).await;
    assert_eq!(answer.headers()["content-type"], "application/octet-stream");
    let length: usize = answer.headers()["inference-header-content-length"].to_str().unwrap().parse().unwrap();
    let body = answer.bytes().await.unwrap();
    let json: Value = serde_json::from_slice(&body[..length]).unwrap();
    assert_eq!(json["outputs"][0]["parameters"], json!({"binary_data_size": 16}));
    assert!(json["outputs"][0]["data"].is_null());
    let found: Vec<f32> = body[length..].as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    assert_eq!(found, scores);
    // Too few, too many, not a number, and a tensor that is shorter than it says.
    let mut short = head.clone();
    short["inputs"][0]["parameters"]["binary_data_size"] = json!(4);
    let mut nan = all.clone();
    nan[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    for (head, bytes, expected) in [
        (&head, &all[..all.len() - 4], "input `state` has"),
        (&head, &[&all[..], &[0; 4]].concat()[..], "4 binary bytes belong to no input"),
        (&head, &nan[..], "input `items` is not finite as a 32-bit float at index 0"),
        (&short, &all[..], "binary bytes"),
    ] {
        let (status, answer) = read(send_binary(&service, head, bytes).await).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
        assert!(answer["error"].as_str().unwrap().contains(expected), "{answer} does not say {expected:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_takes_the_role_of_recommend_and_can_be_turned_off() {
    let place = Workplace::new();
    let key = place.must(&["key", "new", "shop", "--role", "recommend", "--keys", "keys.toml"]).trim().to_owned();
    let other = place.must(&["key", "new", "tell", "--role", "feedback", "--keys", "keys.toml"]).trim().to_owned();
    set(&place, &format!("{BOTH}[security]\nkeys = \"keys.toml\"\n"));
    let service = place.serve(&[]);
    let body = inference(&place);
    let path = "/v2/models/ucb/infer";
    let (status, answer) = service.post(path, &body).await;
    assert_eq!((status, answer["error"].is_string()), (StatusCode::UNAUTHORIZED, true), "{answer}");
    assert_eq!(service.send(Method::POST, path, Some(&body)).await.headers()["www-authenticate"], "Bearer");
    let (status, answer) = service.post_with(path, ("x-api-key", &other), &body).await;
    assert_eq!((status, answer["error"].is_string()), (StatusCode::FORBIDDEN, true), "{answer}");
    assert_eq!(service.post_with(path, ("x-api-key", &key), &body).await.0, StatusCode::OK);
    for (path, expected) in [
        ("/v2", StatusCode::OK),
        ("/v2/health/live", StatusCode::OK),
        ("/v2/health/ready", StatusCode::OK),
        ("/v2/models/ucb", StatusCode::UNAUTHORIZED),
        ("/v2/models/ucb/ready", StatusCode::UNAUTHORIZED),
    ] {
        assert_eq!(service.get(path).await.0, expected, "{path}");
    }
    service.stop();

    set(&place, &format!("{BOTH}[server]\ninference = false\n"));
    let service = place.serve(&[]);
    for path in ["/v2", "/v2/health/ready", "/v2/models/ucb"] {
        assert_eq!(service.get(path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(service.post(path, &body).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn tritons_client_asks_and_understands() {
    let place = Workplace::new();
    set(&place, BOTH);
    let service = place.serve(&[]);
    let scores = scores(&service).await;
    let asked =
        json!({"url": service.url.trim_start_matches("http://"), "request": inference(&place), "scores": scores});
    std::fs::write(place.path().join("asked.json"), asked.to_string()).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kserve/client.py");
    let path = place.path().to_owned();
    let run = move || Command::new(models_python()).arg(script).current_dir(path).output().unwrap();
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{wrong}");
    assert_eq!(said.trim(), "done", "{wrong}");
}
