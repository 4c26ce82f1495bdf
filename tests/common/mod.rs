//! The built service, as an application and an operator see it.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod bucket;
pub mod ledger;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};
use slated_contract::event::{Event, SegmentReader, segments};
use tempfile::TempDir;

/// The rows that the tests import.
pub fn rows() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/open-bandit")
}

/// Runs `slated` in a folder and waits for it.
pub fn slated(folder: &Path, args: &[&str]) -> Output {
    command(folder).args(args).output().expect("slated runs")
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_slated"));
    command.current_dir(folder).env_remove("RUST_LOG");
    // What the test run itself is told must not reach the settings under test.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SLATED_")) {
        command.env_remove(name);
    }
    command
}

/// Starts `slated serve` in a folder without waiting until it answers.
pub fn starting(folder: &Path) -> Child {
    let args = ["serve", "--listen", "127.0.0.1:0", "--seed", "7", "--log-level", "warn", "--policy", "thompson"];
    command(folder).args(args).stdout(Stdio::null()).spawn().expect("the service starts")
}

/// Runs `slated` and returns its output; fails with its message where it does.
pub fn must(folder: &Path, args: &[&str]) -> String {
    let output = slated(folder, args);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "slated {args:?} ended with {}: {error}", output.status);
    String::from_utf8(output.stdout).expect("its output is text")
}

/// The files under a folder, by the path within it.
pub fn files(folder: &Path, under: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in folder.join(under).read_dir().unwrap().map(|entry| entry.unwrap()) {
        let path = under.join(entry.file_name());
        if entry.path().is_dir() { found.extend(files(folder, &path)) } else { found.push(path) }
    }
    found
}

/// Every file under a folder with its bytes, by the path within it.
pub fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = files(folder, Path::new("")).into_iter();
    files.map(|path| (path.clone(), std::fs::read(folder.join(path)).unwrap())).collect()
}

/// The events of a journal's closed segments, in order.
pub fn events<E: Event>(journal: &Path) -> Vec<E> {
    let files = segments::<E>(journal).unwrap().into_iter().flat_map(|date| date.files);
    let read = |path: PathBuf| SegmentReader::<E>::open(&path, 1024).unwrap().flat_map(Result::unwrap);
    let mut events: Vec<E> = files.flat_map(read).collect();
    events.sort_by(|a, b| a.order().cmp(&b.order()));
    events
}

/// Removes a journal's manifests, as a program has to that writes over its segments.
pub fn without_manifests(journal: &Path) {
    match std::fs::remove_dir_all(journal.join("manifest")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
        _ => {}
    }
}

/// A folder with the imported rows and a policy of each kind trained from them, copied for each test.
pub struct Workplace {
    folder: TempDir,
}

impl Workplace {
    /// Policies `thompson` and `ucb`, version 1 each, and the journal they were trained from.
    pub fn new() -> Self {
        static TRAINED: OnceLock<TempDir> = OnceLock::new();
        let trained = TRAINED.get_or_init(|| {
            let folder = TempDir::new().expect("a folder");
            must(folder.path(), &["journal", "import", "open-bandit", &rows().display().to_string()]);
            let train = |policy, algorithm| {
                let args = ["train", "--policy", policy, "--algorithm", algorithm, "--interaction", "additive"];
                must(folder.path(), &args);
            };
            train("thompson", "linear_thompson");
            train("ucb", "linucb");
            folder
        });
        let folder = TempDir::new().expect("a folder");
        copy(trained.path(), folder.path());
        Self { folder }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Runs `slated` here.
    pub fn must(&self, args: &[&str]) -> String {
        must(self.path(), args)
    }

    /// Changes a policy's manifest.
    pub fn edit_manifest(&self, policy: &str, edit: impl FnOnce(&mut Value)) {
        let path = self.path().join(format!("models/{policy}/1/policy.json"));
        let mut manifest = serde_json::from_slice(&std::fs::read(&path).expect("a manifest")).expect("JSON");
        edit(&mut manifest);
        std::fs::write(path, manifest.to_string()).expect("written");
    }

    /// Starts the service here with a fixed seed.
    pub fn serve(&self, args: &[&str]) -> Service {
        Service::start(self.path(), args)
    }
}

/// Copies what is in a folder into another.
pub fn copy(from: &Path, to: &Path) {
    for entry in from.read_dir().expect("a folder").map(|entry| entry.expect("an entry").path()) {
        let target = to.join(entry.file_name().expect("a name"));
        if entry.is_dir() {
            std::fs::create_dir_all(&target).expect("made");
            copy(&entry, &target);
        } else {
            std::fs::copy(&entry, &target).expect("copied");
        }
    }
}

/// A running service; killed when dropped.
pub struct Service {
    child: Child,
    pub url: String,
    client: Client,
}

impl Service {
    /// Starts `slated serve` on a free port.
    pub fn start(folder: &Path, args: &[&str]) -> Self {
        Self::logging_to(Stdio::inherit(), folder, args)
    }

    /// Starts it with its standard error going there.
    pub fn logging_to(log: Stdio, folder: &Path, args: &[&str]) -> Self {
        Self::spawn(command(folder).stderr(log), args)
    }

    /// Starts it with these variables.
    pub fn with_environment(folder: &Path, environment: &[(&str, String)], args: &[&str]) -> Self {
        Self::spawn(command(folder).envs(environment.iter().cloned()), args)
    }

    fn spawn(command: &mut Command, args: &[&str]) -> Self {
        let policy: &[&str] = if args.contains(&"--policy") { &[] } else { &["--policy", "thompson"] };
        let mut child = command
            .args(["serve", "--listen", "127.0.0.1:0", "--seed", "7", "--log-level", "warn"])
            .args(policy)
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the service starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
        let url = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("it said {line:?}")).to_owned();
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().expect("a client");
        Self { child, url, client }
    }

    /// Sends a request with a JSON body.
    pub async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Response {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.json(body);
        }
        request.send().await.expect("an answer")
    }

    /// Posts a body as it is.
    pub async fn post_raw(&self, path: &str, kind: &str, body: impl Into<reqwest::Body>) -> Response {
        let request = self.client.post(format!("{}{path}", self.url)).header("content-type", kind).body(body);
        request.send().await.expect("an answer")
    }

    /// Posts JSON; the status and the answer's JSON.
    pub async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        read(self.send(Method::POST, path, Some(body)).await).await
    }

    /// Posts JSON with a further header; the status and the answer's JSON.
    pub async fn post_with(&self, path: &str, header: (&str, &str), body: &Value) -> (StatusCode, Value) {
        let request = self.client.post(format!("{}{path}", self.url)).header(header.0, header.1).json(body);
        read(request.send().await.expect("an answer")).await
    }

    /// Posts JSON and expects 200.
    pub async fn ok(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.post(path, body).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        answer
    }

    /// Gets JSON.
    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        read(self.send(Method::GET, path, None).await).await
    }

    /// Gets text.
    pub async fn text(&self, path: &str) -> String {
        self.send(Method::GET, path, None).await.text().await.expect("text")
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it without warning.
    pub fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }

    /// Asks it to end and expects that it ends well.
    pub fn stop(mut self) {
        self.signal("-TERM");
        let status = self.child.wait().expect("ended");
        assert!(status.success(), "the service ended with {status}");
    }

    /// Sends a signal.
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.pid().to_string()]).status().expect("kill runs");
        assert!(sent.success());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // One that has ended cannot be killed again.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The status and the JSON of an answer.
pub async fn read(answer: Response) -> (StatusCode, Value) {
    let status = answer.status();
    let text = answer.text().await.expect("text");
    (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status}, not JSON: {text}")))
}

/// A valid request for a slate of 2 out of 4 items.
pub fn request(event_id: &str) -> Value {
    let item = |id: &str, quality: f64| json!({"id": id, "features": {"affinity": 0.0, "item_feature_0": quality, "item_feature_1": "a", "item_feature_2": "b", "item_feature_3": "c"}});
    json!({
        "event_id": event_id,
        "user_id": "user-1",
        "user": {"user_feature_0": "x"},
        "context": {"campaign": "men", "position": "1"},
        "candidates": [item("a", -0.7), item("b", 0.1), item("c", 1.2), item("d", 0.4)],
        "slate_size": 2,
    })
}

/// A request that keeps a model with many posterior draws busy for a while.
pub fn heavy(event_id: &str, candidates: usize) -> Value {
    let mut body = request(event_id);
    let item = body["candidates"][0]["features"].clone();
    let items = (0..candidates).map(|index| json!({"id": format!("item-{index}"), "features": item}));
    body["candidates"] = items.collect();
    body
}

/// The Python with which the tests check what others make of our files.
pub fn python() -> PathBuf {
    std::env::var_os("SLATED_TEST_PYTHON")
        .map(PathBuf::from)
        .expect("SLATED_TEST_PYTHON names a Python with the peers; run `make test`")
}

/// The Python that has scikit-learn, what exports its models, and Triton's client.
pub fn models_python() -> PathBuf {
    named_python("SLATED_TEST_MODELS_PYTHON")
}

/// The Python that has PyTorch.
pub fn torch_python() -> PathBuf {
    named_python("SLATED_TEST_TORCH_PYTHON")
}

fn named_python(variable: &str) -> PathBuf {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .unwrap_or_else(|| panic!("{variable} names a Python; run `make test`"))
}

/// Holds the scores of a model in ONNX Runtime to those of its trainer.
pub fn close(inside: &[f32], outside: &[f32], what: &str) {
    assert_eq!(inside.len(), outside.len(), "{what}");
    let scale = inside.iter().fold(1.0_f32, |scale, value| scale.max(value.abs()));
    for (inside, outside) in inside.iter().zip(outside) {
        assert!((inside - outside).abs() <= 1e-5 * scale, "{what}: {inside} in training, {outside} in service");
    }
}
