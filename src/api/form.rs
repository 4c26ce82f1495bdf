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

/// How an interface writes its errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As a [`super::Problem`].
    Problem,
    /// As the Open Inference Protocol has them.
    Inference,
    /// As the Personalizer published them.
    #[cfg(feature = "compat")]
    Personalizer,
}

impl Form {
    /// That of the interface that the path belongs to.
    pub fn of(path: &str) -> Self {
        let is_below =
            |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        #[cfg(feature = "compat")]
        if is_below(compat::ROOT) {
            return Self::Personalizer;
        }
        if is_below(inference::ROOT) { Self::Inference } else { Self::Problem }
    }

    /// Whether the errors that routes share are written in it; what the Personalizer's may be, its own routes say.
    pub const fn shares(self) -> bool {
        matches!(self, Self::Problem | Self::Inference)
    }
}

/// Answers errors in the form of the interface that was asked.
pub async fn speak(request: Request, next: Next) -> Response {
    match Form::of(request.uri().path()) {
        Form::Problem => next.run(request).await,
        Form::Inference => inference::speak(next.run(request).await),
        #[cfg(feature = "compat")]
        Form::Personalizer => compat::speak(request, next).await,
    }
}

/// The headers of an answer that one in another form takes over; those of its content are its own.
pub fn carry_over(from: &HeaderMap, to: &mut HeaderMap) {
    for (name, value) in from {
        if name != header::CONTENT_LENGTH && !to.contains_key(name) {
            to.append(name.clone(), value.clone());
        }
    }
}
