//! Letting requests in by their key.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;

use super::Problem;
use crate::access::{Denied, Keys, Role};

/// The other headers that a key may come in; the second is that of the Personalizer's clients.
pub const KEY_HEADERS: [&str; 2] = ["x-api-key", "ocp-apim-subscription-key"];

/// What a route takes.
#[derive(Clone)]
pub struct Needs {
    /// The keys in force.
    pub keys: Arc<Keys>,
    /// The role.
    pub role: Role,
}

/// Lets a request in whose key has the role. Who it is stands in the request's extensions.
pub async fn admit(State(needs): State<Needs>, mut request: Request, next: Next) -> Result<Response, Problem> {
    let Needs { keys, role } = needs;
    if let Some(caller) = keys.admit(key(request.headers()), role)? {
        request.extensions_mut().insert(caller);
    }
    Ok(next.run(request).await)
}

fn key(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    let other = |name: &&str| headers.get(*name).and_then(|value| value.to_str().ok());
    bearer.or_else(|| KEY_HEADERS.iter().find_map(other))
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Unknown => Self::unauthenticated(),
            Denied::Role { name, needed } => {
                Self::forbidden(format!("the key of `{name}` does not have the role `{}`", needed.name()))
            }
            Denied::Rate { name, again_in } => {
                let mut problem =
                    Self::busy("rate", format!("the key of `{name}` has used up its `requests_per_second` for now"));
                // Whole seconds, and never too early.
                problem.retry_after_seconds = Some((again_in + Duration::from_millis(999)).as_secs().max(1));
                problem
            }
        }
    }
}
