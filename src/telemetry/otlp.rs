//! Traces sent to a collector: OTLP over HTTP, as the OpenTelemetry project's own crates write it.

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use opentelemetry::trace::{SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceId, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tokio::runtime::Runtime;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt};
use tracing_subscriber::registry::LookupSpan;

/// How long the collector may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Sends what is recorded; there is one for the process, because logging is.
static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

/// The layer that records spans and sends them to `<endpoint>/v1/traces`: this share of the traces that begin here, and of
/// others those that their caller records.
///
/// # Errors
/// An endpoint that is no address.
pub fn layer<S>(
    endpoint: &str,
    share: f64,
) -> anyhow::Result<OpenTelemetryLayer<S, opentelemetry_sdk::trace::SdkTracer>>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("otlp").enable_all().build()?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Client { inner: reqwest::Client::builder().timeout(TIMEOUT).build()?, runtime })
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
        .with_timeout(TIMEOUT)
        .build()
        .with_context(|| {
            format!("`log.otlp_endpoint` is `{endpoint}`; it is an address such as http://collector:4318")
        })?;
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(share))))
        .with_resource(Resource::builder().with_service_name("slated").with_attribute(version).build())
        .build();
    let tracer = provider.tracer("slated");
    anyhow::ensure!(PROVIDER.set(provider).is_ok(), "traces are sent already");
    Ok(tracing_opentelemetry::layer().with_tracer(tracer))
}

/// Sends what is still to be sent.
pub fn flush() {
    if let Some(Err(error)) = PROVIDER.get().map(SdkTracerProvider::shutdown) {
        eprintln!("the last traces were not sent: {error}");
    }
}

/// A span's place in its trace, as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// 32 hex digits.
    pub trace_id: String,
    /// 16 hex digits.
    pub span_id: String,
    /// Two hex digits: `01` where it is sent.
    pub flags: String,
}

/// Makes a new span the child of a caller's, all in hex, and says where it stands; `None` where spans are not recorded.
pub fn adopt(span: &Span, parent: Option<(&str, &str, &str)>) -> Option<Recorded> {
    PROVIDER.get()?;
    if let Some((trace, parent, flags)) = parent {
        let flags = TraceFlags::new(u8::from_str_radix(flags, 16).unwrap_or(0));
        let (trace, parent) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(parent).ok()?);
        let caller = SpanContext::new(trace, parent, flags, true, Default::default());
        // Only a span that has begun refuses, and this one is new.
        let _ = span.set_parent(Context::new().with_remote_span_context(caller));
    }
    let context = span.context();
    let recorded = context.span().span_context().clone();
    recorded.is_valid().then(|| Recorded {
        trace_id: recorded.trace_id().to_string(),
        span_id: recorded.span_id().to_string(),
        flags: format!("{:02x}", recorded.trace_flags().to_u8()),
    })
}

/// Says of a request's span what the conventions for HTTP servers ask for.
pub fn describe(span: &Span, method: &str, route: &str, status: u16) {
    if PROVIDER.get().is_none() {
        return;
    }
    span.context().span().update_name(format!("{method} {route}"));
    span.set_attribute("otel.kind", "server");
    span.set_attribute("http.request.method", method.to_owned());
    span.set_attribute("http.route", route.to_owned());
    span.set_attribute("http.response.status_code", i64::from(status));
    if status >= 500 {
        span.set_status(Status::error(""));
    }
}

/// An HTTP client on a runtime of its own: spans are sent from a thread that has none.
struct Client {
    inner: reqwest::Client,
    runtime: Runtime,
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.debug_struct("Client").finish_non_exhaustive()
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.inner.clone();
        self.runtime.spawn(async move { client.send_bytes(request).await }).await?
    }
}
