//! An Envoy on this machine: found or installed, started, stopped.
//!
//! Knows nothing of policy or allowlists.

mod find;
mod process;

pub use find::{ENVOY_PACKAGE, ENVOY_VERSION, find, install};
pub use process::{LocalEnvoy, terminate};
