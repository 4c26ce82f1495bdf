//! The body of a request: JSON, and behind it the binary tensors.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, HeaderName, header};

use super::super::Problem;
use super::super::body::refused;
use super::message::InferenceRequest;

/// How many bytes of a body are JSON, where binary tensors follow.
pub const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// A request, and the bytes behind its JSON.
pub struct InferenceBody {
    pub request: InferenceRequest,
    pub binary: Bytes,
}

impl<S: Send + Sync> FromRequest<S> for InferenceBody {
    type Rejection = Problem;

    // Any content type is taken: the protocol's clients send none at all.
    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if request.headers().contains_key(header::CONTENT_ENCODING) {
            return Err(Problem::unsupported_media_type("the body must not be compressed (`Content-Encoding`)"));
        }
        let json = json_length(request.headers())?;
        let mut body = Bytes::from_request(request, state).await.map_err(|rejection| refused(&rejection))?;
        let json = json.unwrap_or(body.len());
        if json > body.len() {
            let detail = format!("`{JSON_LENGTH}` is {json}, but the body has {} bytes", body.len());
            return Err(Problem::malformed(detail));
        }
        let binary = body.split_off(json);
        let mut deserializer = serde_json::Deserializer::from_slice(&body);
        let request = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
            let path = error.path().to_string();
            let inner = error.into_inner();
            if path == "." {
                Problem::malformed(inner.to_string())
            } else {
                Problem::malformed(format!("`{path}`: {inner}"))
            }
        })?;
        deserializer.end().map_err(|error| Problem::malformed(error.to_string()))?;
        Ok(Self { request, binary })
    }
}

fn json_length(headers: &HeaderMap) -> Result<Option<usize>, Problem> {
    let Some(value) = headers.get(JSON_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    length.map(Some).ok_or_else(|| Problem::malformed(format!("`{JSON_LENGTH}` must be a number of bytes")))
}
