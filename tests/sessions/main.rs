//! Sessions, whatever keeps them: what a policy sees is what a fold over the journal gives, bit for bit, after the service
//! was killed, on every replica, and after Redis was away.

mod away;
#[path = "../common/mod.rs"]
mod common;
mod conformance;
mod ledger;
mod policy;
mod redis;
mod restart;
