//! The headers of the answers.

use serde_json::json;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{Ref, RefOr, Response};

const REQUEST_ID: &str = "RequestId";
const TRACE: &str = "Trace";
const RETRY: &str = "RetryAfter";
const CHALLENGE: &str = "Challenge";

/// Names the headers that an answer of this status has.
pub fn add(response: &mut Response, status: u16) {
    let mut add = |header: &str, name: &str| {
        let reference = Ref::new(format!("#/components/headers/{name}"));
        response.headers.insert(header.to_owned(), RefOr::Ref(reference));
    };
    add("X-Request-Id", REQUEST_ID);
    add("traceparent", TRACE);
    match status {
        401 => add("WWW-Authenticate", CHALLENGE),
        429 | 503 => add("Retry-After", RETRY),
        _ => {}
    }
}

/// The headers, by their names among the description's components.
pub fn all() -> [(&'static str, Header); 4] {
    let text = |example: &str| ObjectBuilder::new().schema_type(Type::String).examples([json!(example)]);
    let header = |schema: ObjectBuilder, description: &str| {
        HeaderBuilder::new().schema(Some(schema.build())).description(Some(description)).build()
    };
    let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).examples([json!(1)]);
    [
        (
            REQUEST_ID,
            header(
                text("0197f3a2-5b7c-4c3e-9d52-3b1f0e6a9c11"),
                "The request's id in the service's log: the one that it came with, or a new one",
            ),
        ),
        (
            TRACE,
            header(
                text("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
                "The request's place in its trace (W3C Trace Context)",
            ),
        ),
        (RETRY, header(seconds, "After how many seconds to ask again")),
        (CHALLENGE, header(text("Bearer"), "How to send a key")),
    ]
}
