//! The errors that many routes may answer with, in the form in which a route writes its errors.

use serde_json::json;
use utoipa::openapi::{Content, Ref, RefOr, Response, ResponseBuilder};

use super::headers;
use crate::api::form::Form;

/// What of a route says which errors it shares with others.
#[derive(Debug, Clone, Copy)]
pub struct Traits {
    /// Its path has places, or there is a query or a header to read.
    pub read: bool,
    /// It takes a body.
    pub body: bool,
    /// It may need a key.
    pub keyed: bool,
    /// It has a time limit, and counts among the requests at once.
    pub limited: bool,
}

/// An error that many routes may answer with.
pub struct Shared {
    name: &'static str,
    /// The status.
    pub status: u16,
    description: &'static str,
    kind: &'static str,
    title: &'static str,
    detail: &'static str,
}

const UNREADABLE: Shared = Shared {
    name: "Unreadable",
    status: 400,
    description: "The path, the query or the body cannot be read",
    kind: "malformed-body",
    title: "The body could not be read",
    detail: "expected value at line 1 column 1",
};
const UNREADABLE_URL: Shared = Shared {
    name: "UnreadableUrl",
    status: 400,
    description: "The path or the query cannot be read",
    kind: "malformed-url",
    title: "The URL could not be read",
    detail: "Invalid UTF-8 in `id`",
};
const UNAUTHENTICATED: Shared = Shared {
    name: "Unauthenticated",
    status: 401,
    description: "Keys are needed, and none that is valid came with the request",
    kind: "unauthenticated",
    title: "The request needs a key",
    detail: "send an API key that is valid, as `Authorization: Bearer <key>` or `X-API-Key: <key>`",
};
const FORBIDDEN: Shared = Shared {
    name: "Forbidden",
    status: 403,
    description: "The key does not have the role",
    kind: "forbidden",
    title: "The key does not allow this",
    detail: "the key of `shop` does not have the role `admin`",
};
const TOO_LARGE: Shared = Shared {
    name: "TooLarge",
    status: 413,
    description: "The body is larger than the service takes",
    kind: "body-too-large",
    title: "The body is too large",
    detail: "the body is over the service's limit (`server.max_body_bytes`)",
};
const NOT_JSON: Shared = Shared {
    name: "NotJson",
    status: 415,
    description: "The body is not declared as JSON",
    kind: "unsupported-media-type",
    title: "The body must be JSON",
    detail: "send `Content-Type: application/json`",
};
const INVALID: Shared = Shared {
    name: "Invalid",
    status: 422,
    description: "A value is not acceptable; `errors` says which, and nothing was done",
    kind: "invalid-request",
    title: "The request is not valid",
    detail: "`X-Request-Timeout-Ms` must be a whole number of milliseconds, at least 1",
};
const BUSY: Shared = Shared {
    name: "Busy",
    status: 429,
    description: "Too many requests at once, or more than the key's limit",
    kind: "busy",
    title: "Too many requests at once",
    detail: "the service answers as many requests as it may (`server.max_concurrency`)",
};
const FAILED: Shared = Shared {
    name: "Failed",
    status: 500,
    description: "A defect of the service; its log says what",
    kind: "internal",
    title: "The service failed",
    detail: "the log of the service says why",
};
const UNAVAILABLE: Shared = Shared {
    name: "Unavailable",
    status: 503,
    description: "The service cannot answer now, or not within the time limit",
    kind: "unavailable",
    title: "The service cannot answer now",
    detail: "the request was not answered within 1000 ms (`server.request_timeout_ms`, or less by `X-Request-Timeout-Ms`)",
};

impl Shared {
    /// Those that a route may answer with.
    pub fn of(Traits { read, body, keyed, limited }: Traits) -> impl Iterator<Item = Self> {
        [
            (body, UNREADABLE),
            (read && !body, UNREADABLE_URL),
            (keyed, UNAUTHENTICATED),
            (keyed, FORBIDDEN),
            (body, TOO_LARGE),
            (body, NOT_JSON),
            (body || limited, INVALID),
            (keyed, BUSY),
            (true, FAILED),
            (limited, UNAVAILABLE),
        ]
        .into_iter()
        .filter_map(|(may, shared)| may.then_some(shared))
    }

    /// Its name among the description's components.
    pub fn name(&self, form: Form) -> String {
        match form {
            Form::Inference => format!("Inference{}", self.name),
            _ => self.name.to_owned(),
        }
    }

    /// What stands under that name.
    pub fn response(&self, form: Form) -> RefOr<Response> {
        let Self { status, description, kind, title, detail, .. } = self;
        let (schema, media_type, example) = if form == Form::Inference {
            ("InferenceError", "application/json", json!({"error": detail}))
        } else {
            let kind = format!("urn:slated:problem:{kind}");
            let mut example = json!({"type": kind, "title": title, "status": status, "detail": detail});
            if *status == 422 {
                let (field, detail) = detail.split_once(' ').unwrap_or_default();
                example["errors"] = json!([{"field": field.trim_matches('`'), "detail": detail}]);
            }
            ("Problem", "application/problem+json", example)
        };
        let mut content = Content::new(Some(Ref::from_schema_name(schema)));
        content.example = Some(example);
        let mut response = ResponseBuilder::new().description(*description).content(media_type, content).build();
        headers::add(&mut response, *status);
        response.into()
    }
}
