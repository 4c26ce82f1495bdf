//! `/items` and `/users`: what requests may leave out.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use slated_contract::event::check_identifier;
use slated_contract::feature::Features;
use utoipa::ToSchema;

use super::body::JsonBody;
use super::url::PathOf;
use super::{App, Problem};
use crate::catalogue::{Change, Kind};
use crate::schema;

/// The features of an item or a user.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FeaturesRequest {
    /// All of its features, by name; those it had and that are not here are gone.
    #[schema(value_type = schema::Features)]
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
    #[schema(value_type = Vec<schema::Identifier>)]
    #[serde(default)]
    pub delete: Vec<String>,
}

/// An item or a user to set.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EntityRequest {
    /// Its id.
    #[schema(example = "shirt-2", min_length = 1, max_length = 256, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
    pub id: String,
    /// All of its features, by name.
    #[schema(value_type = schema::Features)]
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
    #[schema(value_type = schema::Features)]
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
///
/// Its features as they were last set, and the version of the catalogue at which they were.
#[utoipa::path(
    get,
    path = "/items/{id}",
    tag = "catalogue",
    params(("id" = String, Path, description = "The item's id", example = "shirt-2", min_length = 1, max_length = 256, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")),
    responses(
        (status = 200, description = "The item", body = Entity),
        (status = 404, description = "The catalogue does not know it", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn item(State(app): State<App>, PathOf(id): PathOf<String>) -> Result<Json<Entity>, Problem> {
    found(&app, Kind::Items, id)
}

/// Set an item's features
///
/// All of them at once: those it had and that the request leaves out are gone. Answered once the change is kept.
#[utoipa::path(
    put,
    path = "/items/{id}",
    tag = "catalogue",
    params(("id" = String, Path, description = "The item's id", example = "shirt-2", min_length = 1, max_length = 256, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")),
    request_body = FeaturesRequest,
    responses(
        (status = 200, description = "The change is kept", body = CatalogueVersion),
        (status = 503, description = "The change cannot be kept now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn put_item(
    State(app): State<App>,
    PathOf(id): PathOf<String>,
    JsonBody(request): JsonBody<FeaturesRequest>,
) -> Result<Json<CatalogueVersion>, Problem> {
    put(&app, Kind::Items, id, request.features).await
}

/// Remove an item
///
/// Requests that name it by its id alone are refused from then on. Answered once the change is kept.
#[utoipa::path(
    delete,
    path = "/items/{id}",
    tag = "catalogue",
    params(("id" = String, Path, description = "The item's id", example = "shirt-2", min_length = 1, max_length = 256, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")),
    responses(
        (status = 200, description = "It is removed", body = CatalogueVersion),
        (status = 404, description = "The catalogue does not know it", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The change cannot be kept now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn delete_item(
    State(app): State<App>,
    PathOf(id): PathOf<String>,
) -> Result<Json<CatalogueVersion>, Problem> {
    delete(&app, Kind::Items, id).await
}

/// Change many items
///
/// All of the changes are kept, or none. What is removed is removed after what is set.
#[utoipa::path(
    post,
    path = "/items:batch",
    tag = "catalogue",
    request_body = ChangesRequest,
    responses(
        (status = 200, description = "All changes are kept", body = CatalogueVersion),
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
///
/// The features as they were last set, and the version of the catalogue at which they were.
#[utoipa::path(
    get,
    path = "/users/{id}",
    tag = "catalogue",
    params(("id" = String, Path, description = "The user's id", example = "user-42", min_length = 1, max_length = 256, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")),
    responses(
        (status = 200, description = "The user", body = Entity),
        (status = 404, description = "The catalogue does not know it", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn user(State(app): State<App>, PathOf(id): PathOf<String>) -> Result<Json<Entity>, Problem> {
    found(&app, Kind::Users, id)
}

/// Set a user's features
///
/// All of them at once: those that the request leaves out are gone. Answered once the change is kept.
#[utoipa::path(
    put,
    path = "/users/{id}",
    tag = "catalogue",
    params(("id" = String, Path, description = "The user's id", example = "user-42", min_length = 1, max_length = 256, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")),
    request_body = FeaturesRequest,
    responses(
        (status = 200, description = "The change is kept", body = CatalogueVersion),
        (status = 503, description = "The change cannot be kept now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn put_user(
    State(app): State<App>,
    PathOf(id): PathOf<String>,
    JsonBody(request): JsonBody<FeaturesRequest>,
) -> Result<Json<CatalogueVersion>, Problem> {
    put(&app, Kind::Users, id, request.features).await
}

/// Remove a user
///
/// What the catalogue knows of them; what the journal knows is removed by `DELETE /users/{id}/events`.
#[utoipa::path(
    delete,
    path = "/users/{id}",
    tag = "catalogue",
    params(("id" = String, Path, description = "The user's id", example = "user-42", min_length = 1, max_length = 256, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")),
    responses(
        (status = 200, description = "It is removed", body = CatalogueVersion),
        (status = 404, description = "The catalogue does not know it", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The change cannot be kept now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn delete_user(
    State(app): State<App>,
    PathOf(id): PathOf<String>,
) -> Result<Json<CatalogueVersion>, Problem> {
    delete(&app, Kind::Users, id).await
}

/// Change many users
///
/// All of the changes are kept, or none. What is removed is removed after what is set.
#[utoipa::path(
    post,
    path = "/users:batch",
    tag = "catalogue",
    request_body = ChangesRequest,
    responses(
        (status = 200, description = "All changes are kept", body = CatalogueVersion),
        (status = 503, description = "The changes cannot be kept now", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn change_users(
    State(app): State<App>,
    JsonBody(request): JsonBody<ChangesRequest>,
) -> Result<Json<CatalogueVersion>, Problem> {
    change(&app, Kind::Users, request).await
}
