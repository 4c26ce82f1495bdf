//! Errors below `/v2` as the protocol has them: an object with `error`.

use axum::Json;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::super::problem::Detail;
use super::message::InferenceError;

/// Answers a problem below `/v2`, whoever found it, in the protocol's form. Status and headers stay.
pub async fn speak(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let ours = path == "/v2" || path.starts_with("/v2/");
    let mut response = next.run(request).await;
    match response.extensions_mut().remove::<Detail>() {
        Some(Detail(error)) if ours => {
            let mut spoken = (response.status(), Json(InferenceError { error })).into_response();
            for (name, value) in response.headers() {
                if name != axum::http::header::CONTENT_TYPE && name != axum::http::header::CONTENT_LENGTH {
                    spoken.headers_mut().insert(name, value.clone());
                }
            }
            spoken
        }
        _ => response,
    }
}
