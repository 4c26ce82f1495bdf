//! The HTTP interface: one file a resource, the handler next to its route's OpenAPI attributes.

mod access;
mod admin;
mod body;
mod catalogue;
#[cfg(feature = "compat")]
mod compat;
mod deadline;
mod decisions;
mod describe;
mod description;
mod feedback;
mod finish;
mod forget;
mod form;
mod health;
mod inference;
mod measure;
mod metrics;
mod policies;
mod problem;
mod recommend;
mod router;
mod routes;
mod server;
mod slots;
mod trace;
mod url;

pub use describe::KeysNeeded;
pub use feedback::FeedbackResponse;
pub use problem::{Problem, ProblemField};
pub use recommend::{CandidateRequest, RecommendRequest, RecommendResponse};
pub use router::{Routers, openapi, openapi_yaml, routers};
pub use server::{Connections, Listening, ServeError, serve};

use std::ops::Deref;
use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;

use crate::access::DecisionIds;
use crate::catalogue::Catalogue;
use crate::journal::{Journal, OnFailure};
use crate::serving::traffic::Traffic;
use crate::serving::{Recommender, Registry};
use crate::session::Sessions;
use crate::settings::ServerSettings;

/// What the handlers share: one pointer, because every layer and handler takes a clone for each request.
#[derive(Clone)]
pub struct App(Arc<Shared>);

impl From<Shared> for App {
    fn from(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }
}

impl Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// The parts of an [`App`].
pub struct Shared {
    /// The loaded policies.
    pub registry: Arc<Registry>,
    /// Decides slates with them.
    pub recommender: Recommender,
    /// Changes their routes.
    pub traffic: Arc<Traffic>,
    /// Items and users known by id.
    pub catalogue: Arc<Catalogue>,
    /// What happened in the sessions.
    pub sessions: Arc<Sessions>,
    /// Where everything is kept.
    pub journal: Journal,
    /// What is done with decisions while nothing can be kept.
    pub on_failure: OnFailure,
    /// Gives and checks decision ids.
    pub ids: DecisionIds,
    /// The limits.
    pub settings: ServerSettings,
    /// The metrics.
    pub metrics: PrometheusHandle,
    /// What the Personalizer's routes share.
    #[cfg(feature = "compat")]
    pub compat: crate::compat::Compat,
    /// Its OpenAPI description, as YAML.
    pub description: Arc<str>,
}
