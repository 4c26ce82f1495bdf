//! `/items` and `/users`: what requests may leave out.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use slated_contract::event::check_identifier;
use slated_contract::feature::Features;
use utoipa::ToSchema;

use super::body::JsonBody;
use super::{App, Problem};
use crate::catalogue::{Change, Kind};

/// The features of an item or a user.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FeaturesRequest {
    /// All of its features, by name; those it had and that are not here are gone.
    #[schema(value_type = Object, example = json!({"price": 19.9, "category": "shoes"}))]
    pub features: Features,
}

/// Several changes, made together or not at all.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangesRequest {
    /// What to set.
    #[serde(default)]
    pub put: Vec<EntityRequest>,
    /// Ids to remove; one that is not there is passed over.
    #[serde(default)]
    pub delete: Vec<String>,
}

/// An item or a user to set.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EntityRequest {
    /// Its id.
    #[schema(example = "shirt-2")]
    pub id: String,
    /// All of its features, by name.
    #[schema(value_type = Object)]
    #[serde(default)]
    pub features: Features,
}

/// An item or a user.
#[derive(Debug, Serialize, ToSchema)]
pub struct Entity {
    /// Its id.
    #[schema(example = "shirt-2")]
    pub id: String,
    /// The version of the catalogue at which it was last set.
    #[schema(example = 7)]
    pub version: u64,
    /// Its features.
    #[schema(value_type = Object)]
    pub features: Features,
}

/// The version of the catalogue with the change; decisions name the version that they were made with.
#[derive(Debug, Serialize, ToSchema)]
pub struct CatalogueVersion {
    /// Counts every change.
    #[schema(example = 8)]
    pub version: u64,
}

async fn apply(app: &App, kind: Kind, changes: Vec<Change>) -> Result<Json<CatalogueVersion>, Problem> {
    let catalogue = Arc::clone(&app.catalogue);
    let applied = tokio::task::spawn_blocking(move || catalogue.apply(kind, &changes)).await;
    Ok(Json(CatalogueVersion { version: applied.map_err(Problem::internal)?? }))
}

fn found(app: &App, kind: Kind, id: String) -> Result<Json<Entity>, Problem> {
    match app.catalogue.get(kind, &id) {
        Some((version, features)) => Ok(Json(Entity { id, version, features })),
        None => Err(Problem::not_found(format!("the catalogue does not know `{id}`"))),
    }
}

async fn put(app: &App, kind: Kind, id: String, features: Features) -> Result<Json<CatalogueVersion>, Problem> {
    check_identifier(&id).map_err(|error| Problem::identifier("id", &error))?;
    apply(app, kind, vec![Change::Put(id, features)]).await
}

async fn delete(app: &App, kind: Kind, id: String) -> Result<Json<CatalogueVersion>, Problem> {
    drop(found(app, kind, id.clone())?);
    apply(app, kind, vec![Change::Delete(id)]).await
}

async fn change(app: &App, kind: Kind, request: ChangesRequest) -> Result<Json<CatalogueVersion>, Problem> {
    for (index, entity) in request.put.iter().enumerate() {
        check_identifier(&entity.id).map_err(|error| Problem::identifier(format!("put[{index}].id"), &error))?;
    }
    for (index, id) in request.delete.iter().enumerate() {
        check_identifier(id).map_err(|error| Problem::identifier(format!("delete[{index}]"), &error))?;
    }
    let put = request.put.into_iter().map(|entity| Change::Put(entity.id, entity.features));
    let changes = put.chain(request.delete.into_iter().map(Change::Delete)).collect();
    apply(app, kind, changes).await
}

/// Read an item
#[utoipa::path(
    get,
    path = "/items/{id}",
    tag = "catalogue",
    params(("id" = String, Path, description = "The item's id")),
    responses(
        (status = 200, description = "The item", body = Entity),
        (status = 404, description = "The catalogue does not know it", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn item(State(app): State<App>, Path(id): Path<String>) -> Result<Json<Entity>, Problem> {
    found(&app, Kind::Items, id)
}

/// Set an item's features
#[utoipa::path(
    put,
    path = "/items/{id}",
    tag = "catalogue",
    params(("id" = String, Path, description = "The item's id")),
    request_body = FeaturesRequest,
    responses(
        (status = 200, description = "The change is kept", body = CatalogueVersion),
        (status = 400, description = "The body is not JSON", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A value is not acceptable", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The change cannot be kept now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn put_item(
    State(app): State<App>,
    Path(id): Path<String>,
    JsonBody(request): JsonBody<FeaturesRequest>,
) -> Result<Json<CatalogueVersion>, Problem> {
    put(&app, Kind::Items, id, request.features).await
}

/// Remove an item
#[utoipa::path(
    delete,
    path = "/items/{id}",
    tag = "catalogue",
    params(("id" = String, Path, description = "The item's id")),
    responses(
        (status = 200, description = "It is removed", body = CatalogueVersion),
        (status = 404, description = "The catalogue does not know it", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The change cannot be kept now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn delete_item(State(app): State<App>, Path(id): Path<String>) -> Result<Json<CatalogueVersion>, Problem> {
    delete(&app, Kind::Items, id).await
}

/// Change many items
#[utoipa::path(
    post,
    path = "/items:batch",
    tag = "catalogue",
    request_body = ChangesRequest,
    responses(
        (status = 200, description = "All changes are kept", body = CatalogueVersion),
        (status = 400, description = "The body is not JSON", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A value is not acceptable; nothing was changed", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The changes cannot be kept now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn change_items(
    State(app): State<App>,
    JsonBody(request): JsonBody<ChangesRequest>,
) -> Result<Json<CatalogueVersion>, Problem> {
    change(&app, Kind::Items, request).await
}

/// Read a user
#[utoipa::path(
    get,
    path = "/users/{id}",
    tag = "catalogue",
    params(("id" = String, Path, description = "The user's id")),
    responses(
        (status = 200, description = "The user", body = Entity),
        (status = 404, description = "The catalogue does not know it", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn user(State(app): State<App>, Path(id): Path<String>) -> Result<Json<Entity>, Problem> {
    found(&app, Kind::Users, id)
}

/// Set a user's features
#[utoipa::path(
    put,
    path = "/users/{id}",
    tag = "catalogue",
    params(("id" = String, Path, description = "The user's id")),
    request_body = FeaturesRequest,
    responses(
        (status = 200, description = "The change is kept", body = CatalogueVersion),
        (status = 400, description = "The body is not JSON", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A value is not acceptable", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The change cannot be kept now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn put_user(
    State(app): State<App>,
    Path(id): Path<String>,
    JsonBody(request): JsonBody<FeaturesRequest>,
) -> Result<Json<CatalogueVersion>, Problem> {
    put(&app, Kind::Users, id, request.features).await
}

/// Remove a user
#[utoipa::path(
    delete,
    path = "/users/{id}",
    tag = "catalogue",
    params(("id" = String, Path, description = "The user's id")),
    responses(
        (status = 200, description = "It is removed", body = CatalogueVersion),
        (status = 404, description = "The catalogue does not know it", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The change cannot be kept now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn delete_user(State(app): State<App>, Path(id): Path<String>) -> Result<Json<CatalogueVersion>, Problem> {
    delete(&app, Kind::Users, id).await
}

/// Change many users
#[utoipa::path(
    post,
    path = "/users:batch",
    tag = "catalogue",
    request_body = ChangesRequest,
    responses(
        (status = 200, description = "All changes are kept", body = CatalogueVersion),
        (status = 400, description = "The body is not JSON", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A value is not acceptable; nothing was changed", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The changes cannot be kept now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn change_users(
    State(app): State<App>,
    JsonBody(request): JsonBody<ChangesRequest>,
) -> Result<Json<CatalogueVersion>, Problem> {
    change(&app, Kind::Users, request).await
}
