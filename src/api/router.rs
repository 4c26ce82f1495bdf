//! The whole HTTP interface.

use std::sync::Arc;

use axum::error_handling::HandleErrorLayer;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, HeaderValue, Method, Uri, header};
use axum::response::IntoResponse;
use axum::{BoxError, Router, middleware};
use tower::ServiceBuilder;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::load_shed::LoadShedLayer;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_http::request_id::{PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::trace::TraceLayer;
use utoipa::{OpenApi, openapi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access::{self, Needs};
#[cfg(feature = "compat")]
use super::compat;
use super::describe::{self, Group, KeysNeeded};
use super::{
    App, Problem, admin, catalogue, deadline, decisions, description, feedback, forget, form, health, inference,
    metrics, policies, recommend, routes as policy_routes, slots, trace,
};
use crate::access::{Keys, Role};
use crate::serving::traffic::Figures;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "slated",
        description = "Recommends slates with policies that learn from this service's own interaction log.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    // Named by hand in the description of `PolicyStatus`.
    components(schemas(Figures)),
    servers((url = "http://127.0.0.1:8080", description = "The default address of `slated serve`")),
    tags(
        (name = "recommend", description = "What applications call"),
        (name = "inference", description = "Policies' models on raw tensors, by the Open Inference Protocol (KServe, Triton)"),
        (name = "policies", description = "Which policies are live"),
        (name = "catalogue", description = "Items and users known by id"),
        (name = "journal", description = "What was recorded"),
        (name = "operations", description = "Health and metrics"),
        (name = "compat", description = "The Azure AI Personalizer's interface, for its clients"),
    )
)]
struct Description;

/// The routes that ask for slates, and read what was decided.
fn recommending() -> OpenApiRouter<App> {
    let routes = OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(recommend::recommend))
        .routes(routes!(slots::recommend))
        .routes(routes!(decisions::decision));
    #[cfg(feature = "compat")]
    let routes = routes.merge(compat::recommending());
    routes
}

/// The routes that run the models on raw tensors.
fn inferring() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(inference::model))
        .routes(routes!(inference::model_ready))
        .routes(routes!(inference::infer))
        .routes(routes!(inference::version))
        .routes(routes!(inference::version_ready))
        .routes(routes!(inference::infer_version))
}

/// What the protocol of those routes answers whoever asks.
fn inference_open() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(inference::server))
        .routes(routes!(inference::live))
        .routes(routes!(inference::ready))
}

/// The route that tells what came of them.
fn telling() -> OpenApiRouter<App> {
    let routes = OpenApiRouter::new().routes(routes!(feedback::feedback));
    #[cfg(feature = "compat")]
    let routes = routes.merge(compat::telling());
    routes
}

/// The routes that show and change what the service does.
fn administering() -> OpenApiRouter<App> {
    let routes = OpenApiRouter::new()
        .routes(routes!(policies::policies))
        .routes(routes!(policies::load))
        .routes(routes!(policy_routes::change))
        .routes(routes!(catalogue::item, catalogue::put_item, catalogue::delete_item))
        .routes(routes!(catalogue::change_items))
        .routes(routes!(catalogue::user, catalogue::put_user, catalogue::delete_user))
        .routes(routes!(catalogue::change_users))
        .routes(routes!(admin::seal))
        .routes(routes!(forget::forget));
    #[cfg(feature = "compat")]
    let routes = routes.merge(compat::administering());
    routes
}

/// The route that answers even while the others are at their limit.
fn measuring() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(metrics::metrics))
}

/// The routes that answer whoever asks.
fn open() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(description::description))
}

/// The service's OpenAPI 3.1 description.
#[must_use]
pub fn openapi(keys: KeysNeeded) -> openapi::OpenApi {
    let limited = recommending().merge(inferring()).merge(telling()).merge(administering());
    let mut described = describe::group(limited.into_openapi(), Group::Limited);
    described.merge(describe::group(measuring().into_openapi(), Group::Keyed));
    #[cfg(feature = "compat")]
    compat::describe(&mut described);
    described.merge(describe::group(open().merge(inference_open()).into_openapi(), Group::Open));
    describe::whole(described, keys)
}

/// The same as YAML.
///
/// # Errors
/// A description that cannot be written, which would be a defect.
pub fn openapi_yaml(keys: KeysNeeded) -> Result<String, Problem> {
    openapi(keys).to_yaml().map_err(Problem::internal)
}

/// What is served at `server.listen`, and at `server.admin_listen` where that is set.
#[derive(Debug)]
pub struct Routers {
    /// What applications call; with `admin` absent, everything.
    pub public: Router,
    /// What operators call.
    pub admin: Option<Router>,
}

/// The service, for whoever has one of the keys, and from a browser for the pages of these origins.
pub fn routers(app: &App, keys: &Arc<Keys>, origins: &[String]) -> Routers {
    let with_role = |routes: OpenApiRouter<App>, role: Role| -> Router<App> {
        let needs = Needs { keys: Arc::clone(keys), role };
        Router::from(routes).layer(middleware::from_fn_with_state(needs, access::admit))
    };
    let mut applications = with_role(recommending(), Role::Recommend).merge(with_role(telling(), Role::Feedback));
    if app.settings.inference {
        applications = applications.merge(with_role(inferring(), Role::Recommend));
    }
    let administration = with_role(administering(), Role::Admin);
    let metrics = with_role(measuring(), Role::Metrics);
    if app.settings.admin_listen.is_none() {
        let public = finish(limit(applications.merge(administration), app).merge(metrics), app).layer(cors(origins));
        return Routers { public, admin: None };
    }
    Routers {
        public: finish(limit(applications, app), app).layer(cors(origins)),
        admin: Some(finish(limit(administration, app).merge(metrics), app)),
    }
}

/// At most so many requests at once, each for so long; one more is refused at once rather than queued.
fn limit(routes: Router<App>, app: &App) -> Router<App> {
    routes
        .layer(
            ServiceBuilder::new()
                .layer(HandleErrorLayer::new(refused))
                .layer(LoadShedLayer::new())
                .layer(GlobalConcurrencyLimitLayer::new(app.settings.max_concurrency))
                .layer(middleware::from_fn_with_state(app.clone(), deadline::keep)),
        )
        .layer(DefaultBodyLimit::max(app.settings.max_body_bytes))
}

/// What everything answers with: health, the description, problems for what is not there, metrics, ids and traces.
fn finish(routes: Router<App>, app: &App) -> Router {
    let open = if app.settings.inference { open().merge(inference_open()) } else { open() };
    let routes = routes
        .merge(Router::from(open))
        .fallback(async |uri: Uri| {
            Problem::not_found(format!("there is nothing at `{}`; /openapi.yaml lists what there is", uri.path()))
        })
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            Problem::method_not_allowed(format!("`{}` does not answer {method}", uri.path()))
        });
    routes
        .layer(
            ServiceBuilder::new()
                .layer(SetRequestIdLayer::new(trace::REQUEST_ID, trace::NewRequestId))
                .layer(middleware::from_fn(trace::follow))
                .layer(TraceLayer::new_for_http())
                .layer(PropagateRequestIdLayer::new(trace::REQUEST_ID))
                .layer(middleware::from_fn_with_state(Arc::<metrics::Measured>::default(), metrics::measure))
                // Outside of whatever may refuse a request, so that every client is answered in the form that it knows.
                .layer(middleware::from_fn(form::speak))
                .layer(CatchPanicLayer::custom(|_| Problem::internal("a handler panicked").into_response())),
        )
        .with_state(app.clone())
}

/// Lets the pages of the settings' origins call; without any, browsers keep all others' pages from it.
fn cors(origins: &[String]) -> CorsLayer {
    let origins = origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
    let [key, other_key] = access::KEY_HEADERS;
    let headers =
        ["authorization", key, other_key, "content-type", "traceparent", "x-request-id", "x-request-timeout-ms"];
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers(headers.map(HeaderName::from_static))
        .expose_headers([HeaderName::from_static("x-request-id"), header::RETRY_AFTER])
}

async fn refused(error: BoxError) -> Problem {
    if error.is::<tower::load_shed::error::Overloaded>() {
        Problem::busy("concurrency", "the service answers as many requests as it may (`server.max_concurrency`)")
    } else {
        Problem::internal(error)
    }
}
