//! The dataset builder: every event counted, rewards by definition, the same order each time.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use chrono::{DateTime, Utc};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use slated_contract::event::{Candidate, Decision, Event, Feedback, Shown};
use slated_contract::feature::Features;
use slated_contract::reward::{Aggregation, RewardDefinition};
use slated_trainer::dataset::{Dataset, DatasetError, DatasetSettings, DatasetSummary, Round, RoundDigest};
use tempfile::TempDir;
use xxhash_rust::xxh3::xxh3_128;

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + second, 0).unwrap()
}

fn decision(id: &str, second: i64) -> Decision {
    let shown = |item: &str, position, propensity| Shown {
        item: item.to_owned(),
        position,
        cascade_propensity: propensity,
        marginal_propensity: propensity,
    };
    let candidate = |item: &str| Candidate { item: item.to_owned(), features: Features::new(), score: None };
    Decision {
        decision_id: id.to_owned(),
        time: at(second),
        source: "service".to_owned(),
        policy: "p".to_owned(),
        policy_version: 1,
        model_sha256: None,
        exploration: None,
        seed: None,
        user_id: None,
        session_id: None,
        user: Features::new(),
        context: Features::new(),
        session: Features::new(),
        candidates: vec![candidate("a"), candidate("b"), candidate("c")],
        slate: vec![shown("a", 0, 0.5), shown("b", 1, 0.25)],
        propensity: 0.25,
        propensity_draws: None,
        ..Decision::default()
    }
}

fn feedback(id: &str, decision_id: &str, second: i64, event: &str, value: f64, about: Option<&str>) -> Feedback {
    let position = about.and_then(|about| about.parse().ok());
    Feedback {
        feedback_id: id.to_owned(),
        decision_id: decision_id.to_owned(),
        time: at(second + 1),
        occurred: at(second),
        source: "service".to_owned(),
        event: event.to_owned(),
        value,
        item: about.filter(|_| position.is_none()).map(str::to_owned),
        position,
    }
}

fn write<E: Event>(journal: &Path, date: &str, name: &str, events: &[E]) {
    write_with(journal, date, name, events, None);
}

fn write_with<E: Event>(journal: &Path, date: &str, name: &str, events: &[E], properties: Option<WriterProperties>) {
    let folder = journal.join(E::KIND).join(format!("date={date}"));
    fs::create_dir_all(&folder).unwrap();
    let batch = E::encode(events).unwrap();
    let file = File::create(folder.join(format!("{name}.parquet"))).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), properties).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn settings(journal: &Path, reward: RewardDefinition) -> DatasetSettings {
    DatasetSettings {
        journal: journal.to_owned(),
        reward,
        policy: None,
        source: None,
        after: None,
        until: None,
        cache: None,
        memory_limit_mib: 64,
    }
}

async fn read(settings: &DatasetSettings) -> Result<(Vec<Round>, DatasetSummary), DatasetError> {
    let mut dataset = Dataset::open(settings).await?;
    let mut rounds = Vec::new();
    while let Some(batch) = dataset.next().await? {
        rounds.extend(batch);
    }
    Ok((rounds, dataset.summary().clone()))
}

fn clicks_and_dwell(wait_seconds: Option<f64>) -> RewardDefinition {
    RewardDefinition {
        weights: BTreeMap::from([("click".to_owned(), 1.0), ("dwell".to_owned(), 0.1), ("share".to_owned(), 4.0)]),
        aggregation: Aggregation::Sum,
        wait_seconds,
        default: 0.0,
    }
}

#[tokio::test]
async fn every_event_is_counted_and_credited() {
    let folder = TempDir::new().unwrap();
    let journal = folder.path();
    // Two files of one date that overlap in time, a repetition among them, and one of the next date.
    write(journal, "2023-11-14", "x", &[decision("d1", 0), decision("d3", 20)]);
    write(journal, "2023-11-14", "y", &[decision("d2", 10), decision("d3", 20)]);
    let fallback =
        Decision { not_evaluable: Some("the caller's own order was shown".to_owned()), ..decision("d4", 90_000) };
    write(journal, "2023-11-15", "x", &[fallback]);
    write(
        journal,
        "2023-11-15",
        "x",
        &[
            feedback("f1", "d1", 5, "click", 1.0, Some("b")),
            feedback("f1", "d1", 5, "click", 1.0, Some("b")),
            feedback("f2", "d1", 6, "dwell", 30.0, Some("0")),
            feedback("f3", "d2", 15, "share", 1.0, None),
            feedback("f4", "d2", 10_000, "click", 1.0, Some("a")),
            feedback("f5", "d3", 21, "scroll", 1.0, Some("a")),
            feedback("f6", "d3", 21, "click", 1.0, Some("c")),
            feedback("f7", "nowhere", 21, "click", 1.0, Some("a")),
            // Before its decision, by a clock that is wrong: it still counts.
            feedback("f8", "d4", 80_000, "click", 1.0, Some("a")),
        ],
    );
    let (rounds, summary) = read(&settings(journal, clicks_and_dwell(Some(3600.0)))).await.unwrap();
    let ids: Vec<&str> = rounds.iter().map(|round| round.decision.decision_id.as_str()).collect();
    assert_eq!(ids, ["d1", "d2", "d3", "d4"]);
    let rewards: Vec<&[f64]> = rounds.iter().map(|round| round.rewards.as_slice()).collect();
    // The share of the whole slate is divided over its two items.
    assert_eq!(rewards, [&[3.0, 1.0], &[2.0, 2.0], &[0.0, 0.0], &[1.0, 0.0]]);
    let expected = DatasetSummary {
        decisions: 4,
        duplicate_decisions: 1,
        not_activated: 0,
        not_evaluable: 1,
        damaged_segments: 0,
        feedback: 9,
        counted_feedback: 4,
        duplicate_feedback: 1,
        orphan_feedback: 1,
        late_feedback: 1,
        unweighted_feedback: 1,
        misplaced_feedback: 1,
        shown: 8,
        reward: 9.0,
        from: Some(at(0)),
        until: Some(at(90_000)),
    };
    assert_eq!(summary, expected);
    let counted = expected.counted_feedback + expected.duplicate_feedback + expected.orphan_feedback;
    assert_eq!(
        counted + expected.late_feedback + expected.unweighted_feedback + expected.misplaced_feedback,
        expected.feedback
    );
}

#[tokio::test]
async fn files_are_merged_however_they_overlap_and_whether_they_say_so_or_not() {
    let folder = TempDir::new().unwrap();
    let journal = folder.path();
    let of =
        |seconds: &[i64]| seconds.iter().map(|second| decision(&format!("d{second:03}"), *second)).collect::<Vec<_>>();
    // One after the other, one within another, two that touch, one that spans all.
    let files: [&[i64]; 6] = [&[5, 6, 7], &[10, 20, 30], &[21, 22], &[30, 31], &[40], &[1, 25, 50]];
    for (name, seconds) in files.iter().enumerate() {
        write(journal, "2023-11-14", &name.to_string(), &of(seconds));
    }
    let silent = WriterProperties::builder().set_statistics_enabled(EnabledStatistics::None).build();
    write_with(journal, "2023-11-14", "silent", &of(&[3, 26, 51]), Some(silent));
    let (rounds, summary) = read(&settings(journal, RewardDefinition::default())).await.unwrap();
    let found: Vec<i64> = rounds.iter().map(|round| round.decision.time.timestamp() - 1_700_000_000).collect();
    assert_eq!(found, [1, 3, 5, 6, 7, 10, 20, 21, 22, 25, 26, 30, 31, 40, 50, 51]);
    assert_eq!(summary.duplicate_decisions, 1, "d030 stands in two of them");
    write(journal, "2023-11-14", "disordered", &of(&[61, 60]));
    let error = read(&settings(journal, RewardDefinition::default())).await.unwrap_err().to_string();
    assert!(error.contains("disordered.parquet") && error.contains("not in the order of time and id"), "{error}");
}

#[tokio::test]
async fn first_and_last_go_by_when_it_happened() {
    let folder = TempDir::new().unwrap();
    write(folder.path(), "2023-11-14", "x", &[decision("d", 0)]);
    let events = [
        feedback("f1", "d", 9, "share", 1.0, Some("a")),
        feedback("f2", "d", 2, "click", 1.0, Some("a")),
        feedback("f3", "d", 5, "dwell", 70.0, Some("a")),
    ];
    write(folder.path(), "2023-11-14", "x", &events);
    for (aggregation, expected) in
        [(Aggregation::First, 1.0), (Aggregation::Last, 4.0), (Aggregation::Max, 7.0), (Aggregation::Sum, 12.0)]
    {
        let reward = RewardDefinition { aggregation, ..clicks_and_dwell(None) };
        let (rounds, _) = read(&settings(folder.path(), reward)).await.unwrap();
        assert_eq!(rounds[0].rewards, [expected, 0.0], "{aggregation:?}");
    }
}

#[tokio::test]
async fn filters_choose_decisions_and_their_feedback() {
    let folder = TempDir::new().unwrap();
    let other = Decision { policy: "q".to_owned(), source: "simulator".to_owned(), ..decision("d2", 10) };
    write(folder.path(), "2023-11-14", "x", &[decision("d1", 0), other, decision("d3", 20)]);
    let all = settings(folder.path(), RewardDefinition::default());
    let ids = async |settings: &DatasetSettings| {
        let (rounds, _) = read(settings).await.unwrap();
        rounds.into_iter().map(|round| round.decision.decision_id).collect::<Vec<_>>()
    };
    assert_eq!(ids(&DatasetSettings { policy: Some("p".to_owned()), ..all.clone() }).await, ["d1", "d3"]);
    assert_eq!(ids(&DatasetSettings { source: Some("simulator".to_owned()), ..all.clone() }).await, ["d2"]);
    assert_eq!(ids(&DatasetSettings { after: Some((at(10), "d1".to_owned())), ..all.clone() }).await, ["d2", "d3"]);
    assert_eq!(ids(&DatasetSettings { after: Some((at(10), "d2".to_owned())), ..all.clone() }).await, ["d3"]);
    let none = DatasetSettings { policy: Some("it's nobody".to_owned()), ..all };
    assert!(matches!(read(&none).await, Err(DatasetError::Empty(_))));
}

#[tokio::test]
async fn what_is_read_until_a_time_does_not_change_with_what_comes_later() {
    let folder = TempDir::new().unwrap();
    write(folder.path(), "2023-11-14", "x", &[decision("d1", 0), decision("d2", 10)]);
    let clicks = [feedback("f1", "d1", 4, "click", 1.0, Some("a")), feedback("f2", "d1", 14, "click", 1.0, Some("b"))];
    write(folder.path(), "2023-11-14", "x", &clicks[..1]);
    let reward =
        RewardDefinition { weights: BTreeMap::from([("click".to_owned(), 1.0)]), ..RewardDefinition::default() };
    let until = DatasetSettings { until: Some(at(12)), ..settings(folder.path(), reward) };
    let before = read(&until).await.unwrap();
    // It happened in time, and came late.
    write(folder.path(), "2023-11-14", "y", &clicks[1..]);
    write(folder.path(), "2023-11-14", "y", &[decision("d3", 13)]);
    assert_eq!(read(&until).await.unwrap(), before);
    let (rounds, summary) = before;
    assert_eq!((rounds.len(), summary.reward, summary.feedback), (2, 1.0, 1));
    let all = read(&DatasetSettings { until: None, ..until.clone() }).await.unwrap().1;
    assert_eq!((all.decisions, all.reward), (3, 2.0));
    let early = read(&DatasetSettings { until: Some(at(5)), ..until }).await.unwrap().1;
    assert_eq!((early.decisions, early.reward), (1, 1.0));
}

#[tokio::test]
async fn what_nothing_can_be_learned_from_is_an_error_with_its_id() {
    let propensity = |value| {
        let mut decision = decision("bad", 0);
        decision.slate[1].marginal_propensity = value;
        decision
    };
    let stranger = Decision { candidates: decision("", 0).candidates[1..].to_vec(), ..decision("bad", 0) };
    let empty = Decision { slate: Vec::new(), ..decision("bad", 0) };
    let cases = [
        (propensity(0.0), "propensity"),
        (propensity(1.5), "propensity"),
        (propensity(f64::NAN), "propensity"),
        (stranger, "candidates"),
        (empty, "empty"),
    ];
    for (bad, word) in cases {
        let folder = TempDir::new().unwrap();
        write(folder.path(), "2023-11-14", "x", &[bad]);
        let message = read(&settings(folder.path(), RewardDefinition::default())).await.unwrap_err().to_string();
        assert!(message.contains("`bad`") && message.contains(word), "{word} is not in {message}");
    }
    let folder = TempDir::new().unwrap();
    write(folder.path(), "2023-11-14", "x", &[decision("late", 10), decision("early", 0)]);
    let message = read(&settings(folder.path(), RewardDefinition::default())).await.unwrap_err().to_string();
    assert!(message.contains("x.parquet") && message.contains("order"), "{message}");
    write(folder.path(), "2023-11-14", "x", &[decision("d", 0)]);
    fs::write(folder.path().join("decisions/date=2023-11-14/torn.parquet"), "no parquet").unwrap();
    let (rounds, summary) = read(&settings(folder.path(), RewardDefinition::default())).await.unwrap();
    assert_eq!((rounds.len(), summary.damaged_segments), (1, 1), "what does not read does not hide the rest");
    let empty = TempDir::new().unwrap();
    assert!(matches!(read(&settings(empty.path(), RewardDefinition::default())).await, Err(DatasetError::Empty(_))));
}

#[tokio::test]
async fn the_digest_names_what_was_learned_from() {
    let folder = TempDir::new().unwrap();
    let decisions: Vec<Decision> = (0..3000).map(|index| decision(&format!("d{index:05}"), index)).collect();
    write(folder.path(), "2023-11-14", "x", &decisions[..1500]);
    write(folder.path(), "2023-11-14", "y", &decisions[1500..]);
    let digest = async |reward: RewardDefinition| {
        let (rounds, _) = read(&settings(folder.path(), reward)).await.unwrap();
        let mut digest = RoundDigest::default();
        rounds.iter().for_each(|round| digest.add(round));
        digest.hex()
    };
    let first = digest(RewardDefinition::default()).await;
    assert_eq!(first, digest(RewardDefinition::default()).await);
    assert_ne!(first, digest(RewardDefinition { default: 0.5, ..RewardDefinition::default() }).await);
}

/// More than the limit of memory holds at once, in an order that is not that of the decisions.
#[tokio::test]
async fn a_join_beyond_its_memory_spills_and_loses_nothing() {
    const DECISIONS: u64 = 240_000;
    const FILES: u64 = 12;
    let folder = TempDir::new().unwrap();
    let id = |number: u64| format!("{:032x}", xxh3_128(&number.to_le_bytes()));
    let plain = |number: u64| Decision {
        time: at(i64::try_from(number).unwrap()),
        candidates: vec![Candidate { item: "a".to_owned(), features: Features::new(), score: None }],
        slate: vec![Shown { item: "a".to_owned(), position: 0, cascade_propensity: 1.0, marginal_propensity: 1.0 }],
        ..decision(&id(number), 0)
    };
    // A multiplication by an odd number goes through all of them, far from their order.
    let shuffled = |number: u64| number * 77_773 % DECISIONS;
    for file in 0..FILES {
        let numbers = || (0..DECISIONS).filter(move |number| number % FILES == file);
        write(folder.path(), "2023-11-14", &format!("{file}"), &numbers().map(plain).collect::<Vec<_>>());
        let about = numbers().map(|number| {
            let of = shuffled(number);
            feedback(&id(number + DECISIONS), &id(of), i64::try_from(of).unwrap(), "dwell", of as f64, Some("a"))
        });
        write(folder.path(), "2023-11-14", &format!("{file}"), &about.collect::<Vec<_>>());
    }
    let mut dataset = Dataset::open(&settings(folder.path(), clicks_and_dwell(None))).await.unwrap();
    let mut number = 0;
    while let Some(rounds) = dataset.next().await.unwrap() {
        for round in rounds {
            assert_eq!(round.decision.decision_id, id(number));
            assert_eq!(round.rewards, [0.1 * number as f64]);
            number += 1;
        }
    }
    assert_eq!((number, dataset.summary().counted_feedback), (DECISIONS, DECISIONS));
    assert_eq!((dataset.summary().orphan_feedback, dataset.summary().duplicate_decisions), (0, 0));
}
