//! Asking a running service.

use std::time::Duration;

use anyhow::Context;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};

use crate::settings::ServerSettings;

/// The variable that holds the API key, where the service needs one. A flag would show it to everybody who lists processes.
const KEY: &str = "SLATED_API_KEY";

/// A client that waits for so long. The proxy of the environment is for the outside; a service is asked directly.
pub fn client(timeout: Duration) -> anyhow::Result<reqwest::Client> {
    let client = reqwest::Client::builder().no_proxy().timeout(timeout).default_headers(credentials()?);
    client.build().context("no HTTP client can be made")
}

/// The headers by which a request says whose it is.
pub fn credentials() -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    if let Some(key) = std::env::var_os(KEY).filter(|key| !key.is_empty()) {
        let value = key.to_str().and_then(|key| HeaderValue::from_str(&format!("Bearer {key}")).ok());
        let mut value = value.with_context(|| format!("{KEY} holds no API key"))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(headers)
}

/// Where the service of the settings is for applications, and for operators.
pub fn urls(server: &ServerSettings) -> (String, String) {
    let at = |address| format!("{}://{address}", server.scheme());
    (at(server.listen), at(server.admin_listen.unwrap_or(server.listen)))
}
