//! `GET /metrics`, and the measuring of every request.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use metrics::Histogram;

use super::App;

/// Prometheus metrics
///
/// They answer even while the other routes are at their limit of requests at once.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operations",
    responses((status = 200, description = "The metrics, in Prometheus' text format", body = String, content_type = "text/plain"))
)]
pub async fn metrics(State(app): State<App>) -> impl IntoResponse {
    app.journal.report_metrics();
    app.registry.report_metrics();
    app.catalogue.report_metrics();
    app.sessions.report_metrics();
    app.metrics.run_upkeep();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], app.metrics.render())
}

/// The histograms of requests by route, method and status, found once and kept.
#[derive(Debug, Default)]
pub struct Measured(RwLock<HashMap<String, ByAnswer>>);

/// Those of a route, by method and status.
type ByAnswer = HashMap<(&'static str, StatusCode), Histogram>;

impl Measured {
    fn of(&self, route: &str, method: &'static str, status: StatusCode) -> Histogram {
        let labels = (method, status);
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(histogram) = known.get(route).and_then(|known| known.get(&labels)) {
            return histogram.clone();
        }
        drop(known);
        let labelled =
            [("route", route.to_owned()), ("method", method.to_owned()), ("status", status.as_str().to_owned())];
        let histogram = metrics::histogram!("slated_http_request_seconds", &labelled);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.entry(route.to_owned()).or_default().insert(labels, histogram.clone());
        histogram
    }
}

/// Measures a request by route, method and status.
pub async fn measure(State(measured): State<Arc<Measured>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let path = request.extensions().get::<MatchedPath>().cloned();
    let route = path.as_ref().map_or("(none)", MatchedPath::as_str);
    let method = label(request.method());
    let response = next.run(request).await;
    #[cfg(feature = "otlp")]
    crate::telemetry::otlp::describe(&tracing::Span::current(), method, route, response.status().as_u16());
    measured.of(route, method, response.status()).record(started.elapsed().as_secs_f64());
    response
}

/// One label for all methods that a caller makes up.
fn label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "other",
    }
}
