//! The neural networks of the learners: a scorer of candidates with its gradient, and what trains it.
//!
//! Parameters, gradients and the optimiser's moments are flat vectors of one layout, so that target networks, clipping,
//! checkpoints and updates are loops over numbers. Written on `faer`'s matrix products rather than on a tensor
//! framework: see `docs/decisions/networks.md`.

mod adam;
mod batch;
mod dense;
mod export;
mod gru;
mod layout;
mod network;
mod threads;

pub use adam::{Adam, AdamSettings, clip_to_norm};
pub use batch::Batch;
pub use layout::{Layout, Tensor};
pub use network::{CandidateNetwork, NetworkError, NetworkSettings, NetworkShape, Trace};
