//! A journal in an object store, over the wire: listed by the page, fetched once, learned from like a folder.

mod common;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use common::{must, slated};
use tempfile::TempDir;

const BUCKET: &str = "logs";
/// Keys of one page of a listing.
const PAGE: usize = 3;

/// As much of S3 as reading takes.
#[derive(Clone, Default)]
struct Store(Arc<Mutex<Content>>);

#[derive(Default)]
struct Content {
    objects: BTreeMap<String, Vec<u8>>,
    fetched: Vec<String>,
    pages: usize,
    /// Requests to be refused with 503 before the next one is answered.
    failing: usize,
}

impl Store {
    /// Serves on a free port; its address.
    async fn serve(&self) -> String {
        let app = Router::new()
            .route(&format!("/{BUCKET}"), get(list))
            .route(&format!("/{BUCKET}/"), get(list))
            .route(&format!("/{BUCKET}/{{*key}}"), get(fetch))
            .with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        address
    }

    fn put(&self, key: &str, bytes: Vec<u8>) {
        self.0.lock().unwrap().objects.insert(key.to_owned(), bytes);
    }

    /// The keys fetched since the last call.
    fn fetched(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().fetched)
    }
}

async fn list(
    State(store): State<Store>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let mut content = store.0.lock().unwrap();
    if let Some(refused) = refused(&mut content, &headers) {
        return refused;
    }
    content.pages += 1;
    let prefix = query.get("prefix").cloned().unwrap_or_default();
    let after = query.get("continuation-token").cloned().unwrap_or_default();
    let keys = content.objects.iter().filter(|(key, _)| key.starts_with(&prefix) && **key > after);
    let keys: Vec<_> = keys.collect();
    let mut xml = format!("<ListBucketResult><IsTruncated>{}</IsTruncated>", keys.len() > PAGE);
    for (key, bytes) in keys.iter().take(PAGE) {
        let size = bytes.len();
        write!(
            xml,
            "<Contents><Key>{key}</Key><Size>{size}</Size><LastModified>2025-01-02T03:04:05.678Z</LastModified>\
             <ETag>\"e\"</ETag></Contents>"
        )
        .unwrap();
    }
    if let Some((last, _)) = keys.get(PAGE - 1).filter(|_| keys.len() > PAGE) {
        write!(xml, "<NextContinuationToken>{last}</NextContinuationToken>").unwrap();
    }
    xml.push_str("</ListBucketResult>");
    xml.into_response()
}

async fn fetch(State(store): State<Store>, uri: Uri, headers: HeaderMap) -> Response {
    let mut content = store.0.lock().unwrap();
    if let Some(refused) = refused(&mut content, &headers) {
        return refused;
    }
    let key = uri.path().trim_start_matches(&format!("/{BUCKET}/")).replace("%3D", "=");
    content.fetched.push(key.clone());
    match content.objects.get(&key) {
        Some(bytes) => {
            let headers = [(header::LAST_MODIFIED, "Thu, 02 Jan 2025 03:04:05 GMT"), (header::ETAG, "\"e\"")];
            (headers, bytes.clone()).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn refused(content: &mut Content, headers: &HeaderMap) -> Option<Response> {
    let signed = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if !signed.is_some_and(|value| value.starts_with("AWS4-HMAC-SHA256 Credential=key/")) {
        return Some(StatusCode::FORBIDDEN.into_response());
    }
    content.failing = content.failing.checked_sub(1)?;
    Some(StatusCode::SERVICE_UNAVAILABLE.into_response())
}

/// The files under a folder, by the path within it.
fn files(folder: &Path, under: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in folder.join(under).read_dir().unwrap().map(|entry| entry.unwrap()) {
        let path = under.join(entry.file_name());
        if entry.path().is_dir() { found.extend(files(folder, &path)) } else { found.push(path) }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_in_a_bucket_is_fetched_once_and_learned_from_like_a_folder() {
    let folder = TempDir::new().unwrap();
    must(folder.path(), &["simulate", "-e", "lts-tutorial", "-p", "random", "-n", "600", "--journal", "journal"]);
    let journal = folder.path().join("journal");
    let store = Store::default();
    let address = store.serve().await;
    let segments = files(&journal, Path::new(""));
    assert!(segments.len() > 2 * PAGE, "{segments:?}");
    for path in &segments {
        let bytes = std::fs::read(journal.join(path)).unwrap();
        store.put(&format!("team/a_journal/{}", path.display()), bytes);
    }
    // What is no segment, or is another journal's.
    store.put("team/a_journal/decisions/date=2025-01-01/.half.parquet", vec![0]);
    store.put("team/a_journal/decisions/README", vec![0]);
    store.put("team/a_journal_of_others/decisions/date=2025-01-01/x.parquet", vec![0]);

    let settings =
        "policy = \"p\"\nalgorithm = { name = \"linucb\" }\ndata = { reward = { weights = { watch = 1.0 } } }\n";
    std::fs::write(folder.path().join("train.toml"), settings).unwrap();
    let train = |journal: &str, models: &str, secret: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_slated"))
            .args(["train", "--settings", "train.toml", "--journal", journal, "--models", models])
            .current_dir(folder.path())
            .env("XDG_CACHE_HOME", folder.path().join("cache"))
            .envs([("AWS_ENDPOINT", address.as_str()), ("AWS_ALLOW_HTTP", "true"), ("AWS_REGION", "us-east-1")])
            .envs([("AWS_ACCESS_KEY_ID", secret), ("AWS_SECRET_ACCESS_KEY", secret)])
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let bucket = format!("s3://{BUCKET}/team/a_journal");
    let bundle = |models: &str| std::fs::read(folder.path().join(models).join("p/1/model.onnx")).unwrap();

    must(folder.path(), &["train", "--settings", "train.toml", "--models", "near"]);
    // A store that is busy for a moment is asked again.
    store.0.lock().unwrap().failing = 2;
    let (ok, error) = train(&bucket, "far", "key");
    assert!(ok, "{error}");
    assert!(bundle("near") == bundle("far"));
    let mut fetched = store.fetched();
    fetched.sort();
    assert_eq!(fetched.len(), segments.len(), "{fetched:?}");
    fetched.dedup();
    assert_eq!(fetched.len(), segments.len());
    assert!(store.0.lock().unwrap().pages >= segments.len() / PAGE);

    // Again: nothing to fetch. With one segment gone from the store: gone here too.
    assert!(train(&bucket, "again", "key").0);
    assert_eq!(store.fetched(), Vec::<String>::new());
    let gone = segments.iter().find(|path| path.starts_with("decisions")).unwrap();
    store.0.lock().unwrap().objects.remove(&format!("team/a_journal/{}", gone.display()));
    std::fs::remove_file(journal.join(gone)).unwrap();
    must(folder.path(), &["train", "--settings", "train.toml", "--models", "near-less"]);
    assert!(train(&bucket, "less", "key").0);
    assert!(bundle("near-less") == bundle("less") && bundle("less") != bundle("far"));

    // What goes wrong says what and where.
    let (ok, error) = train(&bucket, "never", "wrong");
    assert!(!ok && error.contains(&bucket) && error.contains("403"), "{error}");
    let (ok, error) = train("ftp://somewhere/else", "never", "key");
    assert!(!ok && error.contains("ftp://somewhere/else") && error.contains("s3://"), "{error}");
    let output = slated(folder.path(), &["serve", "--journal", &bucket, "--models", "near", "--policy", "p"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("`journal.folder`"), "{error}");
}
