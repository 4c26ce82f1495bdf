//! The service, as an operator asks it.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::{Client, Method};
use serde::Deserialize;
use serde_json::{Value, json};
use slated_contract::event::MAX_IDENTIFIER;

use super::AutopilotError;
use crate::client::client;
use crate::serving::traffic::{Action, Figures, Route};

/// How long it may take to answer: closing a long tail takes its time.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A running service.
pub struct Service {
    url: String,
    policy: String,
    client: Client,
    runtime: tokio::runtime::Runtime,
}

/// What `GET /policies` says of the policy, as far as it matters here.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    /// The version with the greatest share.
    pub version: Option<u64>,
    /// Who answers.
    pub route: Route,
    /// What came of each version's requests since the route was last changed.
    pub figures: BTreeMap<u64, Figures>,
    /// In memory.
    pub loaded: Vec<u64>,
}

impl Service {
    /// The service at `url`, asked about `policy`.
    ///
    /// # Errors
    /// An HTTP client that cannot be made.
    pub fn new(url: &str, policy: &str) -> Result<Self, AutopilotError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(AutopilotError::Runtime)?;
        let client =
            client(TIMEOUT).map_err(|error| AutopilotError::Settings(format!("`service` is {url}: {error:#}")))?;
        Ok(Self { url: url.trim_end_matches('/').to_owned(), policy: policy.to_owned(), client, runtime })
    }

    /// Closes the journal's tail.
    ///
    /// # Errors
    /// The service does not answer, or refuses.
    pub fn seal(&self) -> Result<(), AutopilotError> {
        self.ask(Method::POST, "/journal/seal", None).map(drop)
    }

    /// Events that are acknowledged and not closed yet.
    ///
    /// # Errors
    /// The service does not answer, or refuses.
    pub fn open_events(&self) -> Result<u64, AutopilotError> {
        let text = self.text(Method::GET, "/metrics", None)?;
        let gauges = text
            .lines()
            .filter(|line| line.starts_with("slated_journal_tail_events{") && !line.contains("kind=\"changes\""));
        Ok(gauges.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64)
    }

    /// The policy.
    ///
    /// # Errors
    /// The service does not answer, or does not serve it.
    pub fn status(&self) -> Result<Status, AutopilotError> {
        let answer = self.ask(Method::GET, "/policies", None)?;
        let policies = answer["policies"].as_array().into_iter().flatten();
        let Some(found) = policies.into_iter().find(|one| one["name"] == self.policy.as_str()) else {
            let message = format!("{} does not serve `{}`; a first version must be live", self.url, self.policy);
            return Err(AutopilotError::Service(message));
        };
        let wrong = |error: serde_json::Error| AutopilotError::Service(format!("{}/policies: {error}", self.url));
        Status::deserialize(found).map_err(wrong)
    }

    /// Changes the route; `id` makes the change one that is journalled once.
    ///
    /// # Errors
    /// The service does not answer, or refuses.
    pub fn change(&self, action: &Action, why: &str, id: &str) -> Result<(), AutopilotError> {
        let wrong = |error: serde_json::Error| AutopilotError::Service(error.to_string());
        let mut body = serde_json::to_value(action).map_err(wrong)?;
        // What the journal takes of a text.
        let why: String = why.chars().filter(|letter| !letter.is_control()).take(MAX_IDENTIFIER).collect();
        body["by"] = json!("autopilot");
        body["why"] = json!(why);
        body["change_id"] = json!(id);
        self.ask(Method::POST, &format!("/policies/{}/route", self.policy), Some(&body)).map(drop)
    }

    fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, AutopilotError> {
        let text = self.text(method, path, body)?;
        serde_json::from_str(&text).map_err(|_| AutopilotError::Service(format!("{}{path} answered {text}", self.url)))
    }

    fn text(&self, method: Method, path: &str, body: Option<&Value>) -> Result<String, AutopilotError> {
        let url = format!("{}{path}", self.url);
        let unavailable = |error: reqwest::Error| {
            AutopilotError::Unavailable(format!(
                "{url} does not answer: {error}; is `slated serve` running, and `service` its address?"
            ))
        };
        self.runtime.block_on(async {
            let mut request = self.client.request(method, &url);
            if let Some(body) = body {
                request = request.json(body);
            }
            let answer = request.send().await.map_err(unavailable)?;
            let status = answer.status();
            let text = answer.text().await.map_err(unavailable)?;
            if status.is_server_error() || status.as_u16() == 429 {
                return Err(AutopilotError::Unavailable(format!("{url} answered {status}: {text}")));
            }
            if !status.is_success() {
                return Err(AutopilotError::Service(format!("{url} answered {status}: {text}")));
            }
            Ok(text)
        })
    }
}
