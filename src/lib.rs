//! exeat turns allowlist files into live egress policy on Envoy sidecars.

pub mod allowlist;
pub mod envoy;
pub mod policy;
pub mod source;
