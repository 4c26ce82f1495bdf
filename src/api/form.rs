//! The form in which errors are answered: that of the interface that was asked, whoever found the error.

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

#[cfg(feature = "compat")]
use super::compat;
use super::inference;

/// What a problem says, in the extensions of its answer, for interfaces that say it in a form of their own.
#[derive(Debug, Clone)]
pub struct Said {
    /// The status.
    pub status: StatusCode,
    /// What is wrong, and what to do.
    pub detail: String,
    /// The field at fault.
    pub field: Option<String>,
}

/// Answers errors in the form of the interface that the path belongs to; problems where it is slated's own.
pub async fn speak(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    #[cfg(feature = "compat")]
    if is_below(compat::ROOT, path) {
        return compat::speak(request, next).await;
    }
    if is_below(inference::ROOT, path) {
        return inference::speak(next.run(request).await);
    }
    next.run(request).await
}

fn is_below(root: &str, path: &str) -> bool {
    path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The headers of an answer that one in another form takes over; those of its content are its own.
pub fn carry_over(from: &HeaderMap, to: &mut HeaderMap) {
    for (name, value) in from {
        if name != header::CONTENT_LENGTH && !to.contains_key(name) {
            to.append(name.clone(), value.clone());
        }
    }
}
