//! Errors below `/v2` as the protocol has them: an object with `error`.

use axum::Json;
use axum::response::{IntoResponse, Response};

use super::super::form::{Said, carry_over};
use super::message::InferenceError;

/// Writes a problem in the protocol's form. Status and headers stay.
pub fn speak(mut answer: Response) -> Response {
    let Some(Said { status, detail, .. }) = answer.extensions_mut().remove() else { return answer };
    let mut spoken = (status, Json(InferenceError { error: detail })).into_response();
    carry_over(answer.headers(), spoken.headers_mut());
    spoken
}
