//! Events that leave the journal and come back as they were; journals of earlier schemas.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use common::{contents, events, must, slated};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};
use slated::journal::write_segment;
use slated_contract::event::{
    Alternative, Candidate, Decision, Feedback, Mode, RouteChange, SCHEMA_VERSION, Shown, segments,
};
use slated_contract::feature::{FeatureValue, Features};
use tempfile::TempDir;

/// The kept journal of a version of the schema.
fn kept(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/journals/v{version}"))
}

/// Events that are hard to write down.
fn awkward(journal: &Path) {
    let texts = ["", "\"", "\"quoted\"", "a,b;c\td", "two\nlines\r\n", "null", "1", "{}", "Ærøskøbing 🚲", " "];
    let features: Features = texts
        .iter()
        .enumerate()
        .map(|(index, text)| (format!("text {text}{index}"), FeatureValue::from(*text)))
        .chain([
            ("tiny".to_owned(), FeatureValue::Number(5e-324)),
            ("huge".to_owned(), FeatureValue::Number(-1.797_693_134_862_315_7e308)),
            ("third".to_owned(), FeatureValue::Number(1.0 / 3.0)),
            ("whole".to_owned(), FeatureValue::Number(9_007_199_254_740_993.0)),
            ("vector".to_owned(), vec![0.1_f32, f32::MIN_POSITIVE, -f32::MAX, 16_777_217.0].into()),
            ("empty".to_owned(), Vec::<f32>::new().into()),
        ])
        .collect();
    let decision = |index: usize, text: &str| Decision {
        decision_id: format!("awkward, \"{index}\""),
        // One before 1970, and one to the microsecond.
        time: chrono::DateTime::from_timestamp_micros(if index == 0 { -1 } else { 1_600_000_000_123_456 }).unwrap(),
        source: "import:elsewhere".to_owned(),
        policy: text.to_owned(),
        policy_version: i64::MIN,
        model_sha256: Some(text.to_owned()),
        exploration: index.is_multiple_of(2).then(|| text.to_owned()),
        seed: Some(i64::MAX),
        user_id: Some(text.to_owned()),
        session_id: None,
        user: features.clone(),
        candidates: vec![
            Candidate { item: text.to_owned(), features: features.clone(), score: Some(0.1) },
            Candidate { item: "b".to_owned(), features: Features::new(), score: None },
        ],
        slate: vec![Shown {
            item: text.to_owned(),
            position: -3,
            cascade_propensity: 1e-300,
            marginal_propensity: 1.0,
        }],
        propensity: 0.1 + 0.2,
        mode: Mode::Fallback,
        baseline: texts.iter().map(|text| (*text).to_owned()).collect(),
        alternatives: vec![Alternative {
            policy: text.to_owned(),
            policy_version: 1,
            model_sha256: String::new(),
            slate: Vec::new(),
            propensity: 0.5,
            shown_propensity: None,
            agreement: 0.0,
        }],
        omitted_features: vec![text.to_owned(), "user.age".to_owned()],
        ..Decision::default()
    };
    let decisions: Vec<Decision> = texts.iter().enumerate().map(|(index, text)| decision(index, text)).collect();
    let feedback: Vec<Feedback> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| Feedback {
            feedback_id: format!("f{index}"),
            decision_id: "somewhere".to_owned(),
            time: chrono::DateTime::from_timestamp_micros(1_600_000_000_000_001).unwrap(),
            occurred: chrono::DateTime::from_timestamp_micros(1_500_000_000_000_001).unwrap(),
            source: (*text).to_owned(),
            event: "click".to_owned(),
            value: -0.0,
            item: Some((*text).to_owned()),
            position: None,
        })
        .collect();
    write_segment(journal, "awkward", &decisions).unwrap();
    write_segment(journal, "awkward", &feedback).unwrap();
}

#[test]
fn every_format_gives_back_the_same_events_and_then_the_same_bytes() {
    let place = TempDir::new().unwrap();
    let from = place.path().join("from");
    awkward(&from);
    for (version, name) in [(1, "first"), (SCHEMA_VERSION, "latest")] {
        let journal = kept(version).join("journal");
        write_segment(&from, name, &events::<Decision>(&journal)).unwrap();
        write_segment(&from, name, &events::<Feedback>(&journal)).unwrap();
        write_segment(&from, name, &events::<RouteChange>(&journal)).unwrap();
    }
    let (decisions, feedback, changes) =
        (events::<Decision>(&from), events::<Feedback>(&from), events::<RouteChange>(&from));
    assert!(decisions.len() > 60 && !changes.is_empty(), "{} decisions", decisions.len());
    for format in ["jsonl", "csv", "parquet"] {
        let [out, journal, again] = ["out", "journal", "again"].map(|what| format!("{what}-{format}"));
        must(place.path(), &["journal", "export", "--journal", "from", "--format", format, "--out", &out]);
        let import = ["journal", "import", format, &out, "--journal", &journal, "--json"];
        let report: Value = serde_json::from_str(&must(place.path(), &import)).unwrap();
        let sum = |key: &str| -> u64 {
            report["files"].as_array().unwrap().iter().map(|file| file[key].as_u64().unwrap()).sum()
        };
        assert_eq!(
            [sum("rows"), sum("decisions"), sum("feedback"), sum("changes"), sum("refused")],
            [
                (decisions.len() + feedback.len() + changes.len()) as u64,
                decisions.len() as u64,
                feedback.len() as u64,
                changes.len() as u64,
                0
            ],
            "{report}"
        );
        let journal_folder = place.path().join(&journal);
        assert!(events::<Decision>(&journal_folder) == decisions, "{format}");
        assert!(events::<Feedback>(&journal_folder) == feedback, "{format}");
        assert!(events::<RouteChange>(&journal_folder) == changes, "{format}");
        // The sign of zero as well.
        assert!(events::<Feedback>(&journal_folder).iter().any(|feedback| feedback.value.is_sign_negative()));

        let before = contents(&journal_folder);
        must(place.path(), &import);
        assert!(contents(&journal_folder) == before, "{format}: importing again changed something");
        must(place.path(), &["journal", "export", "--journal", &journal, "--format", format, "--out", &again]);
        assert!(contents(&place.path().join(&again)) == contents(&place.path().join(&out)), "{format}");
    }
}

#[test]
fn rows_that_cannot_be_used_are_refused_by_line_and_the_rest_imported() {
    let place = TempDir::new().unwrap();
    let good = json!({"decision_id": "good", "time": "2026-01-31T12:00:00Z", "source": "import:shop", "policy": "p",
        "policy_version": 1, "candidates": [{"item": "a", "features": {"price": 3}}, {"item": "b"}], "propensity": 0.5,
        "slate": [{"item": "a", "position": 0, "cascade_propensity": 0.5, "marginal_propensity": 0.5}]});
    let with = |key: &str, value: Value| {
        let mut line = good.clone();
        line[key] = value;
        line.to_string()
    };
    let lines = [
        with("propensity", json!(1.5)),
        "not json".to_owned(),
        good.to_string(),
        String::new(),
        with("colour", json!("red")),
        with("time", json!("yesterday")),
        with("decision_id", json!("")),
        with("slate", json!([{"item": "z", "position": 0, "cascade_propensity": 0.5, "marginal_propensity": 0.5}])),
        with("candidates", json!([{"item": "a", "features": {"price": null}}])),
        with("decision_id", json!("last")),
    ];
    std::fs::create_dir(place.path().join("in")).unwrap();
    std::fs::write(place.path().join("in/shop.jsonl"), lines.join("\n")).unwrap();
    let report: Value =
        serde_json::from_str(&must(place.path(), &["journal", "import", "jsonl", "in", "--json"])).unwrap();
    let file = &report["files"][0];
    assert_eq!(
        [&file["file"], &file["rows"], &file["decisions"], &file["refused"]],
        [&json!("shop.jsonl"), &json!(9), &json!(2), &json!(7)],
        "{report}"
    );
    let refusals = file["refusals"].as_array().unwrap();
    for (refusal, (line, word)) in refusals.iter().zip([
        (1, "propensity"),
        (2, "expected"),
        (5, "colour"),
        (6, "time"),
        (7, "decision_id"),
        (8, "not among"),
        (9, "candidates[0].features"),
    ]) {
        assert_eq!(refusal["line"], line, "{refusal}");
        assert!(refusal["reason"].as_str().unwrap().contains(word), "{refusal}");
    }
    let ids: Vec<String> =
        events::<Decision>(&place.path().join("journal")).into_iter().map(|decision| decision.decision_id).collect();
    assert_eq!(ids, ["good", "last"]);

    // Feedback in CSV as a person writes it: without the columns that may be empty, in an order of its own.
    let csv = "event,decision_id,feedback_id,value,source,time,occurred\n\
               click,good,f1,1,hand,2026-01-31T12:01:00Z,2026-01-31T12:00:30+00:00\n\
               Click,good,f2,1,hand,2026-01-31T12:01:00Z,2026-01-31T12:00:30Z\n\
               click,good,f3,much,hand,2026-01-31T12:01:00Z,2026-01-31T12:00:30Z\n\
               click,good\n\
               dwell,good,f4,2.5,hand,2026-01-31T12:01:00Z,2026-01-31T12:00:30Z\n";
    std::fs::write(place.path().join("clicks.csv"), csv).unwrap();
    let printed = must(place.path(), &["journal", "import", "csv", "clicks.csv"]);
    for expected in ["clicks.csv:3: `event`", "clicks.csv:4: ", "clicks.csv:5: it has 2 fields, expected 7"] {
        assert!(printed.contains(expected), "{printed}");
    }
    let values: Vec<f64> =
        events::<Feedback>(&place.path().join("journal")).into_iter().map(|feedback| feedback.value).collect();
    assert_eq!(values, [1.0, 2.5]);

    let refused = |args: &[&str], words: &[&str]| {
        let output = slated(place.path(), args);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{args:?}: {error}");
        assert!(words.iter().all(|word| error.contains(word)), "{args:?}: {error}");
    };
    std::fs::write(place.path().join("other.csv"), "id,price\n1,2\n").unwrap();
    refused(&["journal", "import", "csv", "other.csv"], &["other.csv", "feedback_id", "id, price"]);
    refused(&["journal", "import", "parquet", "in"], &["in", ".parquet"]);
    refused(&["journal", "export", "--out", "in"], &["in", "not empty"]);
    refused(&["journal", "export", "--out", "all.jsonl"], &["--kind"]);
    refused(&["journal", "export", "--out", "none", "--policy", "nobody"], &["no such events"]);
}

#[test]
fn an_export_holds_what_was_asked_for() {
    let place = TempDir::new().unwrap();
    let journal = kept(2).join("journal").display().to_string();
    let all = events::<Decision>(&kept(2).join("journal"));
    let export = |args: &[&str]| {
        let args: Vec<&str> = ["journal", "export", "--journal", &journal].iter().chain(args).copied().collect();
        must(place.path(), &args);
    };
    let lines = |file: &str| -> Vec<Value> {
        let text = std::fs::read_to_string(place.path().join(file)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let served: Vec<&Decision> = all.iter().filter(|decision| decision.policy == "thompson").collect();
    export(&["--kind", "decisions", "--policy", "thompson", "--out", "served.jsonl"]);
    let ids = |lines: &[Value]| lines.iter().map(|line| line["decision_id"].clone()).collect::<Vec<_>>();
    let expected: Vec<Value> = served.iter().map(|decision| json!(decision.decision_id)).collect();
    assert_eq!(ids(&lines("served.jsonl")), expected);
    // Its feedback, not that of the imported rows, and not the one about nothing.
    export(&["--kind", "feedback", "--policy", "thompson", "--out", "clicks.jsonl"]);
    assert_eq!(lines("clicks.jsonl").len(), 6);
    // From a decision's time on, and before another's.
    let (first, last) = (served[3].time, served[9].time);
    let [after, before] = [first, last].map(|time| time.to_rfc3339());
    export(&["--kind", "decisions", "--after", &after, "--before", &before, "--out", "some.jsonl"]);
    let expected: Vec<Value> = all
        .iter()
        .filter(|decision| decision.time >= first && decision.time < last)
        .map(|decision| json!(decision.decision_id))
        .collect();
    assert_eq!(ids(&lines("some.jsonl")), expected);
    export(&["--before", "2020-01-01", "--out", "old"]);
    assert_eq!(
        contents(&place.path().join("old")).into_keys().collect::<Vec<_>>(),
        [Path::new("decisions/date=2019-11-24.jsonl"), Path::new("feedback/date=2019-11-24.jsonl")]
    );
}

#[test]
fn a_journal_of_every_schema_is_kept_and_reads() {
    assert!(kept(SCHEMA_VERSION).is_dir(), "keep a journal of version {SCHEMA_VERSION} in tests/data/journals");
    for version in 1..=SCHEMA_VERSION {
        let place = TempDir::new().unwrap();
        let (journal, models) = (kept(version).join("journal"), kept(version).join("models"));
        let versions: BTreeSet<String> = segments::<Decision>(&journal)
            .unwrap()
            .iter()
            .flat_map(|date| &date.files)
            .map(|path| {
                let file = std::fs::File::open(path).unwrap();
                let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
                let pairs = reader.metadata().file_metadata().key_value_metadata().unwrap();
                pairs.iter().find(|pair| pair.key == "slated.schema").unwrap().value.clone().unwrap()
            })
            .collect();
        assert_eq!(versions, BTreeSet::from([version.to_string()]));
        let [journal, models] = [journal, models].map(|path| path.display().to_string());
        let at = |args: &[&str]| {
            let args: Vec<&str> = args.iter().chain(&["--journal", &journal]).copied().collect();
            must(place.path(), &args)
        };
        let decisions = if version == 1 { 36 } else { 41 };
        let stats: Value = serde_json::from_str(&at(&["journal", "stats", "--json"])).unwrap();
        assert_eq!((&stats["kinds"][0]["events"], &stats["kinds"][1]["events"]), (&json!(decisions), &json!(11)));
        assert_eq!(stats["kinds"][0]["schema_versions"], json!({version.to_string(): 2}));
        let answer = at(&[
            "journal",
            "query",
            "--format",
            "csv",
            "SELECT count(*) AS n, count(DISTINCT mode) AS m, \
                           sum(cardinality(baseline)) AS b, count(rules) AS r FROM decisions",
        ]);
        let expected = if version == 1 { "n,m,b,r\n36,1,0,0\n" } else { "n,m,b,r\n41,2," };
        assert!(answer.starts_with(expected), "version {version}: {answer}");
        at(&["train", "--policy", "new", "--algorithm", "linucb", "--interaction", "additive"]);
        let manifest: Value = serde_json::from_str(&must(place.path(), &["policy", "inspect", "new"])).unwrap();
        assert_eq!(manifest["training"]["decisions"], decisions, "version {version}");
        // The policy of that time decides today as it did then.
        let replay = at(&["journal", "verify", "--models", &models, "--tolerance", "1e-5", "--json"]);
        let replay: Value = serde_json::from_str(&replay).unwrap();
        assert!(replay["mismatched"] == 0 && replay["reproduced"].as_u64().unwrap() >= 12, "{replay}");
        let verdict = slated(
            place.path(),
            &["evaluate", "--policy", "new", "--journal", &journal, "--include-learned", "--json", "--no-replay"],
        );
        let verdict: Value = serde_json::from_slice(&verdict.stdout)
            .unwrap_or_else(|_| panic!("version {version}: {}", String::from_utf8_lossy(&verdict.stderr)));
        assert!(verdict.is_object());
    }
}

#[test]
fn a_journal_of_a_newer_schema_is_refused_and_says_what_to_do() {
    let place = TempDir::new().unwrap();
    for path in segments::<Decision>(&kept(SCHEMA_VERSION).join("journal")).unwrap()[0].files.iter() {
        let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(path).unwrap()).unwrap();
        let batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
        let newer = place.path().join("journal/decisions/date=2019-11-24");
        std::fs::create_dir_all(&newer).unwrap();
        let pair = parquet::file::metadata::KeyValue::new("slated.schema".to_owned(), (SCHEMA_VERSION + 1).to_string());
        let properties =
            parquet::file::properties::WriterProperties::builder().set_key_value_metadata(Some(vec![pair])).build();
        let file = std::fs::File::create(newer.join("newer.parquet")).unwrap();
        let mut writer = parquet::arrow::ArrowWriter::try_new(file, batches[0].schema(), Some(properties)).unwrap();
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.close().unwrap();
    }
    for args in [
        &["train", "--policy", "p", "--algorithm", "linucb"][..],
        &["journal", "export", "--out", "out"],
        &["journal", "query", "SELECT count(*) FROM decisions"],
        &["journal", "stats"],
        &["journal", "import", "parquet", "journal"],
    ] {
        let output = slated(place.path(), args);
        let error = String::from_utf8_lossy(&output.stderr);
        let told = [&format!("version {}", SCHEMA_VERSION + 1), "newer.parquet", "upgrade slated"];
        assert!(!output.status.success() && told.iter().all(|word| error.contains(*word)), "{args:?}: {error}");
    }
}
