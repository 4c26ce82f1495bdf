//! The journal asked in SQL, and counted.

mod common;

use std::path::Path;
use std::process::Command;

use common::{must, python, slated};
use serde_json::{Value, json};
use slated::journal::write_segment;
use slated_contract::event::{Decision, Feedback, SegmentReader, segments};
use tempfile::TempDir;

fn journal() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/journals/v2/journal").display().to_string()
}

/// The rows of an answer.
fn ask(journal: &str, query: &str) -> Vec<Value> {
    let folder = TempDir::new().unwrap();
    let answer = must(folder.path(), &["journal", "query", "--journal", journal, "--format", "json", query]);
    answer.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn tables_and_views_hold_what_the_journal_does() {
    let journal = journal();
    assert_eq!(ask(&journal, "SELECT count(*) AS n FROM decisions"), [json!({"n": 41})]);
    assert_eq!(
        ask(&journal, "SELECT policy, count(*) AS n FROM decisions GROUP BY policy ORDER BY n"),
        [json!({"policy": "thompson", "n": 17}), json!({"policy": "open-bandit-random", "n": 24})]
    );
    // 41 decisions, of which 10 have one feedback event each; one event is about nothing.
    assert_eq!(
        ask(&journal, "SELECT count(*) AS n, count(feedback_id) AS f, count(DISTINCT decision_id) AS d FROM joined"),
        [json!({"n": 41, "f": 10, "d": 41})]
    );
    // 24 slates of one, 13 of two, two of one, and two of an apprentice with two.
    assert_eq!(
        ask(&journal, "SELECT count(*) AS n, sum(clicks) AS c, sum(feedback) AS f FROM slates"),
        [json!({"n": 56, "c": 10, "f": 10})]
    );
    // Clicks were on the first item shown.
    assert_eq!(
        ask(&journal, "SELECT DISTINCT position, policy FROM slates WHERE clicks > 0 AND policy = 'thompson'"),
        [json!({"position": 0, "policy": "thompson"})]
    );
    let nested = ask(
        &journal,
        "SELECT slate[1]['item'] AS item, \"user\"['user_feature_0']['text'] AS x FROM decisions \
                                WHERE decision_id = 'served-3'",
    );
    assert!(nested[0]["item"].is_string() && nested[0]["x"] == "x", "{nested:?}");
    assert_eq!(ask(&journal, "SELECT action, \"by\" FROM changes"), [json!({"action": "apprentice", "by": "anna"})]);
}

#[test]
fn events_given_twice_stand_once_in_the_views_and_are_counted() {
    let place = TempDir::new().unwrap();
    let copy = place.path().join("journal");
    let read = |path: &Path| SegmentReader::<Decision>::open(path, 100).unwrap().flat_map(Result::unwrap).collect();
    let kept = segments::<Decision>(Path::new(&journal())).unwrap();
    let decisions: Vec<Decision> = read(&kept[1].files[0]);
    let again: Vec<Decision> = decisions[..5]
        .iter()
        .map(|decision| Decision { time: decision.time + chrono::TimeDelta::days(1), ..decision.clone() })
        .collect();
    let feedback = segments::<Feedback>(Path::new(&journal())).unwrap();
    let feedback: Vec<Feedback> =
        SegmentReader::<Feedback>::open(&feedback[1].files[0], 100).unwrap().flat_map(Result::unwrap).collect();
    write_segment(&copy, "one", &decisions).unwrap();
    write_segment(&copy, "two", &again).unwrap();
    write_segment(&copy, "one", &feedback).unwrap();
    write_segment(&copy, "two", &feedback[..3]).unwrap();
    let copy = copy.display().to_string();
    assert_eq!(
        ask(
            &copy,
            "SELECT (SELECT count(*) FROM decisions) AS d, (SELECT count(*) FROM feedback) AS f, \
                    (SELECT count(*) FROM joined) AS j, (SELECT sum(clicks) FROM slates) AS c"
        ),
        [json!({"d": 22, "f": 10, "j": 17, "c": 6})]
    );
    let stats = must(place.path(), &["journal", "stats", "--json"]);
    let stats: Value = serde_json::from_str(&stats).unwrap();
    assert_eq!((&stats["kinds"][0]["events"], &stats["kinds"][0]["duplicates"]), (&json!(22), &json!(5)));
    assert_eq!((&stats["kinds"][1]["events"], &stats["kinds"][1]["duplicates"]), (&json!(10), &json!(3)));
    assert_eq!(stats["feedback"][0]["events"], 6);
    assert_eq!(stats["feedback"][1]["orphans"], 1);
    assert!((stats["feedback_per_decision"].as_f64().unwrap() - 6.0 / 17.0).abs() < 1e-12);
}

#[test]
fn stats_are_those_of_the_events() {
    let folder = TempDir::new().unwrap();
    let journal = journal();
    let printed = must(folder.path(), &["journal", "stats", "--journal", &journal]);
    assert!(printed.contains("open-bandit-random 1") && printed.contains("not evaluable"), "{printed}");
    let stats = must(folder.path(), &["journal", "stats", "--journal", &journal, "--late-after", "0.000001", "--json"]);
    let stats: Value = serde_json::from_str(&stats).unwrap();
    let files = segments::<Decision>(Path::new(&journal)).unwrap().into_iter().flat_map(|date| date.files);
    let decisions: Vec<Decision> =
        files.flat_map(|path| SegmentReader::<Decision>::open(&path, 64).unwrap().flat_map(Result::unwrap)).collect();
    for policy in stats["policies"].as_array().unwrap() {
        let own = decisions.iter().filter(|decision| policy["policy"] == decision.policy.as_str());
        let (all, weighed): (Vec<&Decision>, Vec<&Decision>) =
            (own.clone().collect(), own.filter(|decision| decision.not_evaluable.is_none()).collect());
        assert_eq!(policy["decisions"], all.len());
        assert_eq!(policy["not_evaluable"], all.len() - weighed.len());
        let mean = weighed.iter().map(|decision| decision.propensity).sum::<f64>() / weighed.len() as f64;
        assert!((policy["mean_propensity"].as_f64().unwrap() - mean).abs() < 1e-12, "{policy}");
        let inverse = || weighed.iter().map(|decision| 1.0 / decision.propensity);
        let sum: f64 = inverse().sum();
        let effective = sum * sum / (weighed.len() as f64 * inverse().map(|weight| weight * weight).sum::<f64>());
        assert!((policy["effective_share"].as_f64().unwrap() - effective).abs() < 1e-9, "{policy}");
    }
    assert_eq!(stats["not_evaluable"][0]["decisions"], 2);
    assert_eq!(stats["sources"][0], json!({"kind": "decisions", "source": "import:open-bandit", "events": 24}));
    assert_eq!(stats["dates"][0], json!({"kind": "decisions", "date": "2019-11-24", "events": 24}));
    // Clicks that were imported happened with their decisions, those of the service a little later.
    let clicks = &stats["feedback"][0];
    assert_eq!((&clicks["event"], &clicks["events"], &clicks["late"]), (&json!("click"), &json!(10), &json!(6)));
}

#[test]
fn a_journal_is_only_read_and_errors_say_what_there_is() {
    let folder = TempDir::new().unwrap();
    let journal = journal();
    for (query, words) in [
        ("DROP TABLE decisions", ["SELECT"].as_slice()),
        ("INSERT INTO changes SELECT * FROM changes", &["SELECT"]),
        ("CREATE TABLE t AS SELECT 1", &["SELECT"]),
        ("COPY decisions TO 'out.parquet'", &["SELECT"]),
        ("SET datafusion.execution.batch_size = 1", &["SELECT"]),
        ("SELECT colour FROM feedback", &["colour", "feedback_id", "occurred"]),
        ("SELECT * FROM clicks", &["clicks", "decisions, feedback, changes, joined, slates"]),
        ("SELEKT 1", &["SELEKT"]),
        ("", &["decisions"]),
    ] {
        let output = slated(folder.path(), &["journal", "query", "--journal", &journal, query]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{query}: {error}");
        assert!(words.iter().all(|word| error.contains(word)), "{query}: {error}");
    }
    assert_eq!(folder.path().read_dir().unwrap().count(), 0, "nothing is written");
    let table =
        must(folder.path(), &["journal", "query", "--journal", &journal, "--format", "table", "DESCRIBE slates"]);
    assert!(table.contains("| marginal_propensity |"), "{table}");
    let nothing = slated(folder.path(), &["journal", "query", "SELECT 1"]);
    assert_eq!(nothing.status.code(), Some(3));
}

/// DuckDB reads the same files, knowing nothing of ours.
#[test]
fn duckdb_answers_alike() {
    let folder = TempDir::new().unwrap();
    let journal = journal();
    let script = r#"
import csv, sys, duckdb
journal, ours, sql = sys.argv[1:]
db = duckdb.connect()
for kind in ("decisions", "feedback"):
    db.execute(f"CREATE VIEW {kind} AS SELECT * FROM read_parquet('{journal}/{kind}/*/*.parquet', hive_partitioning=false)")
theirs = db.execute(sql).fetchall()
rows = list(csv.reader(open(ours)))[1:]
assert len(rows) == len(theirs) and rows, (rows, theirs)
for a, b in zip(rows, theirs):
    for x, y in zip(a, b):
        assert (abs(float(x) - y) < 1e-9 if isinstance(y, (int, float)) else x == str(y)), (a, b)
"#;
    for query in [
        "SELECT policy, policy_version, count(*), avg(propensity), sum(len(candidates)) FROM decisions GROUP BY 1, 2 ORDER BY 1, 2",
        "SELECT d.policy, f.event, count(*), sum(f.value) FROM decisions d JOIN feedback f USING (decision_id) \
         GROUP BY 1, 2 ORDER BY 1, 2",
        "SELECT item, count(*), avg(p), max(q) FROM (SELECT s.item AS item, s.marginal_propensity AS p, \
         s.cascade_propensity AS q FROM (SELECT unnest(slate) AS s FROM decisions)) GROUP BY item ORDER BY item",
    ] {
        let ours = query.replace("len(candidates)", "array_length(candidates)").replace("s.", "s__");
        let ours = ours.replace("s__item", "s['item']").replace("s__marginal_propensity", "s['marginal_propensity']");
        let ours = ours.replace("s__cascade_propensity", "s['cascade_propensity']");
        let answer = must(folder.path(), &["journal", "query", "--journal", &journal, "--format", "csv", &ours]);
        let path = folder.path().join("ours.csv");
        std::fs::write(&path, answer).unwrap();
        let path = path.display().to_string();
        let output = Command::new(python()).args(["-c", script, &journal, &path, query]).output().unwrap();
        assert!(output.status.success(), "{query}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn csv_holds_what_is_nested_as_json() {
    let folder = TempDir::new().unwrap();
    let query = "SELECT decision_id, slate, baseline FROM decisions WHERE policy = 'thompson' ORDER BY time";
    let answer = must(folder.path(), &["journal", "query", "--journal", &journal(), "--format", "csv", query]);
    let mut reader = csv::Reader::from_reader(answer.as_bytes());
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 17);
    for row in rows {
        let slate: Vec<Value> = serde_json::from_str(&row[1]).unwrap();
        assert!(slate[0]["marginal_propensity"].as_f64().unwrap() > 0.0, "{row:?}");
        let _: Vec<String> = serde_json::from_str(&row[2]).unwrap();
    }
    let empty = must(
        folder.path(),
        &[
            "journal",
            "query",
            "--journal",
            &journal(),
            "--format",
            "csv",
            "SELECT decision_id FROM decisions WHERE false",
        ],
    );
    assert_eq!(empty, "decision_id\n");
}
