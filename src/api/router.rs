//! The whole HTTP interface.

use axum::error_handling::HandleErrorLayer;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, Uri, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{BoxError, Router, middleware};
use tower::ServiceBuilder;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::load_shed::LoadShedLayer;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::trace::TraceLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{
    App, Problem, admin, catalogue, deadline, decisions, feedback, health, metrics, policies, recommend,
    routes as policy_routes, slots, trace,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "slated",
        description = "Recommends slates with policies that learn from this service's own interaction log.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    servers((url = "http://127.0.0.1:8080", description = "The default address of `slated serve`")),
    tags(
        (name = "recommend", description = "What applications call"),
        (name = "policies", description = "Which policies are live"),
        (name = "catalogue", description = "Items and users known by id"),
        (name = "journal", description = "What was recorded"),
        (name = "operations", description = "Health and metrics"),
    )
)]
struct Description;

/// The routes that applications and operators call, with their description.
fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(recommend::recommend))
        .routes(routes!(slots::recommend))
        .routes(routes!(feedback::feedback))
        .routes(routes!(policies::policies))
        .routes(routes!(policies::load))
        .routes(routes!(policy_routes::change))
        .routes(routes!(catalogue::item, catalogue::put_item, catalogue::delete_item))
        .routes(routes!(catalogue::change_items))
        .routes(routes!(catalogue::user, catalogue::put_user, catalogue::delete_user))
        .routes(routes!(catalogue::change_users))
        .routes(routes!(decisions::decision))
        .routes(routes!(admin::seal))
}

/// The routes that answer even while the others are at their limit.
fn operations() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(metrics::metrics))
}

/// The service's OpenAPI 3.1 description, as YAML.
///
/// # Errors
/// A description that cannot be written, which would be a defect.
pub fn openapi_yaml() -> Result<String, Problem> {
    routes().merge(operations()).get_openapi().to_yaml().map_err(Problem::internal)
}

/// The service.
pub fn router(app: App) -> Router {
    let settings = &app.settings;
    let limited: Router<App> = routes().into();
    let unlimited: Router<App> = operations().into();
    limited
        // At most so many requests at once, each for so long; one more is refused at once rather than queued.
        .layer(
            ServiceBuilder::new()
                .layer(HandleErrorLayer::new(refused))
                .layer(LoadShedLayer::new())
                .layer(GlobalConcurrencyLimitLayer::new(settings.max_concurrency))
                .layer(middleware::from_fn_with_state(app.clone(), deadline::keep)),
        )
        .layer(DefaultBodyLimit::max(settings.max_body_bytes))
        .merge(unlimited)
        .route("/openapi.yaml", get(openapi))
        .fallback(async |uri: Uri| {
            Problem::not_found(format!("there is nothing at `{}`; /openapi.yaml lists what there is", uri.path()))
        })
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            Problem::method_not_allowed(format!("`{}` does not answer {method}", uri.path()))
        })
        .layer(middleware::from_fn(metrics::measure))
        .layer(
            ServiceBuilder::new()
                .layer(SetRequestIdLayer::new(trace::REQUEST_ID, MakeRequestUuid))
                .layer(middleware::from_fn(trace::follow))
                .layer(TraceLayer::new_for_http())
                .layer(PropagateRequestIdLayer::new(trace::REQUEST_ID))
                .layer(CatchPanicLayer::custom(|_| Problem::internal("a handler panicked").into_response())),
        )
        .with_state(app)
}

async fn refused(error: BoxError) -> Problem {
    if error.is::<tower::load_shed::error::Overloaded>() {
        Problem::busy("concurrency", "the service answers as many requests as it may (`server.max_concurrency`)")
    } else {
        Problem::internal(error)
    }
}

async fn openapi() -> Result<impl IntoResponse, Problem> {
    Ok(([(header::CONTENT_TYPE, "application/yaml")], openapi_yaml()?))
}
