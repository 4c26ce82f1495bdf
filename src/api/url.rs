//! The parts of a URL, with errors as problems.

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::Problem;

/// What stands in the places of a route's path.
pub struct PathOf<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for PathOf<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let part = Path::<T>::from_request_parts(parts, state).await;
        let Path(value) = part.map_err(|rejection| Problem::malformed_url(rejection.body_text()))?;
        Ok(Self(value))
    }
}

/// What stands behind the path.
pub struct QueryOf<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for QueryOf<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let part = Query::<T>::from_request_parts(parts, state).await;
        let Query(value) = part.map_err(|rejection| Problem::malformed_url(rejection.body_text()))?;
        Ok(Self(value))
    }
}
