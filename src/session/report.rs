//! The metrics of the sessions.

#[cfg(feature = "redis")]
use std::time::Instant;

use super::rebuild::Rebuilt;
use super::timeline::Recorded;

/// A session is held no more.
pub fn ended(reason: &'static str) {
    metrics::counter!("slated_sessions_ended_total", "reason" => reason).increment(1);
}

/// An event was recorded, or not.
pub fn recorded(outcome: Recorded) {
    let outcome = match outcome {
        Recorded::New => "new",
        Recorded::Known => "known",
        Recorded::Settled => "late",
    };
    metrics::counter!("slated_session_events_total", "outcome" => outcome).increment(1);
}

/// The backend was away, and this is what became of what was asked of it.
pub fn away(outcome: &'static str) {
    metrics::counter!("slated_session_store_away_total", "outcome" => outcome).increment(1);
}

/// How long the backend took.
#[cfg(feature = "redis")]
pub fn took(operation: &'static str, started: Instant) {
    metrics::histogram!("slated_session_store_seconds", "operation" => operation)
        .record(started.elapsed().as_secs_f64());
}

/// Sessions were rebuilt from the journal.
pub fn rebuilt(rebuilt: &Rebuilt) {
    let Rebuilt { sessions, cut, decisions, feedback, unknown, seconds } = *rebuilt;
    metrics::counter!("slated_sessions_rebuilt_total").increment(sessions);
    tracing::info!(sessions, decisions, feedback, seconds, "sessions rebuilt from the journal");
    if cut > 0 {
        tracing::warn!(cut, "sessions that may have begun before `sessions.rebuild_seconds` ago lack their beginning");
    }
    if unknown > 0 {
        tracing::warn!(unknown, "decisions of versions that the models' folder does not hold are in no session");
    }
}
