//! Turns slated's interaction journal into policy bundles. Knows nothing of HTTP, nor of ONNX Runtime.
//!
//! Data flows through the modules in this order: [`dataset`] reads the journal into rounds with rewards, [`bandit`]
//! learns from them, [`onnx`] writes what was learned as a model, and [`train`] ties these together into a bundle.
//! [`learner`]s learn from transitions, which [`online`] gathers in an [`env`]ironment and [`offline`] from a log.
//! [`report`] writes down for people how a run went, and [`tune`] searches for the settings of a good one.

pub mod bandit;
pub mod dataset;
pub mod drift;
pub mod env;
pub mod learner;
mod logistic;
pub mod nn;
pub mod offline;
pub mod online;
pub mod onnx;
pub mod ope;
pub mod progress;
pub mod replay;
pub mod report;
pub mod rollout;
pub mod train;
pub mod tune;
