//! JSON bodies, with errors that name the field.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::Problem;
use crate::serving::Rule;

/// A JSON body read into `T`.
pub struct JsonBody<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Problem::unsupported_media_type("send `Content-Type: application/json`"));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| refused(&rejection))?;
        read(&bytes).map(Self)
    }
}

/// Reads JSON; the error names the path of the field at fault.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // Following the path copies every name, so only what has a fault is read that way.
    if let Ok(value) = serde_json::from_slice(bytes) {
        return Ok(value);
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        if inner.is_data() { misshapen(&path, &inner.to_string()) } else { Problem::malformed(inner.to_string()) }
    })?;
    deserializer.end().map_err(|error| Problem::malformed(error.to_string()))?;
    Ok(value)
}

/// JSON of another shape than it must have. serde tells of a missing field in words alone, and of the whole by a dot.
fn misshapen(path: &str, message: &str) -> Problem {
    let part = (path != ".").then_some(path);
    match message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
        Some(name) => {
            Problem::invalid(part.map_or_else(|| name.to_owned(), |part| format!("{part}.{name}")), "is missing")
        }
        None => Problem::invalid(part.unwrap_or("(body)"), message),
    }
}

/// Reads one of several forms, by the name under `tag`. serde itself takes a form's number there as well.
pub fn named<T: DeserializeOwned, E: serde::de::Error>(tag: &str, value: Value) -> Result<T, E> {
    if value.get(tag).is_some_and(|name| !name.is_string()) {
        return Err(E::custom(format_args!("`{tag}` must be a text")));
    }
    serde_json::from_value(value).map_err(E::custom)
}

/// Reads the constraints of a request.
pub fn rules<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Rule>, D::Error> {
    /// Each on its own, so that an error has its place in the list.
    struct Named(Rule);

    impl<'de> Deserialize<'de> for Named {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            named("rule", Value::deserialize(deserializer)?).map(Self)
        }
    }

    Ok(Vec::<Named>::deserialize(deserializer)?.into_iter().map(|Named(rule)| rule).collect())
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// What is wrong with a body that could not be read to its end.
pub fn refused(rejection: &BytesRejection) -> Problem {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::too_large("the body is over the service's limit (`server.max_body_bytes`)")
        }
        _ => Problem::malformed(rejection.body_text()),
    }
}
