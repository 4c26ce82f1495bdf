//! What `deploy/` and the Dockerfile say of slated is so: settings load, arguments parse, paths and ports meet, probes ask routes
//! that are there. Whether the files keep their formats' rules is for `make lint-deploy`.

#[path = "../common/mod.rs"]
mod common;

mod compose;
mod image;
mod kubernetes;
mod said;
mod systemd;
