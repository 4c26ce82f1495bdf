//! As much of S3 as the tests take: a bucket in memory, over the wire, with pages, signatures and outages.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// Its name.
pub const BUCKET: &str = "logs";
/// Keys of one page of a listing.
pub const PAGE: usize = 3;

/// The bucket; clones share it.
#[derive(Clone, Default)]
pub struct Store(pub Arc<Mutex<Content>>);

/// What is in it, and what was asked of it.
#[derive(Default)]
pub struct Content {
    pub objects: BTreeMap<String, Vec<u8>>,
    pub fetched: Vec<String>,
    /// The keys that were put, in order, as often as they were.
    pub put: Vec<String>,
    pub pages: usize,
    /// Requests to be refused with 503 before the next one is answered.
    pub failing: usize,
}

impl Store {
    /// Serves on a free port; its address.
    pub async fn serve(&self) -> String {
        let app = Router::new()
            .route(&format!("/{BUCKET}"), get(list).post(delete))
            .route(&format!("/{BUCKET}/"), get(list))
            .route(&format!("/{BUCKET}/{{*key}}"), get(fetch).put(put))
            .layer(DefaultBodyLimit::disable())
            .with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        address
    }

    pub fn put(&self, key: &str, bytes: Vec<u8>) {
        self.0.lock().unwrap().objects.insert(key.to_owned(), bytes);
    }

    /// What a process needs in its environment to reach it at the address, with this key as its secret too.
    pub fn environment(address: &str, key: &str) -> [(&'static str, String); 5] {
        [
            ("AWS_ENDPOINT", address.to_owned()),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", key.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", key.to_owned()),
        ]
    }

    /// The keys fetched since the last call.
    pub fn fetched(&self) -> Vec<String> {
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
    let key = key(&uri);
    content.fetched.push(key.clone());
    match content.objects.get(&key) {
        Some(bytes) => {
            let headers = [(header::LAST_MODIFIED, "Thu, 02 Jan 2025 03:04:05 GMT"), (header::ETAG, "\"e\"")];
            (headers, bytes.clone()).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn put(State(store): State<Store>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let mut content = store.0.lock().unwrap();
    if let Some(refused) = refused(&mut content, &headers) {
        return refused;
    }
    content.put.push(key(&uri));
    content.objects.insert(key(&uri), body.to_vec());
    [(header::ETAG, "\"e\"")].into_response()
}

/// Deletes the keys of a list.
async fn delete(State(store): State<Store>, headers: HeaderMap, body: String) -> Response {
    let mut content = store.0.lock().unwrap();
    if let Some(refused) = refused(&mut content, &headers) {
        return refused;
    }
    let mut deleted = String::new();
    for key in body.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next()) {
        content.objects.remove(key);
        write!(deleted, "<Deleted><Key>{key}</Key></Deleted>").unwrap();
    }
    format!("<DeleteResult>{deleted}</DeleteResult>").into_response()
}

fn key(uri: &Uri) -> String {
    uri.path().trim_start_matches(&format!("/{BUCKET}/")).replace("%3D", "=")
}

fn refused(content: &mut Content, headers: &HeaderMap) -> Option<Response> {
    let signed = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if !signed.is_some_and(|value| value.starts_with("AWS4-HMAC-SHA256 Credential=key/")) {
        return Some(StatusCode::FORBIDDEN.into_response());
    }
    content.failing = content.failing.checked_sub(1)?;
    Some(StatusCode::SERVICE_UNAVAILABLE.into_response())
}
