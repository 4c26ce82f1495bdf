//! The identity of a request in logs: its id, and the trace that it belongs to (W3C Trace Context, version 00).

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use rand::RngExt;
use tower_http::request_id::{MakeRequestId, RequestId};
use tracing::field::Empty;
use tracing::{Instrument, Span};

#[cfg(feature = "otlp")]
use crate::telemetry::otlp::Recorded;
use crate::unique;

/// The id of a request, the caller's or a new one.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Gives a request without an id a UUID of version 4.
#[derive(Debug, Clone, Copy)]
pub struct NewRequestId;

impl MakeRequestId for NewRequestId {
    fn make_request_id<B>(&mut self, _: &axum::http::Request<B>) -> Option<RequestId> {
        HeaderValue::from_str(&unique::random().to_string()).ok().map(RequestId::new)
    }
}

/// A request's place in a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TraceContext {
    trace_id: String,
    parent_id: String,
    flags: String,
}

impl TraceContext {
    /// Reads `00-<32 hex digits>-<16>-<2>`; what is not that begins a new trace, as the standard says.
    fn read(header: &str) -> Option<Self> {
        let mut parts = header.trim().split('-');
        let mut hex = |length: usize| {
            parts.next().filter(|part| {
                part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
            })
        };
        let (version, trace_id, parent_id, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
        let some = |id: &str| id.bytes().any(|byte| byte != b'0');
        // A later version may have more parts, but begins with these.
        let whole = version != "ff" && (version != "00" || parts.next().is_none());
        (whole && some(trace_id) && some(parent_id)).then(|| Self {
            trace_id: trace_id.to_owned(),
            parent_id: parent_id.to_owned(),
            flags: flags.to_owned(),
        })
    }

    fn new() -> Self {
        Self {
            trace_id: format!("{:032x}", rand::rng().random::<u128>()),
            parent_id: String::new(),
            flags: "00".to_owned(),
        }
    }
}

/// Gives every request a span with its request id and trace, and the answer a `traceparent` with this request's own id
/// as the parent.
pub async fn follow(request: Request, next: Next) -> Response {
    let (span, traceparent) = begin(&request);
    let mut response = next.run(request).instrument(span).await;
    if let Ok(value) = HeaderValue::from_str(&traceparent) {
        response.headers_mut().insert(TRACEPARENT, value);
    }
    response
}

/// The span of a request, and what its answer says of the trace.
fn begin(request: &Request) -> (Span, String) {
    let text = |name: &HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    let caller = text(&TRACEPARENT).and_then(TraceContext::read);
    let span = tracing::info_span!(
        "request",
        method = %request.method(),
        path = request.uri().path(),
        request_id = text(&REQUEST_ID).unwrap_or_default(),
        trace_id = Empty,
        span_id = Empty,
        parent_id = caller.as_ref().map(|caller| &*caller.parent_id),
    );
    let (trace_id, span_id, flags) = place(&span, caller);
    span.record("trace_id", &*trace_id).record("span_id", &*span_id);
    (span, format!("00-{trace_id}-{span_id}-{flags}"))
}

/// Trace, span and flags of a new span: as it is recorded for a collector, or of our own making.
fn place(span: &Span, caller: Option<TraceContext>) -> (String, String, String) {
    #[cfg(feature = "otlp")]
    {
        let parent = caller.as_ref().map(|caller| (&*caller.trace_id, &*caller.parent_id, &*caller.flags));
        if let Some(Recorded { trace_id, span_id, flags }) = crate::telemetry::otlp::adopt(span, parent) {
            return (trace_id, span_id, flags);
        }
    }
    #[cfg(not(feature = "otlp"))]
    let _ = span;
    let TraceContext { trace_id, flags, .. } = caller.unwrap_or_else(TraceContext::new);
    (trace_id, format!("{:016x}", rand::rng().random::<u64>()), flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_contexts_are_taken_up() {
        let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = TraceContext::read(header).map(|context| (context.trace_id, context.parent_id, context.flags));
        let expected = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "01");
        assert_eq!(context, Some((expected.0.to_owned(), expected.1.to_owned(), expected.2.to_owned())));
        for bad in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(TraceContext::read(bad), None, "{bad}");
        }
        assert!(TraceContext::read("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more").is_some());
    }
}
