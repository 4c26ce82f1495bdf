//! Errors as RFC 9457 problem details.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use slated_contract::event::IdentifierError;
use slated_contract::feature::EncodeError;
use utoipa::ToSchema;

use super::form::Said;
use crate::catalogue::CatalogueError;
use crate::journal::JournalError;
use crate::serving::traffic::TrafficError;
use crate::serving::{EngineError, ExplainError, RecommendError, RegistryError};

/// A problem, as `application/problem+json` (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// Identifies the kind of problem: `urn:slated:problem:` and `malformed-url`, `malformed-body` (400),
    /// `unauthenticated` (401), `forbidden` (403), `not-found` (404), `method-not-allowed` (405), `conflict` (409),
    /// `body-too-large` (413), `unsupported-media-type` (415), `invalid-request` (422), `busy` (429), `internal` (500) or
    /// `unavailable` (503).
    #[serde(rename = "type")]
    #[schema(example = "urn:slated:problem:invalid-request")]
    pub kind: String,
    /// The kind, for people.
    #[schema(example = "The request is not valid")]
    pub title: &'static str,
    /// The HTTP status.
    #[schema(value_type = u16, example = 422, minimum = 400, maximum = 599)]
    #[serde(serialize_with = "status_code")]
    pub status: StatusCode,
    /// What is wrong with this request, and what to do.
    #[schema(example = "`slate_size` is 0, allowed are 1 to 100")]
    pub detail: String,
    /// The fields at fault; absent where it is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ProblemField>,
    #[serde(skip)]
    pub(super) retry_after_seconds: Option<u64>,
}

/// One field at fault.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemField {
    /// Its path in the request, such as `candidates[3].features.price`.
    #[schema(example = "slate_size")]
    pub field: String,
    /// What is wrong with it.
    #[schema(example = "is 0, allowed are 1 to 100")]
    pub detail: String,
}

fn status_code<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

impl Problem {
    fn new(status: StatusCode, kind: &str, title: &'static str, detail: impl Into<String>) -> Self {
        let kind = format!("urn:slated:problem:{kind}");
        Self { kind, title, status, detail: detail.into(), errors: Vec::new(), retry_after_seconds: None }
    }

    /// 400: the body is not JSON, or not of the right form.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed-body", "The body could not be read", detail)
    }

    /// 400: the path or the query cannot be read.
    pub fn malformed_url(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed-url", "The URL could not be read", detail)
    }

    /// 422: a field's value is not acceptable.
    pub fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        let (field, detail) = (field.into(), detail.into());
        let mut problem = Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid-request",
            "The request is not valid",
            format!("`{field}` {detail}"),
        );
        problem.errors.push(ProblemField { field, detail });
        problem
    }

    /// 401: who asks is not known.
    pub fn unauthenticated() -> Self {
        metrics::counter!("slated_requests_refused_total", "reason" => "unauthenticated").increment(1);
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            "The request needs a key",
            "send an API key that is valid, as `Authorization: Bearer <key>`, `X-API-Key: <key>` or `Ocp-Apim-Subscription-Key: <key>`",
        )
    }

    /// 403: who asks may not.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        metrics::counter!("slated_requests_refused_total", "reason" => "forbidden").increment(1);
        Self::new(StatusCode::FORBIDDEN, "forbidden", "The key does not allow this", detail)
    }

    /// 404: there is nothing here.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    /// 405: the resource has no such method.
    pub fn method_not_allowed(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "The resource does not have this method",
            detail,
        )
    }

    /// 409: the request contradicts what is already recorded.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "The request contradicts an earlier one", detail)
    }

    /// 413: the body is over the limit.
    pub fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "The body is too large", detail)
    }

    /// 415: the body is not declared as JSON.
    pub fn unsupported_media_type(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The body must be JSON", detail)
    }

    /// 429: more is asked for than can be served now; `reason` says to the metrics what was full.
    pub fn busy(reason: &'static str, detail: impl Into<String>) -> Self {
        metrics::counter!("slated_requests_refused_total", "reason" => reason).increment(1);
        let mut problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "busy", "Too many requests at once", detail);
        problem.retry_after_seconds = Some(1);
        problem
    }

    /// 503: the service cannot do this now.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        let mut problem =
            Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "The service cannot answer now", detail);
        problem.retry_after_seconds = Some(1);
        problem
    }

    /// 500: a defect. The detail goes into the log, not to the caller.
    pub fn internal(detail: impl std::fmt::Display) -> Self {
        tracing::error!(%detail, "internal error");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "The service failed",
            "the log of the service says why",
        )
    }

    /// A field that is no acceptable id or event type.
    pub fn identifier(field: impl Into<String>, error: &IdentifierError) -> Self {
        Self::invalid(field, error.to_string())
    }

    /// The same problem, of a part of the request.
    #[must_use]
    pub fn within(mut self, part: &str) -> Self {
        for error in &mut self.errors {
            error.field = format!("{part}.{}", error.field);
        }
        if !self.errors.is_empty() {
            self.detail = format!("{part}: {}", self.detail);
        }
        self
    }

    /// What it says, for an answer in another form.
    pub(super) fn said(&self) -> Said {
        let field = self.errors.first().map(|error| error.field.clone());
        Said { status: self.status, detail: self.detail.clone(), field }
    }

    fn feature(prefix: &str, error: &EncodeError) -> Self {
        Self::invalid(format!("{prefix}.{}", error.feature), error.kind.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(&self)).into_response();
        response.extensions_mut().insert(self.said());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<RecommendError> for Problem {
    fn from(error: RecommendError) -> Self {
        let detail = error.to_string();
        match error {
            RecommendError::Registry(error) => error.into(),
            RecommendError::State(error) => Self::feature(&error.group.to_string(), &error),
            RecommendError::Candidate { index, source, .. } => {
                Self::feature(&format!("candidates[{index}].features"), &source)
            }
            RecommendError::UnknownItem { index, .. } | RecommendError::Duplicate { index, .. } => {
                Self::invalid(format!("candidates[{index}]"), detail)
            }
            RecommendError::TooManyCandidates { .. } => Self::invalid("candidates", detail),
            RecommendError::Size { .. } => Self::invalid("slate_size", detail),
            RecommendError::Baseline { index, .. } => Self::invalid(format!("baseline[{index}]"), detail),
            RecommendError::Rule(error) => Self::invalid(error.field, error.reason),
            RecommendError::Cut(_) => Self::internal(detail),
            RecommendError::Late | RecommendError::Session(_) => Self::unavailable(detail),
            RecommendError::Engine(EngineError::Busy(_)) => Self::busy("model_queue", detail),
            RecommendError::Engine(EngineError::Stopped) => Self::unavailable(detail),
            RecommendError::Engine(EngineError::Failed(_)) | RecommendError::Draw(_) => Self::internal(detail),
        }
    }
}

impl From<RegistryError> for Problem {
    fn from(error: RegistryError) -> Self {
        let detail = error.to_string();
        match error {
            RegistryError::Unknown { .. } | RegistryError::NotLoaded { .. } | RegistryError::NotRouted { .. } => {
                Self::not_found(detail)
            }
            RegistryError::Load(_) => Self::invalid("version", format!("was refused: {detail}")),
            RegistryError::Route(_) => Self::invalid("action", detail),
        }
    }
}

impl From<TrafficError> for Problem {
    fn from(error: TrafficError) -> Self {
        match error {
            TrafficError::Registry(error) => error.into(),
            TrafficError::Journal(error) => error.into(),
            TrafficError::File { .. } | TrafficError::Cut(_) => Self::internal(error),
        }
    }
}

impl From<CatalogueError> for Problem {
    fn from(error: CatalogueError) -> Self {
        tracing::error!(%error, "the catalogue cannot be written");
        Self::unavailable(
            "the catalogue cannot keep this change now, so nothing was changed; the log of the service says why",
        )
    }
}

impl From<ExplainError> for Problem {
    fn from(error: ExplainError) -> Self {
        match error {
            ExplainError::Engine(EngineError::Busy(_)) => Self::busy("model_queue", error.to_string()),
            ExplainError::Engine(_) => Self::internal(error),
            _ => Self::conflict(error.to_string()),
        }
    }
}

impl From<JournalError> for Problem {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Busy { .. } => Self::busy("journal_queue", error.to_string()),
            JournalError::Off => Self::unavailable(error.to_string()),
            _ => {
                tracing::error!(%error, "journal failed");
                Self::unavailable(
                    "the journal cannot keep this event now, so it was not accepted; the log of the service says why",
                )
            }
        }
    }
}
