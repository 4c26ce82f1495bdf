//! The Azure AI Personalizer's routes, as it published them: under `/personalizer/<version>`, and under `/personalizer` with
//! `api-version` in the query.

mod configuration;
mod error;
mod events;
mod model;
mod multislot;
mod rank;

pub use error::speak;

use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::{Content, ObjectBuilder, OpenApi, Ref, Required, ResponseBuilder, Type};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;

/// The versions that paths may name.
pub const VERSIONS: [&str; 4] = ["v1.0", "v1.1-preview.1", "v1.1-preview.2", "v1.1-preview.3"];
/// The versions that `api-version` may name besides.
pub const DATED: [&str; 1] = ["2022-09-01-preview"];
/// Where everything is.
pub const ROOT: &str = "/personalizer";
/// Where everything is whose path names the version.
const VERSIONED: &str = "/personalizer/{version}";

/// The routes that ask for ranks.
pub fn recommending() -> OpenApiRouter<App> {
    both(|| OpenApiRouter::new().routes(routes!(rank::rank)).routes(routes!(multislot::rank)))
}

/// The routes that tell what came of them.
pub fn telling() -> OpenApiRouter<App> {
    both(|| {
        OpenApiRouter::new()
            .routes(routes!(events::reward))
            .routes(routes!(events::activate))
            .routes(routes!(multislot::reward))
            .routes(routes!(multislot::activate))
    })
}

/// The routes that show and change how it learns.
pub fn administering() -> OpenApiRouter<App> {
    both(|| {
        OpenApiRouter::new()
            .routes(routes!(configuration::service, configuration::put_service))
            .routes(routes!(configuration::policy, configuration::put_policy, configuration::reset_policy))
            .routes(routes!(model::model, model::put_model, model::reset_model))
            .routes(routes!(model::properties))
    })
}

fn both(routes: impl Fn() -> OpenApiRouter<App>) -> OpenApiRouter<App> {
    OpenApiRouter::new().nest(VERSIONED, routes()).nest(ROOT, routes())
}

/// Says of each operation how its version is named, and gives those of the second kind names of their own.
pub fn describe(api: &mut OpenApi) {
    for (path, item) in &mut api.paths.paths {
        let Some(rest) = path.strip_prefix(ROOT) else { continue };
        let by_path = rest.starts_with("/{version}");
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            name_version(operation, by_path);
            answer_in_form(operation);
        }
    }
}

/// What any part of the service answers is in the Personalizer's form here.
fn answer_in_form(operation: &mut Operation) {
    let error = |description: &str| {
        let content = Content::new(Some(Ref::from_schema_name("ErrorResponse")));
        ResponseBuilder::new().description(description).content("application/json", content).build()
    };
    let unreadable = "The URL cannot be read, or `X-Request-Timeout-Ms` is no number of milliseconds: `BadRequest`";
    // What a route says of it is more exact.
    operation.responses.responses.entry("400".to_owned()).or_insert_with(|| error(unreadable).into());
    for (status, description) in [
        ("401", "Keys are needed, and none that is valid came with the request"),
        ("403", "The key does not have the role"),
        ("429", "Too many requests at once, or more than the key's limit"),
        ("500", "A defect, or the disk; the log of the service says why: `InternalServerError` or a finer code"),
        ("503", "The service cannot answer now, or not in time: `InternalServerError`"),
    ] {
        operation.responses.responses.insert(status.to_owned(), error(description).into());
    }
}

fn name_version(operation: &mut Operation, by_path: bool) {
    let (name, place, known, example) = if by_path {
        ("version", ParameterIn::Path, VERSIONS.to_vec(), VERSIONS[0])
    } else {
        ("api-version", ParameterIn::Query, [&DATED[..], &VERSIONS].concat(), DATED[0])
    };
    let schema = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(known)).examples([example]).build();
    let parameter = ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(Required::True)
        .description(Some("The version of the Personalizer's interface"))
        .schema(Some(schema))
        .example(Some(serde_json::json!(example)))
        .build();
    operation.parameters.get_or_insert_default().insert(0, parameter.into());
    if !by_path && let Some(id) = &mut operation.operation_id {
        id.push_str("_dated");
    }
}
