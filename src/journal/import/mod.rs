//! Turning other logs into journal events.
