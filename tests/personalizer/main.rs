//! The Azure AI Personalizer's routes, as its clients see them.

#[path = "../common/mod.rs"]
mod common;

mod clients;
mod configuration;
mod errors;
mod events;
mod learning;
mod multislot;
mod rank;

use std::path::Path;

use common::Service;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Where the older of the clients ask.
pub const V1: &str = "/personalizer/v1.0";
/// Where the newer do.
pub const PREVIEW: &str = "/personalizer/v1.1-preview.3";

/// A folder with a policy that has learned nothing yet.
pub struct Place(TempDir);

impl Place {
    pub fn started() -> Self {
        let folder = TempDir::new().expect("a folder");
        common::must(folder.path(), &["policy", "start", "personalizer"]);
        Self(folder)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn set(&self, settings: &str) {
        std::fs::write(self.path().join("slated.toml"), settings).expect("written");
    }

    pub fn serve(&self) -> Service {
        Service::start(self.path(), &["--policy", "personalizer"])
    }

    pub fn must(&self, args: &[&str]) -> String {
        common::must(self.path(), args)
    }
}

/// A request for two of three articles.
pub fn articles(event_id: &str) -> Value {
    json!({
        "contextFeatures": [{"user": {"segment": "new"}}, {"timeOfDay": "morning", "weather": {"sunny": true}}],
        "actions": [
            {"id": "news", "features": [{"topic": "politics", "length": 1200}]},
            {"id": "sport", "features": [{"topic": "football", "tags": ["live", "video"]}]},
            {"id": "films", "features": [{"topic": "cinema"}]},
        ],
        "excludedActions": ["sport"],
        "eventId": event_id,
        "deferActivation": false,
    })
}

/// Posts and expects 201.
pub async fn rank(service: &Service, path: &str, body: &Value) -> Value {
    let (status, answer) = service.post(path, body).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    answer
}

/// Posts and expects 204.
pub async fn tell(service: &Service, path: &str, body: Option<&Value>) {
    let answer = service.send(Method::POST, path, body).await;
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert_eq!((status, text.as_str()), (StatusCode::NO_CONTENT, ""), "{path}");
}

/// Puts JSON; the status and the answer's JSON.
pub async fn put(service: &Service, path: &str, body: &Value) -> (StatusCode, Value) {
    common::read(service.send(Method::PUT, path, Some(body)).await).await
}
