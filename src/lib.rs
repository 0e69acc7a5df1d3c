//! exeat turns allowlist files into live egress policy on Envoy sidecars.

pub mod ads;
pub mod allowlist;
pub mod envoy;
pub mod fleet;
pub mod policy;
pub mod snapshot;
pub mod source;
