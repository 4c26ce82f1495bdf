//! slated: a policy-serving microservice for recommendations that learns from its own interaction log.
//!
//! The binary is [`cli`]; the service behind `slated serve` is [`api`] (HTTP) over [`serving`] (policies and slates),
//! [`session`], [`catalogue`], [`journal`] and [`access`]. Training lives in `slated-trainer`, which knows nothing of HTTP; what
//! both agree on lives in `slated-contract`.

pub mod access;
pub mod api;
pub mod autopilot;
pub mod catalogue;
pub mod cli;
pub mod client;
#[cfg(feature = "compat")]
pub mod compat;
pub mod evaluation;
mod files;
pub mod journal;
mod memory;
mod priority;
mod schema;
pub mod serving;
pub mod session;
pub mod settings;
pub mod telemetry;
mod unique;
pub mod wrap;
