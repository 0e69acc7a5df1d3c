//! Shows what the control plane does: HTTP, gRPC and metrics over one view of the state.
//!
//! Must not change anything: it reads the fleet, the snapshot and the state of the files.

mod csds;
mod explain;
mod grpc;
mod http;
mod metrics;
mod status;
mod strangers;

/// The admin API, generated from `proto/`.
#[allow(missing_docs, missing_debug_implementations, unreachable_pub, clippy::all)]
#[allow(clippy::disallowed_types, unused_qualifications, unnameable_types)]
pub mod proto {
    tonic::include_proto!("exeat.admin.v1");
}

/// The group of sidecars that are no agent.
pub const COMMON: &str = "common";

pub use csds::ClientStatusService;
pub use explain::{Texts, explain};
pub use grpc::AdminService;
pub use http::{not_found, router};
pub use status::{AllowlistState, Rescan, StatusSource};
pub use strangers::refuse_strangers;
