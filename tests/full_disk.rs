//! A disk that is full, and has room again: nothing acknowledged is lost, and nobody has to step in.

mod common;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Service, Workplace, events, request};
use reqwest::StatusCode;
use serde_json::{Value, json};
use slated_contract::event::{Decision, Event, Feedback};

/// What makes writing fail.
trait Disk {
    fn fill(&self, service: &Service);
    fn free(&self, service: &Service);
}

/// A limit on the size of the process's files, changed while it runs; needs no rights.
struct FileLimit;

impl Disk for FileLimit {
    fn fill(&self, service: &Service) {
        limit(service, "--fsize=1:");
    }

    fn free(&self, service: &Service) {
        limit(service, "--fsize=unlimited:");
    }
}

fn limit(service: &Service, limit: &str) {
    let status = Command::new("prlimit").args(["--pid", &service.pid().to_string(), limit]).status().unwrap();
    assert!(status.success());
}

/// A file system of a few MiB, and a file that takes what is left of it.
struct Small {
    mount: PathBuf,
}

impl Small {
    /// `None` where mounting is not allowed.
    fn mount(at: PathBuf) -> Option<Self> {
        fs::create_dir_all(&at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=6m", "tmpfs"]).arg(&at).output();
        mounted.is_ok_and(|mounted| mounted.status.success()).then_some(Self { mount: at })
    }
}

impl Disk for Small {
    fn fill(&self, _: &Service) {
        let mut ballast = File::create(self.mount.join("ballast")).unwrap();
        while ballast.write_all(&[1; 1024]).is_ok() {}
    }

    fn free(&self, _: &Service) {
        fs::remove_file(self.mount.join("ballast")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.mount).status();
    }
}

fn ids<E: Event>(journal: &Path, prefix: &str) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for event in events::<E>(journal).iter().filter(|event| event.id().starts_with(prefix)) {
        assert!(ids.insert(event.id().to_owned()), "{} is there twice", event.id());
    }
    ids
}

fn click(id: &str) -> Value {
    json!({"feedback_id": id, "decision_id": id, "event": "click", "item": "a"})
}

/// Asks until the answer is another than 200, at most for 20,000 requests; the ids that were acknowledged.
async fn until_refused(service: &Service, prefix: &str) -> (BTreeSet<String>, Value) {
    let mut acknowledged = BTreeSet::new();
    for index in 0..20_000 {
        let id = format!("{prefix}-{index:05}");
        let (status, answer) = service.post("/feedback", &click(&id)).await;
        if status != StatusCode::OK {
            return (acknowledged, answer);
        }
        acknowledged.insert(id);
    }
    panic!("the disk is full and the journal goes on");
}

async fn ready(service: &Service, wanted: StatusCode) -> Value {
    let started = Instant::now();
    loop {
        let (status, answer) = service.get("/readyz").await;
        if status == wanted {
            return answer;
        }
        assert!(started.elapsed() < Duration::from_secs(15), "still {status}: {answer}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn fills_and_recovers(disk: &dyn Disk, journal: &Path, on_failure: &str) {
    let place = Workplace::new();
    let folder = journal.display();
    let settings =
        format!("[journal]\nfolder = \"{folder}\"\non_failure = \"{on_failure}\"\nseal_after_events = 500\n");
    fs::write(place.path().join("slated.toml"), settings).unwrap();
    // Its log is on the same disk: what it cannot tell must not stop it.
    let log = File::create(journal.with_file_name("log")).unwrap();
    let service = Service::logging_to(log.into(), place.path(), &[]);
    let (mut decisions, mut feedback) = (BTreeSet::new(), BTreeSet::new());
    // Twice: what was repaired once must break and be repaired again.
    for round in 0..2 {
        for index in 0..30 {
            let id = format!("full-{round}-before-{index}");
            service.ok("/recommend", &request(&id)).await;
            service.ok("/feedback", &click(&id)).await;
            decisions.insert(id.clone());
            feedback.insert(id);
        }
        disk.fill(&service);
        let (kept, refusal) = until_refused(&service, &format!("full-{round}-during")).await;
        feedback.extend(kept);
        assert_eq!((&refusal["status"], &refusal["type"]), (&json!(503), &json!("urn:slated:problem:unavailable")));
        let reason = ready(&service, StatusCode::SERVICE_UNAVAILABLE).await;
        assert!(reason["detail"].as_str().unwrap().contains("cannot be written"), "{reason}");
        assert_eq!(service.get("/healthz").await.0, StatusCode::OK);

        let id = format!("full-{round}-refused");
        let (status, answer) = service.post("/recommend", &request(&id)).await;
        if on_failure == "serve" {
            assert_eq!((status, &answer["journalled"]), (StatusCode::OK, &json!(false)), "{answer}");
            assert_eq!(answer["slate"].as_array().unwrap().len(), 2);
            let metrics = service.text("/metrics").await;
            let counted = format!("slated_decisions_not_journalled_total{{policy=\"thompson\"}} {}", round + 1);
            assert!(metrics.contains(&counted), "{metrics}");
        } else {
            assert_eq!((status, &answer["status"]), (StatusCode::SERVICE_UNAVAILABLE, &json!(503)), "{answer}");
        }
        assert_eq!(service.post("/feedback", &click(&id)).await.0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(service.post("/journal/seal", &Value::Null).await.0, StatusCode::SERVICE_UNAVAILABLE);
        // What was kept before reads on.
        assert_eq!(service.get(&format!("/decisions/full-{round}-before-3")).await.0, StatusCode::OK);

        disk.free(&service);
        ready(&service, StatusCode::OK).await;
        let id = format!("full-{round}-after");
        let answer = service.ok("/recommend", &request(&id)).await;
        assert!(answer.get("journalled").is_none(), "{answer}");
        service.ok("/feedback", &click(&id)).await;
        decisions.insert(id.clone());
        feedback.insert(id);
    }
    service.stop();
    assert_eq!(ids::<Decision>(journal, "full-"), decisions);
    assert_eq!(ids::<Feedback>(journal, "full-"), feedback);
    assert!(!journal.join("lost.jsonl").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_may_not_grow_refuses_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    fills_and_recovers(&FileLimit, &folder.path().join("journal"), "refuse").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_are_served_without_a_journal_where_that_is_chosen() {
    let folder = tempfile::tempdir().unwrap();
    fills_and_recovers(&FileLimit, &folder.path().join("journal"), "serve").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_file_system_refuses_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Small::mount(folder.path().join("small")) else {
        eprintln!("left out: mounting a tmpfs is not allowed here; the limit on file sizes is tested beside");
        return;
    };
    fills_and_recovers(&disk, &disk.mount.join("journal"), "refuse").await;
}
