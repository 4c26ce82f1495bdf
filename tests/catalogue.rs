//! Items and users known by id: files, changes, filters, restarts.

mod common;

use std::fmt::Write;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int32Array, ListArray, RecordBatch, StringArray};
use arrow::datatypes::Float32Type;
use common::{Workplace, read, request};
use parquet::arrow::ArrowWriter;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

#[tokio::test]
async fn csv_json_lines_and_parquet_say_the_same() {
    let place = Workplace::new();
    let path = |name: &str| place.path().join(name);
    std::fs::write(path("items.csv"), "id,item_feature_0,item_feature_1,code\na,1.5,x,007\nb,,y,A7\n").unwrap();
    std::fs::write(
        path("items.jsonl"),
        "{\"id\": \"a\", \"features\": {\"item_feature_0\": 1.5, \"item_feature_1\": \"x\", \"code\": \"007\"}}\n\n\
         {\"id\": \"b\", \"features\": {\"item_feature_1\": \"y\", \"code\": \"A7\"}}\n",
    )
    .unwrap();
    let columns: [(&str, ArrayRef); 4] = [
        ("id", Arc::new(StringArray::from(vec!["a", "b"]))),
        ("item_feature_0", Arc::new(Float64Array::from(vec![Some(1.5), None]))),
        ("item_feature_1", Arc::new(StringArray::from(vec!["x", "y"]))),
        ("code", Arc::new(StringArray::from(vec!["007", "A7"]))),
    ];
    write_parquet(&path("items.parquet"), &columns);
    for name in ["items.csv", "items.jsonl", "items.parquet"] {
        std::fs::write(path("slated.toml"), format!("[catalogue]\nfolder = \"catalogue-{name}\"\n")).unwrap();
        let service = place.serve(&["--catalogue", name]);
        let (_, a) = service.get("/items/a").await;
        let (_, b) = service.get("/items/b").await;
        assert_eq!(a["features"], json!({"item_feature_0": 1.5, "item_feature_1": "x", "code": "007"}), "{name}");
        assert_eq!(b["features"], json!({"item_feature_1": "y", "code": "A7"}), "{name}");
        service.stop();
    }
    // Numbers of any width, booleans and lists are features as well.
    let taste = ListArray::from_iter_primitive::<Float32Type, _, _>([Some([Some(0.5), Some(-1.0)])]);
    let columns: [(&str, ArrayRef); 4] = [
        ("id", Arc::new(StringArray::from(vec!["c"]))),
        ("stock", Arc::new(Int32Array::from(vec![3]))),
        ("fresh", Arc::new(BooleanArray::from(vec![true]))),
        ("taste", Arc::new(taste)),
    ];
    write_parquet(&path("more.parquet"), &columns);
    let service = place.serve(&["--catalogue", "more.parquet", "--users", "items.csv"]);
    assert_eq!(service.get("/items/c").await.1["features"], json!({"stock": 3.0, "fresh": 1.0, "taste": [0.5, -1.0]}));
    assert_eq!(service.get("/users/a").await.0, StatusCode::OK);
}

fn write_parquet(path: &std::path::Path, columns: &[(&str, ArrayRef)]) {
    let batch = RecordBatch::try_from_iter(columns.iter().cloned()).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn a_bad_file_is_refused_by_its_row() {
    let place = Workplace::new();
    for (name, text, word) in [
        ("twice.csv", "id,x\na,1\na,2\n", "row 2: `a` stands twice"),
        ("nameless.csv", "name,x\na,1\n", "no column `id`"),
        ("bad.jsonl", "{\"id\": \"a\"}\n{\"id\": 3}\n", "row 2"),
        ("items.txt", "", "must end in .csv"),
    ] {
        std::fs::write(place.path().join(name), text).unwrap();
        let args = ["serve", "--policy", "ucb", "--listen", "127.0.0.1:0", "--catalogue", name];
        let output = common::slated(place.path(), &args);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{message}");
        assert!(message.contains(word), "{word} is not in {message}");
    }
}

#[tokio::test]
async fn changes_are_versioned_and_survive_being_killed() {
    let place = Workplace::new();
    std::fs::write(place.path().join("items.jsonl"), "{\"id\": \"a\", \"features\": {\"affinity\": 1}}\n").unwrap();
    let service = place.serve(&["--policy", "ucb", "--catalogue", "items.jsonl"]);
    let send =
        async |method: Method, path: &str, body: &Value| read(service.send(method, path, Some(body)).await).await;
    let features = json!({"features": {"affinity": 2.0, "item_feature_1": "a"}});
    assert_eq!(send(Method::PUT, "/items/b", &features).await, (StatusCode::OK, json!({"version": 2})));
    let batch = json!({"put": [{"id": "a", "features": {"affinity": 5.0}}, {"id": "c", "features": {"affinity": 6.0}}], "delete": ["nobody"]});
    assert_eq!(service.ok("/items:batch", &batch).await, json!({"version": 3}));
    assert_eq!(
        send(Method::PUT, "/users/user-1", &json!({"features": {"user_feature_0": "known"}})).await.0,
        StatusCode::OK
    );
    assert_eq!(send(Method::DELETE, "/items/c", &Value::Null).await, (StatusCode::OK, json!({"version": 5})));
    assert_eq!(send(Method::DELETE, "/items/c", &Value::Null).await.0, StatusCode::NOT_FOUND);
    let bad = json!({"put": [{"id": "d"}, {"id": ""}]});
    let (status, problem) = service.post("/items:batch", &bad).await;
    assert_eq!((status, &problem["errors"][0]["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("put[1].id")));
    let (status, problem) = service.post("/items:batch", &json!({"delete": ["x", ""]})).await;
    assert_eq!((status, &problem["errors"][0]["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("delete[1]")));
    service.kill();

    // The file is the same as before, so it does not undo what was changed since.
    let service = place.serve(&["--policy", "ucb", "--catalogue", "items.jsonl"]);
    assert_eq!(service.get("/items/a").await.1, json!({"id": "a", "version": 3, "features": {"affinity": 5.0}}));
    assert_eq!(service.get("/items/c").await.0, StatusCode::NOT_FOUND);
    // A request names ids alone; the decision holds the features and the version that lent them.
    let mut body = request("lent");
    body["candidates"] = json!(["a", "b"]);
    body["user"] = json!({});
    service.ok("/recommend", &body).await;
    let (_, recorded) = service.get("/decisions/lent").await;
    assert_eq!(recorded["catalogue_version"], 5);
    assert_eq!(recorded["user"], json!({"user_feature_0": "known"}));
    assert_eq!(recorded["candidates"][0]["features"], json!({"affinity": 5.0}));
    // A request that brings everything owes the catalogue nothing.
    body = request("own");
    body["user_id"] = json!("stranger");
    body["candidates"][0]["id"] = json!("x");
    body["candidates"][1]["id"] = json!("y");
    service.ok("/recommend", &body).await;
    assert!(service.get("/decisions/own").await.1["catalogue_version"].is_null());
}

#[tokio::test]
async fn a_filter_finds_the_candidates() {
    let place = Workplace::new();
    let item = |index: usize| {
        let category = if index.is_multiple_of(2) { "shoes" } else { "hats" };
        json!({"id": format!("item-{index}"), "features": {"affinity": index as f64, "category": category}}).to_string()
    };
    std::fs::write(place.path().join("items.jsonl"), (0..20).map(item).collect::<Vec<_>>().join("\n")).unwrap();
    let service = place.serve(&["--policy", "ucb", "--catalogue", "items.jsonl"]);
    let mut body = request("filtered");
    body.as_object_mut().unwrap().remove("candidates");
    body["filter"] = json!({"all": [
        {"feature": "category", "any_of": ["shoes"]},
        {"feature": "affinity", "at_least": 4, "at_most": 10},
    ]});
    body["exclude"] = json!(["item-6"]);
    service.ok("/recommend", &body).await;
    let (_, recorded) = service.get("/decisions/filtered").await;
    let ids: Vec<&Value> =
        recorded["candidates"].as_array().unwrap().iter().map(|candidate| &candidate["id"]).collect();
    assert_eq!(ids, ["item-10", "item-4", "item-8"]);
    body["candidates"] = json!(["item-1"]);
    assert_eq!(service.post("/recommend", &body).await.1["errors"][0]["field"], "filter");
}

#[test]
#[ignore = "a million items take minutes; docs/catalogue.md has the figures"]
fn a_million_items_fit_into_a_gibibyte() {
    let place = Workplace::new();
    let mut file = BufWriter::new(File::create(place.path().join("items.csv")).unwrap());
    let header: Vec<String> = (0..16).map(|feature| format!("feature_{feature}")).collect();
    writeln!(file, "id,{}", header.join(",")).unwrap();
    for item in 0..1_000_000 {
        let mut line = format!("item-{item}");
        (0..16).for_each(|feature| write!(line, ",{:.6}", f64::from(item * 16 + feature).sin()).unwrap());
        writeln!(file, "{line}").unwrap();
    }
    drop(file);
    for start in ["first, from the file", "again, from what is kept"] {
        let service = place.serve(&["--policy", "ucb", "--catalogue", "items.csv"]);
        let status = std::fs::read_to_string(format!("/proc/{}/status", service.pid())).expect("Linux");
        let mib = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
        };
        println!("{start}: {} MiB resident, {} MiB at most", mib("VmRSS"), mib("VmHWM"));
        assert!(mib("VmHWM") < 1024);
        service.stop();
    }
}
