//! The documentation says what is so: its commands run, its links lead somewhere, its reference is that of the code.

#[path = "../common/mod.rs"]
mod common;

mod commands;
mod links;
mod page;
mod reference;
mod run;
