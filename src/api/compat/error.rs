//! Errors in the Personalizer's form, whatever part of the service they come from.

use axum::extract::{Query, Request};
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{DATED, ROOT, VERSIONS};
use crate::api::Problem;
use crate::api::form::{Said, carry_over};
use crate::compat::{CompatError, FeatureError};

/// The header that repeats the code.
const CODE: HeaderName = HeaderName::from_static("x-ms-error-code");

/// An error, as the Personalizer published it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ErrorResponse {
    /// The error.
    #[schema(example = json!({"code": "InvalidRankRequest", "message": "`actions` must not be empty", "target": "actions"}))]
    pub error: PersonalizerError,
}

/// What went wrong.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PersonalizerError {
    /// The published code; for v1.0 one of `BadRequest`, `ResourceNotFound` and `InternalServerError`, with the finer one in
    /// `innerError`.
    #[schema(example = "InvalidRankRequest")]
    pub code: String,
    /// What is wrong, and what to do.
    #[schema(example = "`actions` must not be empty")]
    pub message: String,
    /// The field at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "actions")]
    pub target: Option<String>,
    /// The finer code, for v1.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = json!({"code": "InvalidRankRequest"}))]
    pub inner_error: Option<InternalError>,
}

/// A finer code.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct InternalError {
    /// The code.
    #[schema(example = "InvalidRankRequest")]
    pub code: String,
}

/// A request that is refused; rides in the answer's extensions until it is written in the form of the version asked for.
#[derive(Debug, Clone)]
pub struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    target: Option<String>,
}

impl Refusal {
    /// A field at fault.
    pub fn of(code: &'static str, target: impl Into<String>, problem: impl AsRef<str>) -> Self {
        let target = target.into();
        let message = format!("`{target}` {}", problem.as_ref());
        Self { status: StatusCode::BAD_REQUEST, code, message, target: Some(target) }
    }

    /// 404: there is nothing of that name.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, code: "ResourceNotFound", message: message.into(), target: None }
    }

    /// 400: what slated does otherwise.
    pub fn not_allowed(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: "OperationNotAllowed", message: message.into(), target: None }
    }

    /// A problem of another part of the service; `code` is that of a request that is not valid.
    pub fn from_problem(problem: Problem, code: &'static str) -> Self {
        let Said { status, detail, field } = problem.said();
        Self { target: field, ..Self::from_status(status, detail, code) }
    }

    fn from_status(status: StatusCode, message: String, invalid: &'static str) -> Self {
        let (status, code) = match status {
            // The Personalizer knows no other status for what a caller did wrong.
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY | StatusCode::CONFLICT => {
                (StatusCode::BAD_REQUEST, invalid)
            }
            StatusCode::NOT_FOUND => (status, "ResourceNotFound"),
            StatusCode::PAYLOAD_TOO_LARGE => (status, "PayloadSizeExceeded"),
            StatusCode::UNAUTHORIZED => (status, "401"),
            StatusCode::FORBIDDEN => (status, "403"),
            StatusCode::TOO_MANY_REQUESTS => (status, "429"),
            _ if status.is_client_error() => (status, "BadRequest"),
            _ => (status, "InternalServerError"),
        };
        Self { status, code, message, target: None }
    }

    fn body(&self, version: &str) -> ErrorResponse {
        let general = match self.status {
            _ if self.code.parse::<u16>().is_ok() => self.code,
            StatusCode::NOT_FOUND => "ResourceNotFound",
            status if status.is_client_error() => "BadRequest",
            _ => "InternalServerError",
        };
        let first = version == VERSIONS[0];
        let inner = (first && general != self.code).then(|| InternalError { code: self.code.to_owned() });
        ErrorResponse {
            error: PersonalizerError {
                code: if first { general } else { self.code }.to_owned(),
                message: self.message.clone(),
                target: self.target.clone(),
                inner_error: inner,
            },
        }
    }

    fn answer(&self, version: &str) -> Response {
        let mut answer = (self.status, axum::Json(self.body(version))).into_response();
        answer.headers_mut().insert(CODE, HeaderValue::from_static(self.code));
        answer
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut answer = self.status.into_response();
        answer.extensions_mut().insert(self);
        answer
    }
}

impl From<FeatureError> for Refusal {
    fn from(error: FeatureError) -> Self {
        Self::of("InvalidRankRequest", error.field, error.problem)
    }
}

impl From<CompatError> for Refusal {
    fn from(error: CompatError) -> Self {
        let said = error.to_string();
        let failed = |code| {
            tracing::error!(error = said, "what was asked for through the Personalizer's routes failed");
            Self {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                code,
                message: "the change could not be made; the log of the service says why".to_owned(),
                target: None,
            }
        };
        match error {
            CompatError::Configuration(error) => Self::of(error.code, error.field, error.problem),
            CompatError::Arguments(error) => {
                Self::of("InvalidPolicyConfiguration", "arguments", format!("cannot be used: {error}"))
            }
            CompatError::Shared(_) => Self::not_allowed(said),
            CompatError::Registry(error) => Self::from_problem(error.into(), "BadRequest"),
            CompatError::Traffic(error) => Self::from_problem(error.into(), "BadRequest"),
            CompatError::Journal(error) => Self::from_problem(error.into(), "BadRequest"),
            CompatError::File { .. } | CompatError::Cut(_) => failed("UpdateConfigurationFailed"),
            CompatError::Bundle(_) | CompatError::Load(_) | CompatError::Train(_) => failed("ModelPublishFailed"),
        }
    }
}

/// Answers what is asked below [`ROOT`]: the version that it names is checked first, and errors of every part of the
/// service are written as the Personalizer published them.
pub async fn speak(request: Request, next: Next) -> Response {
    let rest = request.uri().path().strip_prefix(ROOT).unwrap_or_default();
    let (version, head) = match version(rest, request.uri()) {
        Ok(found) => found,
        Err(refusal) => return refusal.answer(""),
    };
    let mut answer = next.run(request).await;
    let extensions = answer.extensions_mut();
    let refusal = extensions.remove::<Refusal>().or_else(|| {
        let Said { status, detail, field } = extensions.remove()?;
        let message = instead(&head, status).map_or(detail, ToOwned::to_owned);
        Some(Refusal { target: field, ..Refusal::from_status(status, message, "BadRequest") })
    });
    let Some(refusal) = refusal else { return answer };
    let mut written = refusal.answer(&version);
    carry_over(answer.headers(), written.headers_mut());
    written
}

/// How the query names the version.
#[derive(Deserialize)]
struct Asked {
    #[serde(rename = "api-version")]
    version: Option<String>,
}

/// The version that is asked for, and the first name behind it.
fn version(rest: &str, uri: &Uri) -> Result<(String, String), Refusal> {
    let mut names = rest.split('/').skip(1);
    let first = names.next().unwrap_or_default();
    let known = || [&VERSIONS[..], &DATED].concat().join(", ");
    if first.starts_with('v') && first[1..].starts_with(|letter: char| letter.is_ascii_digit()) {
        if VERSIONS.contains(&first) {
            return Ok((first.to_owned(), names.next().unwrap_or_default().to_owned()));
        }
        let message = format!("there is no version `{first}` of this interface; there are {}", VERSIONS.join(", "));
        return Err(Refusal::not_found(message));
    }
    let asked = Query::<Asked>::try_from_uri(uri).ok().and_then(|Query(asked)| asked.version);
    match asked {
        Some(asked) if VERSIONS.contains(&&*asked) || DATED.contains(&&*asked) => Ok((asked, first.to_owned())),
        Some(asked) => Err(Refusal::of("BadRequest", "api-version", format!("is `{asked}`; there are {}", known()))),
        None => {
            let problem = format!(
                "must be in the query, or the version in the path, as in {ROOT}/{}/rank; there are {}",
                VERSIONS[0],
                known()
            );
            Err(Refusal::of("BadRequest", "api-version", problem))
        }
    }
}

/// What to use in the place of routes that are not here.
fn instead(head: &str, status: StatusCode) -> Option<&'static str> {
    let absent = status == StatusCode::NOT_FOUND || status == StatusCode::METHOD_NOT_ALLOWED;
    match head {
        "evaluations" | "featureImportances" if absent => {
            Some("evaluations are not offered by this route; `slated evaluate` compares policies on the journal")
        }
        "logs" if absent => Some(
            "logs are not offered by this route; the journal is a folder of Parquet files, and `slated journal` works on it",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_known_by_path_or_query() {
        let of = |uri: &str| {
            let uri: Uri = uri.parse().unwrap();
            version(uri.path().strip_prefix(ROOT).unwrap(), &uri)
        };
        assert_eq!(of("/personalizer/v1.0/rank").unwrap(), ("v1.0".to_owned(), "rank".to_owned()));
        let dated = of("/personalizer/rank?x=1&api-version=2022-09-01-preview").unwrap();
        assert_eq!(dated, ("2022-09-01-preview".to_owned(), "rank".to_owned()));
        for (uri, status) in [
            ("/personalizer/v2.0/rank", StatusCode::NOT_FOUND),
            ("/personalizer/rank", StatusCode::BAD_REQUEST),
            ("/personalizer/rank?api-version=2020", StatusCode::BAD_REQUEST),
            ("/personalizer/vé", StatusCode::BAD_REQUEST),
        ] {
            let uri = uri.replace('é', "%C3%A9");
            assert_eq!(of(&uri).unwrap_err().status, status, "{uri}");
        }
    }

    #[test]
    fn the_first_version_knows_three_codes() {
        let refusal = Refusal::of("InvalidRankRequest", "actions", "must not be empty");
        let first = refusal.body("v1.0").error;
        assert_eq!(
            (first.code.as_str(), first.inner_error.unwrap().code.as_str()),
            ("BadRequest", "InvalidRankRequest")
        );
        let later = refusal.body("v1.1-preview.3").error;
        assert_eq!((later.code.as_str(), later.inner_error.is_none()), ("InvalidRankRequest", true));
        let gone = Refusal::not_found("no").body("v1.0").error;
        assert_eq!((gone.code.as_str(), gone.inner_error.is_none()), ("ResourceNotFound", true));
    }
}
