//! What is true of a whole group of routes, added to what each route's own attributes say: the keys it takes, the
//! headers, and the errors that any of them may answer with.

mod errors;
mod headers;
mod links;

use serde_json::json;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Type};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{OpenApi, Ref, RefOr, Required, Schema};

use self::errors::{Shared, Traits};
use super::deadline;
use super::form::Form;

/// What the routes of a group have in common.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// A key, a time limit and a limit of requests at once.
    Limited,
    /// A key.
    Keyed,
    /// Nothing: they answer whoever asks.
    Open,
}

/// Whether requests need a key, as far as the one who reads the description knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeysNeeded {
    /// It depends on the service's settings.
    Perhaps,
    /// They do.
    Yes,
}

/// The names of the security schemes. Any route takes any of them; the last is what the Personalizer's clients send.
const BEARER: &str = "bearer_key";
const HEADER: &str = "header_key";
const SUBSCRIPTION: &str = "subscription_key";

/// Adds to the routes of a group what they have in common.
pub fn group(mut api: OpenApi, group: Group) -> OpenApi {
    let components = api.components.get_or_insert_default();
    for (path, item) in &mut api.paths.paths {
        let (form, in_path) = (Form::of(path), path.contains('{'));
        for operation in operations(item) {
            let traits = Traits {
                read: in_path || operation.parameters.is_some(),
                body: operation.request_body.is_some(),
                keyed: group != Group::Open,
                limited: group == Group::Limited,
            };
            for shared in Shared::of(traits).filter(|_| form.shares()) {
                let name = shared.name(form);
                // What a route says of a status itself is more exact.
                operation.responses.responses.entry(shared.status.to_string()).or_insert_with(|| {
                    components.responses.insert(name.clone(), shared.response(form));
                    RefOr::Ref(Ref::from_response_name(name))
                });
            }
            if traits.limited {
                operation.parameters.get_or_insert_default().push(RefOr::T(time_limit()));
            }
            if traits.keyed {
                operation.security = Some(Vec::new());
            }
        }
    }
    api
}

/// Adds what holds of all routes, once the groups are one.
pub fn whole(mut api: OpenApi, keys: KeysNeeded) -> OpenApi {
    let components = api.components.get_or_insert_default();
    let text = Some(
        "Needed where `security.keys` is set; each operation takes a role of the key: recommend, feedback, admin or metrics",
    );
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(text).build();
    components.add_security_scheme(BEARER, SecurityScheme::Http(bearer));
    for (name, header, description) in [
        (HEADER, "X-API-Key", "The same key, in a header of its own"),
        #[cfg(feature = "compat")]
        (SUBSCRIPTION, "Ocp-Apim-Subscription-Key", "The same key, as the Personalizer's clients send it"),
    ] {
        let value = ApiKeyValue::with_description(header, description);
        components.add_security_scheme(name, SecurityScheme::ApiKey(ApiKey::Header(value)));
    }
    for (name, header) in headers::all() {
        components.headers.insert(name.to_owned(), header.into());
    }
    for (name, tag, description) in TAGGED {
        if let Some(RefOr::T(schema)) = components.schemas.get_mut(name) {
            close(schema, tag, description);
        }
    }
    for (path, item) in &mut api.paths.paths {
        let schemes: &[&str] =
            if Form::of(path).shares() { &[BEARER, HEADER] } else { &[BEARER, HEADER, SUBSCRIPTION] };
        for operation in operations(item) {
            if let Some(security) = &mut operation.security {
                *security = schemes.iter().map(|scheme| SecurityRequirement::new(*scheme, [""; 0])).collect();
                if keys == KeysNeeded::Perhaps {
                    security.insert(0, SecurityRequirement::default());
                }
            }
            let links = operation.operation_id.as_deref().map(links::after).unwrap_or_default();
            for (status, response) in &mut operation.responses.responses {
                let RefOr::T(response) = response else { continue };
                headers::add(response, status.parse().unwrap_or_default());
                if status == "200" {
                    response.links.extend(links.iter().map(|(name, link)| (name.clone(), link.clone().into())));
                }
            }
        }
    }
    api
}

/// The schemas of several variants, with the property that tells those apart, which has no comment in the code.
const TAGGED: [(&str, &str, &str); 4] = [
    ("CandidateRequest", "", ""),
    ("Exploration", "method", "Which method it is."),
    ("RouteRequest", "action", "Which change it is."),
    ("Rule", "rule", "Which constraint it is."),
];

/// Says of each variant that it has no other properties, which serde is told by `deny_unknown_fields` and utoipa is not.
fn close(schema: &mut Schema, tag: &str, description: &str) {
    let Schema::OneOf(variants) = schema else { return };
    for variant in &mut variants.items {
        let RefOr::T(Schema::Object(variant)) = variant else { continue };
        if variant.properties.is_empty() {
            continue;
        }
        variant.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
        if let Some(RefOr::T(Schema::Object(tag))) = variant.properties.get_mut(tag) {
            tag.description = Some(description.to_owned());
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, .. } = item;
    [get, put, post, delete].into_iter().flatten()
}

/// The parameter by which a request limits its own time.
fn time_limit() -> Parameter {
    let schema = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).examples([json!(250)]).build();
    ParameterBuilder::new()
        .name(deadline::HEADER)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some("How long the request may take, in milliseconds; at most the service's own limit"))
        .schema(Some(schema))
        .build()
}
