//! exeat turns allowlist files into live egress policy on Envoy sidecars.

pub mod admin;
pub mod ads;
pub mod allowlist;
pub mod cli;
pub mod cmd;
pub mod envoy;
pub mod fleet;
pub mod metrics;
pub mod policy;
pub mod server;
pub mod sidecar;
pub mod snapshot;
pub mod source;
pub mod telemetry;
