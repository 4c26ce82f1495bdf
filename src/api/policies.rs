//! `GET /policies` and the loading of versions.

use axum::extract::State;
use axum::{Extension, Json};
use serde::Serialize;
use utoipa::ToSchema;

use super::url::PathOf;
use super::{App, Problem};
use crate::access::Caller;
use crate::serving::PolicyStatus;
use crate::serving::traffic::{Action, Reason};

/// The policies of this service.
#[derive(Debug, Serialize, ToSchema)]
pub struct PolicyList {
    /// By name.
    pub policies: Vec<PolicyStatus>,
}

/// What is live now.
#[derive(Debug, Serialize, ToSchema)]
pub struct LoadedVersion {
    /// The policy.
    #[schema(example = "open-bandit")]
    pub name: String,
    /// Its live version.
    #[schema(example = 2)]
    pub version: u64,
}

/// List the policies
///
/// Each with its versions, their route, and what offline evaluation said of the one that is live.
#[utoipa::path(get, path = "/policies", tag = "policies", responses((status = 200, description = "All policies", body = PolicyList)))]
pub async fn policies(State(app): State<App>) -> Json<PolicyList> {
    Json(PolicyList { policies: app.registry.statuses() })
}

/// Load a version and make it live
///
/// The version is checked and run before it goes live; where it is refused, the live one goes on serving.
#[utoipa::path(
    post,
    path = "/policies/{name}/versions/{version}/load",
    tag = "policies",
    params(
        ("name" = String, Path, description = "The policy's name", example = "open-bandit"),
        ("version" = u64, Path, description = "The version to load", example = 2, maximum = 9007199254740991_u64),
    ),
    responses(
        (status = 200, description = "The version is live", body = LoadedVersion),
        (status = 404, description = "No such policy is live", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The version was refused; what was live still is", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn load(
    State(app): State<App>,
    caller: Option<Extension<Caller>>,
    PathOf((name, version)): PathOf<(String, String)>,
) -> Result<Json<LoadedVersion>, Problem> {
    let version: u64 =
        version.parse().map_err(|_| Problem::malformed_url(format!("version `{version}` is not a number")))?;
    let by = caller.map_or_else(|| "admin API".to_owned(), |Extension(Caller(name))| format!("key {name}"));
    let reason = Reason { by, why: "load".to_owned(), id: None };
    app.traffic.change(&name, Action::Promote { version }, reason).await?;
    Ok(Json(LoadedVersion { name, version }))
}
