//! What is fuzzed: each target takes any bytes, and must neither panic nor hang, and must keep its promise.
//!
//! `fuzz/main.rs` feeds them with what libFuzzer makes up, `tests/fuzz.rs` with the corpus beside this file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode, Uri, header};
use chrono::DateTime;
use serde_json::Value;
use slated::access::Keys;
use slated::api::{Routers, routers};
use slated::cli::assemble;
use slated::journal::dsjson::{DsjsonSettings, import};
use slated::journal::{Appended, Journal, JournalError, JournalSettings};
use slated::serving::{DeviceKind, Model};
use slated::settings::Settings;
use slated::telemetry;
use slated_contract::event::{Decision, Event, Feedback, SegmentReader, segments};
use slated_contract::policy::{Bundle, Manifest};
use slated_contract::tensor::Signature;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tower::ServiceExt;

/// A target.
pub type Target = fn(&[u8]);

/// Every target by its name, which is that of its folder in the corpus.
pub const TARGETS: [(&str, Target); 6] = [
    ("requests", requests),
    ("dsjson", dsjson),
    ("manifest", manifest),
    ("model", model),
    ("journal", journal),
    ("index", index),
];

/// The bundle that ships, with which the targets work.
const POLICY: &str = "interest-exploration-slateq";

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models")
}

fn scratch() -> TempDir {
    // In memory where that is to be had: some targets write a file for each input.
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.expect("a folder")
}

/// A service in this process, with everything in it that a request can reach.
struct Service {
    runtime: Runtime,
    router: Router,
    _folder: TempDir,
}

impl Service {
    fn start() -> Self {
        let folder = scratch();
        let bundle = folder.path().join(format!("models/{POLICY}/1"));
        fs::create_dir_all(&bundle).expect("made");
        for file in ["policy.json", "model.onnx"] {
            fs::copy(models().join(format!("{POLICY}/1/{file}")), bundle.join(file)).expect("copied");
        }
        let mut settings = Settings::default();
        settings.models.folder = folder.path().join("models");
        POLICY.clone_into(&mut settings.models.default);
        settings.journal.folder = folder.path().join("journal");
        settings.catalogue.folder = folder.path().join("catalogue");
        // More than this process needs, because threads that sleep make no input faster.
        settings.server.max_candidates = 64;
        let runtime = Runtime::new().expect("a runtime");
        let metrics = telemetry::start_metrics().expect("metrics");
        let keys = Keys::open(None).expect("no keys");
        let app = runtime.block_on(assemble(&settings, &keys, 7, metrics)).expect("a service");
        // What closes the journal's tail, and so on, runs on threads of its own and needs no runtime.
        let guard = runtime.enter();
        let Routers { public, .. } = routers(&app, &keys.into(), &[]);
        drop(guard);
        Self { runtime, router: public, _folder: folder }
    }
}

/// An HTTP request: `METHOD uri` on the first line, then the JSON body. Whatever it is, the answer is no failure of the
/// service, and where it is an error, it is one in the form of the route's interface.
pub fn requests(bytes: &[u8]) {
    static SERVICE: OnceLock<Service> = OnceLock::new();
    let line = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
    let (head, body) = (&bytes[..line], &bytes[(line + 1).min(bytes.len())..]);
    let Some((method, uri)) = std::str::from_utf8(head).ok().and_then(|head| head.split_once(' ')) else { return };
    let (Ok(method), Ok(uri)) = (method.parse::<Method>(), uri.parse::<Uri>()) else { return };
    let request = Request::builder().method(&method).uri(&uri).header(header::CONTENT_TYPE, "application/json");
    let Ok(request) = request.body(Body::from(body.to_vec())) else { return };
    let Service { runtime, router, .. } = SERVICE.get_or_init(Service::start);
    let answer = runtime.block_on(router.clone().oneshot(request)).expect("a router cannot fail");
    let (parts, answer) = answer.into_parts();
    let answer = runtime.block_on(to_bytes(answer, usize::MAX)).expect("a whole answer");
    let said = String::from_utf8_lossy(&answer);
    let inference = uri.path() == "/v2" || uri.path().starts_with("/v2/");
    // A model that fails on tensors which are its own is a 500 to the Open Inference Protocol.
    let model_failed = inference && uri.path().ends_with("/infer");
    assert!(parts.status != StatusCode::INTERNAL_SERVER_ERROR || model_failed, "{method} {uri}: {said}");
    let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let json = || -> Value { serde_json::from_slice(&answer).unwrap_or_else(|_| panic!("{method} {uri}: {said}")) };
    if method == Method::HEAD {
        return;
    }
    if parts.status.is_success() {
        if kind == "application/json" {
            json();
        }
        return;
    }
    let personalizer = uri.path() == "/personalizer" || uri.path().starts_with("/personalizer/");
    let in_form = match json() {
        answer if inference => kind == "application/json" && answer["error"].is_string(),
        answer if personalizer => kind == "application/json" && answer["error"]["message"].is_string(),
        answer => kind == "application/problem+json" && answer["status"] == parts.status.as_u16(),
    };
    assert!(in_form, "{method} {uri}: {kind}: {said}");
}

/// A log of Vowpal Wabbit's. Each line becomes events or is refused, the journal holds what the report says, and the same
/// log again changes nothing.
pub fn dsjson(bytes: &[u8]) {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let folder = FOLDER.get_or_init(scratch).path();
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (log, journal) = (folder.join("log.dsjson"), folder.join("journal"));
    fs::write(&log, bytes).expect("written");
    let _ = fs::remove_dir_all(&journal);
    let settings = DsjsonSettings { user_id: Some("User.id".to_owned()), ..DsjsonSettings::default() };
    let import = || import(&log, &settings, &journal, &mut || {}).expect("a log that can be read is imported");
    let report = import();
    let [file] = &report.files[..] else { panic!("a report of {} files", report.files.len()) };
    for _ in 0..2 {
        assert_eq!((count::<Decision>(&journal), count::<Feedback>(&journal)), (file.decisions, file.feedback));
        assert_eq!(import(), report, "the same log again");
    }
}

/// How many events of a kind are in a journal's closed segments.
fn count<E: Event>(journal: &Path) -> u64 {
    let files = segments::<E>(journal).expect("a journal").into_iter().flat_map(|date| date.files);
    let read =
        |path: PathBuf| SegmentReader::<E>::open(&path, 1024).expect("a segment").map(|rows| rows.expect("rows"));
    files.flat_map(read).map(|rows| rows.len() as u64).sum()
}

/// A `policy.json`. One that is taken encodes what it says, to the widths it says.
pub fn manifest(bytes: &[u8]) {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(scratch).path();
    if let Ok(manifest) = serde_json::from_slice::<Manifest>(bytes) {
        let again = serde_json::to_vec(&manifest).expect("what was read can be written");
        // A number may be written in fewer digits than it was given in, but only once.
        let again: Manifest = serde_json::from_slice(&again).expect("what was written can be read");
        let third: Manifest =
            serde_json::from_slice(&serde_json::to_vec(&again).expect("written")).expect("read once more");
        assert_eq!(serde_json::to_value(&again).ok(), serde_json::to_value(&third).ok());
        if let Ok(encoder) = manifest.check() {
            assert_eq!(encoder.state_width(), manifest.signature.state_width);
            assert_eq!(encoder.item_width(), manifest.signature.item_width);
        }
    }
    fs::write(folder.join("policy.json"), bytes).expect("written");
    // Its model is not there, so it is refused in any case; how is what matters.
    assert!(Bundle::read(folder).is_err(), "a bundle without a model");
}

/// A `model.onnx` for the signature of the policy that ships. One that is taken runs, or says why it does not.
pub fn model(bytes: &[u8]) {
    static SIGNATURE: OnceLock<Signature> = OnceLock::new();
    let signature = SIGNATURE.get_or_init(|| {
        let path = models().join(format!("{POLICY}/1/policy.json"));
        let manifest: Manifest = serde_json::from_slice(&fs::read(path).expect("read")).expect("a manifest");
        manifest.signature
    });
    if let Ok(mut model) = Model::load(bytes, *signature, 1, DeviceKind::Cpu) {
        // A graph may do anything with its inputs, and an error is an answer.
        let _ = model.warm_up(4);
    }
}

/// The log of a journal's tail, as a crash or a disk may leave it. It opens and takes events, or says why not.
pub fn journal(bytes: &[u8]) {
    opens_with("log", bytes);
}

/// The log of the index of a journal's closed segments, likewise.
pub fn index(bytes: &[u8]) {
    opens_with("jnl", bytes);
}

/// Opens a journal in which the file that ends in `.<replaced>` holds these bytes.
fn opens_with(replaced: &str, bytes: &[u8]) {
    static TEMPLATE: OnceLock<(TempDir, BTreeMap<PathBuf, Vec<u8>>)> = OnceLock::new();
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let (folder, files) = TEMPLATE.get_or_init(|| {
        let folder = scratch();
        let files = sound_journal(&folder.path().join("template"));
        (folder, files)
    });
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let place = folder.path().join("journal");
    let _ = fs::remove_dir_all(&place);
    for (path, content) in files {
        let to = place.join(path);
        fs::create_dir_all(to.parent().expect("a folder")).expect("made");
        let replaced = path.extension().is_some_and(|extension| extension == replaced);
        fs::write(to, if replaced { bytes } else { content }).expect("written");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let Ok(journal) = open(&settings(&place)) else { return };
    let kept = runtime.block_on(journal.append_feedback(&[feedback("after")])).expect("an open journal takes events");
    // The log may hold it already, if the fuzzer says so.
    assert!(matches!(kept[..], [Appended::New | Appended::Duplicate]));
    let again = runtime.block_on(journal.append_feedback(&[feedback("after")])).expect("it takes it again");
    assert!(matches!(again[..], [Appended::Duplicate]));
    runtime.block_on(journal.close()).expect("closed");
    drop(journal);
    // What it has repaired stays repaired.
    let journal = open(&settings(&place)).expect("it opens a second time");
    let again = runtime.block_on(journal.append_feedback(&[feedback("after")])).expect("it takes events");
    assert!(matches!(again[..], [Appended::Duplicate]), "an acknowledged event is gone");
    runtime.block_on(journal.close()).expect("closed");
}

/// The files of a journal with a closed segment, and events that wait to be closed.
fn sound_journal(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let runtime = Runtime::new().expect("a runtime");
    let journal = Journal::open(&settings(folder)).expect("a new journal");
    for id in ["closed", "first", "second", "third"] {
        runtime.block_on(journal.append_feedback(&[feedback(id)])).expect("kept");
        if id == "closed" {
            runtime.block_on(journal.seal()).expect("a segment");
        }
    }
    runtime.block_on(journal.close()).expect("closed");
    drop(journal);
    let mut files = BTreeMap::new();
    gather(folder, Path::new(""), &mut files);
    files
}

/// The bytes of the sound file of a journal that ends in `.<extension>`, as they are written now.
#[allow(dead_code, reason = "the fuzzer begins with the corpus")]
pub fn sound(extension: &str) -> Vec<u8> {
    let files = sound_journal(scratch().path());
    let found = files.into_iter().find(|(path, _)| path.extension().is_some_and(|found| found == extension));
    let (_, mut log) = found.expect("a log");
    // One is made long and filled later.
    log.truncate(log.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1));
    log
}

/// Opens a journal, once the threads of the one before have let go of it.
fn open(settings: &JournalSettings) -> Result<Journal, JournalError> {
    for _ in 0..1000 {
        match Journal::open(settings) {
            Err(JournalError::Locked(_)) => thread::sleep(Duration::from_millis(5)),
            other => return other,
        }
    }
    Journal::open(settings)
}

fn settings(folder: &Path) -> JournalSettings {
    JournalSettings { folder: folder.to_owned(), seal_on_close: false, ..JournalSettings::default() }
}

fn feedback(id: &str) -> Feedback {
    Feedback {
        feedback_id: id.to_owned(),
        decision_id: "decision".to_owned(),
        time: DateTime::UNIX_EPOCH,
        occurred: DateTime::UNIX_EPOCH,
        source: "service".to_owned(),
        event: "click".to_owned(),
        value: 1.0,
        item: None,
        position: None,
    }
}

fn gather(folder: &Path, under: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in folder.join(under).read_dir().expect("a folder") {
        let path = under.join(entry.expect("an entry").file_name());
        if folder.join(&path).is_dir() {
            gather(folder, &path, files);
        } else {
            files.insert(path.clone(), fs::read(folder.join(&path)).expect("read"));
        }
    }
}
