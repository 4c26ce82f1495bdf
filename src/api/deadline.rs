//! The time limit of a request: the setting's, or less where the request asks for less.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::Response;
use tokio::time::{Instant, timeout_at};

use super::{App, Problem};

/// The header by which a request limits its own time.
pub const HEADER: &str = "X-Request-Timeout-Ms";

/// When a request came, and by when its parts must be done.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    /// When the request arrived.
    pub arrived: Instant,
    /// By when the model must have answered; what is left after it is for the journal.
    pub model: Instant,
}

/// Ends the request at its deadline, and tells the handler of it.
pub async fn keep(State(app): State<App>, mut request: Request, next: Next) -> Result<Response, Problem> {
    let limit = limit(request.headers(), app.settings.request_timeout_ms)?;
    let now = Instant::now();
    // A fallback must be in the journal as well before the time is up.
    request.extensions_mut().insert(Deadline { arrived: now, model: now + limit.mul_f64(0.9) });
    match timeout_at(now + limit, next.run(request)).await {
        Ok(response) => Ok(response),
        Err(_) => {
            missed("refused");
            let limit = limit.as_millis();
            Err(Problem::unavailable(format!(
                "the request was not answered within {limit} ms (`server.request_timeout_ms`, or less by `{HEADER}`)"
            )))
        }
    }
}

/// Counts a deadline that was not kept, and what the caller got.
pub fn missed(outcome: &'static str) {
    metrics::counter!("slated_deadlines_missed_total", "outcome" => outcome).increment(1);
}

fn limit(headers: &HeaderMap, most: u64) -> Result<Duration, Problem> {
    let Some(value) = headers.get(HEADER) else { return Ok(Duration::from_millis(most)) };
    let digits = value.to_str().map(str::trim).unwrap_or_default();
    let whole = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    if !whole || digits.bytes().all(|digit| digit == b'0') {
        return Err(Problem::invalid(HEADER, "must be a whole number of milliseconds, at least 1"));
    }
    // A number of more digits than any has is over the limit as well.
    let wanted = digits.parse().unwrap_or(u64::MAX);
    Ok(Duration::from_millis(wanted.min(most)))
}
